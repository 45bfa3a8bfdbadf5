//! Which rings have a thread: the algorithm alone.

use super::atomic::{AtomicU64, Ordering};

/// A bit for each ring, set: a thread has it.
#[derive(Debug)]
pub(super) struct Taken {
    words: Box<[AtomicU64]>,
    rings: usize,
}

impl Taken {
    pub(super) fn new(rings: usize) -> Self {
        Self { words: (0..rings.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(), rings }
    }

    /// A ring that no thread has. What its last writer wrote is seen from here on.
    pub(super) fn claim(&self) -> Option<usize> {
        for (place, word) in self.words.iter().enumerate() {
            let mut taken = word.load(Ordering::Relaxed);
            while taken != u64::MAX {
                let bit = taken.trailing_ones();
                let ring = place * 64 + bit as usize;
                if ring >= self.rings {
                    return None;
                }
                let claimed = taken | 1 << bit;
                // Acquire: the head that the ring's last writer left.
                match word.compare_exchange(taken, claimed, Ordering::Acquire, Ordering::Relaxed) {
                    Ok(_) => return Some(ring),
                    Err(found) => taken = found,
                }
            }
        }
        None
    }

    /// Gives a ring back, after the last write into it.
    pub(super) fn release(&self, ring: usize) {
        if let Some(word) = self.words.get(ring / 64) {
            word.fetch_and(!(1 << (ring % 64)), Ordering::Release);
        }
    }
}
