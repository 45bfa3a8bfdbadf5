//! Whether a worker waits, and who must ring for it.

use crate::scheduler::sync::{AtomicU8, Ordering, fence};

/// The worker is outside its turn.
const BUSY: u8 = 0;
/// It waits, or is about to.
const IN_TURN: u8 = 1;
/// It was notified: its turn ends, or the next one does not wait.
const NOTIFIED: u8 = 2;

/// A worker's turn.
///
/// A notification is sticky. What a worker waits for otherwise it reads after it has begun its turn,
/// and who changes that asks after the change whether there is a turn: of two fences, one comes
/// first, and the other side sees what was before it.
#[derive(Debug)]
pub(super) struct Turn {
    state: AtomicU8,
}

impl Turn {
    pub(super) fn new() -> Self {
        Self { state: AtomicU8::new(BUSY) }
    }

    /// Ends the turn, or else the next one before it waits; true if somebody must ring for that.
    pub(super) fn notify(&self) -> bool {
        self.state.swap(NOTIFIED, Ordering::SeqCst) == IN_TURN
    }

    /// Whether the worker waits, or is about to.
    pub(super) fn is_on(&self) -> bool {
        fence(Ordering::SeqCst);
        self.state.load(Ordering::SeqCst) == IN_TURN
    }

    /// As [`Turn::is_on`], for who can do with an old answer.
    pub(super) fn was_on(&self) -> bool {
        self.state.load(Ordering::Relaxed) == IN_TURN
    }

    /// The worker is going to wait; false if it has been notified, which it then has heard.
    pub(super) fn begin(&self) -> bool {
        let order = (Ordering::SeqCst, Ordering::SeqCst);
        let begun = self.state.compare_exchange(BUSY, IN_TURN, order.0, order.1);
        if begun.is_err() {
            self.state.store(BUSY, Ordering::SeqCst);
        }
        fence(Ordering::SeqCst);
        begun.is_ok()
    }

    /// The worker has waited; whether it was notified.
    pub(super) fn end(&self) -> bool {
        self.state.swap(BUSY, Ordering::SeqCst) == NOTIFIED
    }
}
