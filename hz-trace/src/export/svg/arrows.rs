//! Wake arrows: from who woke a task to the task, for the longest waits in a queue.

use super::backend::SvgBackend;
use super::canvas::Canvas;
use super::layout::{Lane, Shows};
use super::style::Paint;
use super::tasks::{Part, part, task_words};
use super::{PX, Scene};
use crate::model::{Model, State, ThreadIndex, Waker};
use crate::text::duration;
use serde::Serialize;
use std::cmp::Reverse;
use std::io;

/// Arrows that are drawn: more would hide what they point at.
const ARROWS: usize = 12;

/// A wake-up that the picture points out.
#[derive(Clone, Debug)]
pub(super) struct Arrow {
    time_ns: u64,
    /// Where it begins and where its head is, in units.
    y: (i32, i32),
    words: String,
}

/// The same for the script: nanoseconds since the start of the picture, and pixels.
#[derive(Debug, Serialize)]
pub(super) struct ArrowData {
    time: u64,
    y: (i32, i32),
    words: String,
}

/// The wake-ups before the longest times ready, of tasks with a lane by those with one.
pub(super) fn arrows(scene: &Scene<'_>) -> Vec<Arrow> {
    let model = scene.subject.model;
    let mut found = Vec::new();
    for (place, own) in scene.lanes.tasks.own.iter().enumerate() {
        let Some(to) = lane(scene, Shows::Task(place)) else { continue };
        // What was ready when the picture begins was woken before.
        let ready = own.tiles.iter().filter(|tile| {
            tile.span.state == State::Woken && tile.span.start_ns > scene.subject.from_ns
        });
        let longest = ready.max_by_key(|tile| tile.duration_ns());
        let Some(tile) = longest.filter(|tile| tile.duration_ns() >= scene.grid.column_ns()) else {
            continue;
        };
        let Waker::Thread(waker) = tile.span.waker else { continue };
        let Some((from, name)) = waker_lane(scene, waker) else { continue };
        let task = task_words(model, own.task);
        let words = format!("{name} woke {task}, which was ready {}", duration(tile.duration_ns()));
        let y = if from.top < to.top { (from.y().end, to.top) } else { (from.top, to.y().end) };
        found.push((Reverse(tile.duration_ns()), Arrow { time_ns: tile.span.start_ns, y, words }));
    }
    found.sort_by_key(|(length, arrow)| (*length, arrow.time_ns, arrow.y));
    found.truncate(ARROWS);
    found.into_iter().map(|(_, arrow)| arrow).collect()
}

fn lane<'a>(scene: &'a Scene<'_>, shows: Shows) -> Option<&'a Lane> {
    scene.layout.lanes.iter().find(|lane| lane.shows == shows)
}

fn waker_lane<'a>(scene: &'a Scene<'_>, waker: ThreadIndex) -> Option<(&'a Lane, String)> {
    let model: &Model = scene.subject.model;
    match part(model, waker) {
        Part::Thread(thread) => {
            Some((lane(scene, Shows::Thread(thread))?, model.thread(thread).name()))
        }
        Part::Task(task) => {
            let place = scene.lanes.tasks.own.iter().position(|own| own.task == task)?;
            Some((lane(scene, Shows::Task(place))?, task_words(model, task)))
        }
        Part::Reason(_) => None,
    }
}

/// Draws them.
pub(super) fn draw(scene: &Scene<'_>, canvas: &Canvas) -> io::Result<()> {
    for arrow in arrows(scene) {
        canvas.backend(|backend| {
            backend.open("g", &[("class", "wake")])?;
            backend.text_element("title", &[], &arrow.words)
        })?;
        let (from, to) = arrow.y;
        let x = canvas.x(arrow.time_ns);
        canvas.bar(x, from.min(to)..from.max(to), (Paint::MOVED, 8))?;
        // The head: three strokes, each wider than the one before.
        let step = if from < to { -2 * PX } else { 2 * PX };
        for (place, width) in [(0, 20), (1, 40), (2, 60)] {
            let at = to + step * place;
            canvas.bar(x, at.min(at + step)..at.max(at + step), (Paint::MOVED, width))?;
        }
        canvas.backend(SvgBackend::close)?;
    }
    Ok(())
}

/// What the script draws them from.
pub(super) fn data(scene: &Scene<'_>) -> Vec<ArrowData> {
    let since = |time_ns: u64| time_ns.saturating_sub(scene.subject.from_ns);
    let all = arrows(scene).into_iter().map(|arrow| ArrowData {
        time: since(arrow.time_ns),
        y: (arrow.y.0 / PX, arrow.y.1 / PX),
        words: arrow.words,
    });
    all.collect()
}
