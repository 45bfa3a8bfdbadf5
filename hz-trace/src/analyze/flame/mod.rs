//! Where time and memory went: stacks with what they took, rooted in who it was for.

mod diff;
mod folded;
mod frames;
mod live;
mod locks;
mod polls;
mod tops;

pub use diff::{Change, Diff, diff};
pub(crate) use folded::{annotated, folded_lines};
pub use folded::{read_folded, write_folded};
pub use frames::{Frame, FrameIndex, FrameKind, Frames};
pub(crate) use live::LiveFlame;
pub use locks::{LockUse, Waiting, locks};
pub use tops::{BlockingStack, FunctionUse, Site, Tops, tops};

use crate::{
    model::{Model, OffCpu, OffReason, StackIndex, TaskIndex, ThreadIndex},
    symbol::SymbolTable,
};
use frames::Namer;
use hz_probes_ebpf::StackEnd;
use polls::Polls;
use serde::Serialize;
use std::collections::BTreeMap;

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

/// One thing that took something.
#[derive(Clone, Copy, Debug)]
struct Taken<'a> {
    weight: f64,
    time_ns: u64,
    thread: ThreadIndex,
    /// `None`: whatever the thread polled then.
    task: Option<TaskIndex>,
    cpu: Option<u16>,
    stack: Option<StackIndex>,
    /// Frames below the stack, above the root.
    below: [Option<(&'a str, FrameKind)>; 2],
}

/// Folds what `query` asks for into stacks.
#[must_use]
pub fn flame(model: &Model, symbols: &SymbolTable, query: &FlameQuery) -> Flame {
    let mut folding = Folding::new(model, symbols, query);
    match query.kind {
        FlameKind::OnCpu => folding.on_cpu(),
        FlameKind::OffCpu | FlameKind::RunQueue => folding.off_cpu(),
        FlameKind::Wakeups => folding.wakeups(),
        FlameKind::Alloc | FlameKind::Live => folding.allocations(),
    }
    folding.finish()
}

struct Folding<'a> {
    model: &'a Model,
    query: &'a FlameQuery,
    polls: Polls,
    namer: Namer<'a>,
    frames: Frames,
    stacks: BTreeMap<Vec<FrameIndex>, f64>,
    unit: Unit,
    samples: u64,
    without_stack: f64,
    cut: BTreeMap<&'static str, f64>,
    without_symbol: f64,
    untracked: f64,
}

impl<'a> Folding<'a> {
    fn new(model: &'a Model, symbols: &'a SymbolTable, query: &'a FlameQuery) -> Self {
        Self {
            model,
            query,
            polls: Polls::of(model),
            namer: Namer::new(&model.stacks, symbols),
            frames: Frames::default(),
            stacks: BTreeMap::new(),
            unit: match query.kind {
                FlameKind::Alloc | FlameKind::Live => Unit::Bytes,
                _ => Unit::Nanoseconds,
            },
            samples: 0,
            without_stack: 0.0,
            cut: BTreeMap::new(),
            without_symbol: 0.0,
            untracked: 0.0,
        }
    }

    fn on_cpu(&mut self) {
        let samples = &self.model.stacks.samples;
        let is_cycles = samples.iter().any(|sample| sample.is_cycles);
        if is_cycles {
            self.unit = Unit::Cycles;
        }
        for sample in samples.iter().filter(|sample| sample.is_cycles == is_cycles) {
            if !self.is_within(sample.time_ns) {
                continue;
            }
            self.add(&Taken {
                weight: sample.period as f64,
                time_ns: sample.time_ns,
                thread: sample.thread,
                task: None,
                cpu: Some(sample.cpu),
                stack: sample.stack,
                below: [None, None],
            });
        }
    }

    fn off_cpu(&mut self) {
        for off in &self.model.stacks.off_cpu {
            let woken_ns = off.end_ns.saturating_sub(off.runq_ns);
            let mut parts =
                [(off.start_ns, woken_ns, Some(self.reason(off))), (woken_ns, off.end_ns, None)];
            if off.reason == OffReason::Preempted {
                parts = [(0, 0, None), (off.start_ns, off.end_ns, None)];
            }
            for (from_ns, to_ns, reason) in parts {
                let length = self.overlap(from_ns, to_ns);
                let is_wanted = self.query.kind == FlameKind::OffCpu || reason.is_none();
                if length == 0 || !is_wanted {
                    continue;
                }
                let reason = reason.map_or("waiting for a CPU", OffReason::name);
                let has_reason = self.query.kind == FlameKind::OffCpu;
                self.add(&Taken {
                    weight: length as f64 * f64::from(off.weight),
                    time_ns: off.start_ns,
                    thread: off.thread,
                    task: None,
                    cpu: Some(off.cpu),
                    stack: off.stack,
                    below: [has_reason.then_some((reason, FrameKind::Root)), None],
                });
            }
        }
    }

    fn wakeups(&mut self) {
        for off in &self.model.stacks.off_cpu {
            let woken_ns = off.end_ns.saturating_sub(off.runq_ns);
            let length = self.overlap(off.start_ns, woken_ns);
            if length == 0 || off.waker.is_none() && off.waker_stack.is_none() {
                continue;
            }
            let waker = match (off.is_by_interrupt, off.waker) {
                (true, _) => "an interrupt".to_owned(),
                (_, Some(waker)) => self.model.thread(waker).name(),
                _ => "somebody".to_owned(),
            };
            let waker = format!("woken by {waker}");
            self.add(&Taken {
                weight: length as f64 * f64::from(off.weight),
                time_ns: off.start_ns,
                thread: off.thread,
                task: None,
                cpu: Some(off.cpu),
                stack: off.waker_stack,
                below: [Some((&waker, FrameKind::Root)), None],
            });
        }
    }

    fn allocations(&mut self) {
        for allocation in &self.model.stacks.allocations {
            if !self.is_within(allocation.time_ns) {
                continue;
            }
            if self.query.kind == FlameKind::Live && !allocation.is_live_at(self.query.to_ns) {
                let is_unknown = !allocation.is_tracked;
                self.untracked += if is_unknown { allocation.weight_bytes } else { 0.0 };
                continue;
            }
            self.add(&Taken {
                weight: allocation.weight_bytes,
                time_ns: allocation.time_ns,
                thread: allocation.thread,
                task: allocation.task,
                cpu: None,
                stack: allocation.stack,
                below: [None, None],
            });
        }
    }

    const fn is_within(&self, time_ns: u64) -> bool {
        self.query.from_ns <= time_ns && time_ns < self.query.to_ns
    }

    fn overlap(&self, from_ns: u64, to_ns: u64) -> u64 {
        to_ns.min(self.query.to_ns).saturating_sub(from_ns.max(self.query.from_ns))
    }

    /// Why a thread was off: by its record, and by the kernel's functions where that does not say.
    fn reason(&mut self, off: &OffCpu) -> OffReason {
        let Some(stack) = off.stack.filter(|_| matches!(off.reason, OffReason::Call)) else {
            return off.reason;
        };
        let named = self.namer.name(stack, &mut self.frames);
        let kernel = named.frames.iter().map(|frame| self.frames.get(*frame));
        let mut kernel = kernel.filter(|frame| frame.kind == FrameKind::Kernel);
        kernel.find_map(|frame| reason_of(&frame.name)).unwrap_or(off.reason)
    }

    fn add(&mut self, taken: &Taken<'_>) {
        let polled = || self.polls.at(taken.thread, taken.time_ns);
        let task = taken.task.or_else(polled);
        if self.query.thread.is_some_and(|thread| thread != taken.thread) || !self.is_task(task) {
            return;
        }
        self.samples += 1;
        let mut path = Vec::with_capacity(64);
        if let Some(root) = self.root(taken, task) {
            path.push(self.frames.index(root, FrameKind::Root));
        }
        for (name, kind) in taken.below.into_iter().flatten() {
            path.push(self.frames.index(name.to_owned(), kind));
        }
        let stack = taken.stack.filter(|stack| self.model.stacks.stack(*stack).is_known());
        match stack {
            Some(index) => self.add_stack(index, taken.weight, &mut path),
            None => {
                self.without_stack += taken.weight;
                path.push(self.frames.index("[no stack]".to_owned(), FrameKind::Unknown));
            }
        }
        *self.stacks.entry(path).or_default() += taken.weight;
    }

    fn add_stack(&mut self, index: StackIndex, weight: f64, path: &mut Vec<FrameIndex>) {
        let stack = self.model.stacks.stack(index);
        let why = [stack.user_end, stack.kernel_end].into_iter().find(|end| end.is_cut());
        let why = why.map(StackEnd::tag).or_else(|| (!stack.is_whole()).then_some("lost"));
        if let Some(why) = why {
            *self.cut.entry(why).or_default() += weight;
            path.push(
                self.frames.index(format!("[cut: {}]", why.replace('_', " ")), FrameKind::Unknown),
            );
        }
        let named = self.namer.name(index, &mut self.frames);
        if !named.has_leaf {
            self.without_symbol += weight;
        }
        path.extend_from_slice(&named.frames);
    }

    fn is_task(&self, task: Option<TaskIndex>) -> bool {
        self.query.task.as_deref().is_none_or(|wanted| {
            task.is_some_and(|task| self.model.task_name(task).contains(wanted))
        })
    }

    fn root(&self, taken: &Taken<'_>, task: Option<TaskIndex>) -> Option<String> {
        let thread = self.model.thread(taken.thread);
        match (self.query.group_by, task) {
            (GroupBy::Task, Some(task)) => Some(self.model.task_name(task)),
            (GroupBy::Task, None) if self.model.tasks.is_empty() => Some(thread.name()),
            (GroupBy::Task, None) => Some(format!("{} (no task)", thread.name())),
            (GroupBy::Thread, _) => Some(format!("{} ({})", thread.name(), thread.tid)),
            (GroupBy::Process, _) => {
                let main = self.model.threads.iter().find(|each| each.tid == thread.pid);
                Some(format!("{} ({})", main.unwrap_or(thread).name(), thread.pid))
            }
            (GroupBy::Cpu, _) => {
                Some(taken.cpu.map_or("no CPU said".to_owned(), |cpu| format!("CPU {cpu}")))
            }
            (GroupBy::None, _) => None,
        }
    }

    fn finish(self) -> Flame {
        let rounded = |weight: f64| weight.round() as u64;
        let stacks: BTreeMap<_, _> =
            self.stacks.into_iter().map(|(path, weight)| (path, rounded(weight))).collect();
        // Damaged records may have any weight.
        let total = stacks.values().fold(0, |sum: u64, weight| sum.saturating_add(*weight));
        let missing = Missing {
            without_stack: rounded(self.without_stack),
            cut: self.cut.into_iter().map(|(why, weight)| (why, rounded(weight))).collect(),
            without_symbol: rounded(self.without_symbol),
            untracked: rounded(self.untracked),
        };
        Flame {
            kind: self.query.kind,
            unit: self.unit,
            frames: self.frames,
            stacks,
            total,
            samples: self.samples,
            missing,
        }
    }
}

/// What a thread waits for in a function of the kernel.
fn reason_of(function: &str) -> Option<OffReason> {
    const BY_PREFIX: [(&str, OffReason); 22] = [
        ("futex_", OffReason::Lock),
        ("pipe_", OffReason::Pipe),
        ("anon_pipe_", OffReason::Pipe),
        ("n_tty_", OffReason::Pipe),
        ("tty_", OffReason::Pipe),
        ("eventfd_", OffReason::Poll),
        ("sock_", OffReason::Network),
        ("tcp_", OffReason::Network),
        ("udp_", OffReason::Network),
        ("unix_", OffReason::Network),
        ("inet_", OffReason::Network),
        ("sk_", OffReason::Network),
        ("io_schedule", OffReason::Disk),
        ("folio_", OffReason::Disk),
        ("filemap_", OffReason::Disk),
        ("ext4_", OffReason::Disk),
        ("xfs_", OffReason::Disk),
        ("btrfs_", OffReason::Disk),
        ("blk_", OffReason::Disk),
        ("do_wait", OffReason::Child),
        ("hrtimer_nanosleep", OffReason::Sleep),
        ("ep_poll", OffReason::Poll),
    ];
    let found = BY_PREFIX.iter().find(|(prefix, _)| function.starts_with(prefix));
    found.map(|(_, reason)| *reason)
}

#[cfg(test)]
mod tests;
