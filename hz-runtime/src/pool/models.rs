//! Every order of the pool's locks and atomics, by loom:
//! `RUSTFLAGS="--cfg hz_loom" cargo test -p hz-runtime --release --lib pool::models`.

use super::ledger::{Grab, Ledger};
use super::mapping::Chunks;
use super::size::Order;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering::SeqCst};
use loom::thread;
use std::sync::Arc as StdArc;
use std::task::{Wake, Waker};

/// One chunk without memory.
#[derive(Debug)]
struct OneChunk;

impl Chunks for OneChunk {
    fn count(&self) -> usize {
        1
    }

    fn commit(&self, _chunk: usize) -> bool {
        true
    }
}

struct Unpark {
    thread: thread::Thread,
    was_woken: AtomicBool,
}

impl Wake for Unpark {
    fn wake(self: StdArc<Self>) {
        self.was_woken.store(true, SeqCst);
        self.thread.unpark();
    }
}

/// Takes as a task would, waits until it is woken, and fails if it is woken for nothing.
fn take_or_wait(ledger: &Ledger<OneChunk>, thread: usize, order: Order) -> u32 {
    let unpark =
        StdArc::new(Unpark { thread: thread::current(), was_woken: AtomicBool::new(false) });
    let waker = Waker::from(StdArc::clone(&unpark));
    let ticket = match ledger.grab(thread, order, Some(&waker)) {
        Grab::Block(unit) => return unit,
        Grab::Queued(ticket) => ticket,
        Grab::Exhausted => unreachable!("it may queue"),
    };
    while !unpark.was_woken.load(SeqCst) {
        thread::park();
    }
    ledger.claim(ticket, &waker).expect("woken with a block")
}

fn block(ledger: &Ledger<OneChunk>, order: Order) -> u32 {
    match ledger.grab(0, order, None) {
        Grab::Block(unit) => unit,
        other => unreachable!("{other:?} of a fresh chunk"),
    }
}

#[test]
fn who_waits_gets_the_block_that_returns_through_another_cache() {
    loom::model(|| {
        let ledger = Arc::new(Ledger::new(OneChunk, 2));
        let order = Order::holding(128 << 10).unwrap();
        let all: Vec<u32> = (0..15).map(|_| block(&ledger, order)).collect();
        let last = block(&ledger, order);
        let waiter = thread::spawn({
            let ledger = Arc::clone(&ledger);
            move || take_or_wait(&ledger, 1, order)
        });
        ledger.put(0, last, order);
        let unit = waiter.join().unwrap();
        assert_eq!(unit, last, "the only one that is free");
        drop(all);
        let counts = ledger.counts();
        assert_eq!((counts.waiting, counts.in_use[order.index()]), (0, 16));
    });
}

#[test]
fn one_block_goes_round_two_waiters_and_one_who_gives_up() {
    loom::model(|| {
        let ledger = Arc::new(Ledger::new(OneChunk, 1));
        let all = block(&ledger, Order::LARGEST);
        let waiter = thread::spawn({
            let ledger = Arc::clone(&ledger);
            move || {
                let unit = take_or_wait(&ledger, 0, Order::LARGEST);
                ledger.put(0, unit, Order::LARGEST);
            }
        });
        if let Grab::Queued(ticket) = ledger.grab(0, Order::LARGEST, Some(Waker::noop())) {
            ledger.cancel(ticket);
        }
        ledger.put(0, all, Order::LARGEST);
        waiter.join().unwrap();
        let counts = ledger.counts();
        assert_eq!((counts.waiting, counts.in_use[Order::LARGEST.index()]), (0, 0));
    });
}
