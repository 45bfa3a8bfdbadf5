//! Draws the lanes of CPUs: how busy they were, and who ran.

use super::canvas::Canvas;
use super::columns::{Grid, clear_part};
use super::cpu_columns::{CpuColumn, CpuColumns, Sorter, runs_between};
use super::draw_page::{close_lane, open_lane};
use super::layout::{Lane, PLOT, Shows};
use super::style::{Paint, Type};
use super::{PX, Scene};
use crate::model::{Cpu, Who};
use crate::text::{self, count};
use plotters::style::text_anchor::HPos;
use std::io;
use std::ops::Range;

/// Draws both lanes of every CPU.
pub(super) fn draw(scene: &Scene<'_>, canvas: &Canvas) -> io::Result<()> {
    let model = scene.subject.model;
    let time = scene.subject.from_ns..scene.subject.to_ns;
    let mut sorter = Sorter::new(model, &scene.grid, &scene.colours);
    let sorted: Vec<CpuColumns> = model
        .cpus
        .iter()
        .map(|cpu| {
            let runs = runs_between(model, cpu, time.clone());
            sorter.sort(scene.lanes.tasks.split(model, runs))
        })
        .collect();
    for (number, lane) in scene.layout.lanes.iter().enumerate() {
        match lane.shows {
            Shows::Density(cpu) => {
                open_cpu(canvas, number, (lane, &model.cpus[cpu], &sorted[cpu]))?;
                density(scene, canvas, (lane, &sorted[cpu]))?;
                close_lane(canvas)?;
            }
            Shows::Cpu(cpu) => {
                open_cpu(canvas, number, (lane, &model.cpus[cpu], &sorted[cpu]))?;
                who_ran(scene, canvas, (lane, &sorted[cpu]))?;
                lost(scene, canvas, (lane, &model.cpus[cpu]))?;
                close_lane(canvas)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn open_cpu(
    canvas: &Canvas,
    number: usize,
    (lane, cpu, sorted): (&Lane, &Cpu, &CpuColumns),
) -> io::Result<()> {
    let sum = |each: fn(&CpuColumn) -> u64| sorted.columns.iter().map(each).sum::<u64>();
    let (busy_ns, idle_ns) = (sum(CpuColumn::busy_ns), sum(|column| column.idle_ns));
    let unknown_ns = sum(|column| column.unknown_ns);
    let total_ns = busy_ns + idle_ns + unknown_ns;
    let mut about = format!("CPU {}: {} busy", cpu.id, text::share(busy_ns, total_ns));
    if unknown_ns > 0 {
        about.push_str(&format!(", {} not recorded", text::share(unknown_ns, total_ns)));
    }
    open_lane(canvas, number, &about)?;
    // Thin lanes have no room for a label each.
    let is_thin = lane.height < 10 * PX;
    if !is_thin || cpu.id.is_multiple_of(8) {
        let look = if is_thin { Type::SMALL } else { Type::LABEL.sized(120.min(lane.height + 20)) };
        let at = (PLOT.start - 10 * PX, lane.baseline());
        canvas.text(&format!("CPU {}", cpu.id), at, look.anchored(HPos::Right))?;
    }
    canvas.rect(PLOT, lane.y(), Paint::LANE)?;
    canvas.backend(|backend| backend.open("g", &[("class", "tiles")]))
}

/// The shade for that many different threads in a column.
const fn density_paint(threads: u32) -> Paint {
    Paint::DENSITY[match threads {
        0 | 1 => 0,
        2 => 1,
        3 | 4 => 2,
        5..=8 => 3,
        _ => 4,
    }]
}

fn density(
    scene: &Scene<'_>,
    canvas: &Canvas,
    (lane, sorted): (&Lane, &CpuColumns),
) -> io::Result<()> {
    let mut bars = Bars::new(scene.column_px);
    for (place, column) in sorted.columns.iter().enumerate() {
        let total_ns = column_ns(&scene.grid, place);
        if column.unknown_ns * 2 > total_ns {
            bars.add(canvas, place, (lane.y(), Paint::UNKNOWN))?;
        }
        if column.busy_ns() > 0 {
            let height = share(column.busy_ns(), total_ns, lane.height).max(2 * PX);
            let y = lane.y().end - height..lane.y().end;
            bars.add(canvas, place, (y, density_paint(column.threads)))?;
        }
    }
    bars.end(canvas)
}

fn who_ran(
    scene: &Scene<'_>,
    canvas: &Canvas,
    (lane, sorted): (&Lane, &CpuColumns),
) -> io::Result<()> {
    let is_crowded: Vec<bool> = sorted.columns.iter().map(|column| column.is_crowded).collect();
    for (run, end_ns) in &sorted.long {
        let paint = match run.who {
            Who::Thread(thread) => scene.colours.paint(thread),
            Who::Unknown => Paint::UNKNOWN,
            Who::Idle => continue,
        };
        if let Some((from, to)) = clear_part(&scene.grid, &is_crowded, run.start_ns, *end_ns) {
            canvas.span(from..to, lane.y(), paint)?;
        }
    }
    let mut bars = Bars::new(scene.column_px);
    for (place, column) in sorted.columns.iter().enumerate().filter(|(_, each)| each.is_crowded) {
        let total_ns = column_ns(&scene.grid, place);
        if column.unknown_ns * 2 > total_ns {
            bars.add(canvas, place, (lane.y(), Paint::UNKNOWN))?;
        }
        for (paint, y) in stack(column, total_ns, lane) {
            bars.add(canvas, place, (y, scene.colours.paints[usize::from(paint)]))?;
        }
    }
    bars.end(canvas)
}

/// Shares of a column from the bottom of the lane upwards, whole pixels each. Cumulated shares are
/// rounded, so that a busy column is full however many share it.
fn stack(column: &CpuColumn, total_ns: u64, lane: &Lane) -> Vec<(u8, Range<i32>)> {
    let mut parts = Vec::with_capacity(column.ran.len());
    let (mut sum_ns, mut y) = (0, lane.y().end);
    for (paint, ns) in &column.ran {
        sum_ns += ns;
        let top = lane.y().end - share(sum_ns, total_ns, lane.height);
        if top < y {
            parts.push((*paint, top..y));
            y = top;
        }
    }
    if parts.is_empty()
        && let Some((paint, _)) = column.ran.iter().max_by_key(|(_, ns)| *ns)
    {
        parts.push((*paint, lane.y().end - PX..lane.y().end));
    }
    parts
}

/// Marks where records were lost, above everything else.
fn lost(scene: &Scene<'_>, canvas: &Canvas, (lane, cpu): (&Lane, &Cpu)) -> io::Result<()> {
    let time = scene.subject.from_ns..scene.subject.to_ns;
    let mut said_until = PLOT.start;
    let in_part =
        cpu.lost.iter().filter(|lost| lost.end_ns >= time.start && lost.start_ns < time.end);
    for lost in in_part {
        let from = canvas.x(lost.start_ns);
        let to = canvas.x(lost.end_ns).max(from + 3 * PX);
        let title = format!("{} records lost on CPU {}", count(lost.count), cpu.id);
        canvas.backend(|backend| {
            backend.open("g", &[("class", "loss")])?;
            backend.text_element("title", &[], &title)
        })?;
        canvas.rect(from..to, lane.y(), Paint::LOST)?;
        let text = format!("{} lost", count(lost.count));
        let width = Type::FLAG.width(&text) + 8 * PX;
        if lane.height >= 12 * PX && from - width > said_until {
            canvas.rect(
                from - width..from,
                lane.baseline() - 11 * PX..lane.baseline() + 3 * PX,
                Paint::LOST,
            )?;
            canvas.text(
                &text,
                (from - 4 * PX, lane.baseline()),
                Type::FLAG.anchored(HPos::Right),
            )?;
            said_until = to;
        }
        canvas.backend(super::backend::SvgBackend::close)?;
    }
    Ok(())
}

fn column_ns(grid: &Grid, place: usize) -> u64 {
    (grid.start_ns(place + 1) - grid.start_ns(place)).max(1)
}

/// That part of `height`, in whole pixels.
fn share(part_ns: u64, total_ns: u64, height: i32) -> i32 {
    let part = part_ns as f64 / total_ns as f64 * f64::from(height / PX);
    part.round() as i32 * PX
}

/// Bars a column wide. Neighbours of one colour and height become one rectangle, which takes less
/// room than bars; single ones become strokes, which take less room than rectangles.
#[derive(Debug)]
pub(super) struct Bars {
    width: i32,
    /// The last bar of each colour: its first and last column and where it is.
    open: Vec<(Paint, Range<usize>, Range<i32>)>,
}

impl Bars {
    pub(super) const fn new(column_px: i32) -> Self {
        Self { width: column_px * PX, open: Vec::new() }
    }

    /// Adds a bar in column `place`. Columns come in order.
    pub(super) fn add(
        &mut self,
        canvas: &Canvas,
        place: usize,
        (y, paint): (Range<i32>, Paint),
    ) -> io::Result<()> {
        let Some(known) = self.open.iter_mut().find(|(each, ..)| *each == paint) else {
            self.open.push((paint, place..place + 1, y));
            return Ok(());
        };
        if known.1.end == place && known.2 == y {
            known.1.end = place + 1;
            return Ok(());
        }
        let done = std::mem::replace(known, (paint, place..place + 1, y));
        self.draw(canvas, done)
    }

    /// Draws what is left.
    pub(super) fn end(mut self, canvas: &Canvas) -> io::Result<()> {
        for done in std::mem::take(&mut self.open) {
            self.draw(canvas, done)?;
        }
        Ok(())
    }

    fn draw(
        &self,
        canvas: &Canvas,
        (paint, columns, y): (Paint, Range<usize>, Range<i32>),
    ) -> io::Result<()> {
        let x = PLOT.start + columns.start as i32 * self.width;
        // A pattern has no stroke.
        if columns.len() > 1 || paint == Paint::UNKNOWN {
            return canvas.rect(x..x + columns.len() as i32 * self.width, y, paint);
        }
        canvas.bar(x + self.width / 2, y, (paint, self.width.unsigned_abs()))
    }
}
