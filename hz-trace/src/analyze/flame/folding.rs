//! Adds up what was taken, by stacks.

use super::{
    Flame, FlameKind, FlameQuery, FrameIndex, FrameKind, Frames, GroupBy, Missing, Unit,
    frames::Namer,
    polls::Polls,
    reasons::reason_of,
    timed::{Taking, TimedPart},
};
use crate::{
    model::{Model, OffCpu, OffReason, StackIndex, TaskIndex, ThreadIndex},
    symbol::SymbolTable,
};
use hz_probes_ebpf::StackEnd;
use std::collections::BTreeMap;

/// One thing that took something.
#[derive(Clone, Copy, Debug)]
struct Taken<'a> {
    weight: f64,
    time_ns: u64,
    /// Start and length of the time it took, in the range that was asked for; a length of 0: a moment.
    span: (u64, u64),
    thread: ThreadIndex,
    /// `None`: whatever the thread polled then.
    task: Option<TaskIndex>,
    cpu: Option<u16>,
    stack: Option<StackIndex>,
    /// Frames below the stack, above the root.
    below: [Option<(&'a str, FrameKind)>; 2],
}

pub(super) struct Folding<'a> {
    pub(super) model: &'a Model,
    pub(super) query: &'a FlameQuery,
    polls: Polls,
    pub(super) namer: Namer<'a>,
    pub(super) frames: Frames,
    stacks: BTreeMap<Vec<FrameIndex>, f64>,
    unit: Unit,
    samples: u64,
    without_stack: f64,
    cut: BTreeMap<&'static str, f64>,
    without_symbol: f64,
    untracked: f64,
    /// When it was taken, if that is asked for.
    pub(super) taking: Option<Taking>,
}

impl<'a> Folding<'a> {
    pub(super) fn new(model: &'a Model, symbols: &'a SymbolTable, query: &'a FlameQuery) -> Self {
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
            taking: None,
        }
    }

    /// Adds up all that the query asks for.
    pub(super) fn fold(&mut self) {
        match self.query.kind {
            FlameKind::OnCpu => self.on_cpu(),
            FlameKind::OffCpu | FlameKind::RunQueue => self.off_cpu(),
            FlameKind::Wakeups => self.wakeups(),
            FlameKind::Alloc | FlameKind::Live => self.allocations(),
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
                span: (sample.time_ns, 0),
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
                    span: (from_ns.max(self.query.from_ns), length),
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
                span: (off.start_ns.max(self.query.from_ns), length),
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
                span: (allocation.time_ns, 0),
                thread: allocation.thread,
                task: allocation.task,
                cpu: None,
                stack: allocation.stack,
                below: [None, None],
            });
        }
    }

    pub(super) const fn is_within(&self, time_ns: u64) -> bool {
        self.query.from_ns <= time_ns && time_ns < self.query.to_ns
    }

    pub(super) fn overlap(&self, from_ns: u64, to_ns: u64) -> u64 {
        to_ns.min(self.query.to_ns).saturating_sub(from_ns.max(self.query.from_ns))
    }

    /// Why a thread was off: by its record, and by the kernel's functions where that does not say.
    pub(super) fn reason(&mut self, off: &OffCpu) -> OffReason {
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
        if let Some(taking) = &mut self.taking {
            let (start_ns, length_ns) = taken.span;
            let Taken { weight, thread, cpu, .. } = *taken;
            taking
                .add(&path, TimedPart { start_ns, length_ns, weight, thread, task, cpu, stack: 0 });
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

    pub(super) fn finish(self) -> Flame {
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
