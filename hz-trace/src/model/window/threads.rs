//! CPUs and threads in a window.

use serde::{Deserialize, Serialize};

/// What one CPU did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuRow {
    /// Its number.
    pub cpu: u32,
    /// Time with a thread.
    pub busy_ns: u64,
    /// Time with nothing to do.
    pub idle_ns: u64,
    /// Time the hypervisor gave to somebody else, in steps of 10 ms.
    pub steal_ns: u64,
    /// Times it went from one thread to another.
    pub switches: u64,
}

/// What a thread is doing.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum ThreadState {
    /// Not seen yet.
    #[default]
    Unknown,
    /// Has a CPU.
    Running,
    /// Waits for a CPU after it woke.
    Woken,
    /// Waits for a CPU after one was taken from it.
    Preempted,
    /// Sleeps, interruptibly.
    Sleeping,
    /// Sleeps uninterruptibly: on disk, a page, a kernel lock.
    Uninterruptible,
    /// Is stopped or traced.
    Stopped,
    /// Has ended.
    Ended,
}

impl ThreadState {
    /// By the number that BPF programs use.
    #[must_use]
    pub const fn from_wire(number: u32) -> Self {
        match number {
            1 => Self::Running,
            2 => Self::Woken,
            3 => Self::Preempted,
            4 => Self::Sleeping,
            5 => Self::Uninterruptible,
            6 => Self::Stopped,
            7 => Self::Ended,
            _ => Self::Unknown,
        }
    }

    /// As people say it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "not seen",
            Self::Running => "running",
            Self::Woken => "ready",
            Self::Preempted => "preempted",
            Self::Sleeping => "asleep",
            Self::Uninterruptible => "blocked",
            Self::Stopped => "stopped",
            Self::Ended => "ended",
        }
    }

    /// Whether it waits for a CPU.
    #[must_use]
    pub const fn is_waiting(self) -> bool {
        matches!(self, Self::Woken | Self::Preempted)
    }
}

/// A wait for a CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wait {
    /// How long.
    pub wait_ns: u64,
    /// When it ended, nanoseconds of `CLOCK_MONOTONIC`.
    pub end_ns: u64,
    /// The CPU.
    pub cpu: u32,
    /// Thread that had the CPU just before, 0: none did.
    pub by_tid: u32,
    /// Process of that thread.
    pub by_pid: u32,
    /// Its name.
    pub by: String,
}

/// A sleep that was not a wait for work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Block {
    /// How long.
    pub block_ns: u64,
    /// When it ended, nanoseconds of `CLOCK_MONOTONIC`.
    pub end_ns: u64,
    /// The system call, with the file that it was about where that can be told.
    pub call: String,
}

/// What one thread did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThreadRow {
    /// Its id in the initial pid namespace.
    pub tid: u32,
    /// Its process.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// Name of its process.
    pub process: String,
    /// Whether it is of the target.
    pub is_target: bool,
    /// Whether it is a kernel thread.
    pub is_kernel: bool,
    /// What it did last.
    pub state: ThreadState,
    /// Since when, nanoseconds of `CLOCK_MONOTONIC`.
    pub since_ns: u64,
    /// The CPU it has, waits for or had last.
    pub cpu: u32,
    /// Time on a CPU.
    pub run_ns: u64,
    /// Time it waited for a CPU after it woke.
    pub woken_ns: u64,
    /// Time it waited for a CPU after one was taken from it.
    pub preempted_ns: u64,
    /// Time it slept interruptibly.
    pub sleep_ns: u64,
    /// Time it slept uninterruptibly.
    pub block_ns: u64,
    /// Times it gave up its CPU.
    pub yields: u64,
    /// Times its CPU was taken from it.
    pub preemptions: u64,
    /// Moves to another CPU.
    pub migrations: u64,
    /// Time on CPUs by place: a CPU or, where there are more than 16, a group of neighbours.
    pub place_ns: Vec<u64>,
    /// Its longest wait for a CPU that ended here.
    pub wait: Option<Wait>,
    /// Its longest sleep that ended here, waits for work left out.
    pub block: Option<Block>,
    /// Instructions that it ran, where the host counts them.
    pub instructions: Option<u64>,
    /// Cycles that it took, where the host counts them.
    pub cycles: Option<u64>,
}

impl ThreadRow {
    /// Time it waited for a CPU.
    #[must_use]
    pub const fn wait_ns(&self) -> u64 {
        self.woken_ns + self.preempted_ns
    }

    /// What makes it remarkable.
    pub(super) fn weight_ns(&self) -> u64 {
        let worst_ns = self.wait.as_ref().map_or(0, |wait| wait.wait_ns);
        (self.run_ns / 4 + self.wait_ns() + worst_ns) * if self.is_target { 4 } else { 1 }
    }
}

/// Moves of threads from one place to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Place that they left.
    pub from: u32,
    /// Place that they went to.
    pub to: u32,
    /// How many.
    pub count: u64,
}
