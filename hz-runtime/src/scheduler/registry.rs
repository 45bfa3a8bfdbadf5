//! The live tasks, so that they can be cancelled.

use super::Core;
use super::sync::{AtomicBool, AtomicUsize, Mutex, MutexGuard, Ordering, lock};
use crossbeam_utils::CachePadded;
use std::sync::Weak;
use std::task::Waker;

/// No place in a registry.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// Parts of a shard, each with a lock of its own: who spawns takes one after another for [`RUN`] tasks each, so that
/// it rarely meets those that end elsewhere. Few in models, which try every order.
const PARTS: usize = if cfg!(hz_loom) { 2 } else { 8 };
/// Tasks that enter one part in a row.
const RUN: usize = if cfg!(hz_loom) { 1 } else { 64 };

/// The tasks that one worker spawned, or those that other threads did.
///
/// One per worker, so that spawning rarely meets another's lock and the reference count in every
/// task's metadata is mostly one core's.
#[derive(Debug)]
pub(crate) struct Shard {
    /// Away from the rest, which every poll reads.
    parts: [CachePadded<Mutex<Tasks>>; PARTS],
    /// Tasks that were ever taken in, more or less: it chooses the part.
    inserted: CachePadded<AtomicUsize>,
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
        Self {
            parts: std::array::from_fn(|_| CachePadded::new(Mutex::new(Tasks::new()))),
            inserted: CachePadded::new(AtomicUsize::new(0)),
            core,
            is_closed: AtomicBool::new(false),
        }
    }

    /// The runtime it belongs to.
    pub(crate) const fn core(&self) -> &Weak<Core> {
        &self.core
    }

    /// The part that has `place`, and where in it.
    fn part(&self, place: u32) -> (MutexGuard<'_, Tasks>, u32) {
        let parts = PARTS as u32;
        (lock(&self.parts[(place % parts) as usize]), place / parts)
    }

    /// Takes a task in and says where it is; refused once closed.
    pub(crate) fn insert(&self, waker: Waker) -> Result<u32, Waker> {
        // Two threads may count one task between them: then they meet.
        let inserted = self.inserted.load(Ordering::Relaxed);
        self.inserted.store(inserted.wrapping_add(1), Ordering::Relaxed);
        let part = inserted / RUN % PARTS;
        let mut tasks = lock(&self.parts[part]);
        // Closing takes all locks.
        if self.is_closed() {
            return Err(waker);
        }
        Ok(tasks.insert(waker) * PARTS as u32 + part as u32)
    }

    /// The task in `place` is no more.
    pub(crate) fn remove(&self, place: u32) {
        let (mut tasks, place) = self.part(place);
        let removed = tasks.remove(place);
        let is_last = self.is_closed() && tasks.live == 0;
        drop(tasks);
        drop(removed);
        if is_last && let Some(core) = self.core.upgrade() {
            core.shard_emptied();
        }
    }

    /// Wakes the task in `place`, or another one that has its place now.
    pub(crate) fn wake(&self, place: u32) {
        let (tasks, place) = self.part(place);
        let waker = match tasks.entries.get(place as usize) {
            Some(Entry::Live(waker)) => waker.clone(),
            _ => return,
        };
        drop(tasks);
        waker.wake();
    }

    /// Takes no more tasks; returns those that are there.
    pub(crate) fn close(&self) -> Vec<Waker> {
        // All at once: what comes later is refused, whichever part it is for. Nobody else takes two.
        let parts = self.parts.each_ref().map(|part| lock(part));
        self.is_closed.store(true, Ordering::Release);
        let live = parts.iter().flat_map(|tasks| &tasks.entries).filter_map(|entry| match entry {
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
        // Closed first: from then on none of the parts takes a task.
        self.is_closed() && self.live() == 0
    }

    /// How many tasks are there.
    pub(crate) fn live(&self) -> usize {
        self.parts.iter().map(|part| lock(part).live).sum()
    }
}

impl Tasks {
    const fn new() -> Self {
        Self { entries: Vec::new(), first_free: NOWHERE, live: 0 }
    }

    fn insert(&mut self, waker: Waker) -> u32 {
        self.live += 1;
        let free = self.first_free;
        let Some(entry) = self.entries.get_mut(free as usize) else {
            self.entries.push(Entry::Live(waker));
            return self.entries.len() as u32 - 1;
        };
        if let Entry::Free { next } = std::mem::replace(entry, Entry::Live(waker)) {
            self.first_free = next;
        }
        free
    }

    fn remove(&mut self, place: u32) -> Option<Entry> {
        let next = self.first_free;
        let entry = self.entries.get_mut(place as usize)?;
        let removed = std::mem::replace(entry, Entry::Free { next });
        self.first_free = place;
        self.live -= 1;
        Some(removed)
    }
}
