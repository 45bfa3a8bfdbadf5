//! Why tasks are woken, and what they wait for.

use super::emit::{Record, emit};
use super::kinds;
use super::thread;
use hz_probes_ebpf::Kind;
use hz_probes_ebpf::runtime::{
    IO_ACCEPT, IO_CONNECT, IO_READ, IO_WRITE, WAIT_ACCEPT, WAIT_BLOCKING, WAIT_BUFFER, WAIT_CANCEL,
    WAIT_CHANNEL, WAIT_CONNECT, WAIT_JOIN, WAIT_LOCK, WAIT_READ, WAIT_SCOPE, WAIT_TIMER,
    WAIT_WRITE, WAKE_BLOCKING, WAKE_CANCEL, WAKE_CHANNEL, WAKE_IO, WAKE_JOIN, WAKE_LOCK, WAKE_TASK,
    WAKE_THREAD, WAKE_TIMER, WAKE_YIELD,
};

/// What a task or a buffer is waited with, read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// To read.
    Read,
    /// To write.
    Write,
    /// To accept.
    Accept,
    /// To connect.
    Connect,
}

/// Why tasks are woken while a [`Cause`] is in force on a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// Whoever runs: the task being polled on this thread, or the thread itself.
    Running,
    /// A file is ready.
    Io {
        /// The file.
        fd: i32,
        /// Its socket's cookie (`SO_COOKIE`), 0: no socket.
        cookie: u64,
    },
    /// A timer fired.
    Timer,
    /// A channel, by address.
    Channel(usize),
    /// A lock, by address.
    Lock(usize),
    /// A cancellation.
    Cancel,
    /// The end of a task, by id.
    Join(u64),
    /// The task yielded.
    Yield,
    /// A call on the blocking pool ended.
    Blocking,
}

/// What the task being polled on this thread waits for when it returns pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wait {
    /// A file.
    Io {
        /// What for.
        operation: Operation,
        /// The file.
        fd: i32,
        /// Its socket's cookie, 0: no socket.
        cookie: u64,
    },
    /// A timer, with its deadline in nanoseconds of `CLOCK_MONOTONIC`.
    Timer(u64),
    /// A channel, by address.
    Channel(usize),
    /// A lock, by address.
    Lock(usize),
    /// Another task's end, by id.
    Join(u64),
    /// A call on the blocking pool, by its id.
    Blocking(u64),
    /// A buffer.
    Buffer,
    /// The cancellation of a scope.
    Cancel,
    /// The end of all tasks of a scope.
    Scope,
}

/// Runs `wake` with `cause` as the reason for every wake-up in it.
#[inline]
pub fn with_cause<R>(cause: Cause, wake: impl FnOnce() -> R) -> R {
    if !kinds::is_on(Kind::TaskWake) {
        return wake();
    }
    let _before = Before(thread::with(|local| local.cause.replace(cause)));
    wake()
}

/// Puts the cause back, also when a wake-up panics.
struct Before(Cause);

impl Drop for Before {
    fn drop(&mut self) {
        thread::with(|local| local.cause.set(self.0));
    }
}

/// The record of a wake-up of `task` while `running` is being polled.
pub(super) fn record(cause: Cause, running: u64, task: u64) -> Record {
    let (aux, arg, value) = match cause {
        Cause::Running if running == 0 => (WAKE_THREAD, 0, 0),
        Cause::Running => (WAKE_TASK, 0, running),
        Cause::Io { fd, cookie } => (WAKE_IO, fd.cast_unsigned(), cookie),
        Cause::Timer => (WAKE_TIMER, 0, 0),
        Cause::Channel(address) => (WAKE_CHANNEL, 0, address as u64),
        Cause::Lock(address) => (WAKE_LOCK, 0, address as u64),
        Cause::Cancel => (WAKE_CANCEL, 0, 0),
        Cause::Join(ended) => (WAKE_JOIN, 0, ended),
        Cause::Yield => (WAKE_YIELD, 0, 0),
        Cause::Blocking => (WAKE_BLOCKING, 0, 0),
    };
    Record { aux, arg, task, value }
}

/// Says what the task being polled on this thread waits for: writes it into the task directory and,
/// for [`Wait::Io`], emits `io_wait_begin`.
#[inline]
pub fn waiting(wait: Wait) {
    thread::with(|local| {
        let current = local.current.get();
        if let Some(words) = current.words {
            let (what, arg, value) = wait.words();
            words.waits(what, arg, value);
            local.current.set(thread::Current { has_told: true, ..current });
        }
        if let Wait::Io { operation, fd, cookie } = wait {
            emit(Kind::IoWaitBegin, || io_record(operation, fd, cookie, current.task));
        }
    });
}

/// Says that the wait for a file that the task had told of is over.
#[inline]
pub fn io_wait_end(operation: Operation, fd: i32, cookie: u64) {
    emit(Kind::IoWaitEnd, || io_record(operation, fd, cookie, super::current_task()));
}

#[inline]
fn io_record(operation: Operation, fd: i32, cookie: u64, task: u64) -> Record {
    let aux = match operation {
        Operation::Read => IO_READ,
        Operation::Write => IO_WRITE,
        Operation::Accept => IO_ACCEPT,
        Operation::Connect => IO_CONNECT,
    };
    Record { aux, arg: fd.cast_unsigned(), task, value: cookie }
}

impl Wait {
    #[inline]
    pub(super) fn words(self) -> (u32, u32, u64) {
        match self {
            Self::Io { operation, fd, cookie } => {
                let what = match operation {
                    Operation::Read => WAIT_READ,
                    Operation::Write => WAIT_WRITE,
                    Operation::Accept => WAIT_ACCEPT,
                    Operation::Connect => WAIT_CONNECT,
                };
                (what, fd.cast_unsigned(), cookie)
            }
            Self::Timer(deadline_ns) => (WAIT_TIMER, 0, deadline_ns),
            Self::Channel(address) => (WAIT_CHANNEL, 0, address as u64),
            Self::Lock(address) => (WAIT_LOCK, 0, address as u64),
            Self::Join(task) => (WAIT_JOIN, 0, task),
            Self::Blocking(call) => (WAIT_BLOCKING, 0, call),
            Self::Buffer => (WAIT_BUFFER, 0, 0),
            Self::Cancel => (WAIT_CANCEL, 0, 0),
            Self::Scope => (WAIT_SCOPE, 0, 0),
        }
    }
}
