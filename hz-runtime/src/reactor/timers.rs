//! One worker's timers: a heap of deadlines in nanoseconds, and slots with who waits.
//!
//! A heap, not a wheel: deadlines are exact to the nanosecond and come in order, a timer that is
//! later than all others is added in constant time, which timeouts are, and nothing has to be
//! moved between levels. A removed timer leaves its heap entry behind; when more than half of the
//! entries are such, they are swept, so that a removal costs constant time in the mean.

use crate::probe::{self, Cause};
use crate::scheduler::sync::{AtomicU64, Mutex, MutexGuard, Ordering, lock};
use crate::scheduler::virtual_time::now_ns;
use crate::scheduler::{fetch_ahead, fetch_line_ahead};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::mem;
use std::task::Waker;

/// Fewer removed entries than this are not swept.
const SWEEP_FROM: usize = 64;

/// How many timers before it a task's memory is fetched: as long as one takes to come, a wake-up is done.
const FAR: usize = 8;
/// As [`FAR`], for what that memory leads to.
const NEAR: usize = 4;

/// A slot, and which of the timers that have had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SlotKey {
    index: u32,
    generation: u32,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    task: u64,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Fired {
    deadline_ns: u64,
    task: u64,
    waker: Waker,
}

#[derive(Debug, Default)]
struct Inner {
    heap: BinaryHeap<Reverse<(u64, SlotKey)>>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    removed: usize,
    /// Kept for its memory.
    fired: VecDeque<Fired>,
}

/// The timers of one worker.
#[derive(Debug)]
pub(super) struct Timers {
    inner: Mutex<Inner>,
    /// No timer is earlier; `u64::MAX` if there is none.
    next_ns: AtomicU64,
}

impl Timers {
    pub(super) fn new() -> Self {
        Self { inner: Mutex::new(Inner::default()), next_ns: AtomicU64::new(u64::MAX) }
    }

    pub(super) fn next_ns(&self) -> u64 {
        self.next_ns.load(Ordering::SeqCst)
    }

    /// Adds a timer and says whether it is the first to come.
    pub(super) fn add(&self, deadline_ns: u64, task: u64, waker: Waker) -> (SlotKey, bool) {
        let mut inner = self.lock();
        let key = inner.add(deadline_ns, task, waker);
        let is_first = deadline_ns < self.next_ns.load(Ordering::Relaxed);
        if is_first {
            self.next_ns.store(deadline_ns, Ordering::SeqCst);
        }
        (key, is_first)
    }

    /// Says whether the timer fired; if not, it will wake `waker`.
    pub(super) fn poll(&self, key: SlotKey, waker: &Waker) -> bool {
        let mut inner = self.lock();
        let Some(slot) = inner.slot(key) else {
            return true;
        };
        let is_same = slot.waker.as_ref().is_some_and(|old| old.will_wake(waker));
        let old = (!is_same).then(|| slot.waker.replace(waker.clone()));
        // A waker that is dropped can drop its task, and with it other timers.
        drop(inner);
        drop(old);
        false
    }

    /// Removes a timer that has not fired.
    pub(super) fn remove(&self, key: SlotKey) {
        let mut inner = self.lock();
        let waker = inner.remove(key);
        drop(inner);
        drop(waker);
    }

    /// Wakes those whose time has come, in the order of their deadlines, and says how many.
    pub(super) fn fire(&self) -> usize {
        if self.next_ns.load(Ordering::Relaxed) == u64::MAX {
            return 0;
        }
        let now = now_ns();
        if self.next_ns.load(Ordering::Relaxed) > now {
            return 0;
        }
        let mut inner = self.lock();
        let mut fired = mem::take(&mut inner.fired);
        let next = inner.take_due(now, &mut fired);
        self.next_ns.store(next, Ordering::SeqCst);
        drop(inner);
        let count = fired.len();
        fired.iter().take(FAR).for_each(|timer| fetch_ahead(&timer.waker));
        while let Some(timer) = fired.pop_front() {
            if let Some(far) = fired.get(FAR - 1) {
                fetch_ahead(&far.waker);
            }
            if let Some(near) = fired.get(NEAR - 1) {
                fetch_line_ahead(&near.waker);
            }
            probe::timer_fired(timer.task, now.saturating_sub(timer.deadline_ns));
            probe::with_cause(Cause::Timer, || timer.waker.wake());
        }
        self.lock().fired = fired;
        count
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }
}

impl Inner {
    fn add(&mut self, deadline_ns: u64, task: u64, waker: Waker) -> SlotKey {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).expect("4 G timers do not fit into memory")
        });
        let slot = &mut self.slots[index as usize];
        slot.task = task;
        slot.waker = Some(waker);
        let generation = slot.generation;
        let key = SlotKey { index, generation };
        self.heap.push(Reverse((deadline_ns, key)));
        key
    }

    /// The slot of a timer that has not fired.
    fn slot(&mut self, key: SlotKey) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(key.index as usize)?;
        (slot.generation == key.generation).then_some(slot)
    }

    fn release(&mut self, key: SlotKey) -> Option<(u64, Waker)> {
        let slot = self.slot(key)?;
        slot.generation = slot.generation.wrapping_add(1);
        let waker = slot.waker.take()?;
        let task = slot.task;
        self.free.push(key.index);
        Some((task, waker))
    }

    fn remove(&mut self, key: SlotKey) -> Option<Waker> {
        let (_, waker) = self.release(key)?;
        self.removed += 1;
        if self.removed >= SWEEP_FROM && self.removed * 2 > self.heap.len() {
            let slots = &self.slots;
            let is_live = |key: &SlotKey| slots[key.index as usize].generation == key.generation;
            self.heap.retain(|Reverse((_, key))| is_live(key));
            self.removed = 0;
        }
        Some(waker)
    }

    /// Takes those that are due, and says when the next one is.
    fn take_due(&mut self, now: u64, fired: &mut VecDeque<Fired>) -> u64 {
        while let Some(&Reverse((deadline_ns, key))) = self.heap.peek() {
            if self.slot(key).is_none() {
                self.removed = self.removed.saturating_sub(1);
            } else if deadline_ns > now {
                return deadline_ns;
            } else if let Some((task, waker)) = self.release(key) {
                fired.push_back(Fired { deadline_ns, task, waker });
            }
            self.heap.pop();
        }
        u64::MAX
    }
}

#[cfg(test)]
mod tests;
