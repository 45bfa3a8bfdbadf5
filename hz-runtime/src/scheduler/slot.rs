//! The slot for the task that a worker's poll woke last.
//!
//! Only its worker puts tasks into it and takes them out, so that a conversation between two tasks
//! stays on one core; but a poll that does not end would keep the task waiting. Workers that have
//! nothing to do, and busy ones now and then, look at the slots of the others: who finds a worker in
//! the same poll as somebody did [`STALE_NS`] ago takes its slot's task.

use super::sync::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::ptr::{NonNull, null_mut};

/// How long a poll may go on before its worker's slot is open to others.
const STALE_NS: u64 = 500_000;

/// A slot for a task as async-task's raw pointer. Who takes it out owns it.
#[derive(Debug)]
pub(super) struct Slot {
    task: AtomicPtr<()>,
    /// Number of the poll that its worker is in.
    poll: AtomicU32,
    /// The poll that it was in when somebody looked, and when somebody first saw it there.
    seen_poll: AtomicU32,
    seen_ns: AtomicU64,
}

impl Slot {
    pub(super) fn new() -> Self {
        Self {
            task: AtomicPtr::new(null_mut()),
            poll: AtomicU32::new(0),
            seen_poll: AtomicU32::new(u32::MAX),
            seen_ns: AtomicU64::new(0),
        }
    }

    /// Its worker goes to its next poll.
    #[inline]
    pub(super) fn begin_poll(&self, number: u32) {
        self.poll.store(number, Ordering::Relaxed);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.task.load(Ordering::Relaxed).is_null()
    }

    /// Puts a task in and returns the one that was there. Only its worker may.
    #[inline]
    pub(super) fn put(&self, task: NonNull<()>) -> Option<NonNull<()>> {
        if self.is_empty() {
            // Nobody else puts one in, so it still is.
            self.task.store(task.as_ptr(), Ordering::Release);
            return None;
        }
        NonNull::new(self.task.swap(task.as_ptr(), Ordering::AcqRel))
    }

    /// Takes the task out.
    #[inline]
    pub(super) fn take(&self) -> Option<NonNull<()>> {
        if self.is_empty() {
            return None;
        }
        NonNull::new(self.task.swap(null_mut(), Ordering::Acquire))
    }

    /// Takes the task out if its worker has been in one poll for long, as far as anybody saw.
    pub(super) fn take_stale(&self, now_ns: u64) -> Option<NonNull<()>> {
        if self.is_empty() {
            return None;
        }
        let poll = self.poll.load(Ordering::Relaxed);
        // Two that look at once may both begin to count: then it takes a little longer.
        if self.seen_poll.swap(poll, Ordering::Relaxed) != poll {
            self.seen_ns.store(now_ns, Ordering::Relaxed);
            return None;
        }
        let seen_ns = self.seen_ns.load(Ordering::Relaxed);
        (now_ns.saturating_sub(seen_ns) >= STALE_NS).then(|| self.take()).flatten()
    }
}

#[cfg(all(test, not(hz_loom)))]
mod tests {
    use super::*;

    fn task(number: usize) -> NonNull<()> {
        NonNull::new(std::ptr::without_provenance_mut(number)).expect("not 0")
    }

    #[test]
    fn the_last_one_in_is_there_and_the_one_before_comes_back() {
        let slot = Slot::new();
        assert_eq!((slot.put(task(1)), slot.put(task(2))), (None, Some(task(1))));
        assert_eq!((slot.take(), slot.take()), (Some(task(2)), None));
    }

    #[test]
    fn only_one_that_waits_behind_the_same_poll_is_taken_by_others() {
        let slot = Slot::new();
        slot.begin_poll(1);
        assert_eq!(slot.take_stale(0), None, "empty");
        let _ = slot.put(task(1));
        assert_eq!(slot.take_stale(1_000_000), None, "seen for the first time");
        assert_eq!(slot.take_stale(1_400_000), None, "not for long");
        slot.begin_poll(2);
        assert_eq!(slot.take_stale(9_000_000), None, "another poll");
        assert_eq!(slot.take_stale(9_500_000), Some(task(1)));
        assert_eq!(slot.take_stale(99_000_000), None);
    }
}

#[cfg(all(test, hz_loom))]
mod models {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    fn task(number: usize) -> NonNull<()> {
        NonNull::new(std::ptr::without_provenance_mut(number)).expect("not 0")
    }

    /// The worker puts two in and takes what is left, while two others take what they find.
    #[test]
    fn every_task_has_one_taker() {
        // All orders take minutes.
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let slot = Arc::new(Slot::new());
            let thieves = [0, 1].map(|_| {
                let slot = Arc::clone(&slot);
                thread::spawn(move || slot.take())
            });
            let mut taken = vec![slot.put(task(1)), slot.put(task(2)), slot.take()];
            taken.extend(thieves.map(|thief| thief.join().unwrap()));
            taken.push(slot.take());
            let mut taken: Vec<_> = taken.into_iter().flatten().collect();
            taken.sort();
            assert_eq!(taken, [task(1), task(2)]);
        });
    }

    /// The worker is in a long poll that wakes another task, while two look for one that is left behind it.
    #[test]
    fn a_task_behind_a_long_poll_has_one_taker() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let slot = Arc::new(Slot::new());
            slot.begin_poll(1);
            assert_eq!((slot.put(task(1)), slot.take_stale(1)), (None, None));
            let thieves = [0, 1].map(|_| {
                let slot = Arc::clone(&slot);
                thread::spawn(move || slot.take_stale(1 + STALE_NS))
            });
            let mut taken = vec![slot.put(task(2))];
            slot.begin_poll(2);
            taken.push(slot.take());
            taken.extend(thieves.map(|thief| thief.join().unwrap()));
            taken.push(slot.take());
            let mut taken: Vec<_> = taken.into_iter().flatten().collect();
            taken.sort();
            assert_eq!(taken, [task(1), task(2)]);
        });
    }
}
