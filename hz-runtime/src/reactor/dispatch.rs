//! From an event of epoll to the tasks that waited for it.
//!
//! An event names a slot and which of the files that have had it, so that one that was still on its
//! way when a file went does not reach the next file of that slot or that fd.

use super::readiness::{READ, READ_CLOSED, WRITE, WRITE_CLOSED};
use super::source::Source;
use crate::probe::{self, Cause};
use crate::scheduler::sync::{AtomicUsize, Mutex, MutexGuard, Ordering, lock};
use rustix::event::epoll::{Event, EventFlags};
use std::mem;
use std::sync::Arc;
use std::task::Waker;

/// Someone to wake, and the file's cause.
pub(super) type Woken = (Cause, Waker);

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    source: Option<Arc<Source>>,
}

#[derive(Debug, Default)]
struct Inner {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Kept for its memory.
    woken: Vec<Woken>,
}

/// The files of one worker.
#[derive(Debug, Default)]
pub(super) struct Sources {
    inner: Mutex<Inner>,
    count: AtomicUsize,
}

impl Sources {
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Adds a file and returns what its events are to be named with.
    pub(super) fn add(&self, source: Arc<Source>) -> u64 {
        let mut inner = self.lock();
        let index = inner.free.pop().unwrap_or_else(|| {
            inner.slots.push(Slot::default());
            u32::try_from(inner.slots.len() - 1).expect("a process has fewer than 4 G files")
        });
        let slot = &mut inner.slots[index as usize];
        slot.source = Some(source);
        self.count.fetch_add(1, Ordering::Relaxed);
        u64::from(slot.generation) << 32 | u64::from(index)
    }

    /// Forgets a file: events with its name reach nobody any more.
    pub(super) fn remove(&self, name: u64) {
        let mut inner = self.lock();
        let index = name as u32;
        let Some(slot) = inner.slots.get_mut(index as usize) else {
            return;
        };
        if u64::from(slot.generation) != name >> 32 {
            return;
        }
        // The last generation but one, so that no name is that of the eventfd.
        slot.generation = (slot.generation + 1) % (u32::MAX - 1);
        let source = slot.source.take();
        inner.free.push(index);
        self.count.fetch_sub(1, Ordering::Relaxed);
        drop(inner);
        drop(source);
    }

    /// Tells files what has happened to them, wakes who waited, and says how many.
    pub(super) fn dispatch<'a>(&self, events: impl Iterator<Item = &'a Event>) -> usize {
        let mut events = events.peekable();
        if events.peek().is_none() {
            return 0;
        }
        let mut inner = self.lock();
        let mut woken = mem::take(&mut inner.woken);
        for event in events {
            if let Some(source) = inner.source(event.data.u64()) {
                source.is_ready(readiness(event.flags), &mut woken);
            }
        }
        // Waking can run anything: the executor, or the drop of a task and its files.
        drop(inner);
        let count = woken.len();
        for (cause, waker) in woken.drain(..) {
            probe::with_cause(cause, || waker.wake());
        }
        self.lock().woken = woken;
        count
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }
}

impl Inner {
    fn source(&self, name: u64) -> Option<&Arc<Source>> {
        let slot = self.slots.get(name as u32 as usize)?;
        let is_it = u64::from(slot.generation) == name >> 32;
        slot.source.as_ref().filter(|_| is_it)
    }
}

fn readiness(flags: EventFlags) -> u32 {
    let mut bits = 0;
    if flags.intersects(EventFlags::IN | EventFlags::PRI) {
        bits |= READ;
    }
    if flags.intersects(EventFlags::OUT) {
        bits |= WRITE;
    }
    if flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR) {
        bits |= READ_CLOSED;
    }
    if flags.intersects(EventFlags::HUP | EventFlags::ERR) {
        bits |= WRITE_CLOSED;
    }
    bits
}
