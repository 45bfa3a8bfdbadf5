//! One worker's part of the reactor: its files, its timers, and whether it sleeps.

use super::dispatch::Sources;
use super::poller::{Buffer, Poller, files};
use super::timers::Timers;
use super::turn::Turn;
use crate::clock::now_ns;
use crate::scheduler::sync::{AtomicU64, Ordering};
use std::io;

/// What belongs to one worker. Alone in its cache lines: the others look at it only when idle.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Worker {
    pub(super) poller: Poller,
    turn: Turn,
    /// When it last left its turn, or looked without waiting; ns of `CLOCK_MONOTONIC`.
    left_ns: AtomicU64,
    /// When a turn of it last found something; ns of `CLOCK_MONOTONIC`.
    active_ns: AtomicU64,
    pub(super) sources: Sources,
    pub(super) timers: Timers,
}

impl Worker {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            poller: Poller::new()?,
            turn: Turn::new(),
            left_ns: AtomicU64::new(now_ns()),
            active_ns: AtomicU64::new(now_ns()),
            sources: Sources::default(),
            timers: Timers::new(),
        })
    }

    pub(super) fn notify(&self) {
        if self.turn.notify() {
            self.poller.ring();
        }
    }

    /// Lets a worker that waits look again at what it waits for.
    pub(super) fn kick(&self) {
        if self.is_in_turn() {
            self.poller.ring();
        }
    }

    pub(super) fn is_in_turn(&self) -> bool {
        self.turn.is_on()
    }

    pub(super) fn was_active_since(&self, ns: u64) -> bool {
        self.active_ns.load(Ordering::Relaxed) > ns
    }

    /// Says that its turn found something.
    pub(super) fn set_active(&self) {
        let now = self.left_ns.load(Ordering::Relaxed);
        self.active_ns.store(now, Ordering::Relaxed);
    }

    /// Whether it has been outside its turn for `stuck_ns` while there is something to turn for.
    pub(super) fn is_stuck(&self, now: u64, stuck_ns: u64) -> bool {
        let is_busy = !self.turn.was_on();
        let has_work = !self.sources.is_empty() || self.timers.next_ns() <= now;
        is_busy && has_work && now.saturating_sub(self.left_ns.load(Ordering::Relaxed)) >= stuck_ns
    }

    /// Says that the worker is going to wait; false if it has been notified, which it then has heard.
    pub(super) fn begin_turn(&self) -> bool {
        self.turn.begin()
    }

    /// Says that the worker has waited, and returns whether it was notified.
    pub(super) fn end_turn(&self) -> bool {
        self.left_ns.store(now_ns(), Ordering::Relaxed);
        self.turn.end()
    }

    /// Wakes who can be woken now.
    pub(super) fn turn_at_once(&self) -> io::Result<usize> {
        self.left_ns.store(now_ns(), Ordering::Relaxed);
        if self.sources.is_empty() {
            return Ok(self.timers.fire());
        }
        self.turn_for(Some(0))
    }

    /// Wakes who can be woken now, on another worker's thread.
    pub(super) fn turn_for_sibling(&self) -> io::Result<usize> {
        if self.sources.is_empty() {
            return Ok(self.timers.fire());
        }
        let (woken, was_rung) = self.look(Some(0))?;
        if was_rung {
            // For the worker, which may have begun to wait meanwhile.
            self.poller.ring();
        }
        Ok(woken)
    }

    /// Waits for up to `wait_ns` (none: for ever), and wakes who can be woken.
    pub(super) fn turn_for(&self, wait_ns: Option<u64>) -> io::Result<usize> {
        self.look(wait_ns).map(|(woken, _)| woken)
    }

    /// As [`Worker::turn_for`]; also says whether the wait was ended by a ring.
    fn look(&self, wait_ns: Option<u64>) -> io::Result<(usize, bool)> {
        let mut buffer = Buffer::new();
        let events = self.poller.wait(&mut buffer, wait_ns)?;
        let was_rung = files(events).count() < events.len();
        let woken = self.sources.dispatch(files(events));
        Ok((woken + self.timers.fire(), was_rung))
    }
}
