//! Records of the kernel probe `sched`.

use super::{COMM_BYTES, Header};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// [`Switch::flags`]: the thread that left could have gone on.
pub const SWITCH_PREEMPTED: u8 = 1;

/// A CPU went from one thread to another.
///
/// The header names the thread that **left** and the CPU; `arg` is the thread id of the one that
/// came. Thread id 0 is the CPU's idle thread.
///
/// # Source
///
/// Tracepoint `sched_switch`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Switch {
    /// `arg` is the thread id of the thread that came.
    pub header: Header,
    /// Process of the thread that came.
    pub next_pid: u32,
    /// Low 16 bits of the leaving thread's kernel state: 0 runnable, 1 interruptible sleep,
    /// 2 uninterruptible sleep, 4 stopped, 8 traced, 0x40 parked, 0x80 dead, 0x400 no load.
    pub prev_state: u16,
    /// [`SWITCH_PREEMPTED`] or 0.
    pub flags: u8,
    /// Priority of the thread that came, as the kernel numbers it: 0 to 99 real-time, 100 to 139
    /// fair.
    pub next_prio: u8,
}
const _: () = assert!(size_of::<Switch>() == 32);

/// [`Waking::flags`]: the waker was a hardware interrupt, not the thread it interrupted.
pub const WAKING_HARDIRQ: u32 = 1;
/// [`Waking::flags`]: the waker was a software interrupt, not the thread it interrupted.
pub const WAKING_SOFTIRQ: u32 = 2;

/// A thread was asked to wake.
///
/// The header names the **woken** thread and the CPU the waker ran on; `arg` is the waker's
/// thread id.
///
/// # Source
///
/// Tracepoint `sched_waking`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Waking {
    /// `arg` is the waker's thread id.
    pub header: Header,
    /// The waker's process.
    pub waker_pid: u32,
    /// [`WAKING_HARDIRQ`], [`WAKING_SOFTIRQ`], both or 0.
    pub flags: u32,
}
const _: () = assert!(size_of::<Waking>() == 32);

/// A thread was put on a run queue after it woke, or for the first time in its life.
///
/// The header names the thread and the CPU this was done on; `arg` is the CPU it now waits for.
///
/// # Source
///
/// Tracepoints `sched_wakeup` and `sched_wakeup_new`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Wakeup {
    /// `arg` is the CPU whose run queue the thread is on.
    pub header: Header,
    /// The thread that has that CPU at this moment, 0 if it is idle; [`NOT_ASKED`] in a recording
    /// of the whole system, whose switches tell.
    pub occupant_tid: u32,
    /// The process of that thread.
    pub occupant_pid: u32,
}
const _: () = assert!(size_of::<Wakeup>() == 32);

/// [`Wakeup::occupant_tid`], [`Migrate::occupant_tid`]: nobody looked.
pub const NOT_ASKED: u32 = u32::MAX;

/// A thread was given another CPU.
///
/// # Source
///
/// Tracepoint `sched_migrate_task`. It fires before the move, for sleeping threads too.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Migrate {
    /// `arg` is the CPU the thread goes to.
    pub header: Header,
    /// The CPU the thread leaves.
    pub from_cpu: u32,
    /// The thread that has the new CPU, if the migrated thread waits; else [`NOT_ASKED`].
    pub occupant_tid: u32,
}
const _: () = assert!(size_of::<Migrate>() == 32);

/// A thread came to be.
///
/// The header names the **child**; `arg` is the thread id of its parent.
///
/// # Source
///
/// Tracepoint `sched_process_fork`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Fork {
    /// `arg` is the thread id of the parent.
    pub header: Header,
    /// The parent's process.
    pub parent_pid: u32,
    /// Always 0.
    pub reserved: u32,
    /// The child's name, which it has from its parent.
    pub comm: [u8; COMM_BYTES],
}
const _: () = assert!(size_of::<Fork>() == 48);

/// A process became another program.
///
/// # Source
///
/// Tracepoint `sched_process_exec`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Exec {
    /// `arg` is the thread id that called `exec`; the surviving thread takes the process's id.
    pub header: Header,
    /// The thread's new name.
    pub comm: [u8; COMM_BYTES],
}
const _: () = assert!(size_of::<Exec>() == 40);

/// A thread ended, with the kernel's own counts of its life as a check on hz's.
///
/// # Source
///
/// Tracepoint `sched_process_exit`. The thread still runs until its last [`Switch`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Exit {
    /// `arg` is 0.
    pub header: Header,
    /// Voluntary switches in the thread's life, the one that is about to end it not included.
    pub nvcsw: u64,
    /// Involuntary switches in the thread's life.
    pub nivcsw: u64,
    /// Nanoseconds the thread was runnable without running (`sched_info.run_delay`); 0 where the
    /// kernel does not count them.
    pub run_delay_ns: u64,
}
const _: () = assert!(size_of::<Exit>() == 48);

/// A thread was renamed.
///
/// # Source
///
/// Tracepoint `task_rename`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Rename {
    /// `arg` is 0.
    pub header: Header,
    /// The new name.
    pub comm: [u8; COMM_BYTES],
}
const _: () = assert!(size_of::<Rename>() == 40);

/// [`Thread::flags`]: the thread had a CPU.
pub const THREAD_ON_CPU: u16 = 1;
/// [`Thread::flags`]: the thread was on a run queue.
pub const THREAD_QUEUED: u16 = 2;
/// [`Thread::flags`]: a kernel thread.
pub const THREAD_KERNEL: u16 = 4;
/// [`Thread::flags`]: taken at the end of the recording, not at its start.
pub const THREAD_LAST: u16 = 8;
/// [`Thread::flags`]: not of the target; named because a record mentions it.
pub const THREAD_FOREIGN: u16 = 16;

/// What a thread was at some moment: taken of every recorded thread at the start and the end of a
/// recording, and once of every other thread that a record names.
///
/// # Source
///
/// The task iterator, and the thread itself where one is named for the first time (then all
/// counts are 0).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Thread {
    /// `cpu` is the CPU the thread last had; `arg` is the process id of its parent process.
    pub header: Header,
    /// Voluntary switches so far.
    pub nvcsw: u64,
    /// Involuntary switches so far.
    pub nivcsw: u64,
    /// Nanoseconds the thread was runnable without running so far.
    pub run_delay_ns: u64,
    /// Nanoseconds of `CLOCK_MONOTONIC` at which the thread came to be.
    pub start_ns: u64,
    /// Low 16 bits of the thread's kernel state, as in [`Switch::prev_state`].
    pub state: u16,
    /// [`THREAD_ON_CPU`], [`THREAD_QUEUED`], [`THREAD_KERNEL`], [`THREAD_LAST`].
    pub flags: u16,
    /// Priority as the kernel numbers it: 0 to 99 real-time, 100 to 139 fair.
    pub prio: u32,
    /// The thread's name.
    pub comm: [u8; COMM_BYTES],
}
const _: () = assert!(size_of::<Thread>() == 80);

/// Time that interrupts and the hypervisor took from a CPU since the previous record of that CPU.
///
/// The header's thread is the one that was interrupted last; `arg` counts the interrupts.
///
/// # Source
///
/// Tracepoints `irq_handler_entry`/`exit`, `local_timer_entry`/`exit`,
/// `call_function_entry`/`exit`, `call_function_single_entry`/`exit`, `softirq_entry`/`exit`. Steal
/// comes in records of its own that the recorder makes of `/proc/stat`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Interrupts {
    /// `arg` is the number of interrupts counted.
    pub header: Header,
    /// When the first of them began, nanoseconds of `CLOCK_MONOTONIC`.
    pub since_ns: u64,
    /// Nanoseconds in hardware interrupt handlers.
    pub hard_ns: u64,
    /// Nanoseconds in software interrupt handlers, hardware interrupts within them not included.
    pub soft_ns: u64,
    /// Nanoseconds the hypervisor ran somebody else (steal), in steps of 10 ms.
    pub steal_ns: u64,
}
const _: () = assert!(size_of::<Interrupts>() == 56);

/// Records of a CPU that did not fit into its ring, written as soon as there was room again.
///
/// The header's thread is 0; `cpu` is the CPU that lost them, `arg` is 0.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Lost {
    /// `time_ns` is when there was room again.
    pub header: Header,
    /// When the first was lost, nanoseconds of `CLOCK_MONOTONIC`.
    pub since_ns: u64,
    /// How many were lost.
    pub count: u64,
}
const _: () = assert!(size_of::<Lost>() == 40);
