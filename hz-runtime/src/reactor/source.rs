//! A file and the tasks that wait for it.

use super::dispatch::Woken;
use super::readiness::{READ, READ_CLOSED, Readiness, Seen, WRITE, WRITE_CLOSED};
use super::{Reactor, current};
use crate::probe::{self, Cause, Operation, Wait};
use crate::scheduler::sync::{AtomicBool, Mutex, Ordering, lock};
use rustix::net::sockopt::socket_cookie;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

/// Tasks that wait for one direction of one file at once; one more wakes them all to ask again.
const WAITERS: usize = 64;

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// To read or accept.
    Read,
    /// To write or connect.
    Write,
}

impl Direction {
    const fn bits(self) -> u32 {
        match self {
            Self::Read => READ | READ_CLOSED,
            Self::Write => WRITE | WRITE_CLOSED,
        }
    }
}

/// Who waits for one direction.
#[derive(Debug, Default)]
struct Side {
    waiters: Mutex<Vec<Waker>>,
    /// The observer was told of a wait that is not over.
    is_waited: AtomicBool,
}

/// What the reactor knows of a file.
#[derive(Debug)]
pub(super) struct Source {
    fd: i32,
    cookie: u64,
    readiness: Readiness,
    read: Side,
    write: Side,
}

impl Source {
    /// Takes what an event said, and those who waited for it.
    pub(super) fn is_ready(&self, bits: u32, woken: &mut Vec<Woken>) {
        self.readiness.add(bits);
        let (fd, cookie) = (self.fd, self.cookie);
        for direction in [Direction::Read, Direction::Write] {
            if bits & direction.bits() != 0 {
                let side = self.side(direction);
                let mut waiters = lock(&side.waiters);
                woken.extend(waiters.drain(..).map(|waker| (Cause::Io { fd, cookie }, waker)));
            }
        }
    }

    const fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        }
    }

    /// Adds a waiter.
    fn wait(&self, direction: Direction, waker: &Waker) {
        let side = self.side(direction);
        let mut waiters = lock(&side.waiters);
        if waiters.iter().any(|waiter| waiter.will_wake(waker)) {
            return;
        }
        let crowd = if waiters.len() < WAITERS { Vec::new() } else { mem::take(&mut *waiters) };
        waiters.push(waker.clone());
        drop(waiters);
        crowd.into_iter().for_each(Waker::wake);
    }

    fn begin_wait(&self, direction: Direction, operation: Operation) {
        let (fd, cookie) = (self.fd, self.cookie);
        self.side(direction).is_waited.store(true, Ordering::Relaxed);
        probe::waiting(Wait::Io { operation, fd, cookie });
    }

    fn end_wait(&self, direction: Direction, operation: Operation) {
        let side = self.side(direction);
        if side.is_waited.load(Ordering::Relaxed) {
            side.is_waited.store(false, Ordering::Relaxed);
            probe::io_wait_end(operation, self.fd, self.cookie);
        }
    }
}

/// A file in the reactor. It leaves the reactor when this is dropped, before it is closed.
#[derive(Debug)]
pub(crate) struct Registration<T: AsFd> {
    source: Arc<Source>,
    reactor: Arc<Reactor>,
    pub(super) home: usize,
    pub(super) name: u64,
    file: T,
}

impl<T: AsFd> Registration<T> {
    /// Adds a file, which must be non-blocking, to the reactor of this thread.
    pub(crate) fn new(file: T) -> io::Result<Self> {
        Self::with(current().ok_or_else(outside)?, file)
    }

    /// Adds a file, which must be non-blocking, to a reactor.
    pub(super) fn with(reactor: Arc<Reactor>, file: T) -> io::Result<Self> {
        let fd = file.as_fd();
        let source = Arc::new(Source {
            fd: fd.as_raw_fd(),
            // A pipe or a terminal has none.
            cookie: socket_cookie(fd).unwrap_or(0),
            // Tried before it is waited for: the first write finds room.
            readiness: Readiness::new(READ | WRITE),
            read: Side::default(),
            write: Side::default(),
        });
        let home = reactor.choose_home();
        let worker = &reactor.workers[home];
        let name = worker.sources.add(Arc::clone(&source));
        if let Err(error) = worker.poller.add(fd, name) {
            worker.sources.remove(name);
            return Err(error);
        }
        Ok(Self { source, reactor, home, name, file })
    }

    pub(crate) const fn file(&self) -> &T {
        &self.file
    }

    /// Calls `attempt` until it has a result other than "would block", waiting in between.
    pub(crate) fn poll_io<R>(
        &self,
        context: &mut Context<'_>,
        operation: Operation,
        attempt: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        let mut attempt = attempt;
        let direction = direction(operation);
        loop {
            let seen = ready!(self.poll_ready(context, operation));
            match attempt(&self.file) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.source.readiness.remove(direction.bits(), seen);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// As [`Registration::poll_io`], for streams: a transfer of fewer than `len` bytes emptied the
    /// socket's buffer, or filled it, so that the next attempt need not be made to find that out.
    ///
    /// Saves the read that finds nothing after each request of a connection that is kept alive.
    pub(crate) fn poll_stream(
        &self,
        context: &mut Context<'_>,
        operation: Operation,
        len: usize,
        attempt: impl FnMut(&T) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let direction = direction(operation);
        let seen = self.source.readiness.seen();
        let count = ready!(self.poll_io(context, operation, attempt))?;
        if 0 < count && count < len {
            // Not the bits that say "closed": their event does not come again.
            let bits = direction.bits() & (READ | WRITE);
            self.source.readiness.remove(bits, seen);
        }
        Poll::Ready(Ok(count))
    }

    fn poll_ready(&self, context: &mut Context<'_>, operation: Operation) -> Poll<Seen> {
        let direction = direction(operation);
        let source = &*self.source;
        let mut seen = source.readiness.seen();
        if !seen.is_any(direction.bits()) {
            source.wait(direction, context.waker());
            // The event may have come before the waiter was there.
            seen = source.readiness.seen();
            if !seen.is_any(direction.bits()) {
                source.begin_wait(direction, operation);
                return Poll::Pending;
            }
        }
        source.end_wait(direction, operation);
        Poll::Ready(seen)
    }
}

impl<T: AsFd> Drop for Registration<T> {
    fn drop(&mut self) {
        let worker = &self.reactor.workers[self.home];
        worker.poller.remove(self.file.as_fd());
        worker.sources.remove(self.name);
    }
}

const fn direction(operation: Operation) -> Direction {
    match operation {
        Operation::Read | Operation::Accept => Direction::Read,
        Operation::Write | Operation::Connect => Direction::Write,
    }
}

fn outside() -> io::Error {
    io::Error::other("no runtime on this thread: call this in a task, or after Handle::enter")
}
