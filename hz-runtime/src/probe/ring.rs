//! Writing a ring: the algorithm alone, over any words.

use super::atomic::{AtomicU64, Ordering, fence};
use super::words::RecordWords;

/// What a ring is written through. One writer at a time holds it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ring<'a> {
    pub(super) slots: &'a [RecordWords],
    pub(super) head: &'a AtomicU64,
}

impl Ring<'_> {
    /// Writes record `number`, which must be the one after the last. `slots` is a power of two long.
    #[inline(always)]
    pub(super) fn write(&self, number: u64, words: [u64; 4]) {
        let place = number & (self.slots.len() as u64).wrapping_sub(1);
        let Some(RecordWords(slot)) = self.slots.get(place as usize) else { return };
        slot[0].store(words[0], Ordering::Relaxed);
        slot[1].store(words[1], Ordering::Relaxed);
        slot[2].store(words[2], Ordering::Relaxed);
        slot[3].store(words[3], Ordering::Relaxed);
        self.head.store(number.wrapping_add(1), Ordering::Release);
        // Whoever sees a word of the next record must also see this head, and with it that the
        // record a lap before is gone.
        fence(Ordering::Release);
    }
}
