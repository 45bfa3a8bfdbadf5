//! Records of the async runtime: what its shared rings carry, and what names it.

use super::Header;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a [`Text`]; longer ones are cut.
pub const TEXT_BYTES: usize = 124;

/// Frames of a [`Stack`]; deeper ones are cut.
pub const STACK_FRAMES: usize = 30;

/// No worker: a thread that the runtime does not run tasks on.
pub const NO_WORKER: u32 = u32::MAX;

/// Priority levels of a runtime's tasks: 0 `critical`, 1 `high`, 2 `normal`, 3 `background`.
pub const PRIORITIES: usize = 4;

/// An event of an async runtime, as its shared ring carried it: kinds 16 to 39.
///
/// The header's thread is the one on which it happened; its `cpu` is `u16::MAX`, since the runtime
/// does not ask on which CPU it is: the records of `sched` say so.
///
/// | kind | `header.arg` | `task` | `value` | `aux` |
/// |---|---|---|---|---|
/// | `task_spawn` | [`SpawnSite`] | new task | parent task, 0: none | priority |
/// | `task_wake` | fd, for [`WAKE_IO`]; else 0 | woken task | socket cookie, waking task, address of the channel or lock | `WAKE_*` |
/// | `poll_begin` | worker | task | 0 | priority |
/// | `poll_end` | worker | task | 0 | `POLL_*` |
/// | `task_end` | worker | task | polls it had | `END_*` |
/// | `io_wait_begin`, `io_wait_end` | fd | task | socket cookie, 0: none | `IO_*` |
/// | `steal` | worker that steals | 0 | tasks it took | worker it took them from |
/// | `queue_depth` | worker, [`NO_WORKER`]: the injector | 0 | depth per priority, 16 bits each, `critical` lowest | 0 |
/// | `park`, `unpark` | worker | 0 | 0 | 0 |
/// | `timer_fired` | 0 | task it wakes | how late, ns | 0 |
/// | `blocking_queued`, `blocking_begin`, `blocking_end` | 0 | task that asked, 0: none | id of the call | 0 |
/// | `buffer_taken`, `buffer_returned` | bytes | task | address | bytes per page of its memory, as a power of two |
/// | `alloc_sampled` | [`Stack`] | task | address | size in bytes, cut at `u32::MAX` |
/// | `free_sampled` | 0 | task | address | size in bytes, cut at `u32::MAX` |
/// | `request_begin` | [`Text`]: the route | task | id of the request | 0 |
/// | `request_end` | status, 0: not said | task | id of the request | 0 |
/// | `span_begin`, `span_end` | [`Text`]: its name | task | id of the span | 0 |
/// | `mark` | [`Text`]: its name | task | what the program says | 0 |
///
/// Task ids count from 1 in each process; 0 is no task.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct RuntimeEvent {
    /// `arg` is by kind.
    pub header: Header,
    /// The task it is about.
    pub task: u64,
    /// By kind.
    pub value: u64,
    /// By kind.
    pub aux: u32,
    /// Always 0.
    pub reserved: u32,
}
const _: () = assert!(size_of::<RuntimeEvent>() == 48);

/// `task_wake`: by another task, whose id is the value.
pub const WAKE_TASK: u32 = 0;
/// `task_wake`: by a thread that was running no task.
pub const WAKE_THREAD: u32 = 1;
/// `task_wake`: a file became ready; the header's `arg` is the fd, the value the socket's cookie.
pub const WAKE_IO: u32 = 2;
/// `task_wake`: a timer fired.
pub const WAKE_TIMER: u32 = 3;
/// `task_wake`: a channel has room or a message; the value is its address.
pub const WAKE_CHANNEL: u32 = 4;
/// `task_wake`: a lock was released; the value is its address.
pub const WAKE_LOCK: u32 = 5;
/// `task_wake`: it was cancelled.
pub const WAKE_CANCEL: u32 = 6;
/// `task_wake`: the task that it joined has ended; the value is that task.
pub const WAKE_JOIN: u32 = 7;
/// `task_wake`: it yielded.
pub const WAKE_YIELD: u32 = 8;
/// `task_wake`: a call on the blocking pool has ended.
pub const WAKE_BLOCKING: u32 = 9;
/// `task_wake`: it was spawned.
pub const WAKE_SPAWN: u32 = 10;

/// `poll_end`: the task goes on later.
pub const POLL_PENDING: u32 = 0;
/// `poll_end`: the task has its result.
pub const POLL_READY: u32 = 1;
/// `poll_end`: the task panicked.
pub const POLL_PANICKED: u32 = 2;
/// `poll_end`: the task is over; the runtime does not tell how.
pub const POLL_OVER: u32 = 3;

/// `task_end`: with its result.
pub const END_COMPLETED: u32 = 0;
/// `task_end`: cancelled, its future was dropped.
pub const END_CANCELLED: u32 = 1;
/// `task_end`: it panicked.
pub const END_PANICKED: u32 = 2;
/// `task_end`: the runtime does not tell how.
pub const END_UNKNOWN: u32 = 3;

/// `io_wait_begin`: to read.
pub const IO_READ: u32 = 0;
/// `io_wait_begin`: to write.
pub const IO_WRITE: u32 = 1;
/// `io_wait_begin`: to accept.
pub const IO_ACCEPT: u32 = 2;
/// `io_wait_begin`: to connect.
pub const IO_CONNECT: u32 = 3;

/// [`TaskEntry::state`]: waits, for what `waits_for` says.
pub const TASK_IDLE: u32 = 0;
/// [`TaskEntry::state`]: in a run queue.
pub const TASK_READY: u32 = 1;
/// [`TaskEntry::state`]: being polled.
pub const TASK_POLLING: u32 = 2;
/// [`TaskEntry::state`]: over, its result not yet fetched or its memory not yet free.
pub const TASK_DONE: u32 = 3;

/// [`TaskEntry::waits_for`]: not known.
pub const WAIT_UNKNOWN: u32 = 0;
/// [`TaskEntry::waits_for`]: a file; `wait_arg` is the fd, `wait_value` the socket's cookie.
pub const WAIT_READ: u32 = 1;
/// [`TaskEntry::waits_for`]: a file, to write.
pub const WAIT_WRITE: u32 = 2;
/// [`TaskEntry::waits_for`]: a listener.
pub const WAIT_ACCEPT: u32 = 3;
/// [`TaskEntry::waits_for`]: a connection that is being made.
pub const WAIT_CONNECT: u32 = 4;
/// [`TaskEntry::waits_for`]: a timer; `wait_value` is its deadline, ns of `CLOCK_MONOTONIC`.
pub const WAIT_TIMER: u32 = 5;
/// [`TaskEntry::waits_for`]: a channel, by address.
pub const WAIT_CHANNEL: u32 = 6;
/// [`TaskEntry::waits_for`]: a lock, by address.
pub const WAIT_LOCK: u32 = 7;
/// [`TaskEntry::waits_for`]: another task's end, by id.
pub const WAIT_JOIN: u32 = 8;
/// [`TaskEntry::waits_for`]: a call on the blocking pool.
pub const WAIT_BLOCKING: u32 = 9;
/// [`TaskEntry::waits_for`]: a buffer of the pool.
pub const WAIT_BUFFER: u32 = 10;
/// [`TaskEntry::waits_for`]: the cancellation of a scope.
pub const WAIT_CANCEL: u32 = 11;
/// [`TaskEntry::waits_for`]: the end of all tasks of a scope.
pub const WAIT_SCOPE: u32 = 12;

/// A process that offers rings was found, and how it is laid out.
///
/// `time_ns` is when it was found, or the time of the oldest record that its rings still held then:
/// no record of the process is earlier. `arg` is the number of workers.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct RuntimeFound {
    /// `arg` is the number of workers.
    pub header: Header,
    /// Bit `kind − 16`: kinds that are recorded whether anyone reads or not.
    pub flight_kinds: u64,
    /// Bit `kind − 16`: kinds that this recording asked for.
    pub asked_kinds: u64,
    /// Bit `kind − 16`: kinds that this runtime can tell at all; the others are not collected.
    pub offered_kinds: u64,
    /// Bytes between two sampled allocations in the mean; 0: not sampled.
    pub alloc_mean_bytes: u64,
}
const _: () = assert!(size_of::<RuntimeFound>() == 56);

/// A thread took a ring: from then on its records there are of this thread.
///
/// `arg` is the worker, or [`NO_WORKER`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct RuntimeThread {
    /// `arg` is the worker.
    pub header: Header,
}
const _: () = assert!(size_of::<RuntimeThread>() == 24);

/// A text of a process, by the number that other records name it with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Text {
    /// `arg` is the text's number in its process, from 1.
    pub header: Header,
    /// Length of the text before it was cut, bytes.
    pub bytes: u32,
    /// UTF-8, NUL-padded; the last character may be cut.
    pub text: [u8; TEXT_BYTES],
}
const _: () = assert!(size_of::<Text>() == 152);

/// A place in a program that spawns tasks.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SpawnSite {
    /// `arg` is the site's number in its process, from 1.
    pub header: Header,
    /// [`Text`]: name of the tasks, 0: none.
    pub name: u32,
    /// [`Text`]: source file.
    pub file: u32,
    /// Line in it, from 1.
    pub line: u32,
    /// Column in it, from 1.
    pub column: u32,
    /// [`Text`]: type of the future.
    pub future: u32,
    /// Size of the future, bytes.
    pub future_bytes: u32,
}
const _: () = assert!(size_of::<SpawnSite>() == 48);

/// A stack of a process, leaf first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Stack {
    /// `arg` is the stack's number in its process, from 1.
    pub header: Header,
    /// Frames that are there.
    pub frames: u32,
    /// 1 if it was cut: deeper than [`STACK_FRAMES`], or the unwinder had no rule.
    pub is_cut: u32,
    /// Return addresses; the rest is 0.
    pub addresses: [u64; STACK_FRAMES],
}
const _: () = assert!(size_of::<Stack>() == 272);

/// What the task directory says of a live task at some moment.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct TaskEntry {
    /// `time_ns` is when it was read; `tid` is 0; `arg` is the [`SpawnSite`].
    pub header: Header,
    /// The task.
    pub task: u64,
    /// Task that spawned it, 0: none.
    pub parent: u64,
    /// When it was spawned, nanoseconds of `CLOCK_MONOTONIC`.
    pub spawned_ns: u64,
    /// Begin of its last poll, nanoseconds of `CLOCK_MONOTONIC`, 0: never polled. Up to the
    /// runtime's coarse clock: no earlier than the true begin by more than one turn of its worker.
    pub last_poll_ns: u64,
    /// Polls so far.
    pub polls: u64,
    /// Address of its future.
    pub future: u64,
    /// What it waits for, by `waits_for`.
    pub wait_value: u64,
    /// `WAIT_*`.
    pub waits_for: u32,
    /// What it waits for, by `waits_for`.
    pub wait_arg: u32,
    /// `TASK_*`.
    pub state: u32,
    /// Priority, 0 the highest.
    pub priority: u32,
    /// Worker that polls it or polled it last, [`NO_WORKER`]: never polled.
    pub worker: u32,
    /// [`Text`]: its own name, 0: that of its site.
    pub name: u32,
}
const _: () = assert!(size_of::<TaskEntry>() == 104);

/// Records that a reader did not get.
///
/// `time_ns` is the time of the first record that was read after them, `tid` the thread whose ring
/// it was, 0: not known.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct RuntimeLost {
    /// `arg` is the worker, or [`NO_WORKER`].
    pub header: Header,
    /// Time of the last record that was read before, nanoseconds of `CLOCK_MONOTONIC`.
    pub since_ns: u64,
    /// Records.
    pub count: u64,
}
const _: () = assert!(size_of::<RuntimeLost>() == 40);
