//! Every order of a worker's turn and of what others do to it, by loom:
//! `RUSTFLAGS="--cfg hz_loom" cargo test -p hz-runtime --release --lib reactor::models`.
//!
//! The kernel's part is played by a flag: an eventfd that was written to ends the next wait.

use super::timers::Timers;
use super::turn::Turn;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering::SeqCst};
use loom::thread;
use std::sync::Arc as StdArc;
use std::task::{Wake, Waker};

/// A worker as others reach it.
struct Worker {
    turn: Turn,
    timers: Timers,
    eventfd: AtomicBool,
}

impl Worker {
    fn new() -> Arc<Self> {
        Arc::new(Self { turn: Turn::new(), timers: Timers::new(), eventfd: AtomicBool::new(false) })
    }

    fn notify(&self) {
        if self.turn.notify() {
            self.eventfd.store(true, SeqCst);
        }
    }

    /// As `Reactor::add_timer` does on a foreign thread.
    fn add_timer(&self, deadline_ns: u64) {
        let (_, is_first) = self.timers.add(deadline_ns, 0, Waker::noop().clone());
        if is_first && self.turn.is_on() {
            self.eventfd.store(true, SeqCst);
        }
    }
}

#[test]
fn a_notification_ends_the_turn_or_keeps_it_from_beginning() {
    loom::model(|| {
        let worker = Worker::new();
        let other = thread::spawn({
            let worker = Arc::clone(&worker);
            move || worker.notify()
        });
        let begun = worker.turn.begin();
        other.join().unwrap();
        // Nothing else ends the wait.
        let rang = worker.eventfd.load(SeqCst);
        assert!(!begun || rang, "it sleeps through the notification");
        assert!(!begun || worker.turn.end(), "and was not told why it was woken");
    });
}

#[test]
fn a_worker_does_not_sleep_past_a_timer_that_another_thread_adds() {
    loom::model(|| {
        let worker = Worker::new();
        let other = thread::spawn({
            let worker = Arc::clone(&worker);
            move || worker.add_timer(5)
        });
        assert!(worker.turn.begin());
        let until_ns = worker.timers.next_ns();
        other.join().unwrap();
        let rang = worker.eventfd.load(SeqCst);
        assert!(until_ns == 5 || rang, "it sleeps until {until_ns}");
    });
}

struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: StdArc<Self>) {
        self.0.store(true, SeqCst);
    }
}

#[test]
fn a_timer_that_fires_while_its_task_polls_has_fired_or_wakes_it() {
    loom::model(|| {
        let timers = Arc::new(Timers::new());
        // Another task's waker; the timer has moved with its future.
        let (key, _) = timers.add(1, 0, Waker::noop().clone());
        let worker = thread::spawn({
            let timers = Arc::clone(&timers);
            move || timers.fire()
        });
        let bell = StdArc::new(Bell(AtomicBool::new(false)));
        let has_fired = timers.poll(key, &Waker::from(StdArc::clone(&bell)));
        let count = worker.join().unwrap();
        assert_eq!(count, 1);
        assert!(has_fired || bell.0.load(SeqCst), "the task waits for a timer that is over");
        assert_eq!(timers.next_ns(), u64::MAX);
    });
}

#[test]
fn a_timer_that_is_removed_while_it_fires_is_over_once() {
    loom::model(|| {
        let timers = Arc::new(Timers::new());
        let (key, _) = timers.add(1, 0, Waker::noop().clone());
        let worker = thread::spawn({
            let timers = Arc::clone(&timers);
            move || timers.fire()
        });
        timers.remove(key);
        // The next one has the slot, and keeps it.
        let (next, _) = timers.add(u64::MAX - 1, 0, Waker::noop().clone());
        assert!(worker.join().unwrap() <= 1);
        timers.remove(key);
        assert!(!timers.poll(next, Waker::noop()), "the next timer was taken for the last one");
        assert_eq!(timers.next_ns(), u64::MAX - 1);
    });
}
