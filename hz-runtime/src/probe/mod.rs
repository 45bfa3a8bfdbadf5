//! What a runtime tells of itself. Usable without the executor: another runtime calls the same
//! functions.
//!
//! Each function is a site: off, it costs a load and a branch.

mod task;
pub mod usdt;

pub use task::{Spawn, TaskProbe, TaskRef};

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
}

/// Runs `wake` with `cause` as the reason for every wake-up in it.
#[inline]
pub fn with_cause<R>(cause: Cause, wake: impl FnOnce() -> R) -> R {
    let _ = cause;
    wake()
}

/// Says what the task being polled on this thread waits for: writes it into the task directory and,
/// for [`Wait::Io`], emits `io_wait_begin`.
#[inline]
pub fn waiting(wait: Wait) {
    let _ = wait;
}

/// Says that the wait for a file that the task had told of is over.
#[inline]
pub fn io_wait_end(operation: Operation, fd: i32, cookie: u64) {
    let _ = (operation, fd, cookie);
}

/// Says that this thread is worker `index` of `workers`, and takes a ring.
pub fn worker_started(index: u32) {
    let _ = index;
}

/// Reads the clock for the task directory's `last_poll`; a worker calls it when it has unparked and
/// now and then while it is busy.
#[inline]
pub fn worker_tick() {}

/// A worker took `count` tasks from another's queues.
#[inline]
pub fn steal(from: u32, count: u32) {
    let _ = (from, count);
}

/// How many tasks are in a worker's queues by priority, `None`: in the injector.
#[inline]
pub fn queue_depth(worker: Option<u32>, depths: impl FnOnce() -> [u16; 4]) {
    let _ = (worker, depths);
}

/// This worker goes to sleep.
#[inline]
pub fn park() {}

/// This worker looks for work again.
#[inline]
pub fn unpark() {}

/// A timer of `task` (0: of none) fired `late_ns` after its deadline.
#[inline]
pub fn timer_fired(task: u64, late_ns: u64) {
    let _ = (task, late_ns);
}

/// A call on the blocking pool is queued, by the task being polled; returns the call's id.
#[inline]
pub fn blocking_queued() -> u64 {
    0
}

/// Blocking call `id` of `task` begins on this thread.
#[inline]
pub fn blocking_begin(task: u64, id: u64) {
    let _ = (task, id);
}

/// Blocking call `id` of `task` ended on this thread.
#[inline]
pub fn blocking_end(task: u64, id: u64) {
    let _ = (task, id);
}

/// A buffer was taken from the pool: its address, size and the size of its memory's pages.
#[inline]
pub fn buffer_taken(address: usize, bytes: u32, page_bytes: u32) {
    let _ = (address, bytes, page_bytes);
}

/// A buffer went back to the pool.
#[inline]
pub fn buffer_returned(address: usize, bytes: u32, page_bytes: u32) {
    let _ = (address, bytes, page_bytes);
}

/// Id of the task being polled on this thread, 0: none.
#[must_use]
#[inline]
pub fn current_task() -> u64 {
    0
}
