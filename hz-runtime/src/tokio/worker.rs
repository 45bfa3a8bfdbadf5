//! Which worker of Tokio a thread is.

use crate::probe;
use std::cell::Cell;

thread_local! {
    /// The worker that the probes take this thread for.
    static TOLD: Cell<Option<usize>> = const { Cell::new(None) };
    /// Whether hooks move this thread's coarse clock on when it has slept.
    static IS_HOOKED: Cell<bool> = const { Cell::new(false) };
}

/// Tells which worker this thread is, if that is new, and what time it is, if nobody else does.
///
/// Asked before every poll: `block_in_place` makes another thread the worker, and back again.
#[inline]
pub(super) fn before_poll() {
    let worker = ::tokio::runtime::worker_index();
    if worker != TOLD.get() {
        tell(worker);
    }
    if !IS_HOOKED.get() {
        probe::worker_tick();
    }
}

#[cold]
fn tell(worker: Option<usize>) {
    if let Some(index) = worker.and_then(|worker| u32::try_from(worker).ok()) {
        probe::worker_started(index);
    }
    TOLD.set(worker);
}
