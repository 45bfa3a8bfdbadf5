//! What tasks did: how long they were polled and what the kernel did meanwhile, how long they were
//! ready before that, where they ran. Every key names its unit.

use super::{
    distribution::{Distribution, distribution},
    joined::{IoWait, SocketWaits, io_waits},
    leaks::{TasksOverTime, tasks_over_time},
    polls::{ClockCheck, KernelTime, kernel_time, tiles_in},
    program::{
        BufferPoolUse, MarkUse, NamedSpans, TaskAllocations, allocations, buffers, marks,
        named_spans,
    },
    slow::{SlowPoll, slow_poll},
    workers::{RuntimeUse, StealSum, WorkerUse, runtimes, steals, workers},
};
use crate::model::{Model, State, TaskIndex, TaskState, TaskTile, ThreadIndex, Why};
use crate::recording::RuntimeProcess;
use rustc_hash::FxHashMap;
use serde::Serialize;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

/// How many of the worst are listed.
const WORST: usize = 10;

/// Polls longer than this are listed unless another limit is asked for, nanoseconds: well above
/// what a poll should take, and below what a user feels.
pub const POLL_OVER_NS: u64 = 10_000_000;

/// What the tasks of all runtimes did.
#[derive(Clone, Debug, Serialize)]
pub struct TaskSummary {
    /// The processes that have them.
    pub runtimes: Vec<RuntimeUse>,
    /// Polls.
    pub polls: Distribution,
    /// What the kernel did with the threads during polls.
    pub in_polls: KernelTime,
    /// From being woken to being polled.
    pub ready_wait: Distribution,
    /// How late timers fired.
    pub timer_lateness: Distribution,
    /// Calls on the blocking pool: from being queued to beginning.
    pub blocking_queue_wait: Distribution,
    /// Calls on the blocking pool: from beginning to end.
    pub blocking_call: Distribution,
    /// Requests by route, the longest together first.
    pub requests: Vec<NamedSpans>,
    /// Spans of the programs' own by name, the longest together first.
    pub user_spans: Vec<NamedSpans>,
    /// Marks of the programs' own by name, the most first.
    pub marks: Vec<MarkUse>,
    /// Waits for files and sockets: first those of which it is known why, then the longest.
    pub io_waits: Vec<IoWait>,
    /// How many tasks lived when, by where they were spawned: first those that grow.
    pub over_time: Vec<TasksOverTime>,
    /// Use of the runtimes' buffer pools.
    pub buffers: Vec<BufferPoolUse>,
    /// Allocations by name of the tasks, the most bytes first.
    pub allocations: Vec<TaskAllocations>,
    /// Tasks of one name together, by time in polls, the first ten.
    pub by_name: Vec<TaskGroup>,
    /// Tasks by time in polls, the first ten.
    pub by_poll_time: Vec<TaskUse>,
    /// Tasks by time ready before polls, the first ten.
    pub by_ready_wait: Vec<TaskUse>,
    /// Tasks by their longest poll, the first ten.
    pub by_longest_poll: Vec<TaskUse>,
    /// What counts as a long poll.
    pub poll_over_ns: u64,
    /// Polls that were longer.
    pub polls_over: u64,
    /// The longest of them, the first ten.
    pub slow_polls: Vec<SlowPoll>,
    /// On which CPUs the tasks of `by_poll_time` were polled.
    pub placement: Vec<Placement>,
    /// Every worker.
    pub workers: Vec<WorkerUse>,
    /// Who took tasks from whom, the most tasks first.
    pub steals: Vec<StealSum>,
    /// Whether the clocks agree.
    pub clock_check: ClockCheck,
}

/// What one task did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TaskUse {
    /// Its number in its process.
    pub task: u64,
    /// Its process.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// Polls, those whose begin was not seen included.
    pub polls: u64,
    /// What the kernel did with its threads during its polls.
    pub in_polls: KernelTime,
    /// Its longest poll.
    pub longest_poll_ns: u64,
    /// Times it was ready before it was polled.
    pub ready_waits: u64,
    /// All of them together.
    pub ready_wait_ns: u64,
    /// The longest.
    pub longest_ready_wait_ns: u64,
    /// Times it went on on another CPU than before.
    pub migrations: u64,
}

/// What tasks of one name did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TaskGroup {
    /// Their process.
    pub pid: u32,
    /// Their name.
    pub name: String,
    /// How many.
    pub tasks: u64,
    /// Polls.
    pub polls: u64,
    /// What the kernel did with their threads during their polls.
    pub in_polls: KernelTime,
    /// The longest poll.
    pub longest_poll_ns: u64,
    /// Time ready before polls.
    pub ready_wait_ns: u64,
    /// The longest.
    pub longest_ready_wait_ns: u64,
    /// Times one went on on another CPU than before.
    pub migrations: u64,
}

/// Where a task was polled.
#[derive(Clone, Debug, Serialize)]
pub struct Placement {
    /// Its number in its process.
    pub task: u64,
    /// Its process.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// Time on each CPU, by number of the CPU.
    pub on_cpu_ns: BTreeMap<u16, u64>,
    /// Times it went on on another CPU than before.
    pub migrations: u64,
}

/// What is summed of one task.
#[derive(Clone, Debug, Default)]
struct Sum {
    used: TaskUse,
    by_cpu: Vec<(u16, u64)>,
    last_cpu: Option<u16>,
}

/// What is summed of all.
#[derive(Debug, Default)]
struct Sums {
    polls_ns: Vec<u64>,
    ready_ns: Vec<u64>,
    in_polls: KernelTime,
    check: ClockCheck,
    over: u64,
    /// The longest polls, the shortest of them on top.
    slow: BinaryHeap<Reverse<(u64, u64, TaskIndex, ThreadIndex)>>,
}

/// Summarizes what tasks did; `None` if no runtime was recorded. Polls longer than `poll_over_ns`
/// are listed.
#[must_use]
pub fn summarize_tasks(model: &Model, poll_over_ns: u64) -> Option<TaskSummary> {
    if model.runtimes.is_empty() {
        return None;
    }
    let mut sums = Sums::default();
    let indexes = (0_u32..).map(TaskIndex).take(model.tasks.len());
    let mut uses: Vec<Sum> =
        indexes.map(|index| sum_of(model, index, poll_over_ns, &mut sums)).collect();
    let slow = std::mem::take(&mut sums.slow).into_sorted_vec();
    let by_poll_time = top(&mut uses, |sum| sum.used.in_polls.total_ns());
    let placement = uses.iter().take(by_poll_time.len()).map(|sum| placement(model, sum)).collect();
    let sockets = SocketWaits::of(model);
    let late = model.runtimes.iter().flat_map(|each| &each.timers);
    let calls = || model.runtimes.iter().flat_map(|each| &each.blocking);
    Some(TaskSummary {
        runtimes: runtimes(model),
        polls: distribution(sums.polls_ns),
        in_polls: sums.in_polls,
        ready_wait: distribution(sums.ready_ns),
        timer_lateness: distribution(late.map(|timer| timer.late_ns).collect()),
        blocking_queue_wait: distribution(
            calls()
                .filter_map(|call| Some(call.start_ns?.saturating_sub(call.queued_ns?)))
                .collect(),
        ),
        blocking_call: distribution(
            calls().filter_map(|call| Some(call.end_ns?.saturating_sub(call.start_ns?))).collect(),
        ),
        requests: named_spans(model, &sockets, |runtime| &runtime.requests),
        user_spans: named_spans(model, &sockets, |runtime| &runtime.user_spans),
        marks: marks(model),
        io_waits: io_waits(model, &sockets),
        over_time: tasks_over_time(model),
        buffers: buffers(model),
        allocations: allocations(model),
        by_name: by_name(&uses),
        by_ready_wait: top(&mut uses, |sum| sum.used.ready_wait_ns),
        by_longest_poll: top(&mut uses, |sum| sum.used.longest_poll_ns),
        by_poll_time,
        poll_over_ns,
        polls_over: sums.over,
        slow_polls: slow.into_iter().map(|Reverse(poll)| slow_poll(model, poll)).collect(),
        placement,
        workers: workers(model),
        steals: steals(model),
        clock_check: sums.check,
    })
}

impl TaskSummary {
    /// Adds what the recording says of the processes beside their records.
    pub fn add_processes(&mut self, processes: &[RuntimeProcess]) {
        for runtime in &mut self.runtimes {
            let process = processes.iter().rev().find(|process| process.pid == runtime.pid);
            runtime.clock_error_ns = process.and_then(|process| process.clock_error_ns);
        }
    }
}

fn sum_of(model: &Model, index: TaskIndex, poll_over_ns: u64, sums: &mut Sums) -> Sum {
    let task = model.task(index);
    let pid = model.runtimes.get(task.runtime as usize).map_or(0, |runtime| runtime.pid);
    let used = TaskUse { task: task.id, pid, ..TaskUse::default() };
    let mut sum = Sum { used, ..Sum::default() };
    for (place, tile) in task.tiles().enumerate() {
        let next = task.spans.get(place + 1).map(|next| next.state);
        match tile.span.state {
            TaskState::Polling => {
                let is_ended = next.is_some_and(|next| next != TaskState::Unknown);
                let slow = sum.poll(model, (&tile, is_ended), sums);
                if slow.0 > poll_over_ns {
                    sums.over += 1;
                    sums.slow.push(Reverse((slow.0, tile.span.start_ns, index, slow.1)));
                }
                if sums.slow.len() > WORST {
                    sums.slow.pop();
                }
            }
            // A wait whose begin was not seen was longer than it looks.
            TaskState::Ready if next == Some(TaskState::Polling) && is_whole(&tile) => {
                let ready_ns = tile.duration_ns();
                sum.used.ready_waits += 1;
                sum.used.ready_wait_ns += ready_ns;
                sum.used.longest_ready_wait_ns = sum.used.longest_ready_wait_ns.max(ready_ns);
                sums.ready_ns.push(ready_ns);
            }
            _ => {}
        }
    }
    sum.used.name = model.task_name(index);
    sum
}

/// Whether it is known when a wait began.
fn is_whole(tile: &TaskTile) -> bool {
    tile.span.why != Why::Unknown
}

impl Sum {
    /// Adds a poll; gives back its length and its thread.
    fn poll(
        &mut self,
        model: &Model,
        (tile, is_ended): (&TaskTile, bool),
        sums: &mut Sums,
    ) -> (u64, ThreadIndex) {
        let index = tile.span.thread().unwrap_or(ThreadIndex(0));
        let thread = model.thread(index);
        let time = kernel_time(thread, tile.span.start_ns, tile.end_ns);
        let poll_ns = tile.duration_ns();
        self.used.polls += 1;
        self.used.in_polls.add(&time);
        self.used.longest_poll_ns = self.used.longest_poll_ns.max(poll_ns);
        sums.in_polls.add(&time);
        sums.polls_ns.push(poll_ns);
        sums.check.poll(thread, tile, is_ended);
        let running = tiles_in(thread, tile.span.start_ns, tile.end_ns)
            .filter(|tile| tile.span.state == State::Running);
        for run in running {
            let cpu = run.span.cpu;
            self.used.migrations += u64::from(self.last_cpu.is_some_and(|last| last != cpu));
            self.last_cpu = Some(cpu);
            match self.by_cpu.iter_mut().find(|(each, _)| *each == cpu) {
                Some((_, ns)) => *ns += run.duration_ns(),
                None => self.by_cpu.push((cpu, run.duration_ns())),
            }
        }
        (poll_ns, index)
    }
}

/// Sorts by `key`, the highest first, and gives back the first ten that have any.
fn top(uses: &mut [Sum], key: fn(&Sum) -> u64) -> Vec<TaskUse> {
    uses.sort_by_key(|sum| (Reverse(key(sum)), sum.used.pid, sum.used.task));
    uses.iter().take(WORST).filter(|sum| key(sum) > 0).map(|sum| sum.used.clone()).collect()
}

fn placement(model: &Model, sum: &Sum) -> Placement {
    let mut on_cpu_ns: BTreeMap<u16, u64> = model.cpus.iter().map(|cpu| (cpu.id, 0)).collect();
    on_cpu_ns.extend(sum.by_cpu.iter().copied());
    let TaskUse { task, pid, name, migrations, .. } = sum.used.clone();
    Placement { task, pid, name, on_cpu_ns, migrations }
}

fn by_name(uses: &[Sum]) -> Vec<TaskGroup> {
    let mut groups: FxHashMap<(u32, &str), TaskGroup> = FxHashMap::default();
    for Sum { used, .. } in uses {
        let group = groups.entry((used.pid, &used.name)).or_insert_with(|| TaskGroup {
            pid: used.pid,
            name: used.name.clone(),
            ..TaskGroup::default()
        });
        group.tasks += 1;
        group.polls += used.polls;
        group.in_polls.add(&used.in_polls);
        group.longest_poll_ns = group.longest_poll_ns.max(used.longest_poll_ns);
        group.ready_wait_ns += used.ready_wait_ns;
        group.longest_ready_wait_ns = group.longest_ready_wait_ns.max(used.longest_ready_wait_ns);
        group.migrations += used.migrations;
    }
    let mut groups: Vec<TaskGroup> = groups.into_values().collect();
    groups.sort_by(|a, b| {
        let key = |group: &TaskGroup| (Reverse(group.in_polls.total_ns()), group.pid);
        key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
    });
    groups.truncate(WORST);
    groups
}
