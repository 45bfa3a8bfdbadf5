//! The request to end a task: who asks, and the task that finds it.

use super::registry::NOWHERE;
use super::sync::{AtomicBool, AtomicU32, Ordering};

/// Whether a task is to end, and where in its registry it is to be woken for that.
#[derive(Debug)]
pub(super) struct Abort {
    is_asked: AtomicBool,
    place: AtomicU32,
}

impl Abort {
    /// Of a task that no registry knows yet.
    pub(super) fn new() -> Self {
        Self { is_asked: AtomicBool::new(false), place: AtomicU32::new(NOWHERE) }
    }

    /// The task has `place` from here on; before anybody can ask it to end.
    pub(super) fn placed(&self, place: u32) {
        self.place.store(place, Ordering::Release);
    }

    /// Asks it to end, and says where it is to be woken, so that it sees that; `None`: it is gone.
    pub(super) fn ask(&self) -> Option<u32> {
        self.is_asked.store(true, Ordering::Release);
        let place = self.place.load(Ordering::Acquire);
        (place != NOWHERE).then_some(place)
    }

    /// Asked by the task in its poll: whoever asks it to end does so before waking it.
    pub(super) fn is_asked(&self) -> bool {
        self.is_asked.load(Ordering::Acquire)
    }

    /// The task is gone; returns the place that it gives up.
    pub(super) fn leave(&self) -> Option<u32> {
        // Nobody else changes it; whoever reads it too early wakes a task for nothing.
        let place = self.place.load(Ordering::Relaxed);
        self.place.store(NOWHERE, Ordering::Relaxed);
        (place != NOWHERE).then_some(place)
    }
}
