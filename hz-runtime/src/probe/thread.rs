//! What the probes keep for each thread, its ring first of all.

use super::cache::Caches;
use super::memory::{self, Memory};
use super::ring::Ring;
use super::words::{HeaderWords, TaskWords};
use super::{Cause, slots};
use crate::clock;
use hz_probes_ebpf::runtime::NO_WORKER;
use hz_probes_ebpf::runtime_ring::SLOT_OWNER;
use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Ids that a thread takes at once, so that a spawn does not touch what other threads write to.
const TASK_IDS: u64 = 64;
/// Polls for which one reading of the clock is good enough.
const COARSE_POLLS: u32 = 15;
/// Free slots of the directory that a thread holds at most.
const FREE_SLOTS: usize = 2 * slots::CHAIN;

static NEXT_TASK_ID: AtomicU64 = AtomicU64::new(0);
/// How often a ring was given back: a thread without one looks again only then.
static RINGS_GIVEN_BACK: AtomicU32 = AtomicU32::new(0);

/// A ring and the thread's place in it.
#[derive(Clone, Copy)]
struct Writer {
    ring: Ring<'static>,
    header: &'static HeaderWords,
    index: usize,
}

/// Whether a thread has a ring.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// It had no event yet.
    Fresh,
    /// It takes one now, or has one.
    Taken,
    /// There was none, when so many had been given back.
    Without(u32),
    /// The thread ends.
    Ended,
}

/// The task that is being polled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Current {
    pub(super) task: u64,
    /// Its line in the directory, if it has one.
    pub(super) words: Option<&'static TaskWords>,
    /// Whether it said what it waits for.
    pub(super) has_told: bool,
}

impl Current {
    const NONE: Self = Self { task: 0, words: None, has_told: false };
}

/// A thread's own. Without a destructor, so that access is a plain load: [`Leaving`] has it.
pub(super) struct Local {
    writer: Cell<Option<Writer>>,
    head: Cell<u64>,
    turn: Cell<Turn>,
    /// The clock when the thread last looked.
    pub(super) coarse: Cell<u64>,
    /// Polls since then.
    pub(super) coarse_polls: Cell<u32>,
    pub(super) worker: Cell<u32>,
    pub(super) current: Cell<Current>,
    pub(super) cause: Cell<Cause>,
    /// The task that this thread spawned last and that nobody has woken yet.
    pub(super) spawned: Cell<u64>,
    next_id: Cell<u64>,
    free: [Cell<u32>; FREE_SLOTS],
    free_count: Cell<usize>,
    pub(super) caches: Caches,
}

thread_local! {
    static LOCAL: Local = const {
        Local {
            writer: Cell::new(None),
            head: Cell::new(0),
            turn: Cell::new(Turn::Fresh),
            coarse: Cell::new(0),
            coarse_polls: Cell::new(0),
            worker: Cell::new(NO_WORKER),
            current: Cell::new(Current::NONE),
            cause: Cell::new(Cause::Running),
            spawned: Cell::new(0),
            next_id: Cell::new(0),
            free: [const { Cell::new(0) }; FREE_SLOTS],
            free_count: Cell::new(0),
            caches: Caches::new(),
        }
    };
    static LEAVING: Leaving = const { Leaving };
}

/// Gives back what the thread holds when it ends.
struct Leaving;

impl Drop for Leaving {
    fn drop(&mut self) {
        with(Local::leave);
    }
}

/// Runs `use_it` with the thread's own.
#[inline(always)]
pub(super) fn with<R>(use_it: impl FnOnce(&Local) -> R) -> R {
    // Not `LOCAL.with(use_it)`: that is inlined only if `use_it` is small, and called with what it
    // captures in memory, 5 ns an event.
    let local = LOCAL.with(std::ptr::from_ref);
    // SAFETY: it has no destructor, so it lives as long as the thread, and `use_it` can't keep it.
    use_it(unsafe { &*local })
}

impl Local {
    /// Writes a record with `stamp`, which also becomes the coarse clock.
    #[inline(always)]
    pub(super) fn write(&self, stamp: u64, record: [u64; 3]) {
        self.coarse.set(stamp);
        match self.writer.get() {
            Some(writer) => self.append(&writer.ring, stamp, record),
            None => self.write_first(stamp, record),
        }
    }

    #[inline(always)]
    fn append(&self, ring: &Ring<'static>, stamp: u64, [what, task, value]: [u64; 3]) {
        let number = self.head.get();
        ring.write(number, [stamp, what, task, value]);
        self.head.set(number.wrapping_add(1));
    }

    #[cold]
    #[inline(never)]
    fn write_first(&self, stamp: u64, record: [u64; 3]) {
        let Some(memory) = memory::get() else { return };
        self.take_ring(memory);
        match self.writer.get() {
            Some(writer) => self.append(&writer.ring, stamp, record),
            None => {
                memory.page.ringless_events.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Takes a ring, if the thread has none and there is one.
    fn take_ring(&self, memory: &'static Memory) {
        let given_back = RINGS_GIVEN_BACK.load(Ordering::Relaxed);
        match self.turn.get() {
            Turn::Fresh => {}
            Turn::Without(then) if then != given_back => {}
            Turn::Taken | Turn::Without(_) | Turn::Ended => return,
        }
        // Before anything that may come back here: the destructor's registration allocates.
        self.turn.set(Turn::Taken);
        let Some((index, header, slots)) = memory.claim_ring() else {
            self.turn.set(Turn::Without(given_back));
            return;
        };
        let ring = Ring { slots, head: &header.head };
        self.head.set(header.head.load(Ordering::Relaxed));
        self.writer.set(Some(Writer { ring, header, index }));
        self.sign();
        self.leave_later();
    }

    /// Writes into the ring whose it is from here on.
    fn sign(&self) {
        let Some(writer) = self.writer.get() else { return };
        let tid = thread_id();
        let worker = self.worker.get();
        writer.header.worker.store(worker, Ordering::Relaxed);
        writer.header.owner_from.store(self.head.get(), Ordering::Relaxed);
        writer.header.owner_tid.store(tid, Ordering::Release);
        let what = u64::from(SLOT_OWNER) | u64::from(worker) << 32;
        self.append(&writer.ring, clock::stamp(), [what, 0, u64::from(tid)]);
    }

    /// The thread is worker `worker` from here on.
    pub(super) fn become_worker(&self, worker: u32, memory: &'static Memory) {
        self.worker.set(worker);
        match self.writer.get() {
            Some(_) => self.sign(),
            None => self.take_ring(memory),
        }
    }

    /// Takes a ring before the first event.
    pub(super) fn register(&self, memory: &'static Memory) {
        if self.writer.get().is_none() {
            self.take_ring(memory);
        }
    }

    fn leave_later(&self) {
        // It fails only while the thread ends: then what it holds stays taken, and is not read.
        if LEAVING.try_with(|_| ()).is_err() {
            self.leave();
        }
    }

    fn leave(&self) {
        self.turn.set(Turn::Ended);
        self.current.set(Current::NONE);
        let writer = self.writer.take();
        let count = self.free_count.take();
        let Some(memory) = memory::get() else { return };
        if let Some(writer) = writer {
            writer.header.owner_tid.store(0, Ordering::Release);
            memory.taken_rings.release(writer.index);
            RINGS_GIVEN_BACK.fetch_add(1, Ordering::Relaxed);
        }
        self.give_slots(memory, 0, count);
    }

    /// In a forked child: nothing of the parent's is this thread's.
    pub(super) fn forget(&self) {
        self.turn.set(Turn::Ended);
        self.writer.set(None);
        self.free_count.set(0);
        let current = self.current.get();
        self.current.set(Current { words: None, ..current });
    }

    /// The clock as coarse as the task directory's: on a worker, of its last turn or event.
    #[inline]
    pub(super) fn coarse_stamp(&self) -> u64 {
        let polls = self.coarse_polls.get();
        if polls >= COARSE_POLLS || self.worker.get() == NO_WORKER {
            return self.tick();
        }
        self.coarse_polls.set(polls + 1);
        self.coarse.get()
    }

    /// Reads the clock.
    #[inline]
    pub(super) fn tick(&self) -> u64 {
        let stamp = clock::stamp();
        self.coarse.set(stamp);
        self.coarse_polls.set(0);
        stamp
    }

    /// An id that no other task of the process has or had.
    #[inline]
    pub(super) fn task_id(&self) -> u64 {
        let mut id = self.next_id.get();
        if id.is_multiple_of(TASK_IDS) {
            // Of the first block, 0 is no task.
            id = NEXT_TASK_ID.fetch_add(TASK_IDS, Ordering::Relaxed).max(1);
        }
        self.next_id.set(id + 1);
        id
    }

    /// A free slot of the directory.
    #[inline]
    pub(super) fn take_slot(&self, memory: &'static Memory) -> Option<u32> {
        if self.free_count.get() == 0 && !self.fetch_slots(memory) {
            return None;
        }
        let count = self.free_count.get().checked_sub(1)?;
        self.free_count.set(count);
        // The one that is taken next but one, since a line that is not in a cache takes longer than a spawn.
        let later = count.checked_sub(2).and_then(|place| self.free.get(place));
        if let Some(words) = later.and_then(|slot| memory.directory.get(slot.get() as usize)) {
            words.fetch_ahead();
        }
        self.free.get(count).map(Cell::get)
    }

    /// Gives a slot back.
    #[inline]
    pub(super) fn give_slot(&self, memory: &'static Memory, slot: u32) {
        let count = self.free_count.get();
        if let Some(place) = self.free.get(count)
            && self.turn.get() != Turn::Ended
        {
            place.set(slot);
            self.free_count.set(count + 1);
            return;
        }
        self.give_slot_slowly(memory, slot);
    }

    #[cold]
    fn give_slot_slowly(&self, memory: &'static Memory, slot: u32) {
        if self.turn.get() == Turn::Ended {
            memory.free_slots.give(&[slot]);
            return;
        }
        // The colder half goes.
        self.give_slots(memory, 0, slots::CHAIN);
        for place in 0..slots::CHAIN {
            self.free[place].set(self.free[place + slots::CHAIN].get());
        }
        self.free[slots::CHAIN].set(slot);
        self.free_count.set(slots::CHAIN + 1);
    }

    fn give_slots(&self, memory: &'static Memory, from: usize, count: usize) {
        let mut chain = [0; FREE_SLOTS];
        let mine = self.free.iter().skip(from).take(count);
        for (slot, place) in chain.iter_mut().zip(mine) {
            *slot = place.get();
        }
        memory.free_slots.give(&chain[..count.min(FREE_SLOTS)]);
    }

    #[cold]
    fn fetch_slots(&self, memory: &'static Memory) -> bool {
        if self.turn.get() == Turn::Ended {
            return false;
        }
        self.leave_later();
        let found = memory.free_slots.take(|slot| {
            // Chains are never longer than what fits.
            let count = self.free_count.get();
            if let Some(place) = self.free.get(count) {
                place.set(slot);
                self.free_count.set(count + 1);
            }
        });
        memory.page.directory_used.fetch_max(memory.free_slots.used(), Ordering::Relaxed);
        found
    }
}

impl Memory {
    /// A ring that no thread has.
    fn claim_ring(
        &self,
    ) -> Option<(usize, &'static HeaderWords, &'static [super::words::RecordWords])> {
        let index = self.taken_rings.claim()?;
        let (header, slots) = self.ring(index)?;
        Some((index, header, slots))
    }
}

/// The thread's id in the process's own pid namespace.
fn thread_id() -> u32 {
    u32::try_from(rustix::thread::gettid().as_raw_nonzero().get()).unwrap_or(0)
}
