//! One worker's part of the reactor: its epoll, its timers, and whether it sleeps.

use super::dispatch::Sources;
use super::timers::Timers;
use super::turn::Turn;
use crate::clock::now_ns;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};

/// Events that one turn takes at most; the rest is for the next one.
const EVENTS: usize = 256;
/// Names the eventfd among the events; no file has it.
const NOTIFY: u64 = u64::MAX;

/// What belongs to one worker. Alone in its cache lines: the others look at it only when idle.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Worker {
    epoll: OwnedFd,
    eventfd: OwnedFd,
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
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, &eventfd, epoll::EventData::new_u64(NOTIFY), flags)?;
        Ok(Self {
            epoll,
            eventfd,
            turn: Turn::new(),
            left_ns: AtomicU64::new(now_ns()),
            active_ns: AtomicU64::new(now_ns()),
            sources: Sources::default(),
            timers: Timers::new(),
        })
    }

    pub(super) const fn epoll(&self) -> &OwnedFd {
        &self.epoll
    }

    pub(super) fn notify(&self) {
        if self.turn.notify() {
            self.write_eventfd();
        }
    }

    /// Lets a worker that waits look again at what it waits for.
    pub(super) fn kick(&self) {
        if self.is_in_turn() {
            self.write_eventfd();
        }
    }

    fn write_eventfd(&self) {
        // It can only fail by blocking, after 2⁶⁴ − 2 notifications.
        let _ = rustix::io::write(&self.eventfd, &1_u64.to_ne_bytes());
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
        self.turn_for_sibling()
    }

    /// Wakes who can be woken now, on another worker's thread.
    pub(super) fn turn_for_sibling(&self) -> io::Result<usize> {
        if self.sources.is_empty() {
            return Ok(self.timers.fire());
        }
        self.turn_for(Some(0))
    }

    /// Waits for up to `wait_ns` (none: for ever), and wakes who can be woken.
    pub(super) fn turn_for(&self, wait_ns: Option<u64>) -> io::Result<usize> {
        let timeout = wait_ns.map(timespec);
        let mut buffer = [MaybeUninit::<epoll::Event>::uninit(); EVENTS];
        let events = match epoll::wait(&self.epoll, &mut buffer, timeout.as_ref()) {
            Ok((events, _)) => &*events,
            Err(rustix::io::Errno::INTR) => &[],
            Err(error) => return Err(error.into()),
        };
        let is_file = |event: &&epoll::Event| event.data.u64() != NOTIFY;
        let woken = self.sources.dispatch(events.iter().filter(is_file));
        Ok(woken + self.timers.fire())
    }
}

fn timespec(ns: u64) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX),
        tv_nsec: (ns % 1_000_000_000).try_into().unwrap_or(0),
    }
}
