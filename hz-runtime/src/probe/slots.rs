//! Free slots of the task directory, without a lock: each thread holds some, and they travel between
//! threads in chains.

use super::atomic::{AtomicU32, AtomicU64, Ordering};

/// Slots that travel together; few in models, which try every order.
pub(super) const CHAIN: usize = if cfg!(hz_loom) { 2 } else { 32 };
/// "No slot": slots are numbered from 1 in here, so that memory that was never written says so.
const NONE: u32 = 0;

/// The slots that no thread holds: a stack of chains, and those that were never used.
#[derive(Debug)]
pub(super) struct FreeSlots {
    /// The first chain's first slot in the lower half; above it a count of all changes, since a
    /// slot may come back as the first while someone still looks at what was behind it.
    top: AtomicU64,
    /// By slot: the next in its chain.
    next: Box<[AtomicU32]>,
    /// By first slot of a chain: the first of the chain below.
    below: Box<[AtomicU32]>,
    /// Slots that have ever been used.
    used: AtomicU32,
}

impl FreeSlots {
    pub(super) fn new(slots: usize) -> Self {
        let words = || (0..=slots).map(|_| AtomicU32::new(NONE)).collect();
        Self { top: AtomicU64::new(0), next: words(), below: words(), used: AtomicU32::new(0) }
    }

    /// Some slots, counted from 0, through `take`; false: there is none.
    pub(super) fn take(&self, mut take: impl FnMut(u32)) -> bool {
        if let Some(first) = self.pop() {
            let mut slot = first;
            while slot != NONE {
                take(slot - 1);
                slot = self.next_of(slot).load(Ordering::Relaxed);
            }
            return true;
        }
        self.take_fresh(take)
    }

    /// Gives `slots` back. They must be the caller's.
    pub(super) fn give(&self, slots: &[u32]) {
        let Some((first, rest)) = slots.split_first() else { return };
        let mut last = first + 1;
        for slot in rest {
            self.next_of(last).store(slot + 1, Ordering::Relaxed);
            last = slot + 1;
        }
        self.next_of(last).store(NONE, Ordering::Relaxed);
        self.push(first + 1);
    }

    /// Slots from the first that have ever been used.
    pub(super) fn used(&self) -> u32 {
        self.used.load(Ordering::Relaxed)
    }

    fn take_fresh(&self, take: impl FnMut(u32)) -> bool {
        let slots = (self.next.len() - 1) as u32;
        let add = |used: u32| (used < slots).then(|| slots.min(used + CHAIN as u32));
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add) {
            Ok(begin) => {
                (begin..slots.min(begin + CHAIN as u32)).for_each(take);
                true
            }
            Err(_) => false,
        }
    }

    fn pop(&self) -> Option<u32> {
        let mut top = self.top.load(Ordering::Acquire);
        loop {
            let first = top as u32;
            if first == NONE {
                return None;
            }
            let below = self.below.get(first as usize)?.load(Ordering::Relaxed);
            match self.exchange(top, below) {
                Ok(()) => return Some(first),
                Err(found) => top = found,
            }
        }
    }

    fn push(&self, first: u32) {
        let mut top = self.top.load(Ordering::Acquire);
        loop {
            if let Some(below) = self.below.get(first as usize) {
                below.store(top as u32, Ordering::Relaxed);
            }
            match self.exchange(top, first) {
                Ok(()) => return,
                Err(found) => top = found,
            }
        }
    }

    fn exchange(&self, top: u64, first: u32) -> Result<(), u64> {
        let new = ((top >> 32).wrapping_add(1) << 32) | u64::from(first);
        self.top.compare_exchange_weak(top, new, Ordering::AcqRel, Ordering::Acquire).map(|_| ())
    }

    fn next_of(&self, slot: u32) -> &AtomicU32 {
        // Slots only come from here: were one out of range, the chain would end.
        self.next.get(slot as usize).unwrap_or(&self.next[0])
    }
}

#[cfg(all(test, not(hz_loom)))]
mod tests {
    use super::*;

    fn drain(free: &FreeSlots) -> Vec<u32> {
        let mut slots = Vec::new();
        while free.take(|slot| slots.push(slot)) {}
        slots
    }

    #[test]
    fn every_slot_is_handed_out_once() {
        let free = FreeSlots::new(100);
        assert_eq!(drain(&free), (0..100).collect::<Vec<_>>());
        assert_eq!(free.used(), 100);
    }

    #[test]
    fn slots_that_come_back_are_used_again_before_fresh_ones() {
        let free = FreeSlots::new(100);
        let mut first = Vec::new();
        free.take(|slot| first.push(slot));
        free.give(&first);
        free.give(&[]);
        assert_eq!(drain(&free), (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn threads_never_hold_the_same_slot() {
        use std::sync::atomic::AtomicBool;
        let free = FreeSlots::new(256);
        let held: Vec<AtomicBool> = (0..256).map(|_| AtomicBool::new(false)).collect();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let mut mine = Vec::new();
                        free.take(|slot| mine.push(slot));
                        for slot in &mine {
                            assert!(!held[*slot as usize].swap(true, Ordering::Relaxed), "{slot}");
                        }
                        for slot in &mine {
                            held[*slot as usize].store(false, Ordering::Relaxed);
                        }
                        free.give(&mine);
                    }
                });
            }
        });
        assert_eq!(drain(&free).len(), 256);
    }
}
