//! Which reactor the current thread belongs to: that of its runtime.

use super::Reactor;
use crate::handle::Handle;
use crate::scheduler::{current_worker, index_in};
use std::sync::Arc;

/// The reactor of this thread's runtime.
pub(crate) fn current() -> Option<Arc<Reactor>> {
    Handle::try_current().map(|handle| Arc::clone(&handle.core().reactor))
}

/// The worker of `reactor` that this thread is.
pub(super) fn worker_of(reactor: &Reactor) -> Option<usize> {
    current_worker()?;
    Handle::with_current(|handle| {
        let core = handle.core();
        let is_its = std::ptr::eq(&*core.reactor, reactor);
        is_its.then(|| index_in(core)).flatten()
    })
}
