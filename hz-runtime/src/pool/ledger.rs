//! Who has which block: the caches in front, the store behind them, and who waits.
//!
//! A waiter must not miss the block that it waits for, though blocks return to caches that the
//! store does not see. So it first counts itself in `waiting` and then empties every cache, while
//! whoever returns a block looks at `waiting` with its cache locked: either it sees the waiter and
//! goes to the store, or the waiter finds the block in the cache. Each lock is held for a few
//! instructions; a cache's is its own worker's but for a waiter's visit, and never taken before the
//! store's.

use super::cache::Cache;
use super::mapping::Chunks;
use super::size::{CLASSES, Order};
use super::store::{Store, Ticket};
use super::sync::{AtomicUsize, Mutex, MutexGuard, lock};
use crossbeam_utils::CachePadded;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Waker;

/// What came of asking for a block.
#[derive(Debug)]
pub(super) enum Grab {
    /// Its first unit.
    Block(u32),
    /// There is none; the ticket is in the queue.
    Queued(Ticket),
    /// There is none.
    Exhausted,
}

/// All blocks of a pool.
#[derive(Debug)]
pub(super) struct Ledger<C> {
    pub(super) chunks: C,
    waiting: AtomicUsize,
    caches: Box<[CachePadded<Mutex<Cache>>]>,
    store: Mutex<Store>,
}

/// Counts of a ledger.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) in_use: [u64; CLASSES],
    pub(super) cached: [u64; CLASSES],
    pub(super) taken: u64,
    pub(super) waiting: usize,
    pub(super) waits: u64,
    pub(super) chunks: usize,
    pub(super) refused_chunks: u64,
}

impl<C: Chunks> Ledger<C> {
    /// `caches` is a power of two.
    pub(super) fn new(chunks: C, caches: usize) -> Self {
        let store = Mutex::new(Store::new(chunks.count()));
        let caches = (0..caches).map(|_| CachePadded::new(Mutex::new(Cache::new()))).collect();
        Self { chunks, waiting: AtomicUsize::new(0), caches, store }
    }

    /// Puts memory behind the first chunk: with one chunk, every class can be served in time.
    pub(super) fn commit_first(&self) -> bool {
        lock(&self.store).commit(&self.chunks)
    }

    /// Takes a block, or queues with `waker` if there is one to wake.
    pub(super) fn grab(&self, thread: usize, order: Order, waker: Option<&Waker>) -> Grab {
        let cache = self.cache(thread);
        {
            let mut cache = lock(cache);
            if self.waiting.load(Relaxed) == 0
                && let Some(unit) = cache.take(order)
            {
                return Grab::Block(unit);
            }
        }
        let mut store = lock(&self.store);
        // Who comes later waits behind who waits already.
        if store.has_queue() {
            return self.queue(&mut store, order, waker);
        }
        if let Some(unit) = store.take(order, &self.chunks) {
            let mut cache = lock(cache);
            cache.taken[order.index()] += 1;
            refill(&mut cache, &mut store, order);
            return Grab::Block(unit);
        }
        self.grab_last(&mut store, order, waker)
    }

    /// Takes a block out of the memory that the caches hold.
    fn grab_last(&self, store: &mut Store, order: Order, waker: Option<&Waker>) -> Grab {
        self.waiting.fetch_add(1, Relaxed);
        for cache in &self.caches {
            let mut cache = lock(cache);
            for order in Order::ALL {
                cache.drain(order, usize::MAX).for_each(|unit| store.put(unit, order));
            }
        }
        let grab = match store.take(order, &self.chunks) {
            Some(unit) => {
                lock(&self.caches[0]).taken[order.index()] += 1;
                Grab::Block(unit)
            }
            None => self.queue(store, order, waker),
        };
        self.waiting.fetch_sub(1, Relaxed);
        grab
    }

    fn queue(&self, store: &mut Store, order: Order, waker: Option<&Waker>) -> Grab {
        let Some(waker) = waker else {
            return Grab::Exhausted;
        };
        self.waiting.fetch_add(1, Relaxed);
        Grab::Queued(store.queue(order, waker.clone()))
    }

    /// The block that was put aside for a ticket, and with it the ticket's end; else `waker` is the
    /// one to wake.
    pub(super) fn claim(&self, ticket: Ticket, waker: &Waker) -> Option<u32> {
        let mut store = lock(&self.store);
        let Some((unit, order)) = store.claim(ticket) else {
            let former = store.set_waker(ticket, waker);
            drop(store);
            drop(former);
            return None;
        };
        lock(&self.caches[0]).taken[order.index()] += 1;
        Some(unit)
    }

    /// Gives a ticket up.
    pub(super) fn cancel(&self, ticket: Ticket) {
        let mut store = lock(&self.store);
        let waker = store.cancel(ticket);
        if waker.is_some() {
            self.waiting.fetch_sub(1, Relaxed);
        }
        self.serve(store);
        drop(waker);
    }

    /// Takes a block back.
    pub(super) fn put(&self, thread: usize, unit: u32, order: Order) {
        {
            let mut cache = lock(self.cache(thread));
            cache.returned[order.index()] += 1;
            if self.waiting.load(Relaxed) == 0 && cache.keep(order, unit) {
                return;
            }
        }
        let mut store = lock(&self.store);
        store.put(unit, order);
        let mut cache = lock(self.cache(thread));
        cache.drain(order, Cache::batch(order)).for_each(|unit| store.put(unit, order));
        drop(cache);
        self.serve(store);
    }

    /// Hands out what is free to those at the queue's head, and wakes them without the lock: a wake
    /// may run anything.
    fn serve(&self, mut store: MutexGuard<'_, Store>) {
        let wakers = store.serve(&self.chunks);
        self.waiting.fetch_sub(wakers.len(), Relaxed);
        drop(store);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Counts what is where. Each number is true of one moment; they are not of the same one while
    /// buffers are taken.
    pub(super) fn counts(&self) -> Counts {
        let store = lock(&self.store);
        let mut counts = Counts {
            waiting: store.waiting(),
            waits: store.waits,
            chunks: store.chunks(),
            refused_chunks: store.refused_chunks,
            ..Counts::default()
        };
        drop(store);
        let mut returned = [0; CLASSES];
        for cache in &self.caches {
            let cache = lock(cache);
            for order in Order::ALL {
                counts.in_use[order.index()] += cache.taken[order.index()];
                returned[order.index()] += cache.returned[order.index()];
                counts.cached[order.index()] += cache.len(order) as u64;
            }
        }
        counts.taken = counts.in_use.iter().sum();
        for (in_use, returned) in counts.in_use.iter_mut().zip(returned) {
            *in_use = in_use.saturating_sub(returned);
        }
        counts
    }

    fn cache(&self, thread: usize) -> &Mutex<Cache> {
        &self.caches[thread & (self.caches.len() - 1)]
    }
}

fn refill(cache: &mut Cache, store: &mut Store, order: Order) {
    // One of the batch is the buffer that was asked for.
    for _ in 1..Cache::batch(order) {
        let Some(unit) = store.take_ready(order) else { return };
        if !cache.keep(order, unit) {
            return store.put(unit, order);
        }
    }
}
