//! Free blocks that a worker keeps at hand.

use super::size::{CLASSES, Order};

/// Bytes that one class of one cache may hold; larger blocks are not cached.
const CLASS_BYTES: usize = 256 << 10;
/// Blocks that one class of one cache may hold.
const CLASS_BLOCKS: usize = 64;

/// The free blocks at hand, by class, and how many were taken and returned through here.
#[derive(Debug)]
pub(super) struct Cache {
    blocks: [Vec<u32>; CLASSES],
    /// Buffers taken, by class.
    pub(super) taken: [u64; CLASSES],
    /// Buffers returned, by class.
    pub(super) returned: [u64; CLASSES],
}

impl Cache {
    pub(super) fn new() -> Self {
        Self {
            blocks: Order::ALL.map(|order| Vec::with_capacity(limit(order))),
            taken: [0; CLASSES],
            returned: [0; CLASSES],
        }
    }

    pub(super) fn take(&mut self, order: Order) -> Option<u32> {
        let unit = self.blocks[order.index()].pop()?;
        self.taken[order.index()] += 1;
        Some(unit)
    }

    /// Keeps a block; `false`: it is full.
    pub(super) fn keep(&mut self, order: Order, unit: u32) -> bool {
        let blocks = &mut self.blocks[order.index()];
        let has_room = blocks.len() < limit(order);
        if has_room {
            blocks.push(unit);
        }
        has_room
    }

    /// How many blocks to fetch or give back at once, so that the store is not asked each time.
    pub(super) fn batch(order: Order) -> usize {
        limit(order) / 2
    }

    /// Gives away up to `count` blocks of a class.
    pub(super) fn drain(&mut self, order: Order, count: usize) -> impl Iterator<Item = u32> {
        let blocks = &mut self.blocks[order.index()];
        let left = blocks.len().saturating_sub(count);
        blocks.drain(left..)
    }

    /// Blocks of a class at hand.
    pub(super) fn len(&self, order: Order) -> usize {
        self.blocks[order.index()].len()
    }
}

fn limit(order: Order) -> usize {
    (CLASS_BYTES / order.bytes()).min(CLASS_BLOCKS)
}
