//! Who sleeps, who searches, and who is to be woken.
//!
//! The rule that loses no task: whoever makes a task visible to others then calls [`Idle::pick`];
//! whoever goes to sleep while nobody searches looks into every queue once more after it has said so;
//! whoever finds work and was the last to search picks another. One of the two sees the other,
//! because both write before they read, in the one order of `SeqCst`.

use super::sync::{AtomicU64, Mutex, Ordering, fence, lock};

/// In [`Idle::state`], the workers that search are counted from bit 32 up, those awake below.
const SEARCHING: u64 = 1 << 32;
const AWAKE: u64 = 1;

/// What the workers do, as far as others must know.
#[derive(Debug)]
pub(crate) struct Idle {
    state: AtomicU64,
    sleepers: Mutex<Vec<usize>>,
    workers: u64,
}

/// How a worker came back from its sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awoken {
    /// Another picked it: it is counted as searching.
    Picked,
    /// It had an event of its own.
    ByItself,
}

impl Idle {
    /// All of `workers` are awake, none searches.
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            state: AtomicU64::new(workers as u64 * AWAKE),
            sleepers: Mutex::new(Vec::with_capacity(workers)),
            workers: workers as u64,
        }
    }

    /// The worker to wake for a task that has just been made visible; `None` if one that searches
    /// will find it, or all are awake. The worker is then counted as awake and searching.
    pub(crate) fn pick(&self) -> Option<usize> {
        fence(Ordering::SeqCst);
        if !self.needs_one(self.state.load(Ordering::SeqCst)) {
            return None;
        }
        let mut sleepers = lock(&self.sleepers);
        if !self.needs_one(self.state.load(Ordering::SeqCst)) {
            return None;
        }
        let worker = sleepers.pop()?;
        self.state.fetch_add(AWAKE + SEARCHING, Ordering::SeqCst);
        Some(worker)
    }

    const fn needs_one(&self, state: u64) -> bool {
        state < SEARCHING && state < self.workers
    }

    /// Asks to search; refused while half of the workers do.
    pub(crate) fn start_searching(&self) -> bool {
        let state = self.state.load(Ordering::SeqCst);
        if 2 * (state / SEARCHING) >= self.workers {
            return false;
        }
        self.state.fetch_add(SEARCHING, Ordering::SeqCst);
        true
    }

    /// The worker has found work. True if nobody searches any more: then another must be picked.
    pub(crate) fn stop_searching(&self) -> bool {
        self.state.fetch_sub(SEARCHING, Ordering::SeqCst) / SEARCHING == 1
    }

    /// `worker` is about to sleep. True if nobody searches any more: then it must look into all queues once
    /// more. Also if it did not search itself: it was counted as awake, so that it may have been
    /// relied on, after it last looked.
    pub(crate) fn park(&self, worker: usize, is_searching: bool) -> bool {
        let mut sleepers = lock(&self.sleepers);
        sleepers.push(worker);
        let leaves = AWAKE + if is_searching { SEARCHING } else { 0 };
        let before = self.state.fetch_sub(leaves, Ordering::SeqCst);
        before - leaves < SEARCHING
    }

    /// `worker` has slept.
    pub(crate) fn unpark(&self, worker: usize) -> Awoken {
        let mut sleepers = lock(&self.sleepers);
        let Some(place) = sleepers.iter().position(|sleeper| *sleeper == worker) else {
            return Awoken::Picked;
        };
        sleepers.swap_remove(place);
        self.state.fetch_add(AWAKE, Ordering::SeqCst);
        Awoken::ByItself
    }
}
