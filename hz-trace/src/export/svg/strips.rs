//! What is below a lane: calls of user probes below a thread's, the program's own requests, spans
//! and marks below the lane of the task they began in.

use super::lanes::Lanes;
use super::style::Paint;
use super::tasks::as_runner;
use super::words;
use crate::export::Subject;
use crate::model::{Mark, Model, Runtime, TaskIndex, ThreadIndex, UserSpan};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

/// Rows that spans within each other get; deeper ones share the last.
const ROWS: usize = 3;

/// Stands for the number of a request, or what a program says with a mark, in a name.
pub(super) const NUMBER: char = '\u{1}';

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub(super) start_ns: u64,
    /// `None`: it only happened, or its end was not seen.
    pub(super) end_ns: Option<u64>,
    /// Its place among [`Strips::names`].
    pub(super) name: usize,
    /// What stands for [`NUMBER`] in its name.
    pub(super) number: u64,
    /// From the top.
    pub(super) row: u8,
}

/// What is below one lane, by start.
#[derive(Clone, Debug, Default)]
pub(super) struct Strip {
    pub(super) parts: Vec<Part>,
    pub(super) rows: u8,
}

/// What is below all lanes.
#[derive(Clone, Debug, Default)]
pub(super) struct Strips {
    by_lane: FxHashMap<ThreadIndex, Strip>,
    /// Names and colours; those of user probes are the first, by number.
    pub(super) names: Vec<(String, Paint)>,
    known: BTreeMap<(u32, &'static str, u32, u32), usize>,
}

impl Strips {
    /// Everything that a lane shows.
    pub(super) fn of(subject: &Subject<'_>, lanes: &Lanes) -> Self {
        let probes = subject.about.probes.iter();
        let names = probes.map(|name| (words::printable(name), Paint::CALL)).collect();
        let mut strips = Self { names, ..Self::default() };
        strips.calls(subject);
        let shown = lanes
            .threads()
            .chain(lanes.tasks.own.iter().map(|own| as_runner(subject.model, own.task)));
        let shown: Vec<ThreadIndex> = shown.collect();
        for (number, runtime) in (0_u32..).zip(&subject.model.runtimes) {
            strips.program(subject, (number, runtime), &shown);
        }
        strips
    }

    /// What is below a lane.
    pub(super) fn get(&self, lane: ThreadIndex) -> Option<&Strip> {
        self.by_lane.get(&lane)
    }

    /// Lanes that have something below.
    pub(super) fn len(&self) -> usize {
        self.by_lane.len()
    }

    /// Whether anything has a colour.
    pub(super) fn has(&self, paint: Paint) -> bool {
        let mut parts = self.by_lane.values().flat_map(|strip| &strip.parts);
        parts.any(|part| self.paint(part) == paint)
    }

    pub(super) fn paint(&self, part: &Part) -> Paint {
        self.names.get(part.name).map_or(Paint::CALL, |(_, paint)| *paint)
    }

    fn calls(&mut self, subject: &Subject<'_>) {
        for call in &subject.model.calls {
            if is_in(subject, call.start_ns, call.end_ns) {
                let (start_ns, end_ns, name) = (call.start_ns, call.end_ns, call.probe as usize);
                let part = Part { start_ns, end_ns, name, number: 0, row: 0 };
                let strip = self.by_lane.entry(call.thread).or_default();
                (strip.rows, _) = (1, strip.parts.push(part));
            }
        }
    }

    /// What a program says of itself, below the lanes that are `shown`.
    fn program(
        &mut self,
        subject: &Subject<'_>,
        (number, runtime): (u32, &Runtime),
        shown: &[ThreadIndex],
    ) {
        let mut found: FxHashMap<ThreadIndex, Vec<Part>> = FxHashMap::default();
        let lane = |task, thread| lane_of(subject.model, task, thread, shown);
        let spans = runtime.requests.iter().map(|span| (span, "request"));
        let spans = spans.chain(runtime.user_spans.iter().map(|span| (span, "span")));
        for (span, kind) in spans.filter(|(span, _)| is_in(subject, span.start_ns, span.end_ns)) {
            let Some(lane) = lane(span.task, span.thread) else { continue };
            let name = self.span_name((number, runtime), kind, span);
            let (start_ns, end_ns, number) = (span.start_ns, span.end_ns, span.id);
            let part = Part { start_ns, end_ns, name, number, row: 0 };
            found.entry(lane).or_default().push(part);
        }
        for mark in runtime.marks.iter().filter(|mark| is_in(subject, mark.time_ns, None)) {
            let Some(lane) = lane(mark.task, mark.thread) else { continue };
            let name = self.mark_name((number, runtime), mark);
            let (start_ns, number) = (mark.time_ns, mark.value);
            let part = Part { start_ns, end_ns: None, name, number, row: 0 };
            found.entry(lane).or_default().push(part);
        }
        for (lane, mut parts) in found {
            let strip = self.by_lane.entry(lane).or_default();
            // Of two that begin together the longer one holds the other.
            parts.sort_by_key(|part| (part.start_ns, std::cmp::Reverse(part.end_ns)));
            strip.rows += stack(&mut parts, strip.rows);
            strip.parts.extend(parts);
            strip.parts.sort_by_key(|part| part.start_ns);
        }
    }

    fn span_name(
        &mut self,
        (number, runtime): (u32, &Runtime),
        kind: &'static str,
        span: &UserSpan,
    ) -> usize {
        let text = words::printable(runtime.text(span.text).unwrap_or("?"));
        let (name, paint) = match (kind, span.status) {
            ("request", 0) => (format!("request {NUMBER} {text}"), Paint::REQUEST),
            ("request", status) => {
                (format!("request {NUMBER} {text}, status {status}"), Paint::REQUEST)
            }
            _ => (text, Paint::SPAN),
        };
        let name = if span.end_ns.is_some() { name } else { format!("{name}, end not seen") };
        let key = (number, kind, span.text, span.status << 1 | u32::from(span.end_ns.is_some()));
        self.named(key, (name, paint))
    }

    fn mark_name(&mut self, (number, runtime): (u32, &Runtime), mark: &Mark) -> usize {
        let text = words::printable(runtime.text(mark.text).unwrap_or("?"));
        self.named((number, "mark", mark.text, 0), (format!("mark {text}: {NUMBER}"), Paint::MARK))
    }

    fn named(&mut self, key: (u32, &'static str, u32, u32), name: (String, Paint)) -> usize {
        let next = self.names.len();
        let place = *self.known.entry(key).or_insert(next);
        if place == next {
            self.names.push(name);
        }
        place
    }
}

fn is_in(subject: &Subject<'_>, start_ns: u64, end_ns: Option<u64>) -> bool {
    start_ns < subject.to_ns && end_ns.unwrap_or(start_ns) >= subject.from_ns
}

/// The lane below which something is shown that happened in a task, or else on a thread.
fn lane_of(
    model: &Model,
    task: Option<TaskIndex>,
    thread: ThreadIndex,
    shown: &[ThreadIndex],
) -> Option<ThreadIndex> {
    let lane = task.map_or(thread, |task| as_runner(model, task));
    shown.contains(&lane).then_some(lane)
}

/// Gives each part the first row, from `above` on, in which nothing else is at its time; the number
/// of rows.
fn stack(parts: &mut [Part], above: u8) -> u8 {
    let mut until_ns: Vec<u64> = Vec::new();
    for part in parts.iter_mut() {
        let end_ns = part.end_ns.unwrap_or(part.start_ns);
        let free = until_ns.iter().position(|until_ns| *until_ns <= part.start_ns);
        // A mark is a tick across what is there.
        let row = match free {
            _ if part.end_ns.is_none() => 0,
            Some(row) => row,
            None if until_ns.len() < ROWS => until_ns.len(),
            None => ROWS - 1,
        };
        if until_ns.len() <= row {
            until_ns.resize(row + 1, 0);
        }
        until_ns[row] = until_ns[row].max(end_ns);
        part.row = above + u8::try_from(row).unwrap_or(0);
    }
    u8::try_from(until_ns.len()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_within_another_is_below_it_and_what_follows_is_beside_it() {
        let part = |start_ns, end_ns| Part { start_ns, end_ns, name: 0, number: 0, row: 0 };
        let mut parts = [
            part(0, Some(100)),
            part(10, Some(50)),
            part(20, Some(30)),
            part(22, Some(28)),
            part(40, None),
            part(60, Some(80)),
            part(100, Some(110)),
        ];
        assert_eq!(stack(&mut parts, 1), 3);
        assert_eq!(parts.map(|part| part.row), [1, 2, 3, 3, 1, 2, 1]);
    }
}
