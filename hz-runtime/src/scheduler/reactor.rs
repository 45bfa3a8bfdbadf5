//! Waiting for a notification, and for nothing else.

use std::io;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Where workers sleep.
#[derive(Debug)]
pub(crate) struct Reactor {
    workers: Vec<(Mutex<bool>, Condvar)>,
}

impl Reactor {
    pub(crate) fn new(workers: usize) -> io::Result<Self> {
        Ok(Self { workers: (0..workers).map(|_| Default::default()).collect() })
    }

    /// Waits for a notification of `worker`, up to `timeout`.
    pub(crate) fn turn(&self, worker: usize, timeout: Option<Duration>) -> io::Result<usize> {
        let (is_notified, changed) = &self.workers[worker];
        let guard = is_notified.lock().unwrap_or_else(PoisonError::into_inner);
        let timeout = timeout.unwrap_or(Duration::MAX);
        let waited = changed.wait_timeout_while(guard, timeout, |is_notified| !*is_notified);
        let (mut is_notified, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *is_notified = false;
        Ok(0)
    }

    /// Ends the turn of `worker`, or its next one.
    pub(crate) fn notify(&self, worker: usize) {
        let (is_notified, changed) = &self.workers[worker];
        *is_notified.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_one();
    }
}
