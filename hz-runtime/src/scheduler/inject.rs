//! Tasks that come from threads that are no workers.

use super::cell::Job;
use super::sync::{AtomicU32, Mutex, MutexGuard, Ordering, lock};
use crate::task::Priority;
use std::collections::VecDeque;

/// The most that a worker takes at once, so that the others get some.
const BATCH: usize = 32;

/// A queue per priority, which all workers take from in batches.
///
/// A lock rather than a lock-free queue: a batch leaves under one lock, and what is known about the
/// levels from outside the lock is exact once it is released.
#[derive(Debug)]
pub(crate) struct Injector {
    levels: Mutex<[VecDeque<Job>; Priority::LEVELS]>,
    /// Bit per level that has tasks: what workers look at before each dispatch.
    ready: AtomicU32,
}

impl Injector {
    pub(crate) fn new() -> Self {
        Self { levels: Mutex::new(Default::default()), ready: AtomicU32::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, [VecDeque<Job>; Priority::LEVELS]> {
        lock(&self.levels)
    }

    /// Levels that have tasks, a bit each.
    pub(crate) fn ready(&self) -> u32 {
        self.ready.load(Ordering::SeqCst)
    }

    pub(crate) fn push(&self, job: Job) {
        let level = job.metadata().priority as usize;
        let mut levels = self.lock();
        levels[level].push_back(job);
        let ready = self.ready.load(Ordering::Relaxed);
        if ready & 1 << level == 0 {
            self.ready.store(ready | 1 << level, Ordering::SeqCst);
        }
    }

    /// Takes a task of `level`, and for `extra` as many more as are a worker's fair share.
    pub(crate) fn take(
        &self,
        level: usize,
        workers: usize,
        mut extra: impl FnMut(Job),
    ) -> Option<Job> {
        let mut levels = self.lock();
        let queue = &mut levels[level];
        let first = queue.pop_front();
        let share = (queue.len() / workers).min(BATCH);
        queue.drain(..share).for_each(&mut extra);
        if queue.is_empty() {
            let ready = self.ready.load(Ordering::Relaxed);
            self.ready.store(ready & !(1 << level), Ordering::SeqCst);
        }
        first
    }

    /// Tasks per level.
    pub(crate) fn depths(&self) -> [u16; Priority::LEVELS] {
        self.lock().each_ref().map(|queue| queue.len().min(u16::MAX.into()) as u16)
    }
}
