//! What is free behind the caches, and the queue of those who wait for it.

use super::buddy::Tree;
use super::mapping::Chunks;
use super::size::{CHUNK_UNITS, Order};
use std::collections::BTreeMap;
use std::task::Waker;

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

#[derive(Debug)]
struct Waiter {
    order: Order,
    waker: Waker,
}

/// The free blocks, and who waits for one.
#[derive(Debug)]
pub(super) struct Store {
    trees: Vec<Tree>,
    chunks_max: usize,
    /// First come, first served: a large wish at the head holds up small ones behind it, or they
    /// would starve it.
    queue: BTreeMap<Ticket, Waiter>,
    /// Blocks put aside for those who were woken.
    granted: BTreeMap<Ticket, (u32, Order)>,
    last_ticket: u64,
    /// Times that somebody had to queue.
    pub(super) waits: u64,
    /// Times that the kernel had no memory for a chunk.
    pub(super) refused_chunks: u64,
}

impl Store {
    pub(super) fn new(chunks_max: usize) -> Self {
        Self {
            trees: Vec::new(),
            chunks_max,
            queue: BTreeMap::new(),
            granted: BTreeMap::new(),
            last_ticket: 0,
            waits: 0,
            refused_chunks: 0,
        }
    }

    /// Takes a block, from a new chunk if need be.
    pub(super) fn take(&mut self, order: Order, chunks: &impl Chunks) -> Option<u32> {
        if let Some(unit) = self.take_ready(order) {
            return Some(unit);
        }
        if self.commit(chunks) { self.take_ready(order) } else { None }
    }

    /// Takes a block of the chunks that are there. The first chunk that has one, so that the load
    /// gathers and the others become whole again.
    pub(super) fn take_ready(&mut self, order: Order) -> Option<u32> {
        let chunk = self.trees.iter().position(|tree| tree.has(order))?;
        let unit = self.trees[chunk].take(order)?;
        Some((chunk * CHUNK_UNITS + unit) as u32)
    }

    /// Adds a chunk.
    pub(super) fn commit(&mut self, chunks: &impl Chunks) -> bool {
        if self.trees.len() == self.chunks_max {
            return false;
        }
        let is_there = chunks.commit(self.trees.len());
        if is_there {
            self.trees.push(Tree::new());
        } else {
            self.refused_chunks += 1;
        }
        is_there
    }

    pub(super) fn put(&mut self, unit: u32, order: Order) {
        let unit = unit as usize;
        self.trees[unit / CHUNK_UNITS].put(unit % CHUNK_UNITS, order);
    }

    pub(super) fn queue(&mut self, order: Order, waker: Waker) -> Ticket {
        self.waits += 1;
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.queue.insert(ticket, Waiter { order, waker });
        ticket
    }

    pub(super) fn has_queue(&self) -> bool {
        !self.queue.is_empty()
    }

    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn chunks(&self) -> usize {
        self.trees.len()
    }

    /// The block that was put aside for a ticket, and with it the ticket's end.
    pub(super) fn claim(&mut self, ticket: Ticket) -> Option<(u32, Order)> {
        self.granted.remove(&ticket)
    }

    /// Sets whom to wake for a ticket; returns who was to be woken before. Whoever drops a waker
    /// must not hold the store's lock: it may be a task's last, and the task may own buffers.
    pub(super) fn set_waker(&mut self, ticket: Ticket, waker: &Waker) -> Option<Waker> {
        let waiter = self.queue.get_mut(&ticket)?;
        if waiter.waker.will_wake(waker) {
            return None;
        }
        Some(std::mem::replace(&mut waiter.waker, waker.clone()))
    }

    /// Gives a ticket up; returns who was to be woken if it was still in the queue.
    pub(super) fn cancel(&mut self, ticket: Ticket) -> Option<Waker> {
        if let Some((unit, order)) = self.granted.remove(&ticket) {
            self.put(unit, order);
        }
        self.queue.remove(&ticket).map(|waiter| waiter.waker)
    }

    /// Puts blocks aside for the head of the queue while there are any; returns whom to wake.
    pub(super) fn serve(&mut self, chunks: &impl Chunks) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while let Some(entry) = self.queue.first_entry() {
            let (ticket, order) = (*entry.key(), entry.get().order);
            let Some(unit) = self.take(order, chunks) else { break };
            self.granted.insert(ticket, (unit, order));
            wakers.extend(self.queue.remove(&ticket).map(|waiter| waiter.waker));
        }
        wakers
    }
}
