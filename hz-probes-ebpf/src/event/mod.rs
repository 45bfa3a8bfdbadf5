//! The records, one file per family.

mod heap;
pub mod net;
pub mod net_host;
pub mod runtime;
mod sched;
mod stack;
mod uprobe;
mod usdt;

pub use heap::{HEAP_UNTRACKED, HeapAlloc, HeapFree, HeapSite};
pub use sched::{
    Exec, Exit, Fork, Interrupts, Lost, Migrate, NOT_ASKED, Rename, SWITCH_PREEMPTED, Switch,
    THREAD_FOREIGN, THREAD_KERNEL, THREAD_LAST, THREAD_ON_CPU, THREAD_QUEUED, Thread,
    WAKING_HARDIRQ, WAKING_SOFTIRQ, Wakeup, Waking,
};
pub use stack::{
    CpuSample, MAPPING_FOUND, MappedFile, Mapping, OFF_LOCK, OFF_PREEMPTED, OFF_RETURN_UNSEEN,
    OFF_SYSCALL, OFF_UNFINISHED, OFF_WOKEN, OFF_WOKEN_BY_INTERRUPT, OffCpu, PATH_PART,
    SAMPLE_CPU_CLOCK, SAMPLE_CYCLES, STACK_ADDRESSES, STACK_PART, StackEnd, StackSite, StackTrace,
};
pub use uprobe::{UPROBE_RETURN, UprobeHit, UprobeSite};
pub use usdt::{USDT_ARGS, UsdtHit, UsdtSite};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a thread's name, the closing NUL included; the kernel's `TASK_COMM_LEN`.
pub const COMM_BYTES: usize = 16;

/// A thread's name as the kernel keeps it: up to 15 bytes, NUL-padded, in no known encoding.
pub type Comm = [u8; COMM_BYTES];

/// What every record begins with.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Header {
    /// When it happened: nanoseconds of `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// Which record this is: a [`Kind`] as it travels.
    pub kind: u16,
    /// The CPU it happened on; each kind says which CPU that is.
    pub cpu: u16,
    /// The thread it is about, in the initial pid namespace; the kernel calls this `pid`.
    pub tid: u32,
    /// The process of that thread, in the initial pid namespace; the kernel calls this `tgid`.
    pub pid: u32,
    /// Four bytes that the kind may use; each record says what for.
    pub arg: u32,
}
const _: () = assert!(size_of::<Header>() == 24);

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $wire:literal, $tag:literal;)*) => {
        /// Which record a [`Header`] begins.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[repr(u16)]
        pub enum Kind { $($(#[$doc])* $name = $wire,)* }

        impl Kind {
            /// Every kind, in wire order.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The kind that travels as `wire`, if this build knows it.
            pub const fn from_wire(wire: u16) -> Option<Self> {
                match wire { $($wire => Some(Self::$name),)* _ => None }
            }

            /// Whether an async runtime writes it into its rings: [`runtime::RuntimeEvent`].
            #[must_use]
            pub const fn is_runtime_event(self) -> bool {
                self as u16 >= Self::TaskSpawn as u16 && self as u16 <= Self::Mark as u16
            }

            /// The kind's bit in the masks of an async runtime's ring; 0 if it is in none.
            #[must_use]
            pub const fn runtime_bit(self) -> u64 {
                if self.is_runtime_event() { 1 << (self as u16 - Self::TaskSpawn as u16) } else { 0 }
            }

            /// The kind's name in recordings, JSON and documentation.
            pub const fn tag(self) -> &'static str {
                match self { $(Self::$name => $tag,)* }
            }

            /// Length of the kind's record, in bytes.
            pub const fn record_bytes(self) -> usize {
                match self { $(Self::$name => size_of::<record::$name>(),)* }
            }
        }

        mod record {
            pub(super) use super::runtime::{RuntimeFound, RuntimeLost, RuntimeThread, SpawnSite, Stack, TaskEntry, Text};
            pub(super) use super::runtime::{RuntimeEvent as TaskSpawn, RuntimeEvent as TaskWake, RuntimeEvent as PollBegin, RuntimeEvent as PollEnd, RuntimeEvent as TaskEnd, RuntimeEvent as IoWaitBegin, RuntimeEvent as IoWaitEnd, RuntimeEvent as Steal, RuntimeEvent as QueueDepth, RuntimeEvent as Park, RuntimeEvent as Unpark, RuntimeEvent as TimerFired, RuntimeEvent as BlockingQueued, RuntimeEvent as BlockingBegin, RuntimeEvent as BlockingEnd, RuntimeEvent as BufferTaken, RuntimeEvent as BufferReturned, RuntimeEvent as AllocSampled, RuntimeEvent as FreeSampled, RuntimeEvent as RequestBegin, RuntimeEvent as RequestEnd, RuntimeEvent as SpanBegin, RuntimeEvent as SpanEnd, RuntimeEvent as Mark};
            pub(super) use super::net::{NetCongestion, NetDrop, NetLost, NetName, NetOwner, NetReset, NetRetransmit, NetSample, NetSocket, NetState, NetSynAck, NetWindow};
            pub(super) use super::net::{NetQueued, NetSojourn, NetSojournPart};
            pub(super) use super::net_host::{HostDevice, HostPorts, HostQueue, HostSocket, HostUnix, NetCounters};
            pub(super) use super::{Exec, Exit, Fork, Interrupts, Migrate, Lost, Rename, Switch};
            pub(super) use super::{CpuSample, HeapAlloc, HeapFree, MappedFile, Mapping, OffCpu, StackTrace};
            pub(super) use super::{Thread, UprobeHit as Uprobe, UsdtHit as Usdt, Wakeup, Wakeup as WakeupNew, Waking};
        }
    };
}

kinds! {
    /// A CPU went from one thread to another: [`Switch`].
    Switch = 1, "switch";
    /// A thread was asked to wake: [`Waking`].
    Waking = 2, "waking";
    /// A woken thread was put on a run queue: [`Wakeup`].
    Wakeup = 3, "wakeup";
    /// A new thread was put on a run queue for the first time: [`Wakeup`].
    WakeupNew = 4, "wakeup_new";
    /// A thread was given another CPU: [`Migrate`].
    Migrate = 5, "migrate";
    /// A thread came to be: [`Fork`].
    Fork = 6, "fork";
    /// A process became another program: [`Exec`].
    Exec = 7, "exec";
    /// A thread ended: [`Exit`].
    Exit = 8, "exit";
    /// A thread was renamed: [`Rename`].
    Rename = 9, "rename";
    /// What a thread was at some moment: [`Thread`].
    Thread = 10, "thread";
    /// Time that interrupts took from a CPU: [`Interrupts`].
    Interrupts = 11, "interrupts";
    /// Records that did not fit into a ring: [`Lost`].
    Lost = 12, "lost";
    /// A user probe was hit: [`UprobeHit`].
    Uprobe = 13, "uprobe";
    /// A task was spawned: [`runtime::RuntimeEvent`].
    TaskSpawn = 16, "task_spawn";
    /// A task was woken: [`runtime::RuntimeEvent`].
    TaskWake = 17, "task_wake";
    /// A poll of a task began: [`runtime::RuntimeEvent`].
    PollBegin = 18, "poll_begin";
    /// A poll of a task ended: [`runtime::RuntimeEvent`].
    PollEnd = 19, "poll_end";
    /// A task ended: [`runtime::RuntimeEvent`].
    TaskEnd = 20, "task_end";
    /// A task began to wait for a file: [`runtime::RuntimeEvent`].
    IoWaitBegin = 21, "io_wait_begin";
    /// A task's wait for a file ended: [`runtime::RuntimeEvent`].
    IoWaitEnd = 22, "io_wait_end";
    /// A worker took tasks from another: [`runtime::RuntimeEvent`].
    Steal = 23, "steal";
    /// How many tasks are in a worker's queues: [`runtime::RuntimeEvent`].
    QueueDepth = 24, "queue_depth";
    /// A worker found nothing to do: [`runtime::RuntimeEvent`].
    Park = 25, "park";
    /// A worker looks for work again: [`runtime::RuntimeEvent`].
    Unpark = 26, "unpark";
    /// A timer fired: [`runtime::RuntimeEvent`].
    TimerFired = 27, "timer_fired";
    /// A call was handed to the blocking pool: [`runtime::RuntimeEvent`].
    BlockingQueued = 28, "blocking_queued";
    /// The blocking pool began a call: [`runtime::RuntimeEvent`].
    BlockingBegin = 29, "blocking_begin";
    /// The blocking pool ended a call: [`runtime::RuntimeEvent`].
    BlockingEnd = 30, "blocking_end";
    /// A buffer was taken from the pool: [`runtime::RuntimeEvent`].
    BufferTaken = 31, "buffer_taken";
    /// A buffer was given back to the pool: [`runtime::RuntimeEvent`].
    BufferReturned = 32, "buffer_returned";
    /// An allocation that was sampled: [`runtime::RuntimeEvent`].
    AllocSampled = 33, "alloc_sampled";
    /// An allocation that had been sampled was freed: [`runtime::RuntimeEvent`].
    FreeSampled = 34, "free_sampled";
    /// A request began: [`runtime::RuntimeEvent`].
    RequestBegin = 35, "request_begin";
    /// A request ended: [`runtime::RuntimeEvent`].
    RequestEnd = 36, "request_end";
    /// A span of the program's own began: [`runtime::RuntimeEvent`].
    SpanBegin = 37, "span_begin";
    /// A span of the program's own ended: [`runtime::RuntimeEvent`].
    SpanEnd = 38, "span_end";
    /// A mark of the program's own: [`runtime::RuntimeEvent`].
    Mark = 39, "mark";
    /// A process that offers rings was found: [`runtime::RuntimeFound`].
    RuntimeFound = 40, "runtime_found";
    /// A thread of a runtime took a ring: [`runtime::RuntimeThread`].
    RuntimeThread = 41, "runtime_thread";
    /// A text that other records name: [`runtime::Text`].
    Text = 42, "text";
    /// A place that spawns tasks: [`runtime::SpawnSite`].
    SpawnSite = 43, "spawn_site";
    /// A stack that other records name: [`runtime::Stack`].
    Stack = 44, "stack";
    /// What the task directory says of a task: [`runtime::TaskEntry`].
    TaskEntry = 45, "task_entry";
    /// Records of a runtime's ring that were overwritten before they were read: [`runtime::RuntimeLost`].
    RuntimeLost = 46, "runtime_lost";
    /// A program passed a statically defined probe: [`UsdtHit`].
    Usdt = 47, "usdt";
    /// A socket that other records name: [`net::NetSocket`].
    NetSocket = 64, "net_socket";
    /// A process uses a socket: [`net::NetOwner`].
    NetOwner = 65, "net_owner";
    /// TCP sent segments again: [`net::NetRetransmit`].
    NetRetransmit = 66, "net_retransmit";
    /// TCP sent a SYN-ACK again: [`net::NetSynAck`].
    NetSynAck = 67, "net_synack";
    /// A socket changed its state: [`net::NetState`].
    NetState = 68, "net_state";
    /// A connection was reset: [`net::NetReset`].
    NetReset = 69, "net_reset";
    /// What a socket's queues held: [`net::NetSample`].
    NetSample = 70, "net_sample";
    /// A congestion control changed its state: [`net::NetCongestion`].
    NetCongestion = 71, "net_congestion";
    /// A peer closed its window or opened it: [`net::NetWindow`].
    NetWindow = 72, "net_window";
    /// A packet was dropped: [`net::NetDrop`].
    NetDrop = 73, "net_drop";
    /// The kernel's name of a number: [`net::NetName`].
    NetName = 74, "net_name";
    /// Records of sockets that were lost: [`net::NetLost`].
    NetLost = 75, "net_lost";
    /// How long packets waited for a device: [`net::NetSojourn`].
    NetSojourn = 76, "net_sojourn";
    /// Buckets of that: [`net::NetSojournPart`].
    NetSojournPart = 77, "net_sojourn_part";
    /// How long packets of a socket waited for a device: [`net::NetQueued`].
    NetQueued = 78, "net_queued";
    /// A socket as it was: [`net_host::HostSocket`].
    HostSocket = 80, "host_socket";
    /// Connections from one address to another, counted: [`net_host::HostPorts`].
    HostPorts = 81, "host_ports";
    /// A queueing discipline: [`net_host::HostQueue`].
    HostQueue = 82, "host_queue";
    /// A network device: [`net_host::HostDevice`].
    HostDevice = 83, "host_device";
    /// A Unix socket as it was: [`net_host::HostUnix`].
    HostUnix = 84, "host_unix";
    /// What a network namespace has counted: [`net_host::NetCounters`].
    NetCounters = 85, "net_counters";
    /// A stack that other records name: [`StackTrace`].
    StackTrace = 96, "stack_trace";
    /// A thread was on a CPU when a sample was due: [`CpuSample`].
    CpuSample = 97, "cpu_sample";
    /// A thread was off its CPU: [`OffCpu`].
    OffCpu = 98, "off_cpu";
    /// Executable memory of a process: [`Mapping`].
    Mapping = 99, "mapping";
    /// A file that processes have mapped: [`MappedFile`].
    MappedFile = 100, "mapped_file";
    /// An allocation was sampled: [`HeapAlloc`].
    HeapAlloc = 112, "heap_alloc";
    /// A sampled allocation was given back: [`HeapFree`].
    HeapFree = 113, "heap_free";
}
