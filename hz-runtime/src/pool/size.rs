//! Sizes: of the pool, as people write them, and of its buffers.

/// Bytes of the smallest buffer.
pub(super) const UNIT_BYTES: usize = 512;
/// Size classes: each is twice the one before.
pub(super) const CLASSES: usize = 13;
/// Bytes of a chunk, and of the largest buffer: one huge page.
pub const CHUNK_BYTES: usize = UNIT_BYTES << (CLASSES - 1);
/// Units of a chunk.
pub(super) const CHUNK_UNITS: usize = CHUNK_BYTES / UNIT_BYTES;
/// The most that a pool may hold: its units are counted in 32 bits.
pub(super) const POOL_BYTES_MAX: usize = 1 << 40;

/// A size class: buffers of `UNIT_BYTES << order` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order(u8);

impl Order {
    /// The smallest class that holds `bytes`, `None`: there is none.
    pub(super) fn holding(bytes: usize) -> Option<Self> {
        if bytes > CHUNK_BYTES {
            return None;
        }
        let units = bytes.div_ceil(UNIT_BYTES).max(1).next_power_of_two();
        Self::ALL.into_iter().find(|order| order.units() == units)
    }

    /// The class of whole chunks.
    pub(super) const LARGEST: Self = Self(CLASSES as u8 - 1);

    /// Every class, the smallest first.
    pub(super) const ALL: [Self; CLASSES] = {
        let mut all = [Self(0); CLASSES];
        let mut index = 0;
        while index < CLASSES {
            all[index] = Self(index as u8);
            index += 1;
        }
        all
    };

    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }

    pub(super) const fn units(self) -> usize {
        1 << self.0
    }

    pub(super) const fn bytes(self) -> usize {
        UNIT_BYTES << self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_holds_what_is_asked_and_is_less_than_twice_as_large() {
        for bytes in [0, 1, 511, 512, 513, 4096, 4097, 1 << 20, CHUNK_BYTES] {
            let order = Order::holding(bytes).unwrap();
            assert!(order.bytes() >= bytes, "{bytes}");
            assert!(order.index() == 0 || order.bytes() < 2 * bytes, "{bytes}");
        }
        assert_eq!(Order::holding(CHUNK_BYTES + 1), None);
    }
}
