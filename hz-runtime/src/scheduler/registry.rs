//! The live tasks, so that they can be cancelled.

use super::Core;
use super::sync::{AtomicBool, Mutex, MutexGuard, Ordering, lock};
use crossbeam_utils::CachePadded;
use std::sync::Weak;
use std::task::Waker;

/// No place in a registry.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// The tasks that one worker spawned, or those that other threads did.
///
/// One per worker, so that spawning rarely meets another's lock and the reference count in every
/// task's metadata is mostly one core's.
#[derive(Debug)]
pub(crate) struct Shard {
    /// Away from the rest, which every poll reads.
    tasks: CachePadded<Mutex<Tasks>>,
    core: Weak<Core>,
    is_closed: AtomicBool,
}

#[derive(Debug)]
struct Tasks {
    entries: Vec<Entry>,
    first_free: u32,
    live: usize,
}

#[derive(Debug)]
enum Entry {
    Live(Waker),
    Free { next: u32 },
}

impl Shard {
    pub(crate) fn new(core: Weak<Core>) -> Self {
        let tasks = Tasks { entries: Vec::new(), first_free: NOWHERE, live: 0 };
        let tasks = CachePadded::new(Mutex::new(tasks));
        Self { tasks, core, is_closed: AtomicBool::new(false) }
    }

    /// The runtime it belongs to.
    pub(crate) const fn core(&self) -> &Weak<Core> {
        &self.core
    }

    fn lock(&self) -> MutexGuard<'_, Tasks> {
        lock(&self.tasks)
    }

    /// Takes a task in and says where it is; refused once closed.
    pub(crate) fn insert(&self, waker: Waker) -> Result<u32, Waker> {
        let mut tasks = self.lock();
        if self.is_closed() {
            return Err(waker);
        }
        tasks.live += 1;
        let free = tasks.first_free;
        let Some(entry) = tasks.entries.get_mut(free as usize) else {
            tasks.entries.push(Entry::Live(waker));
            return Ok(tasks.entries.len() as u32 - 1);
        };
        if let Entry::Free { next } = std::mem::replace(entry, Entry::Live(waker)) {
            tasks.first_free = next;
        }
        Ok(free)
    }

    /// The task in `place` is no more.
    pub(crate) fn remove(&self, place: u32) {
        let mut tasks = self.lock();
        let next = tasks.first_free;
        let Some(entry) = tasks.entries.get_mut(place as usize) else { return };
        let removed = std::mem::replace(entry, Entry::Free { next });
        tasks.first_free = place;
        tasks.live -= 1;
        let is_last = self.is_closed() && tasks.live == 0;
        drop(tasks);
        drop(removed);
        if is_last && let Some(core) = self.core.upgrade() {
            core.shard_emptied();
        }
    }

    /// Wakes the task in `place`, or another one that has its place now.
    pub(crate) fn wake(&self, place: u32) {
        let waker = match self.lock().entries.get(place as usize) {
            Some(Entry::Live(waker)) => waker.clone(),
            _ => return,
        };
        waker.wake();
    }

    /// Takes no more tasks; returns those that are there.
    pub(crate) fn close(&self) -> Vec<Waker> {
        let tasks = self.lock();
        self.is_closed.store(true, Ordering::Release);
        let live = tasks.entries.iter().filter_map(|entry| match entry {
            Entry::Live(waker) => Some(waker.clone()),
            Entry::Free { .. } => None,
        });
        live.collect()
    }

    /// Whether it takes no more tasks: those that it has end at their next poll.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Whether it is closed and all its tasks are gone.
    pub(crate) fn is_over(&self) -> bool {
        let tasks = self.lock();
        self.is_closed() && tasks.live == 0
    }

    /// How many tasks are there.
    pub(crate) fn live(&self) -> usize {
        self.lock().live
    }
}
