//! What happened: events folded into the life of every thread, CPU and task. Pure.
//!
//! A [`Thread`]'s and a [`Task`]'s life and a [`Cpu`]'s time are **tiled**: each tile begins where the one before
//! ends, so states cannot overlap and always sum to the life. What was not seen is a tile too
//! ([`State::Unknown`], [`TaskState::Unknown`], [`Who::Unknown`]), never a gap.

mod fold;
pub mod net;
pub mod net_host;
mod reasons;
mod runtimes;
mod stacks;
mod tasks;
pub mod window;

pub use fold::Folder;
use hz_probes_ebpf::Comm;
pub use runtimes::{
    BlockingCall, BufferUse, Depth, Mark, Park, Runtime, RuntimeLoss, Site, Steal, TimerFired,
    UserSpan, Worker,
};
pub use stacks::{
    Allocation, AllocationOrigin, CpuSample, Lock, MappedFile, MappedRange, OffCpu, OffReason,
    Place, Stack, StackIndex, Stacks,
};
pub use tasks::{Object, ObjectIndex, Task, TaskIndex, TaskSpan, TaskState, TaskTile, Why};

/// A thread's place in [`Model::threads`]. Thread ids are reused by the kernel, these are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ThreadIndex(pub u32);

/// What a thread was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Not seen: before the first evidence, or after records were lost.
    Unknown,
    /// Made by fork and not yet put on a run queue.
    New,
    /// Had a CPU.
    Running,
    /// Waited for a CPU after it woke (or was made).
    Woken,
    /// Waited for a CPU after one was taken from it, or after it yielded.
    Preempted,
    /// Slept, interruptibly.
    Sleeping,
    /// Slept uninterruptibly: on disk, a page, a kernel lock.
    Uninterruptible,
    /// Stopped or traced.
    Stopped,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 8] = [
        Self::Unknown,
        Self::New,
        Self::Running,
        Self::Woken,
        Self::Preempted,
        Self::Sleeping,
        Self::Uninterruptible,
        Self::Stopped,
    ];

    /// Whether the thread waited on a run queue.
    #[must_use]
    pub const fn is_waiting(self) -> bool {
        matches!(self, Self::Woken | Self::Preempted)
    }
}

/// Who or what woke a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Waker {
    /// Not known, or the state does not begin with a wake-up.
    Unknown,
    /// Another thread.
    Thread(ThreadIndex),
    /// A hardware interrupt, a timer for instance.
    HardIrq,
    /// A software interrupt, a packet for instance.
    SoftIrq,
}

/// A tile of a thread's life. It ends where the next begins, the last one at [`Thread::end_ns`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// What the thread was doing.
    pub state: State,
    /// The CPU it had, waited for, or had last.
    pub cpu: u16,
    /// For [`State::Woken`]: who woke it.
    pub waker: Waker,
}

/// A tile with its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// The tile.
    pub span: Span,
    /// Where it ends, nanoseconds of `CLOCK_MONOTONIC`.
    pub end_ns: u64,
}

impl Tile {
    /// Length in nanoseconds.
    #[must_use]
    pub const fn duration_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.span.start_ns)
    }
}

/// The kernel's own counts of a thread at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelCounts {
    /// When they were read, nanoseconds of `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// Voluntary and involuntary switches so far.
    pub switches: u64,
    /// Nanoseconds runnable without running so far (`sched_info.run_delay`).
    pub run_delay_ns: u64,
}

/// A thread's life, as far as it was recorded.
#[derive(Clone, Debug)]
pub struct Thread {
    /// Thread id in the initial pid namespace. 0 is a CPU's idle thread.
    pub tid: u32,
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// The last name it had, as the kernel keeps it: bytes in no known encoding.
    pub comm: Comm,
    /// Whether it is a kernel thread.
    pub is_kernel: bool,
    /// Whether the recording was about it. Of other threads only the name is known and, while
    /// they had a CPU that a thread of the target waited for, that they ran.
    pub is_target: bool,
    /// The thread that made it, if that was seen.
    pub parent: Option<ThreadIndex>,
    /// Start of what is known of its life, nanoseconds of `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// End of what is known of its life, nanoseconds of `CLOCK_MONOTONIC`.
    pub end_ns: u64,
    /// Whether its end was seen.
    pub has_exited: bool,
    /// The tiles of its life; empty if it is not of the target.
    pub spans: Vec<Span>,
    /// Moves to another CPU.
    pub migrations: u64,
    /// Times it left a CPU since `kernel_first` was taken, until `kernel_last` was.
    pub switches: u64,
    /// The kernel's counts at the start: all zero for a thread that began during the recording.
    pub kernel_first: Option<KernelCounts>,
    /// The kernel's counts at the end, or at the thread's.
    pub kernel_last: Option<KernelCounts>,
}

impl Thread {
    /// The tiles of its life with their ends, in order.
    pub fn tiles(&self) -> impl ExactSizeIterator<Item = Tile> + '_ {
        (0..self.spans.len()).map(|index| self.tile(index))
    }

    /// Tile number `index`.
    ///
    /// # Panics
    ///
    /// If there is no such tile.
    #[must_use]
    pub fn tile(&self, index: usize) -> Tile {
        let end_ns = self.spans.get(index + 1).map_or(self.end_ns, |next| next.start_ns);
        Tile { span: self.spans[index], end_ns }
    }

    /// The name as text, unprintable bytes replaced; a thread without one is called by its id.
    #[must_use]
    pub fn name(&self) -> String {
        let name = display_comm(&self.comm);
        if name.is_empty() { format!("thread {}", self.tid) } else { name }
    }
}

/// A thread's name as text: up to its NUL, with `�` for what is not UTF-8 or cannot be shown.
#[must_use]
pub fn display_comm(comm: &Comm) -> String {
    let end = comm.iter().position(|byte| *byte == 0).unwrap_or(comm.len());
    let text = String::from_utf8_lossy(&comm[..end]);
    text.chars().map(|each| if is_unshowable(each) { '\u{fffd}' } else { each }).collect()
}

/// Control characters, and those that change the direction of the text around them.
pub(crate) fn is_unshowable(each: char) -> bool {
    each.is_control()
        || matches!(each, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{61c}' | '\u{fffe}' | '\u{ffff}')
}

/// Who had a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Who {
    /// Not recorded: a filter was on and nobody of the target ran or waited there, or records
    /// were lost.
    Unknown,
    /// Nobody.
    Idle,
    /// A thread.
    Thread(ThreadIndex),
}

/// A tile of a CPU's time. It ends where the next begins, the last one at [`Model::end_ns`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// Who had the CPU.
    pub who: Who,
}

/// Time that interrupts took from a CPU in an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterruptTime {
    /// Start of the interval, nanoseconds of `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// Its end.
    pub end_ns: u64,
    /// Nanoseconds in hardware interrupt handlers.
    pub hard_ns: u64,
    /// Nanoseconds in software interrupt handlers.
    pub soft_ns: u64,
    /// Nanoseconds the hypervisor ran somebody else.
    pub steal_ns: u64,
}

/// Records that were lost, where and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostInterval {
    /// Start, nanoseconds of `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// End.
    pub end_ns: u64,
    /// Number of records.
    pub count: u64,
}

/// One CPU's time.
#[derive(Clone, Debug, Default)]
pub struct Cpu {
    /// The kernel's number of the CPU.
    pub id: u16,
    /// The tiles of its time.
    pub runs: Vec<Run>,
    /// Interrupt time, in the order of the intervals' ends. Only those of steal overlap others.
    pub interrupts: Vec<InterruptTime>,
    /// Records lost on this CPU.
    pub lost: Vec<LostInterval>,
}

/// A function in user space that a user probe saw: a mark if its return was not asked for, or if it
/// is no function but a statically defined probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Index of the probe in the recording's tables: of functions, then of USDT probes.
    pub probe: u32,
    /// The thread that called.
    pub thread: ThreadIndex,
    /// Entry, nanoseconds of `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// Return; `None` for a mark, and for a call that did not return in the recording.
    pub end_ns: Option<u64>,
}

/// Everything that happened in a recording.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// Start of the recording, nanoseconds of `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// Its end.
    pub end_ns: u64,
    /// Every thread seen, in the order of appearance.
    pub threads: Vec<Thread>,
    /// The CPUs, by number.
    pub cpus: Vec<Cpu>,
    /// Calls that user probes saw, by start.
    pub calls: Vec<Call>,
    /// Async runtimes, in the order of appearance.
    pub runtimes: Vec<Runtime>,
    /// Tasks of async runtimes, in the order of appearance.
    pub tasks: Vec<Task>,
    /// What tasks wait for.
    pub objects: Vec<Object>,
    /// Sockets, and what happened to them.
    pub network: net::Network,
    /// Stacks, and what has them.
    pub stacks: Stacks,
    /// Switch records folded.
    pub switches: u64,
    /// Records folded, of all kinds.
    pub records: u64,
    /// Records that contradict what earlier ones said: 0 unless records were lost.
    pub contradictions: u64,
    /// Bytes that were no record, or records of an unknown kind.
    pub undecoded: u64,
}

impl Model {
    /// The thread at `index`.
    ///
    /// # Panics
    ///
    /// If `index` is of another model.
    #[must_use]
    pub fn thread(&self, index: ThreadIndex) -> &Thread {
        &self.threads[index.0 as usize]
    }

    /// The CPU's tiles that overlap `[start_ns, end_ns)`, each with its end, both cut to it.
    pub fn runs_between(
        &self,
        cpu: u16,
        start_ns: u64,
        end_ns: u64,
    ) -> impl Iterator<Item = (Run, u64)> + '_ {
        let runs = self.cpus.iter().find(|each| each.id == cpu).map_or(&[][..], |each| &each.runs);
        let first = runs.partition_point(|run| run.start_ns <= start_ns).saturating_sub(1);
        runs[first..]
            .iter()
            .enumerate()
            .take_while(move |(_, run)| run.start_ns < end_ns)
            .map(move |(offset, run)| {
                let next = runs.get(first + offset + 1).map_or(self.end_ns, |next| next.start_ns);
                (Run { start_ns: run.start_ns.max(start_ns), ..*run }, next.min(end_ns))
            })
            .filter(|(run, end)| run.start_ns < *end)
    }
}
