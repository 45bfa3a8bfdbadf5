//! Which worker of Tokio a thread is, and when it sleeps.

use crate::probe;
use ::tokio::runtime::{Handle, RuntimeFlavor};
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
    tell_worker();
    if !IS_HOOKED.get() {
        probe::worker_tick();
    }
}

/// Called by Tokio before a worker sleeps.
pub(super) fn parks() {
    tell_worker();
    probe::park();
}

/// Called by Tokio when a worker has slept.
pub(super) fn unparks() {
    probe::unpark();
    probe::worker_tick();
    if !IS_HOOKED.get() {
        IS_HOOKED.set(is_worker_for_good());
    }
}

/// Whether this thread runs no other runtime's tasks than this one's, whose hooks these are. A
/// thread that blocks on a runtime may block on another one next.
#[cold]
fn is_worker_for_good() -> bool {
    let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
    flavor.is_ok_and(|flavor| flavor == RuntimeFlavor::MultiThread)
}

#[inline]
fn tell_worker() {
    let worker = ::tokio::runtime::worker_index();
    if worker != TOLD.get() {
        tell(worker);
    }
}

#[cold]
fn tell(worker: Option<usize>) {
    if let Some(index) = worker.and_then(|worker| u32::try_from(worker).ok()) {
        probe::worker_started(index);
    }
    TOLD.set(worker);
}
