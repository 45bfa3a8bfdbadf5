//! The kernel's part of one worker's reactor, for programs that shuttle runs: all of their threads are
//! one of the kernel's, which must not wait.
//!
//! Who waits is a thread of shuttle's that waits for the bell, or, if time or a file may end the wait, one
//! that asks again and again; the kernel's epoll is only asked what is there. So a thread that
//! is not rung for is found to be stuck.

#[path = "poller.rs"]
mod kernel;

pub(in crate::reactor) use kernel::{Buffer, files};

use crate::clock;
use crate::scheduler::sync::{AtomicUsize, Condvar, Mutex, Ordering, lock, thread};
use rustix::event::epoll::Event;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::PoisonError;

/// As the kernel's.
#[derive(Debug)]
pub(in crate::reactor) struct Poller {
    kernel: kernel::Poller,
    files: AtomicUsize,
    bell: Mutex<()>,
    ringing: Condvar,
}

impl Poller {
    pub(in crate::reactor) fn new() -> io::Result<Self> {
        let (kernel, files) = (kernel::Poller::new()?, AtomicUsize::new(0));
        Ok(Self { kernel, files, bell: Mutex::new(()), ringing: Condvar::new() })
    }

    pub(in crate::reactor) fn add(&self, file: BorrowedFd<'_>, name: u64) -> io::Result<()> {
        self.kernel.add(file, name)?;
        self.files.fetch_add(1, Ordering::SeqCst);
        // Whoever waits looks at files too from now on.
        let _bell = lock(&self.bell);
        self.ringing.notify_all();
        Ok(())
    }

    pub(in crate::reactor) fn remove(&self, file: BorrowedFd<'_>) {
        self.kernel.remove(file);
        self.files.fetch_sub(1, Ordering::SeqCst);
    }

    pub(in crate::reactor) fn ring(&self) {
        let _bell = lock(&self.bell);
        self.kernel.ring();
        self.ringing.notify_all();
    }

    pub(in crate::reactor) fn wait<'a>(
        &self,
        buffer: &'a mut Buffer,
        wait_ns: Option<u64>,
    ) -> io::Result<&'a [Event]> {
        let until_ns = wait_ns.map(|ns| clock::now_ns().saturating_add(ns));
        let mut bell = lock(&self.bell);
        while wait_ns != Some(0) && !self.kernel.is_ready() {
            if until_ns.is_some_and(clock::passes) {
                break;
            }
            if until_ns.is_none() && self.files.load(Ordering::SeqCst) == 0 {
                bell = self.ringing.wait(bell).unwrap_or_else(PoisonError::into_inner);
            } else {
                drop(bell);
                thread::yield_now();
                bell = lock(&self.bell);
            }
        }
        // No other thread runs between the look above and this.
        let events = self.kernel.wait(buffer, Some(0));
        drop(bell);
        events
    }
}
