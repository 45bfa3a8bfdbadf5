//! Where time and memory went: stacks with what they took, rooted in who it was for.

mod diff;
mod folded;
mod folding;
mod frames;
mod live;
mod locks;
mod owners;
mod polls;
mod reasons;
mod timed;
mod tops;

pub use diff::{Change, Diff, diff};
pub(crate) use folded::{annotated, folded_lines};
pub use folded::{read_folded, write_folded};
pub use frames::{Frame, FrameIndex, FrameKind, Frames};
pub(crate) use live::LiveFlame;
pub use locks::{LockUse, Waiting, locks};
pub use timed::{Timed, TimedPart};
pub use tops::{BlockingStack, FunctionUse, Site, Tops, tops};

use crate::{
    model::{Model, ThreadIndex},
    symbol::SymbolTable,
};
use folding::Folding;
use serde::Serialize;
use std::collections::BTreeMap;
use timed::Taking;

/// What a flame graph is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "snake_case")]
pub enum FlameKind {
    /// Time on a CPU, by samples.
    OnCpu,
    /// Time off a CPU, by the stack that left it.
    OffCpu,
    /// Time that was waited for a CPU, by the stack that had left it.
    RunQueue,
    /// Time slept until somebody woke it, by the stack that did.
    Wakeups,
    /// Bytes allocated, by samples.
    Alloc,
    /// Bytes allocated that were not freed, by samples.
    Live,
}

impl FlameKind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::OnCpu, Self::OffCpu, Self::RunQueue, Self::Wakeups, Self::Alloc, Self::Live];

    /// Its heading.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::OnCpu => "time on a CPU",
            Self::OffCpu => "time off a CPU",
            Self::RunQueue => "time waited for a CPU",
            Self::Wakeups => "time slept, by who ended it",
            Self::Alloc => "bytes allocated",
            Self::Live => "bytes allocated and not freed",
        }
    }

    /// The probes whose records it needs: one of these.
    #[must_use]
    pub const fn probes(self) -> &'static [&'static str] {
        match self {
            Self::OnCpu => &["oncpu"],
            Self::OffCpu | Self::RunQueue | Self::Wakeups => &["offcpu"],
            Self::Alloc | Self::Live => &["runtime", "alloc"],
        }
    }

    /// Whether it is of memory.
    #[must_use]
    pub const fn is_memory(self) -> bool {
        matches!(self, Self::Alloc | Self::Live)
    }
}

/// What a width is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Nanoseconds.
    Nanoseconds,
    /// Cycles of a CPU.
    Cycles,
    /// Bytes.
    Bytes,
    /// Whatever the one who wrote the stacks counted.
    Samples,
}

/// What the stacks stand on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupBy {
    /// The async task that was polled, else the thread.
    #[default]
    Task,
    /// The thread.
    Thread,
    /// The process.
    Process,
    /// The CPU.
    Cpu,
    /// Nothing.
    None,
}

/// Which stacks, and how.
#[derive(Clone, Debug)]
pub struct FlameQuery {
    /// What it is of.
    pub kind: FlameKind,
    /// What the stacks stand on.
    pub group_by: GroupBy,
    /// Start, nanoseconds of `CLOCK_MONOTONIC`.
    pub from_ns: u64,
    /// End.
    pub to_ns: u64,
    /// Only tasks with this in their name.
    pub task: Option<String>,
    /// Only this thread.
    pub thread: Option<ThreadIndex>,
}

impl FlameQuery {
    /// All of a kind.
    #[must_use]
    pub const fn new(kind: FlameKind) -> Self {
        Self {
            kind,
            group_by: GroupBy::Task,
            from_ns: 0,
            to_ns: u64::MAX,
            task: None,
            thread: None,
        }
    }
}

/// What is not in a flame graph as it should be, in its unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// Of stacks that were not recorded, or lost.
    pub without_stack: u64,
    /// Of stacks that end too early, by why.
    pub cut: BTreeMap<&'static str, u64>,
    /// Of stacks whose leaf has no name.
    pub without_symbol: u64,
    /// Of memory of which no free would be told: it is in no graph of what is live.
    pub untracked: u64,
}

/// Stacks with what they took.
#[derive(Clone, Debug)]
pub struct Flame {
    /// What it is of.
    pub kind: FlameKind,
    /// What the widths are.
    pub unit: Unit,
    /// The frames.
    pub frames: Frames,
    /// What each stack took, root first, in `unit`.
    pub stacks: BTreeMap<Vec<FrameIndex>, u64>,
    /// What all took.
    pub total: u64,
    /// Samples, or records, that were added up.
    pub samples: u64,
    /// What is missing.
    pub missing: Missing,
}

impl Flame {
    /// A stack's names, root first.
    pub fn names<'a>(&'a self, stack: &'a [FrameIndex]) -> impl Iterator<Item = &'a str> {
        stack.iter().map(|frame| self.frames.get(*frame).name.as_str())
    }
}

/// Folds what `query` asks for into stacks.
#[must_use]
pub fn flame(model: &Model, symbols: &SymbolTable, query: &FlameQuery) -> Flame {
    let mut folding = Folding::new(model, symbols, query);
    folding.fold();
    folding.finish()
}

/// The same, and when each part of it was taken.
#[must_use]
pub fn timed_flame(model: &Model, symbols: &SymbolTable, query: &FlameQuery) -> (Flame, Timed) {
    let mut folding = Folding::new(model, symbols, query);
    folding.taking = Some(Taking::default());
    folding.fold();
    let taking = folding.taking.take().unwrap_or_default();
    (folding.finish(), taking.finish())
}

#[cfg(test)]
mod tests;
