//! A worker's own queues.
//!
//! The deques are crossbeam's, which have no configuration for loom: no model covers them. What
//! `scheduler::models` covers is what is built around them, who is woken for what is in them; the
//! whole is covered by the tests in `tests/executor.rs`, on threads.

use super::cell::Job;
use super::slot::Slot;
use crate::task::Priority;
use crossbeam_deque::{Steal, Stealer, Worker as Deque};
use crossbeam_utils::CachePadded;
use std::cell::Cell;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

/// How often in a row the slot is preferred to the queue: two tasks that wake each other would else
/// keep all others waiting.
const SLOT_STREAK: u32 = 3;

/// A queue per priority and the slot for the task that was woken last.
///
/// The slot keeps a conversation between two tasks on one core, with its data in the caches. It is
/// stolen from only while a poll goes on for long.
pub(crate) struct Queues {
    levels: [Deque<Job>; Priority::LEVELS],
    /// Bit per level that may have tasks; a thief leaves it set.
    ready: Cell<u32>,
    slot: Arc<SharedSlot>,
    streak: Cell<u32>,
}

/// Where others take tasks from a worker.
#[derive(Debug)]
pub(crate) struct Stealers {
    levels: [Stealer<Job>; Priority::LEVELS],
    slot: Arc<SharedSlot>,
}

impl Stealers {
    /// Whether there is a task to steal, but for the slot's.
    pub(crate) fn is_empty(&self) -> bool {
        self.levels.iter().all(Stealer::is_empty)
    }

    /// Takes the slot's task, if it waits behind a poll that goes on for long.
    pub(crate) fn take_stale(&self, now_ns: u64) -> Option<Job> {
        // SAFETY: whatever is taken out of a slot came from `push_slot`, and has one taker.
        self.slot.0.take_stale(now_ns).map(|task| unsafe { of_raw(task) })
    }
}

/// A slot that drops its task. Its worker writes to it with each poll.
#[derive(Debug)]
struct SharedSlot(CachePadded<Slot>);

impl Drop for SharedSlot {
    fn drop(&mut self) {
        // SAFETY: as in `take_stale`.
        drop(self.0.take().map(|task| unsafe { of_raw(task) }));
    }
}

/// # Safety
///
/// `task` came from [`Job::into_raw`], and nobody else makes a job of it.
unsafe fn of_raw(task: NonNull<()>) -> Job {
    // SAFETY: the caller says so.
    unsafe { Job::from_raw(task) }
}

impl Queues {
    pub(crate) fn new() -> Self {
        Self {
            levels: std::array::from_fn(|_| Deque::new_fifo()),
            ready: Cell::new(0),
            slot: Arc::new(SharedSlot(CachePadded::new(Slot::new()))),
            streak: Cell::new(0),
        }
    }

    pub(crate) fn stealers(&self) -> Stealers {
        let levels = self.levels.each_ref().map(Deque::stealer);
        Stealers { levels, slot: Arc::clone(&self.slot) }
    }

    /// Appends a task to the queue of its level.
    pub(crate) fn push(&self, job: Job) {
        let level = job.metadata().priority as usize;
        self.levels[level].push(job);
        self.ready.set(self.ready.get() | 1 << level);
    }

    /// Puts a task into the slot. The one that was there goes to its queue, and others may steal it:
    /// then this is true.
    pub(crate) fn push_slot(&self, job: Job) -> bool {
        let Some(displaced) = self.slot.0.put(job.into_raw()) else { return false };
        // SAFETY: it was in the slot, and is out of it.
        self.push(unsafe { of_raw(displaced) });
        true
    }

    /// Its worker goes to poll `number`.
    pub(crate) fn begin_poll(&self, number: u32) {
        self.slot.0.begin_poll(number);
    }

    /// Levels that may have tasks, a bit each; the slot's is not among them.
    pub(crate) const fn ready(&self) -> u32 {
        self.ready.get()
    }

    /// The task in the slot, if no level above its own is in `ready` and its streak is not over.
    pub(crate) fn pop_slot(&self, ready: u32) -> Option<Job> {
        // SAFETY: it was in the slot, and is out of it.
        let job = self.slot.0.take().map(|task| unsafe { of_raw(task) })?;
        let above = (1 << job.metadata().priority as u32) - 1;
        if ready & above != 0 {
            // It is empty: nobody else puts one in.
            let _ = self.slot.0.put(job.into_raw());
            return None;
        }
        if ready != 0 && self.streak.get() >= SLOT_STREAK {
            self.push(job);
            return None;
        }
        self.streak.set(self.streak.get() + 1);
        Some(job)
    }

    pub(crate) fn pop(&self, level: usize) -> Option<Job> {
        self.streak.set(0);
        let job = self.levels[level].pop();
        if job.is_none() {
            self.ready.set(self.ready.get() & !(1 << level));
        }
        job
    }

    /// Takes half of a victim's tasks at the highest level that has any; says how many there are.
    pub(crate) fn steal(&self, victim: &Stealers) -> Option<(Job, u32)> {
        victim.levels.iter().zip(&self.levels).enumerate().find_map(|(level, (from, to))| {
            let job = loop {
                match from.steal_batch_and_pop(to) {
                    Steal::Success(job) => break job,
                    Steal::Empty => return None,
                    Steal::Retry => std::hint::spin_loop(),
                }
            };
            let more = to.len();
            if more > 0 {
                self.ready.set(self.ready.get() | 1 << level);
            }
            Some((job, more as u32 + 1))
        })
    }

    /// Whether others could steal something.
    pub(crate) fn has_more(&self) -> bool {
        self.levels.iter().any(|level| !level.is_empty())
    }

    /// Whether no task waits, the slot's included.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many tasks wait, the slot's included.
    pub(crate) fn len(&self) -> usize {
        usize::from(!self.slot.0.is_empty()) + self.levels.iter().map(Deque::len).sum::<usize>()
    }

    /// Tasks per level.
    pub(crate) fn depths(&self) -> [u16; Priority::LEVELS] {
        self.levels.each_ref().map(|level| level.len().min(u16::MAX.into()) as u16)
    }
}

impl fmt::Debug for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queues").field("depths", &self.depths()).finish_non_exhaustive()
    }
}
