//! Which parts of one chunk are free.
//!
//! A binary tree over the chunk's units; each node holds the largest class that is free below it.
//! Buffers that return merge with their neighbours, so memory that served small buffers serves
//! large ones later: without that, classes would starve each other for good. The tree lies apart
//! from the memory it describes, so nothing here is unsafe; it costs 8 KiB for 2 MiB.

use super::size::{CHUNK_UNITS, CLASSES, Order};

const NODES: usize = 2 * CHUNK_UNITS - 1;
/// What a node says when nothing below it is free; else it is 1 more than the largest free class.
const NOTHING: u8 = 0;

/// The tree of one chunk.
#[derive(Debug)]
pub(super) struct Tree {
    /// What the root says, here so that a search over chunks stays out of their trees.
    root: u8,
    free: Box<[u8]>,
}

impl Tree {
    /// A chunk of which everything is free.
    pub(super) fn new() -> Self {
        let mut free = Vec::with_capacity(NODES);
        for depth in 0..CLASSES {
            free.resize((2 << depth) - 1, (CLASSES - depth) as u8);
        }
        Self { root: free[0], free: free.into_boxed_slice() }
    }

    /// Whether a block of class `order` is free.
    pub(super) fn has(&self, order: Order) -> bool {
        usize::from(self.root) > order.index()
    }

    /// Takes a block: its first unit.
    pub(super) fn take(&mut self, order: Order) -> Option<usize> {
        if !self.has(order) {
            return None;
        }
        let mut node = 0;
        for _ in order.index()..Order::LARGEST.index() {
            node = self.tighter_child(node, order);
        }
        self.free[node] = NOTHING;
        self.tell_parents(node, order.index());
        Some((node + 1) * order.units() - CHUNK_UNITS)
    }

    /// Takes a block back.
    pub(super) fn put(&mut self, unit: usize, order: Order) {
        let node = (unit + CHUNK_UNITS) / order.units() - 1;
        debug_assert_eq!(self.free[node], NOTHING, "unit {unit} is free already");
        self.free[node] = order.index() as u8 + 1;
        self.tell_parents(node, order.index());
    }

    /// The child with a block of class `order` that leaves the larger blocks whole.
    fn tighter_child(&self, node: usize, order: Order) -> usize {
        let (left, right) = (2 * node + 1, 2 * node + 2);
        let fits = |child: usize| usize::from(self.free[child]) > order.index();
        if fits(left) && (!fits(right) || self.free[left] <= self.free[right]) {
            left
        } else {
            right
        }
    }

    fn tell_parents(&mut self, mut node: usize, mut class: usize) {
        while node > 0 {
            node = (node - 1) / 2;
            let (left, right) = (self.free[2 * node + 1], self.free[2 * node + 2]);
            let whole = class as u8 + 1;
            class += 1;
            self.free[node] =
                if left == whole && right == whole { whole + 1 } else { left.max(right) };
        }
        self.root = self.free[0];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(bytes: usize) -> Order {
        Order::holding(bytes).unwrap()
    }

    #[test]
    fn a_chunk_is_one_block_or_many_small_ones() {
        let mut tree = Tree::new();
        assert_eq!(tree.take(Order::LARGEST), Some(0));
        assert_eq!(tree.take(order(1)), None);
        tree.put(0, Order::LARGEST);
        let mut units: Vec<usize> = std::iter::from_fn(|| tree.take(order(512))).collect();
        units.sort_unstable();
        assert!(units.into_iter().eq(0..CHUNK_UNITS));
    }

    #[test]
    fn blocks_never_overlap_and_merge_when_they_are_back() {
        let mut tree = Tree::new();
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut owner = vec![false; CHUNK_UNITS];
        let mut out: Vec<(usize, Order)> = Vec::new();
        for _ in 0..100_000 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            if random % 5 < 2 && !out.is_empty() {
                let (unit, order) = out.swap_remove(random as usize / 8 % out.len());
                owner[unit..unit + order.units()].fill(false);
                tree.put(unit, order);
            } else if let order = Order::ALL[random as usize / 8 % 10]
                && let Some(unit) = tree.take(order)
            {
                let block = &mut owner[unit..unit + order.units()];
                assert!(block.iter().all(|taken| !taken), "unit {unit} was taken");
                block.fill(true);
                assert_eq!(unit % order.units(), 0, "aligned to its size");
                out.push((unit, order));
            }
        }
        for (unit, order) in out {
            tree.put(unit, order);
        }
        assert_eq!(tree.take(Order::LARGEST), Some(0));
    }
}
