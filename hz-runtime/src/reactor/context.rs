//! Which reactor the current thread belongs to: that of its runtime.

use super::{Reactor, Timer};
use crate::handle::Handle;
use crate::scheduler::index_in;
use std::sync::Arc;
use std::task::Waker;

/// The reactor of this thread's runtime.
pub(crate) fn current() -> Option<Arc<Reactor>> {
    Handle::try_current().map(|handle| Arc::clone(&handle.core().reactor))
}

/// Adds a timer to this thread's reactor; `task` is the one that waits for it.
///
/// # Panics
///
/// If this thread has no runtime.
#[track_caller]
pub(crate) fn add_timer(deadline_ns: u64, task: u64, waker: Waker) -> Timer {
    Handle::with_current(|handle| {
        let core = handle.core();
        core.reactor.add_timer(index_in(core), deadline_ns, task, waker)
    })
}
