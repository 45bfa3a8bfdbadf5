//! The kernel's part of one worker's reactor: what it waits at.

use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Events that one wait takes at most; the rest is for the next one.
const EVENTS: usize = 256;
/// Names the eventfd among the events; no file has it.
const NOTIFY: u64 = u64::MAX;

/// An epoll, and what ends a wait there. The eventfd is edge-triggered and never read.
#[derive(Debug)]
pub(in crate::reactor) struct Poller {
    epoll: OwnedFd,
    eventfd: OwnedFd,
}

/// Where the kernel puts events.
pub(in crate::reactor) struct Buffer([MaybeUninit<Event>; EVENTS]);

impl Buffer {
    pub(in crate::reactor) const fn new() -> Self {
        Self([MaybeUninit::uninit(); EVENTS])
    }
}

/// Those events that are files'.
pub(in crate::reactor) fn files(events: &[Event]) -> impl Iterator<Item = &Event> {
    events.iter().filter(|event| event.data.u64() != NOTIFY)
}

impl Poller {
    pub(in crate::reactor) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let flags = EventFlags::IN | EventFlags::ET;
        epoll::add(&epoll, &eventfd, EventData::new_u64(NOTIFY), flags)?;
        Ok(Self { epoll, eventfd })
    }

    /// Adds a file, whose events are named `name`.
    pub(in crate::reactor) fn add(&self, file: BorrowedFd<'_>, name: u64) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.epoll, file, EventData::new_u64(name), flags)?)
    }

    pub(in crate::reactor) fn remove(&self, file: BorrowedFd<'_>) {
        // It fails only if somebody else closed the file.
        let _ = epoll::delete(&self.epoll, file);
    }

    /// Whether a wait would end at once.
    #[cfg(hz_shuttle)]
    pub(in crate::reactor) fn is_ready(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, poll};
        let mut fds = [PollFd::new(&self.epoll, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// Ends the wait that goes on, or else the next one.
    pub(in crate::reactor) fn ring(&self) {
        // It can only fail by blocking, after 2⁶⁴ − 2 notifications.
        let _ = rustix::io::write(&self.eventfd, &1_u64.to_ne_bytes());
    }

    /// Waits for up to `wait_ns` (none: for ever).
    pub(in crate::reactor) fn wait<'a>(
        &self,
        buffer: &'a mut Buffer,
        wait_ns: Option<u64>,
    ) -> io::Result<&'a [Event]> {
        let timeout = wait_ns.map(timespec);
        match epoll::wait(&self.epoll, &mut buffer.0, timeout.as_ref()) {
            Ok((events, _)) => Ok(events),
            Err(rustix::io::Errno::INTR) => Ok(&[]),
            Err(error) => Err(error.into()),
        }
    }
}

fn timespec(ns: u64) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX),
        tv_nsec: (ns % 1_000_000_000).try_into().unwrap_or(0),
    }
}
