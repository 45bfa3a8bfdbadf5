//! Draws the lanes of threads: what they did, where they moved, what they called.

use super::arrows;
use super::backend::SvgBackend;
use super::canvas::Canvas;
use super::columns::{Mix, ThreadColumns, clear_part, place};
use super::draw_cpus::Bars;
use super::draw_page::{close_lane, open_lane, shortened};
use super::draw_strips;
use super::lanes::Lanes;
use super::layout::{Lane, PLOT, Shows};
use super::style::{Paint, Type};
use super::survey::{Life, Survey, Wait, tiles_between};
use super::words;
use super::{PX, Scene};
use crate::model::{State, ThreadIndex};
use crate::text::{duration, plural, share};
use plotters::style::text_anchor::HPos;
use rustc_hash::FxHashSet;
use std::io;
use std::ops::Range;

/// Waits that are pointed out, at most.
const POINTED_OUT: usize = 3;

/// Shorter waits are not worth pointing out, in nanoseconds.
const NOTABLE_NS: u64 = 200_000;

/// How a state looks: its colour, and its height as a long tile of a lane 14 pixels high.
const fn look(state: State) -> Option<(Paint, i32)> {
    match state {
        State::Running => Some((Paint::RUN, 14)),
        State::Woken | State::Preempted => Some((Paint::WAIT, 14)),
        State::Uninterruptible => Some((Paint::BLOCKED, 6)),
        State::Stopped => Some((Paint::STOPPED, 4)),
        State::New => Some((Paint::NEW, 3)),
        State::Unknown => Some((Paint::UNKNOWN, 14)),
        // A thread's whole life is a thin line; a sleeping one is no more than that.
        _ => None,
    }
}

/// The parts of a crowded column from top to bottom: which states, in what colour, and the least
/// height in pixels at which they are seen.
const PARTS: [(&[State], Paint, i32); 6] = [
    (&[State::Woken, State::Preempted], Paint::WAIT, 1),
    (&[State::Running], Paint::RUN, 1),
    (&[State::Uninterruptible], Paint::BLOCKED, 1),
    (&[State::Stopped], Paint::STOPPED, 1),
    (&[State::New], Paint::NEW, 1),
    (&[State::Unknown], Paint::UNKNOWN, 2),
];

/// Draws every thread's lane, and the one that the rest share.
pub(super) fn draw(scene: &Scene<'_>, canvas: &Canvas) -> io::Result<()> {
    for (number, lane) in scene.layout.lanes.iter().enumerate() {
        match lane.shows {
            Shows::Thread(thread) => draw_thread(scene, canvas, (number, lane, thread))?,
            Shows::Folded => draw_folded(scene, canvas, (number, lane))?,
            _ => {}
        }
    }
    Ok(())
}

fn draw_thread(
    scene: &Scene<'_>,
    canvas: &Canvas,
    (number, lane, index): (usize, &Lane, ThreadIndex),
) -> io::Result<()> {
    let thread = scene.subject.model.thread(index);
    let time = scene.subject.from_ns..scene.subject.to_ns;
    let name = words::thread_words(scene.subject.model, index);
    open_lane(canvas, number, &format!("{name}: {}", life_words(scene.survey.life(index))))?;
    label(scene, canvas, (lane, index))?;
    canvas.rect(PLOT, lane.y(), Paint::LANE)?;
    let columns = ThreadColumns::of(tiles_between(thread, time.clone()), &scene.grid);
    canvas.backend(|backend| backend.open("g", &[("class", "tiles")]))?;
    let alive = thread.start_ns.max(time.start)..thread.end_ns.min(time.end);
    canvas.span(alive, middle(lane, 14), Paint::SLEEP)?;
    long_tiles(scene, canvas, (lane, &columns))?;
    crowded_columns(scene, canvas, (lane, &columns))?;
    moves(scene, canvas, (lane, &columns))?;
    draw_strips::draw(scene, canvas, (lane, index))?;
    close_lane(canvas)
}

/// Ticks where it came to another CPU. One that moves all the time says so quietly.
pub(super) fn moves(
    scene: &Scene<'_>,
    canvas: &Canvas,
    (lane, columns): (&Lane, &ThreadColumns),
) -> io::Result<()> {
    let is_restless = columns.moved.len() * 8 > scene.grid.len();
    let (paint, height) = if is_restless { (Paint::NEW, 1) } else { (Paint::MOVED, 4) };
    for column in &columns.moved {
        let x = canvas.x(scene.grid.start_ns(*column)) + scene.column_px * PX / 2;
        let y = lane.top - 2 * PX..lane.top + (height - 2) * PX;
        canvas.bar(x, y, (paint, PX.unsigned_abs()))?;
    }
    Ok(())
}

fn label(
    scene: &Scene<'_>,
    canvas: &Canvas,
    (lane, index): (&Lane, ThreadIndex),
) -> io::Result<()> {
    let thread = scene.subject.model.thread(index);
    let right = PLOT.start - 10 * PX;
    let tid = thread.tid.to_string();
    canvas.text(&tid, (right, lane.baseline()), Type::SMALL.anchored(HPos::Right))?;
    let name = shortened(&thread.name(), 16);
    let x = right - Type::SMALL.width(&tid) - 4 * PX;
    canvas.text(&name, (x, lane.baseline()), Type::LABEL.anchored(HPos::Right))?;
    // The colour that it has in the lanes of CPUs.
    canvas.rect(PLOT.start - 7 * PX..PLOT.start - 3 * PX, lane.y(), scene.colours.paint(index))
}

fn life_words(life: &Life) -> String {
    let total_ns = life.total_ns();
    format!(
        "{} running, {} waiting for a CPU in {}, the longest {}",
        share(life.running_ns(), total_ns),
        share(life.waiting_ns(), total_ns),
        plural(life.waits, "wait"),
        duration(life.longest_wait_ns),
    )
}

/// The middle `height` units of a lane.
pub(super) const fn middle(lane: &Lane, height: i32) -> Range<i32> {
    let top = lane.top + (lane.height - height) / 2;
    top..top + height
}

pub(super) fn long_tiles(
    scene: &Scene<'_>,
    canvas: &Canvas,
    (lane, columns): (&Lane, &ThreadColumns),
) -> io::Result<()> {
    for tile in &columns.long {
        let Some((paint, height)) = look(tile.span.state) else { continue };
        let (start_ns, end_ns) = (tile.span.start_ns, tile.end_ns);
        if let Some((from, to)) = clear_part(&scene.grid, &columns.is_crowded, start_ns, end_ns) {
            canvas.span(from..to, middle(lane, height * PX), paint)?;
        }
    }
    Ok(())
}

pub(super) fn crowded_columns(
    scene: &Scene<'_>,
    canvas: &Canvas,
    (lane, columns): (&Lane, &ThreadColumns),
) -> io::Result<()> {
    let mut bars = Bars::new(scene.column_px);
    let crowded = columns.is_crowded.iter().enumerate().filter(|(_, is_crowded)| **is_crowded);
    for (column, _) in crowded {
        let total_ns = columns.mixes[column].iter().sum();
        for (paint, y) in stack(&columns.mixes[column], total_ns, lane) {
            bars.add(canvas, column, (y, paint))?;
        }
    }
    bars.end(canvas)
}

/// The parts of a crowded column around the middle of the lane, whole pixels each. What sleeps
/// leaves its share of the height empty.
pub(super) fn stack(mix: &Mix, total_ns: u64, lane: &Lane) -> Vec<(Paint, Range<i32>)> {
    let heights = heights(mix, total_ns, lane.height / PX);
    let mut y = lane.top + (lane.height / PX - heights.iter().sum::<i32>()) / 2 * PX;
    let mut parts = Vec::with_capacity(3);
    for ((_, paint, _), height) in PARTS.iter().zip(heights) {
        if height > 0 {
            parts.push((*paint, y..y + height * PX));
            y += height * PX;
        }
    }
    parts
}

/// Heights of [`PARTS`] in pixels. Each is in proportion, but nothing that happened is less than
/// its least height, at the cost of the highest.
fn heights(mix: &Mix, total_ns: u64, full: i32) -> [i32; PARTS.len()] {
    let mut heights = [0; PARTS.len()];
    for (height, (states, _, least)) in heights.iter_mut().zip(PARTS) {
        let ns: u64 = states.iter().map(|state| mix[place(*state)]).sum();
        if ns > 0 {
            let share = ns as f64 / total_ns.max(1) as f64 * f64::from(full);
            *height = (share.round() as i32).clamp(least, full);
        }
    }
    while heights.iter().sum::<i32>() > full {
        let Some(highest) = heights.iter_mut().max_by_key(|height| **height) else { break };
        *highest -= 1;
    }
    heights
}

fn draw_folded(
    scene: &Scene<'_>,
    canvas: &Canvas,
    (number, lane): (usize, &Lane),
) -> io::Result<()> {
    let model = scene.subject.model;
    let folded = &scene.lanes.folded;
    let time = scene.subject.from_ns..scene.subject.to_ns;
    let mut columns = ThreadColumns::of(std::iter::empty(), &scene.grid);
    let mut sum = Life::default();
    for index in folded {
        columns.add_mixes(tiles_between(model.thread(*index), time.clone()), &scene.grid);
        let life = scene.survey.life(*index);
        sum.waits += life.waits;
        sum.longest_wait_ns = sum.longest_wait_ns.max(life.longest_wait_ns);
    }
    let about = format!(
        "{} without a lane of their own: {}, the longest {}. Full height: as many as there are CPUs",
        plural(folded.len() as u64, "thread"),
        plural(sum.waits, "wait"),
        duration(sum.longest_wait_ns),
    );
    open_lane(canvas, number, &about)?;
    let look = Type::LABEL.anchored(HPos::Right);
    let text = format!("{} more", plural(folded.len() as u64, "thread"));
    canvas.text(&text, (PLOT.start - 10 * PX, lane.baseline()), look)?;
    canvas.rect(PLOT, lane.y(), Paint::LANE)?;
    canvas.backend(|backend| backend.open("g", &[("class", "tiles")]))?;
    let mut bars = Bars::new(scene.column_px);
    for (column, mix) in columns.mixes.iter().enumerate() {
        let column_ns = scene.grid.start_ns(column + 1) - scene.grid.start_ns(column);
        let full_ns = column_ns * model.cpus.len().max(1) as u64;
        let mut seen = *mix;
        seen[place(State::Unknown)] = 0;
        for (paint, y) in stack(&seen, full_ns, lane) {
            bars.add(canvas, column, (y, paint))?;
        }
    }
    bars.end(canvas)?;
    close_lane(canvas)
}

/// The worst waits of different threads, if they are long enough to be seen.
pub(super) fn notes(survey: &Survey, lanes: &Lanes, visible_ns: u64) -> Vec<Wait> {
    let shown: FxHashSet<ThreadIndex> = lanes.threads().collect();
    let least_ns = visible_ns.max(NOTABLE_NS);
    let mut notes: Vec<Wait> = Vec::new();
    for wait in survey.worst.iter().take_while(|wait| wait.duration_ns() >= least_ns) {
        let is_noted = notes.iter().any(|note| note.thread == wait.thread);
        if notes.len() < POINTED_OUT && shown.contains(&wait.thread) && !is_noted {
            notes.push(*wait);
        }
    }
    notes
}

/// Points out the worst waits.
pub(super) fn worst_waits(scene: &Scene<'_>, canvas: &Canvas) -> io::Result<()> {
    canvas.backend(|backend| backend.open("g", &[("class", "notes")]))?;
    for wait in &scene.notes {
        let lane = scene.layout.lanes.iter().find(|lane| lane.shows == Shows::Thread(wait.thread));
        if let Some(lane) = lane {
            point_out(scene, canvas, (lane, wait))?;
        }
    }
    arrows::draw(scene, canvas)?;
    canvas.backend(SvgBackend::close)
}

fn point_out(scene: &Scene<'_>, canvas: &Canvas, (lane, wait): (&Lane, &Wait)) -> io::Result<()> {
    let from = canvas.x(wait.start_ns);
    let to = canvas.x(wait.end_ns).max(from + 2 * PX);
    let y = lane.top - PX..lane.y().end + PX;
    canvas.outline(from - PX..to + PX, y, (Paint::BLOCKED, 12))?;
    let text = words::wait_note(scene.subject.model, wait);
    let (x, anchor) = if from + Type::NOTE.width(&text) < PLOT.end {
        (from, HPos::Left)
    } else {
        (to, HPos::Right)
    };
    let baseline = lane.y().end + lane.rows_height() + 12 * PX;
    canvas.text(&text, (x, baseline), Type::NOTE.anchored(anchor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_short_wait_is_seen_beside_a_long_run() {
        let mut mix = Mix::default();
        mix[place(State::Running)] = 999_999;
        mix[place(State::Woken)] = 1;
        assert_eq!(heights(&mix, 1_000_000, 14), [1, 13, 0, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn whatever_happened_has_a_height_and_all_fit_the_lane(
            mix in proptest::array::uniform8(prop_oneof![Just(0_u64), 1..1_000_000_u64]),
            full in 6..30,
        ) {
            let heights = heights(&mix, mix.iter().sum(), full);
            prop_assert!(heights.iter().sum::<i32>() <= full);
            for (height, (states, ..)) in heights.iter().zip(PARTS) {
                let ns: u64 = states.iter().map(|state| mix[place(*state)]).sum();
                prop_assert_eq!(*height > 0, ns > 0);
            }
        }
    }
}
