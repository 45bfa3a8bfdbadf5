//! What the sampler keeps for each thread.

use super::stack::Limits;
use std::cell::Cell;

/// Words of this thread: no destructor, so that they are there from its first allocation to its
/// last, and reaching them allocates nothing.
#[derive(Debug)]
pub(super) struct Local {
    /// Bytes until the next look at the sampler, never negative between two allocations. While the
    /// sampler itself is at work it is as good as infinite: that is what keeps it from recursing,
    /// at no price for all others.
    pub(super) left: Cell<i64>,
    /// The mean that `left` was drawn for; 0: it was not drawn.
    pub(super) mean: Cell<u64>,
    /// State of the random numbers; 0: not seeded.
    pub(super) random: Cell<u64>,
    /// Where its stack is; `None`: not asked yet.
    pub(super) stack: Cell<Option<Limits>>,
    /// Whether the sampler is at work.
    pub(super) is_busy: Cell<bool>,
}

thread_local! {
    pub(super) static LOCAL: Local = const {
        Local {
            left: Cell::new(0),
            mean: Cell::new(0),
            random: Cell::new(0),
            stack: Cell::new(None),
            is_busy: Cell::new(false),
        }
    };
}
