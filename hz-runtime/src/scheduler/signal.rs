//! Waking a thread that blocks on a future.

use super::sync::{AtomicBool, Ordering, thread};
use std::sync::Arc;
use std::task::Wake;

/// Wakes the thread that blocks on a future.
#[derive(Debug)]
pub(crate) struct Signal {
    thread: thread::Thread,
    is_set: AtomicBool,
}

impl Signal {
    pub(crate) fn of_this_thread() -> Self {
        Self { thread: thread::current(), is_set: AtomicBool::new(false) }
    }

    /// Sleeps until it has been woken since it last slept.
    pub(crate) fn wait(&self) {
        // `park` may return for no reason.
        while !self.is_set.swap(false, Ordering::Acquire) {
            thread::park();
        }
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_set.swap(true, Ordering::Release) {
            self.thread.unpark();
        }
    }
}
