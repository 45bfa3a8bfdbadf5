//! A recording, replayed into a model: the same path that live events take.

use crate::{
    model::{Folder, Model},
    recording::Recording,
};

/// A part of a recording, in nanoseconds since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// Where it begins; `None`: at the start.
    pub from_ns: Option<u64>,
    /// Where it ends; `None`: at the end.
    pub to_ns: Option<u64>,
}

/// What a replay gives.
#[derive(Debug)]
pub struct Replay {
    /// What happened.
    pub model: Model,
    /// Chunks whose records could not be read.
    pub damaged_chunks: u64,
}

/// Folds the events of a recording, up to the end of `range`.
///
/// Events before the range are folded too: without them nobody would know what its first moment
/// was like. The model spans the whole time up to the end of the range; the exporter cuts.
#[must_use]
pub fn replay(recording: &Recording, range: Range) -> Replay {
    let start_ns = recording.meta.start_ns;
    let end_ns = range.to_ns.map_or(u64::MAX, |to_ns| start_ns.saturating_add(to_ns));
    let mut folder = Folder::new(start_ns, recording.meta.target.is_filtered());
    folder.number_usdts_behind(recording.meta.uprobes.len());
    if !recording.meta.has_switches() {
        folder.expect_no_switches();
    }
    let mut events = recording.events_between(0, end_ns);
    for event in events.by_ref() {
        match event {
            Ok(event) if event.header().time_ns > end_ns => break,
            Ok(event) => folder.fold(&event),
            Err(_) => folder.count_undecoded(),
        }
    }
    let damaged_chunks = events.damaged_chunks();
    let model = folder.finish(recording.end_ns().min(end_ns));
    Replay { model, damaged_chunks }
}
