//! Draws what is below lanes, and why tasks were idle.

use super::canvas::Canvas;
use super::layout::{Lane, PLOT, ROW_HEIGHT};
use super::strips::Part;
use super::style::{Paint, Type};
use super::tasks::OwnLane;
use super::{PX, Scene};
use crate::model::ThreadIndex;
use plotters::style::text_anchor::HPos;
use std::io;

/// Spans below a lane, and ticks for what only happened.
pub(super) fn draw(
    scene: &Scene<'_>,
    canvas: &Canvas,
    (lane, index): (&Lane, ThreadIndex),
) -> io::Result<()> {
    let Some(strip) = scene.strips.get(index) else { return Ok(()) };
    // What is shorter than a column fills it; of any number in one column there is one bar.
    let mut last = vec![None; usize::from(strip.rows).max(1)];
    for part in &strip.parts {
        part_of(scene, canvas, (lane, part), &mut last)?;
    }
    Ok(())
}

fn part_of(
    scene: &Scene<'_>,
    canvas: &Canvas,
    (lane, part): (&Lane, &Part),
    last: &mut [Option<(i32, Paint)>],
) -> io::Result<()> {
    let paint = scene.strips.paint(part);
    let top = lane.y().end + PX + i32::from(part.row) * ROW_HEIGHT;
    let y = top..top + ROW_HEIGHT - 2 * PX;
    let from = canvas.x(part.start_ns);
    let to = part.end_ns.map_or(from, |end_ns| canvas.x(end_ns));
    if to - from >= scene.column_px * PX {
        return canvas.rect(from..to, y, paint);
    }
    let x = from / PX * PX;
    let height = match (part.end_ns, paint) {
        (Some(_), _) => y,
        // A mark is a tick across all rows.
        (None, Paint::MARK) => y.start - PX..lane.y().end + lane.rows_height(),
        (None, _) => y.start - PX..y.end,
    };
    if last[usize::from(part.row)].replace((x, paint)) != Some((x, paint)) {
        canvas.bar(x + PX / 2, height, (paint, PX.unsigned_abs()))?;
    }
    Ok(())
}

/// Times in which a task was idle because its socket waited, and the words of the worst.
pub(super) fn waits(
    scene: &Scene<'_>,
    canvas: &Canvas,
    (lane, own): (&Lane, &OwnLane),
) -> io::Result<()> {
    let top = lane.top + (lane.height - 3 * PX) / 2;
    for wait in &own.waits {
        let from = canvas.x(wait.start_ns);
        let to = canvas.x(wait.end_ns).max(from + PX);
        canvas.rect(from..to, top..top + 3 * PX, Paint::LOST)?;
    }
    let lanes = &scene.lanes.tasks;
    let is_noted = lanes.notes.iter().any(|place| lanes.own[*place].task == own.task);
    let Some(note) = lanes.note(own).filter(|_| is_noted) else { return Ok(()) };
    let (from, to) = (canvas.x(note.start_ns), canvas.x(note.end_ns));
    let (x, anchor) = if from + Type::NOTE.width(&note.words) < PLOT.end {
        (from, HPos::Left)
    } else {
        (to, HPos::Right)
    };
    let baseline = lane.y().end + lane.rows_height() + 12 * PX;
    canvas.text(&note.words, (x, baseline), Type::NOTE.anchored(anchor))
}
