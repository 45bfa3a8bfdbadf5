//! A flame graph of the last seconds, kept up to date window by window.

use super::{FrameIndex, FrameKind, Frames, frames::Namer, reasons::reason_of};
use crate::{
    decode::Event,
    model::{
        CpuSample, Folder, OffCpu, OffReason, StackIndex, Stacks, ThreadIndex,
        window::{FlameGraph, FlameNode},
    },
    symbol::{SymbolSettings, SymbolTable, symbolize},
};
use rustc_hash::FxHashMap;
use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

/// Stacks and threads that are remembered: with more, all is begun anew.
const REMEMBERED_MAX: usize = 50_000;

/// How long the graph is of, nanoseconds.
const SPAN_NS: u64 = 20_000_000_000;

/// Frames that take less than one part of this many are left out.
const PARTS: u64 = 1_000;

/// Finding names may take one part of this many of a CPU's time, but for the first time.
const NAMES_SHARE: u32 = 60;

/// Kinds of graphs: on a CPU, off it.
const KINDS: [&str; 2] = ["on-cpu", "off-cpu"];

/// What is added up under one stack: whose it is, why it was off a CPU, and the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    root: FrameIndex,
    why: Option<OffReason>,
    /// Whether it waited for a CPU, for whatever reason it had left it.
    is_waiting: bool,
    stack: Option<StackIndex>,
}

/// What stacks took in one window, of one kind.
#[derive(Debug, Default)]
struct Part {
    took_ns: FxHashMap<Key, u64>,
    samples: u64,
}

impl Part {
    fn add(&mut self, key: Key, took_ns: u64) {
        let sum = self.took_ns.entry(key).or_default();
        *sum = sum.saturating_add(took_ns);
    }
}

/// A window that is part of the graphs.
#[derive(Debug)]
struct Recent {
    end_ns: u64,
    length_ns: u64,
    parts: [Part; 2],
}

/// What was polled on a thread: `(thread, time)` to a task's name.
pub(crate) type Polled<'a> = dyn Fn(u32, u64) -> Option<String> + 'a;

/// Stacks by name, root first, with what they took and which frames are the kernel's.
type ByName<'a> = BTreeMap<Vec<&'a str>, (u64, Vec<bool>)>;

/// Folds records of stacks into flame graphs. Its memory does not grow with time.
#[derive(Debug)]
pub(crate) struct LiveFlame {
    folder: Folder,
    symbols: SymbolTable,
    frames: Frames,
    recent: VecDeque<Recent>,
    /// Frames of stacks that names were looked up for, root first.
    named: FxHashMap<StackIndex, Vec<FrameIndex>>,
    /// Stacks that names were looked up for: those before this one.
    next_unnamed: usize,
    looked: Option<(Instant, Duration)>,
}

impl LiveFlame {
    pub(crate) fn new(start_ns: u64) -> Self {
        let mut folder = Folder::new(start_ns, true);
        folder.expect_no_switches();
        Self {
            folder,
            symbols: SymbolTable::default(),
            frames: Frames::default(),
            recent: VecDeque::new(),
            named: FxHashMap::default(),
            next_unnamed: 0,
            looked: None,
        }
    }

    pub(crate) fn fold(&mut self, event: &Event) {
        self.folder.fold(event);
    }

    /// Whether so much is remembered that all has to begin anew, stacks and names.
    pub(crate) fn is_full(&self) -> bool {
        let model = self.folder.model();
        model.stacks.stacks.len() + model.threads.len() > REMEMBERED_MAX
    }

    /// Ends a window of `length_ns`. Threads are named by `name`, what they polled by `polled`.
    pub(crate) fn close(
        &mut self,
        (end_ns, length_ns): (u64, u64),
        name: &dyn Fn(u32) -> Option<String>,
        polled: &Polled<'_>,
    ) {
        let (samples, off_cpu) = self.folder.take_times();
        let Self { folder, frames, .. } = self;
        let mut root = |thread: ThreadIndex, time_ns| {
            let tid = folder.model().thread(thread).tid;
            let thread = || name(tid).unwrap_or_else(|| format!("thread {tid}"));
            frames.index(polled(tid, time_ns).unwrap_or_else(thread), FrameKind::Root)
        };
        let mut parts: [Part; 2] = Default::default();
        for sample in &samples {
            let root = root(sample.thread, sample.time_ns);
            add_sample(&mut parts[0], root, sample);
        }
        for off in &off_cpu {
            let root = root(off.thread, off.start_ns);
            add_off(&mut parts[1], root, off);
        }
        self.recent.push_back(Recent { end_ns, length_ns, parts });
        self.recent.retain(|recent| recent.end_ns.saturating_add(SPAN_NS) > end_ns);
        self.find_names();
    }

    /// Names what has none yet, each stack once, and as often as its cost allows.
    fn find_names(&mut self) {
        let is_due = self.looked.is_none_or(|(at, took)| at.elapsed() >= took * NAMES_SHARE);
        let known = &self.folder.model().stacks;
        if !is_due || known.stacks.len() == self.next_unnamed {
            return;
        }
        let began = Instant::now();
        let new = Stacks {
            stacks: known.stacks[self.next_unnamed..].to_vec(),
            files: known.files.clone(),
            ranges: known.ranges.clone(),
            ..Stacks::default()
        };
        let settings = SymbolSettings { is_same_boot: true, ..SymbolSettings::default() };
        let found = symbolize(&new, &self.symbols, &settings, &mut |_, _| {});
        found.chunks().for_each(|chunk| self.symbols.add(&chunk));
        let mut namer = Namer::new(known, &self.symbols);
        for place in self.next_unnamed..known.stacks.len() {
            let index = StackIndex(u32::try_from(place).unwrap_or(u32::MAX));
            if known.stacks[place].is_known() {
                let named = namer.name(index, &mut self.frames);
                self.named.insert(index, named.frames.clone());
            }
        }
        self.next_unnamed = known.stacks.len();
        self.looked = Some((Instant::now(), began.elapsed()));
    }

    /// The graph of a kind over the last windows.
    pub(crate) fn graph(&self, is_off: bool, one_in: u32) -> FlameGraph {
        let kind = usize::from(is_off);
        let mut graph =
            FlameGraph { kind: KINDS[kind].to_owned(), one_in, ..FlameGraph::default() };
        let mut sums: FxHashMap<Key, u64> = FxHashMap::default();
        for recent in &self.recent {
            graph.length_ns += recent.length_ns;
            graph.samples += recent.parts[kind].samples;
            for (key, took_ns) in &recent.parts[kind].took_ns {
                *sums.entry(*key).or_default() += took_ns;
            }
        }
        let mut stacks = ByName::new();
        for (key, took_ns) in sums {
            graph.total_ns = graph.total_ns.saturating_add(took_ns);
            let (names, kernel, has_stack) = self.path(key);
            if !has_stack {
                graph.without_stack_ns = graph.without_stack_ns.saturating_add(took_ns);
            }
            let sum = stacks.entry(names).or_insert((0, kernel));
            sum.0 = sum.0.saturating_add(took_ns);
        }
        graph.nodes = tree(&stacks, graph.total_ns / PARTS);
        graph
    }

    /// Names from the root on, which of them are the kernel's, and whether a stack is known.
    fn path(&self, key: Key) -> (Vec<&str>, Vec<bool>, bool) {
        let mut names = vec![self.frames.get(key.root).name.as_str()];
        let frames = key.stack.and_then(|stack| self.named.get(&stack));
        match (key.is_waiting, key.why) {
            (true, _) => names.push("waiting for a CPU"),
            (false, Some(why)) => names.push(self.reason(why, frames).name()),
            (false, None) => {}
        }
        let mut kernel = vec![false; names.len()];
        match (frames, key.stack) {
            (Some(frames), _) => {
                for frame in frames.iter().map(|frame| self.frames.get(*frame)) {
                    names.push(&frame.name);
                    kernel.push(frame.kind == FrameKind::Kernel);
                }
            }
            (None, Some(_)) => names.push("[not named yet]"),
            (None, None) => names.push("[no stack]"),
        }
        kernel.resize(names.len(), false);
        (names, kernel, key.stack.is_some())
    }

    /// Why a thread was off, by the kernel's functions where its record does not say.
    fn reason(&self, why: OffReason, frames: Option<&Vec<FrameIndex>>) -> OffReason {
        if why != OffReason::Call {
            return why;
        }
        let frames = frames.into_iter().flatten().map(|frame| self.frames.get(*frame));
        let mut kernel = frames.filter(|frame| frame.kind == FrameKind::Kernel);
        kernel.find_map(|frame| reason_of(&frame.name)).unwrap_or(why)
    }
}

fn add_sample(part: &mut Part, root: FrameIndex, sample: &CpuSample) {
    part.samples += 1;
    part.add(Key { root, why: None, is_waiting: false, stack: sample.stack }, sample.period);
}

fn add_off(part: &mut Part, root: FrameIndex, off: &OffCpu) {
    let off_ns = off.end_ns.saturating_sub(off.start_ns);
    let slept_ns = match off.reason {
        OffReason::Preempted => 0,
        _ => off_ns.saturating_sub(off.runq_ns),
    };
    let weight = u64::from(off.weight);
    part.samples += 1;
    let times = [(slept_ns, false), (off_ns.saturating_sub(slept_ns), true)];
    for (ns, is_waiting) in times.into_iter().filter(|(ns, _)| *ns > 0) {
        let key = Key { root, why: Some(off.reason), is_waiting, stack: off.stack };
        part.add(key, ns.saturating_mul(weight));
    }
}

/// Stacks in the order of their names as a tree, without what took less than `least_ns`.
fn tree(stacks: &ByName<'_>, least_ns: u64) -> Vec<FlameNode> {
    let mut nodes: Vec<FlameNode> = Vec::new();
    // The places of the last stack's frames.
    let mut open: Vec<usize> = Vec::new();
    for (path, (took_ns, kernel)) in stacks {
        let is_same = |(place, name): &(&usize, &&str)| nodes[**place].name == **name;
        let common = open.iter().zip(path).take_while(is_same).count();
        open.truncate(common);
        for (name, is_kernel) in path.iter().zip(kernel).skip(common) {
            let depth = u16::try_from(open.len()).unwrap_or(u16::MAX);
            open.push(nodes.len());
            let name = (*name).to_owned();
            nodes.push(FlameNode { depth, name, is_kernel: *is_kernel, total_ns: 0 });
        }
        for place in &open {
            let node = &mut nodes[*place];
            node.total_ns = node.total_ns.saturating_add(*took_ns);
        }
    }
    nodes.retain(|node| node.total_ns >= least_ns.max(1));
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;
    use hz_probes_ebpf::{self as wire, Header};

    fn sample(time_ns: u64, tid: u32, period: u64) -> Event {
        let header = Header { time_ns, tid, pid: 7, ..Header::default() };
        Event::CpuSample(wire::CpuSample { header, period, ..wire::CpuSample::default() })
    }

    fn name(tid: u32) -> Option<String> {
        Some(format!("worker-{tid}"))
    }

    #[test]
    fn a_graph_is_of_the_last_windows_and_a_task_is_a_root() {
        const SECOND: u64 = 1_000_000_000;
        let mut flame = LiveFlame::new(0);
        let polled = |tid: u32, _: u64| (tid == 2).then(|| "checkout".to_owned());
        for second in 1..=30_u64 {
            flame.fold(&sample(second * SECOND - 2, 1, 10_000_000));
            flame.fold(&sample(second * SECOND - 1, 2, 30_000_000));
            flame.close((second * SECOND, SECOND), &name, &polled);
        }
        let graph = flame.graph(false, 1);
        assert_eq!((graph.length_ns, graph.samples), (SPAN_NS, 40));
        let roots: Vec<_> = graph
            .nodes
            .iter()
            .filter(|node| node.depth == 0)
            .map(|node| (node.name.as_str(), node.total_ns))
            .collect();
        assert_eq!(roots, [("checkout", 600_000_000), ("worker-1", 200_000_000)]);
        assert_eq!(graph.total_ns, graph.without_stack_ns);
        assert_eq!(graph.below("worker-1").len(), 2);
        assert!(flame.graph(true, 1).nodes.is_empty());
        assert!(flame.folder.model().stacks.samples.is_empty(), "what was told is let go");
    }

    #[test]
    fn a_frame_has_what_all_that_it_calls_took() {
        let stacks = BTreeMap::from([
            (vec!["a"], (1, vec![false])),
            (vec!["a", "b"], (20, vec![false, false])),
            (vec!["a", "b", "c"], (300, vec![false, false, true])),
            (vec!["d", "b"], (4_000, vec![false, false])),
        ]);
        let nodes = tree(&stacks, 0);
        let shape: Vec<_> =
            nodes.iter().map(|node| (node.depth, node.name.as_str(), node.total_ns)).collect();
        let wanted =
            [(0, "a", 321), (1, "b", 320), (2, "c", 300), (0, "d", 4_000), (1, "b", 4_000)];
        assert_eq!(shape, wanted);
        assert!(nodes[2].is_kernel);
        assert_eq!(tree(&stacks, 1_000).len(), 2);
    }
}
