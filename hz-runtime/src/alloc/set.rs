//! Which live allocations were sampled.
//!
//! Every free asks, and nearly always the answer is no, so there are two stages. The first is one
//! byte per group of pages: how many live samples lie in it. It goes by page and not by address
//! since frees come in neighbourhoods: the bytes asked for are those asked for just before, and
//! with a sample each 512 KiB only every 128th page of a full heap has any. The second holds the
//! addresses, in buckets of one cache line.
//!
//! The count goes up before the address is entered and down after it is out, so it is never too
//! low. Relaxed orders are enough: whoever frees got the address from whoever entered it, and an
//! address is entered again only after the allocator, which is told after it is out, gave it out
//! again. A count that reaches 255 stays there. A full bucket refuses: that sample is not told at
//! all, since its end could not be, and is counted.

#[cfg(hz_loom)]
use loom::sync::atomic::{AtomicU8, AtomicUsize};
use std::sync::atomic::Ordering::Relaxed;
#[cfg(not(hz_loom))]
use std::sync::atomic::{AtomicU8, AtomicUsize};

/// Addresses in a bucket: a cache line.
const WAYS: usize = 8;
const FACTOR: usize = 0x9e37_79b9_7f4a_7c15_u64 as usize;
const PAGE_SHIFT: u32 = 12;

#[repr(align(64))]
#[derive(Debug)]
struct Bucket([AtomicUsize; WAYS]);

/// Addresses of live samples: `GROUPS` and `BUCKETS` are powers of two.
#[derive(Debug)]
pub(super) struct Set<const GROUPS: usize, const BUCKETS: usize> {
    counts: [AtomicU8; GROUPS],
    buckets: [Bucket; BUCKETS],
}

impl<const GROUPS: usize, const BUCKETS: usize> Set<GROUPS, BUCKETS> {
    #[cfg(not(hz_loom))]
    pub(super) const fn new() -> Self {
        Self {
            counts: [const { AtomicU8::new(0) }; GROUPS],
            buckets: [const { Bucket([const { AtomicUsize::new(0) }; WAYS]) }; BUCKETS],
        }
    }

    #[cfg(hz_loom)]
    pub(super) fn new() -> Self {
        Self {
            counts: std::array::from_fn(|_| AtomicU8::new(0)),
            buckets: std::array::from_fn(|_| Bucket(std::array::from_fn(|_| AtomicUsize::new(0)))),
        }
    }

    /// Whether an address may be in the set: if not, it certainly is not.
    #[inline(always)]
    pub(super) fn may_hold(&self, address: usize) -> bool {
        self.count(address).load(Relaxed) != 0
    }

    /// Enters an address; `false`: there is no room.
    pub(super) fn insert(&self, address: usize) -> bool {
        let count = self.count(address);
        // Saturated, it stays: nobody knows any more how many there are.
        let _ = count.fetch_update(Relaxed, Relaxed, |count| count.checked_add(1));
        let is_in = self.bucket(address).iter().any(|place| {
            place.load(Relaxed) == 0 && place.compare_exchange(0, address, Relaxed, Relaxed).is_ok()
        });
        if !is_in {
            Self::lower(count);
        }
        is_in
    }

    /// Takes an address out; `false`: it was not in.
    pub(super) fn remove(&self, address: usize) -> bool {
        let mut places = self.bucket(address).iter();
        let Some(place) = places.find(|place| place.load(Relaxed) == address) else {
            return false;
        };
        place.store(0, Relaxed);
        Self::lower(self.count(address));
        true
    }

    fn lower(count: &AtomicU8) {
        let lower = |count: u8| (count != u8::MAX).then(|| count.saturating_sub(1));
        let _ = count.fetch_update(Relaxed, Relaxed, lower);
    }

    #[inline(always)]
    fn count(&self, address: usize) -> &AtomicU8 {
        let hash = (address >> PAGE_SHIFT).wrapping_mul(FACTOR);
        &self.counts[(hash >> (usize::BITS / 2)) & (GROUPS - 1)]
    }

    fn bucket(&self, address: usize) -> &[AtomicUsize; WAYS] {
        let hash = (address >> 4).wrapping_mul(FACTOR);
        &self.buckets[(hash >> (usize::BITS / 2)) & (BUCKETS - 1)].0
    }
}

#[cfg(all(test, not(hz_loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_went_in_comes_out_once_and_nothing_else_does() {
        let set = Set::<64, 64>::new();
        let addresses: Vec<usize> = (1..200).map(|number| number * 7_776).collect();
        let held: Vec<usize> =
            addresses.iter().copied().filter(|address| set.insert(*address)).collect();
        assert!(held.len() > 190, "{}", held.len());
        for address in &held {
            assert!(set.may_hold(*address));
            assert!(!set.remove(address + 16));
            assert!(set.remove(*address));
            assert!(!set.remove(*address));
        }
        assert!(addresses.iter().all(|address| !set.may_hold(*address)), "a count is left");
    }

    #[test]
    fn a_full_bucket_refuses_and_leaves_no_count() {
        let set = Set::<64, 1>::new();
        assert!((1..=WAYS).all(|number| set.insert(number << 20)));
        assert!(!set.insert(99 << 20));
        (1..=WAYS).for_each(|number| assert!(set.remove(number << 20)));
        assert!((0..64 << 12).step_by(4096).all(|address| !set.may_hold(address)));
    }

    #[test]
    fn a_count_that_was_too_high_to_count_stays() {
        let set = Set::<1, 64>::new();
        let held: Vec<usize> =
            (1..2_000).map(|number| number * 48).filter(|address| set.insert(*address)).collect();
        assert!(held.len() > 255, "{}", held.len());
        assert!(held.iter().all(|address| set.may_hold(*address) && set.remove(*address)));
        assert!(set.may_hold(48), "it cannot know");
    }
}

#[cfg(all(test, hz_loom))]
mod models {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    #[test]
    fn a_sample_is_found_by_whom_it_was_handed_to_while_its_neighbours_come_and_go() {
        loom::model(|| {
            let set = Arc::new(Set::<1, 1>::new());
            assert!(set.insert(16));
            let other = thread::spawn({
                let set = Arc::clone(&set);
                move || {
                    assert!(set.may_hold(16) && set.remove(16));
                }
            });
            assert!(set.insert(32));
            assert!(set.may_hold(32) && set.remove(32));
            other.join().unwrap();
            assert!(!set.may_hold(16), "a count is left");
        });
    }

    #[test]
    fn two_that_are_entered_at_once_are_both_found() {
        loom::model(|| {
            let set = Arc::new(Set::<1, 1>::new());
            let other = thread::spawn({
                let set = Arc::clone(&set);
                move || assert!(set.insert(16))
            });
            assert!(set.insert(32));
            other.join().unwrap();
            assert!(set.may_hold(16) && set.remove(16), "the first was written over");
            assert!(set.may_hold(32) && set.remove(32), "the second was written over");
            assert!(!set.may_hold(16), "a count is left");
        });
    }
}
