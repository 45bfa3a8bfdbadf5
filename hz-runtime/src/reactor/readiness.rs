//! What a file is ready for, in one word.

#[cfg(hz_loom)]
use loom::sync::atomic::{AtomicU32, Ordering};
#[cfg(not(hz_loom))]
use std::sync::atomic::{AtomicU32, Ordering};

/// Can be read, or accepted from.
pub(super) const READ: u32 = 1;
/// Can be written.
pub(super) const WRITE: u32 = 2;
/// The other side writes no more: a read does not block.
pub(super) const READ_CLOSED: u32 = 4;
/// Nothing can be written any more: a write does not block.
pub(super) const WRITE_CLOSED: u32 = 8;
/// One event, in the counter above the bits.
const TICK: u32 = 16;
const BITS: u32 = TICK - 1;

/// Readiness bits and a count of the events that set them.
///
/// The count is what makes it safe to say "not ready any more" after a system call: an event that
/// arrived in between has moved it on, and stays. It wraps after 2²⁸ events, which cannot happen
/// between a system call's begin and the line after it.
#[derive(Debug)]
pub(super) struct Readiness {
    word: AtomicU32,
}

/// What the readiness was before a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen(u32);

impl Seen {
    pub(super) const fn is_any(self, bits: u32) -> bool {
        self.0 & bits != 0
    }
}

impl Readiness {
    pub(super) fn new(bits: u32) -> Self {
        Self { word: AtomicU32::new(bits & BITS) }
    }

    pub(super) fn seen(&self) -> Seen {
        Seen(self.word.load(Ordering::Acquire))
    }

    /// Adds what an event said.
    pub(super) fn add(&self, bits: u32) {
        let add = |word: u32| Some((word | (bits & BITS)).wrapping_add(TICK));
        let updated = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, add);
        debug_assert!(updated.is_ok(), "the update never declines");
    }

    /// Takes `bits` away unless an event came since `seen`.
    pub(super) fn remove(&self, bits: u32, seen: Seen) {
        let remove = |word: u32| (word & !BITS == seen.0 & !BITS).then_some(word & !(bits & BITS));
        // An event that came meanwhile is no failure: the file is ready again.
        let _ = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, remove);
    }
}

#[cfg(all(test, not(hz_loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_empty_is_not_ready_any_more() {
        let readiness = Readiness::new(READ | WRITE);
        readiness.remove(READ, readiness.seen());
        assert!(!readiness.seen().is_any(READ));
        assert!(readiness.seen().is_any(WRITE));
    }

    #[test]
    fn an_event_since_the_look_is_kept() {
        let readiness = Readiness::new(READ);
        let seen = readiness.seen();
        readiness.add(READ);
        readiness.remove(READ, seen);
        assert!(readiness.seen().is_any(READ));
    }

    #[test]
    fn the_other_direction_may_be_cleared_in_between() {
        let readiness = Readiness::new(READ | WRITE);
        let seen = readiness.seen();
        readiness.remove(WRITE, seen);
        readiness.remove(READ, seen);
        assert!(!readiness.seen().is_any(READ | WRITE));
    }
}
