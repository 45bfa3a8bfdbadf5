//! A recording, replayed into a model: the same path that live events take.

use crate::{
    decode::Event,
    model::{
        Folder, Model, Stacks,
        window::{NotCollected, Window, WindowFolder},
    },
    recording::{Events, Recording},
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

/// The windows of a recording, one after the other: what `hz-top` would have shown.
#[derive(Debug)]
pub struct Windows<'a> {
    recording: &'a Recording,
    events: std::iter::Peekable<Events<'a>>,
    folder: WindowFolder,
    length_ns: u64,
    next_end_ns: u64,
}

impl<'a> Windows<'a> {
    /// The windows of `recording`, each `length_ns` long but the last.
    #[must_use]
    pub fn of(recording: &'a Recording, length_ns: u64) -> Self {
        let meta = &recording.meta;
        let length_ns = length_ns.max(1);
        Self {
            recording,
            events: recording.events().peekable(),
            folder: WindowFolder::new(meta.start_ns, meta.start_realtime_ns, meta.cpus),
            length_ns,
            next_end_ns: meta.start_ns.saturating_add(length_ns),
        }
    }
}

impl Iterator for Windows<'_> {
    type Item = Window;

    fn next(&mut self) -> Option<Window> {
        let last_ns = self.recording.end_ns();
        let start_ns = self.next_end_ns.saturating_sub(self.length_ns);
        if start_ns >= last_ns {
            return None;
        }
        let end_ns = self.next_end_ns.min(last_ns);
        while let Some(event) = self
            .events
            .next_if(|event| event.as_ref().map_or(true, |event| event.header().time_ns <= end_ns))
        {
            // What is no event is counted by those who ask for a model.
            if let Ok(event) = event {
                self.folder.fold(&event);
            }
        }
        self.next_end_ns = self.next_end_ns.saturating_add(self.length_ns);
        let mut window = self.folder.close(end_ns);
        add_state(self.recording, &mut window);
        Some(window)
    }
}

/// What the recording says of itself: what is missing, and what it cost.
fn add_state(recording: &Recording, window: &mut Window) {
    let meta = &recording.meta;
    window.not_collected = meta
        .not_collected
        .iter()
        .map(|what| match what.split_once(": ") {
            Some((what, why)) => NotCollected::new(what, why),
            None => NotCollected::new(what, "the recording says so"),
        })
        .collect();
    window.not_collected.push(NotCollected::new("sleeps by system call", "not in recordings"));
}

/// The stacks of a recording, and nothing else of it: what symbols are to be found for.
#[must_use]
pub fn replay_stacks(recording: &Recording) -> Stacks {
    let start_ns = recording.meta.start_ns;
    let mut folder = Folder::new(start_ns, recording.meta.target.is_filtered());
    let is_wanted = |event: &Event| {
        matches!(
            event,
            Event::Stack(_) | Event::StackTrace(_) | Event::Mapping(_) | Event::MappedFile(_)
        )
    };
    recording.events().flatten().filter(is_wanted).for_each(|event| folder.fold(&event));
    folder.finish(recording.end_ns()).stacks
}
