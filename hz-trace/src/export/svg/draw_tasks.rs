//! Draws the lanes of tasks and of the queues they wait in.

use super::canvas::Canvas;
use super::columns::{ThreadColumns, place};
use super::draw_cpus::Bars;
use super::draw_page::{close_lane, open_lane, shortened};
use super::draw_strips;
use super::draw_threads::{crowded_columns, long_tiles, middle, moves, stack};
use super::layout::{Lane, PLOT, Shows};
use super::style::{Paint, Type};
use super::tasks::{Fold, OwnLane, add_tiles, as_runner, task_words};
use super::{PX, Scene};
use crate::model::{Depth, Runtime, State, Tile};
use crate::text::{count, duration, plural, share};
use plotters::style::text_anchor::HPos;
use std::io;

/// Draws the lanes of queues, of tasks, and those that the rest share.
pub(super) fn draw(scene: &Scene<'_>, canvas: &Canvas) -> io::Result<()> {
    for (number, lane) in scene.layout.lanes.iter().enumerate() {
        match lane.shows {
            Shows::Queue(runtime) => {
                let runtime = &scene.subject.model.runtimes[runtime];
                draw_queue(scene, canvas, (number, lane, runtime))?;
            }
            Shows::Task(place) => {
                draw_task(scene, canvas, (number, lane, &scene.lanes.tasks.own[place]))?;
            }
            Shows::TaskFold(place) => {
                draw_fold(scene, canvas, (number, lane, &scene.lanes.tasks.folds[place]))?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn draw_task(
    scene: &Scene<'_>,
    canvas: &Canvas,
    (number, lane, own): (usize, &Lane, &OwnLane),
) -> io::Result<()> {
    let model = scene.subject.model;
    let name = task_words(model, own.task);
    open_lane(canvas, number, &format!("{name}: {}", life_words(&own.tiles)))?;
    let right = PLOT.start - 10 * PX;
    let id = model.task(own.task).id.to_string();
    canvas.text(&id, (right, lane.baseline()), Type::SMALL.anchored(HPos::Right))?;
    let x = right - Type::SMALL.width(&id) - 4 * PX;
    let label = shortened(&model.task_name(own.task), 16);
    canvas.text(&label, (x, lane.baseline()), Type::LABEL.anchored(HPos::Right))?;
    let paint = scene.colours.paint(as_runner(model, own.task));
    canvas.rect(PLOT.start - 7 * PX..PLOT.start - 3 * PX, lane.y(), paint)?;
    canvas.rect(PLOT, lane.y(), Paint::LANE)?;
    let columns = ThreadColumns::of(own.tiles.iter().copied(), &scene.grid);
    canvas.backend(|backend| backend.open("g", &[("class", "tiles")]))?;
    if let (Some(first), Some(last)) = (own.tiles.first(), own.tiles.last()) {
        canvas.span(first.span.start_ns..last.end_ns, middle(lane, 14), Paint::SLEEP)?;
    }
    long_tiles(scene, canvas, (lane, &columns))?;
    crowded_columns(scene, canvas, (lane, &columns))?;
    moves(scene, canvas, (lane, &columns))?;
    draw_strips::waits(scene, canvas, (lane, own))?;
    draw_strips::draw(scene, canvas, (lane, as_runner(model, own.task)))?;
    close_lane(canvas)
}

fn life_words(tiles: &[Tile]) -> String {
    let sum = |wanted: &[State]| -> u64 {
        let found = tiles.iter().filter(|tile| wanted.contains(&tile.span.state));
        found.map(Tile::duration_ns).sum()
    };
    let total_ns = tiles.iter().map(Tile::duration_ns).sum();
    let ready = tiles.iter().filter(|tile| tile.span.state == State::Woken);
    let longest_ns = ready.map(Tile::duration_ns).max().unwrap_or(0);
    let mut words = format!(
        "{} running, {} ready (the longest {})",
        share(sum(&[State::Running]), total_ns),
        share(sum(&[State::Woken]), total_ns),
        duration(longest_ns),
    );
    for (state, what) in [
        (State::Preempted, "waiting for a CPU in a poll"),
        (State::Uninterruptible, "blocked in a poll"),
        (State::New, "in a poll that the kernel's records do not cover"),
    ] {
        let ns = sum(&[state]);
        if ns > 0 {
            words.push_str(&format!(", {} {what}", duration(ns)));
        }
    }
    words
}

fn draw_fold(
    scene: &Scene<'_>,
    canvas: &Canvas,
    (number, lane, fold): (usize, &Lane, &Fold),
) -> io::Result<()> {
    let tasks = plural(fold.tasks.len() as u64, "task");
    let about = format!(
        "{}: {tasks} without a lane of their own. Full height: as many as there are CPUs",
        fold.name
    );
    open_lane(canvas, number, &about)?;
    let text = format!("{} ×{}", shortened(&fold.name, 16), fold.tasks.len());
    let look = Type::LABEL.anchored(HPos::Right);
    canvas.text(&text, (PLOT.start - 10 * PX, lane.baseline()), look)?;
    canvas.rect(PLOT, lane.y(), Paint::LANE)?;
    canvas.backend(|backend| backend.open("g", &[("class", "tiles")]))?;
    let columns = fold_columns(scene, fold);
    let cpus = scene.subject.model.cpus.len().max(1) as u64;
    let mut bars = Bars::new(scene.column_px);
    for (column, mix) in columns.mixes.iter().enumerate() {
        let column_ns = scene.grid.start_ns(column + 1) - scene.grid.start_ns(column);
        let mut seen = *mix;
        seen[place(State::Unknown)] = 0;
        for (paint, y) in stack(&seen, column_ns * cpus, lane) {
            bars.add(canvas, column, (y, paint))?;
        }
    }
    bars.end(canvas)?;
    close_lane(canvas)
}

/// What the tasks of a lane did in each column.
pub(super) fn fold_columns(scene: &Scene<'_>, fold: &Fold) -> ThreadColumns {
    let model = scene.subject.model;
    let time = scene.subject.from_ns..scene.subject.to_ns;
    let mut columns = ThreadColumns::of(std::iter::empty(), &scene.grid);
    let mut tiles = Vec::new();
    for task in &fold.tasks {
        tiles.clear();
        model.task(*task).tiles().for_each(|tile| add_tiles(model, &tile, &time, &mut tiles));
        columns.add_mixes(tiles.iter().copied(), &scene.grid);
    }
    columns
}

/// How many tasks waited in all queues of a runtime, from when on.
pub(super) fn depths(runtime: &Runtime) -> Vec<(u64, u32)> {
    let queues = runtime.workers.iter().map(|worker| &worker.depths).chain([&runtime.injector]);
    let mut changes: Vec<(u64, usize, u32)> = queues
        .enumerate()
        .flat_map(|(queue, depths)| {
            depths.iter().map(move |depth: &Depth| (depth.time_ns, queue, depth.total()))
        })
        .collect();
    changes.sort_unstable();
    let mut now = vec![0_u32; runtime.workers.len() + 1];
    let sums = changes.into_iter().map(|(time_ns, queue, depth)| {
        now[queue] = depth;
        (time_ns, now.iter().fold(0_u32, |sum, each| sum.saturating_add(*each)))
    });
    sums.collect()
}

/// The deepest that the queues were in each column, and the tasks stolen in it.
pub(super) fn queue_columns(scene: &Scene<'_>, runtime: &Runtime) -> Vec<(u32, u64)> {
    let depths = depths(runtime);
    let mut steals = runtime.steals.iter().peekable();
    let mut next = depths.iter().peekable();
    let mut now = 0;
    let columns = (0..scene.grid.len()).map(|column| {
        let (start_ns, end_ns) = (scene.grid.start_ns(column), scene.grid.start_ns(column + 1));
        while let Some((_, depth)) = next.next_if(|(time_ns, _)| *time_ns < start_ns) {
            now = *depth;
        }
        let mut deepest = now;
        while let Some((_, depth)) = next.next_if(|(time_ns, _)| *time_ns < end_ns) {
            now = *depth;
            deepest = deepest.max(now);
        }
        let mut stolen = 0_u64;
        while let Some(steal) = steals.next_if(|steal| steal.time_ns < end_ns) {
            let counts = if steal.time_ns >= start_ns { steal.count } else { 0 };
            stolen = stolen.saturating_add(counts);
        }
        (deepest, stolen)
    });
    columns.collect()
}

/// A runtime's queues: their depth as height, and ticks where a worker took tasks from another.
fn draw_queue(
    scene: &Scene<'_>,
    canvas: &Canvas,
    (number, lane, runtime): (usize, &Lane, &Runtime),
) -> io::Result<()> {
    let columns = queue_columns(scene, runtime);
    let deepest = columns.iter().map(|(depth, _)| *depth).max().unwrap_or(0);
    let stolen = runtime.steals.iter().fold(0_u64, |sum, steal| sum.saturating_add(steal.count));
    let about = format!(
        "Queues of process {}: at most {} waited at once; {} taken from other workers (ticks)",
        runtime.pid,
        plural(deepest.into(), "task"),
        count(stolen),
    );
    open_lane(canvas, number, &about)?;
    let look = Type::LABEL.anchored(HPos::Right);
    let text = format!("queued, ≤{deepest}");
    canvas.text(&text, (PLOT.start - 10 * PX, lane.baseline()), look)?;
    canvas.rect(PLOT, lane.y(), Paint::LANE)?;
    canvas.backend(|backend| backend.open("g", &[("class", "tiles")]))?;
    let mut bars = Bars::new(scene.column_px);
    for (column, (depth, _)) in columns.iter().enumerate().filter(|(_, (depth, _))| *depth > 0) {
        let share = f64::from(*depth) / f64::from(deepest.max(1));
        let height = (share * f64::from(lane.height / PX)).round().max(1.0) as i32 * PX;
        bars.add(canvas, column, (lane.y().end - height..lane.y().end, Paint::WAIT))?;
    }
    bars.end(canvas)?;
    for (column, _) in columns.iter().enumerate().filter(|(_, (_, stolen))| *stolen > 0) {
        let x = canvas.x(scene.grid.start_ns(column)) + scene.column_px * PX / 2;
        let y = lane.top - 2 * PX..lane.top + 2 * PX;
        canvas.bar(x, y, (Paint::MOVED, PX.unsigned_abs()))?;
    }
    close_lane(canvas)
}
