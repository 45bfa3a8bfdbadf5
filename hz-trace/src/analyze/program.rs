//! What programs say they do, and where the time of it went: requests, spans, marks, buffers,
//! allocations.

use super::{
    distribution::{Distribution, distribution},
    joined::{SocketCause, SocketWaits},
    polls::{KernelTime, kernel_time},
};
use crate::model::{BufferUse, Model, Runtime, TaskIndex, TaskState, TaskTile, UserSpan, Why};
use rustc_hash::FxHashMap;
use serde::Serialize;
use std::{cmp::Reverse, collections::BTreeMap};

/// How many of the worst are listed.
const WORST: usize = 10;

/// Requests of one route, or spans of one name.
#[derive(Clone, Debug, Serialize)]
pub struct NamedSpans {
    /// The route or name.
    pub name: String,
    /// Those that ended.
    pub duration: Distribution,
    /// Those whose end was not seen.
    pub unfinished: u64,
    /// Where the time of those that ended went, by what the task they began in did meanwhile.
    pub spent: Spent,
    /// The longest that ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slowest: Option<Slowest>,
}

/// The longest of some requests or spans.
#[derive(Clone, Debug, Serialize)]
pub struct Slowest {
    /// Its number in its process.
    pub id: u64,
    /// Its process.
    pub pid: u32,
    /// The number of the task in which it began, if in one.
    pub task: Option<u64>,
    /// When, since the recording began.
    pub start_ns: u64,
    /// How long it took.
    pub duration_ns: u64,
    /// Where its time went.
    pub spent: Spent,
}

/// Where time of a task went; the parts sum to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Spent {
    /// In polls, and what the kernel did with their threads meanwhile.
    pub in_polls: KernelTime,
    /// In a queue of the runtime.
    pub ready_ns: u64,
    /// Idle.
    pub idle_ns: u64,
    /// Idle on what, the longest first; it sums to `idle_ns`.
    pub idle: Vec<IdleOn>,
    /// Not known: what was not recorded, or was in no task.
    pub not_recorded_ns: u64,
}

/// Time a task was idle for one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IdleOn {
    /// On what.
    pub on: String,
    /// How long.
    pub idle_ns: u64,
}

/// On what a task was idle.
type On = (Why, Option<(super::SocketWaitKind, bool)>);

/// [`Spent`] while it is summed.
#[derive(Clone, Debug, Default)]
struct Spending {
    in_polls: KernelTime,
    ready_ns: u64,
    idle: FxHashMap<On, u64>,
    not_recorded_ns: u64,
}

impl Spending {
    /// Adds what the task of a span did while it lasted.
    fn add(&mut self, model: &Model, sockets: &SocketWaits, (span, end_ns): (&UserSpan, u64)) {
        let mut known_ns = 0;
        if let Some(task) = span.task {
            let task = model.task(task);
            let first = task.spans.partition_point(|each| each.start_ns <= span.start_ns);
            for place in first.saturating_sub(1)..task.spans.len() {
                let mut tile = task.tile(place);
                if tile.span.start_ns >= end_ns {
                    break;
                }
                tile.span.start_ns = tile.span.start_ns.max(span.start_ns);
                tile.end_ns = tile.end_ns.min(end_ns);
                if tile.span.start_ns < tile.end_ns && self.tile(model, sockets, &tile) {
                    known_ns += tile.duration_ns();
                }
            }
        }
        self.not_recorded_ns += (end_ns - span.start_ns).saturating_sub(known_ns);
    }

    /// Adds a tile; gives back whether it is known what the task did in it.
    fn tile(&mut self, model: &Model, sockets: &SocketWaits, tile: &TaskTile) -> bool {
        match (tile.span.state, tile.span.thread()) {
            (TaskState::Polling, Some(thread)) => {
                let thread = model.thread(thread);
                self.in_polls.add(&kernel_time(thread, tile.span.start_ns, tile.end_ns));
            }
            (TaskState::Ready, _) => self.ready_ns += tile.duration_ns(),
            (TaskState::Idle, _) => self.idle(tile, sockets.why(model, tile)),
            _ => return false,
        }
        true
    }

    /// Splits an idle time by what the socket waited for; what overlaps counts for the longer.
    fn idle(&mut self, tile: &TaskTile, known: Option<super::SocketIdle>) {
        let mut left_ns = tile.duration_ns();
        for SocketCause { kind, is_peers, duration_ns } in
            known.into_iter().flat_map(|it| it.causes)
        {
            let part_ns = duration_ns.min(left_ns);
            *self.idle.entry((tile.span.why, Some((kind, is_peers)))).or_default() += part_ns;
            left_ns -= part_ns;
        }
        *self.idle.entry((tile.span.why, None)).or_default() += left_ns;
    }

    fn spent(self) -> Spent {
        let words = |((why, cause), idle_ns): (On, u64)| {
            let on = match cause {
                Some((kind, is_peers)) => {
                    let cause = SocketCause { kind, is_peers, duration_ns: idle_ns };
                    format!("{}: {}", idle_words(why), cause.words())
                }
                None => idle_words(why).to_owned(),
            };
            IdleOn { on, idle_ns }
        };
        let mut idle: Vec<IdleOn> =
            self.idle.into_iter().filter(|(_, ns)| *ns > 0).map(words).collect();
        idle.sort_by(|a, b| b.idle_ns.cmp(&a.idle_ns).then_with(|| a.on.cmp(&b.on)));
        Spent {
            in_polls: self.in_polls,
            ready_ns: self.ready_ns,
            idle_ns: idle.iter().map(|each| each.idle_ns).sum(),
            idle,
            not_recorded_ns: self.not_recorded_ns,
        }
    }
}

/// What a task was idle on, as the end of "idle on …".
#[must_use]
pub const fn idle_words(why: Why) -> &'static str {
    match why {
        Why::File => "a file",
        Why::Read => "reading",
        Why::Write => "writing",
        Why::Accept => "accepting",
        Why::Connect => "connecting",
        Why::Timer => "a timer",
        Why::Channel => "a channel",
        Why::Lock => "a lock",
        Why::Cancel => "a cancellation",
        Why::Join => "another task",
        Why::Blocking => "the blocking pool",
        Why::Buffer => "a buffer",
        _ => "something unknown",
    }
}

/// What is summed of one name.
#[derive(Debug, Default)]
struct Sum {
    durations_ns: Vec<u64>,
    unfinished: u64,
    spending: Spending,
    slowest: Option<(u32, UserSpan, u64)>,
}

/// Requests by route or spans by name, the longest together first, the first ten.
pub(super) fn named_spans(
    model: &Model,
    sockets: &SocketWaits,
    of: fn(&Runtime) -> &Vec<UserSpan>,
) -> Vec<NamedSpans> {
    let mut names: BTreeMap<&str, Sum> = BTreeMap::new();
    for runtime in &model.runtimes {
        for span in of(runtime) {
            let sum = names.entry(runtime.text(span.text).unwrap_or("?")).or_default();
            let Some(end_ns) = span.end_ns else {
                sum.unfinished += 1;
                continue;
            };
            let duration_ns = end_ns.saturating_sub(span.start_ns);
            sum.durations_ns.push(duration_ns);
            sum.spending.add(model, sockets, (span, end_ns.max(span.start_ns)));
            if sum.slowest.as_ref().is_none_or(|(_, _, longest_ns)| duration_ns > *longest_ns) {
                sum.slowest = Some((runtime.pid, *span, duration_ns));
            }
        }
    }
    let rows = names.into_iter().map(|(name, sum)| NamedSpans {
        name: name.to_owned(),
        duration: distribution(sum.durations_ns),
        unfinished: sum.unfinished,
        spent: sum.spending.spent(),
        slowest: sum.slowest.map(|slowest| self::slowest(model, sockets, slowest)),
    });
    let mut rows: Vec<NamedSpans> = rows.collect();
    rows.sort_by_key(|row| Reverse(row.duration.total_ns));
    rows.truncate(WORST);
    rows
}

fn slowest(
    model: &Model,
    sockets: &SocketWaits,
    (pid, span, duration_ns): (u32, UserSpan, u64),
) -> Slowest {
    let mut spending = Spending::default();
    spending.add(model, sockets, (&span, span.start_ns + duration_ns));
    Slowest {
        id: span.id,
        pid,
        task: span.task.map(|task| model.task(task).id),
        start_ns: span.start_ns.saturating_sub(model.start_ns),
        duration_ns,
        spent: spending.spent(),
    }
}

/// Marks of one name.
#[derive(Clone, Debug, Serialize)]
pub struct MarkUse {
    /// The name.
    pub name: String,
    /// How many.
    pub count: u64,
    /// What the program said with the last.
    pub last_value: u64,
    /// When that was, since the recording began.
    pub last_ns: u64,
}

/// Marks by name, the most first, the first ten.
pub(super) fn marks(model: &Model) -> Vec<MarkUse> {
    let mut names: BTreeMap<&str, MarkUse> = BTreeMap::new();
    for runtime in &model.runtimes {
        for mark in &runtime.marks {
            let name = runtime.text(mark.text).unwrap_or("?");
            let row = names.entry(name).or_insert_with(|| MarkUse {
                name: name.to_owned(),
                count: 0,
                last_value: 0,
                last_ns: 0,
            });
            row.count += 1;
            row.last_value = mark.value;
            row.last_ns = mark.time_ns.saturating_sub(model.start_ns);
        }
    }
    let mut rows: Vec<MarkUse> = names.into_values().collect();
    rows.sort_by_key(|row| Reverse(row.count));
    rows.truncate(WORST);
    rows
}

/// What a program took from its runtime's buffer pool.
#[derive(Clone, Debug, Serialize)]
pub struct BufferPoolUse {
    /// Its process.
    pub pid: u32,
    /// Buffers that were taken.
    pub taken: u64,
    /// Their sizes together.
    pub taken_bytes: u64,
    /// The most that were out at once, of those that were taken in the recording.
    pub most_out: u64,
    /// The most bytes that were.
    pub most_out_bytes: u64,
    /// Buffers that were out when the recording ended.
    pub out_at_end: u64,
    /// How long those were out that came back.
    pub held: Distribution,
    /// How long tasks were idle until they got one.
    pub waits: Distribution,
    /// Buffers by the size in bytes of the pages they are on.
    pub by_page_bytes: BTreeMap<u64, u64>,
}

/// The use of every pool of which something was recorded.
pub(super) fn buffers(model: &Model) -> Vec<BufferPoolUse> {
    let mut waits_ns: FxHashMap<u32, Vec<u64>> = FxHashMap::default();
    for task in &model.tasks {
        let idle = task
            .tiles()
            .filter(|tile| (tile.span.state, tile.span.why) == (TaskState::Idle, Why::Buffer));
        let waits = idle.map(|tile| tile.duration_ns()).collect::<Vec<_>>();
        if !waits.is_empty() {
            waits_ns.entry(task.runtime).or_default().extend(waits);
        }
    }
    let runtimes = (0_u32..).zip(&model.runtimes);
    let uses = runtimes.filter_map(|(number, runtime)| {
        let waits = distribution(waits_ns.remove(&number).unwrap_or_default());
        let is_there = !runtime.buffers.is_empty() || waits.count > 0;
        is_there.then(|| pool_use(runtime, waits))
    });
    uses.collect()
}

fn pool_use(runtime: &Runtime, waits: Distribution) -> BufferPoolUse {
    let buffers = &runtime.buffers;
    let mut by_page_bytes = BTreeMap::new();
    for buffer in buffers {
        *by_page_bytes
            .entry(1_u64.checked_shl(buffer.page_log2.into()).unwrap_or(0))
            .or_default() += 1;
    }
    let (most_out, most_out_bytes) = most_out(buffers);
    let held_ns = |buffer: &BufferUse| Some(buffer.returned_ns?.saturating_sub(buffer.taken_ns));
    BufferPoolUse {
        pid: runtime.pid,
        taken: buffers.len() as u64,
        taken_bytes: buffers.iter().map(|buffer| u64::from(buffer.bytes)).sum(),
        most_out,
        most_out_bytes,
        out_at_end: buffers.iter().filter(|buffer| buffer.returned_ns.is_none()).count() as u64,
        held: distribution(buffers.iter().filter_map(held_ns).collect()),
        waits,
        by_page_bytes,
    }
}

/// The most buffers, and the most bytes, that were out at once.
fn most_out(buffers: &[BufferUse]) -> (u64, u64) {
    let mut changes: Vec<(u64, i64, i64)> = Vec::with_capacity(buffers.len() * 2);
    for buffer in buffers {
        let bytes = i64::from(buffer.bytes);
        changes.push((buffer.taken_ns, 1, bytes));
        changes.extend(buffer.returned_ns.map(|time_ns| (time_ns, -1, -bytes)));
    }
    // What comes back at a moment is not out together with what is taken then.
    changes.sort_unstable();
    let (mut out, mut bytes, mut most, mut most_bytes) = (0, 0, 0, 0);
    for (_, count, size) in changes {
        out += count;
        bytes += size;
        most = most.max(out);
        most_bytes = most_bytes.max(bytes);
    }
    (u64::try_from(most).unwrap_or(0), u64::try_from(most_bytes).unwrap_or(0))
}

/// What tasks of one name allocated, as the sampled allocations say.
#[derive(Clone, Debug, Serialize)]
pub struct TaskAllocations {
    /// Their process.
    pub pid: u32,
    /// Their name; `None`: outside of tasks.
    pub name: Option<String>,
    /// Allocations that were sampled.
    pub samples: u64,
    /// Bytes that were allocated, an unbiased estimate.
    pub allocated_bytes: u64,
    /// Bytes of them that were not freed when the recording ended, an unbiased estimate.
    pub live_bytes: u64,
}

/// Allocations by name of the tasks, the most bytes first, the first ten.
pub(super) fn allocations(model: &Model) -> Vec<TaskAllocations> {
    let mut by_task: FxHashMap<(u32, Option<TaskIndex>), (u64, f64, f64)> = FxHashMap::default();
    for each in &model.stacks.allocations {
        let key = (model.thread(each.thread).pid, each.task);
        let (samples, bytes, live) = by_task.entry(key).or_default();
        *samples += 1;
        *bytes += each.weight_bytes;
        *live += if each.freed_ns.is_none() { each.weight_bytes } else { 0.0 };
    }
    let mut rows: BTreeMap<(u32, Option<String>), (u64, f64, f64)> = BTreeMap::new();
    for ((pid, task), (samples, bytes, live)) in by_task {
        let row = rows.entry((pid, task.map(|task| model.task_name(task)))).or_default();
        row.0 += samples;
        row.1 += bytes;
        row.2 += live;
    }
    let rows = rows.into_iter().map(|((pid, name), (samples, bytes, live))| TaskAllocations {
        pid,
        name,
        samples,
        allocated_bytes: bytes as u64,
        live_bytes: live as u64,
    });
    let mut rows: Vec<TaskAllocations> = rows.collect();
    rows.sort_by_key(|row| Reverse(row.allocated_bytes));
    rows.truncate(WORST);
    rows
}
