//! The workers of runtimes: how evenly they share the work, and what was not told of it.

use super::polls::{KernelTime, kernel_time};
use crate::model::{Depth, Model, Runtime, Task, TaskState, Thread, ThreadIndex, Worker};
use hz_probes_ebpf::Kind;
use rustc_hash::FxHashMap;
use serde::Serialize;
use std::collections::BTreeMap;

/// A process with a runtime.
#[derive(Clone, Debug, Serialize)]
pub struct RuntimeUse {
    /// Its id.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// Workers that were seen.
    pub workers: usize,
    /// Tasks that were seen.
    pub tasks: usize,
    /// Events that were overwritten before they were read.
    pub lost: u64,
    /// How often, and so how many gaps there are.
    pub losses: usize,
    /// Records that do not fit the ones before.
    pub contradictions: u64,
    /// By how much its clock may differ from the kernel's, as it says, in nanoseconds; `None`: it
    /// does not say.
    pub clock_error_ns: Option<u64>,
    /// Kinds of events that it does not tell, or was not asked for.
    pub not_collected: Vec<&'static str>,
}

/// What one worker did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct WorkerUse {
    /// Its process.
    pub pid: u32,
    /// Its number.
    pub worker: u32,
    /// Its thread.
    pub tid: Option<u32>,
    /// Polls.
    pub polls: u64,
    /// What the kernel did with its thread during polls.
    pub in_polls: KernelTime,
    /// Times it found nothing to do.
    pub parks: u64,
    /// How long it had nothing to do.
    pub parked_ns: u64,
    /// Tasks it took from others.
    pub stole: u64,
    /// Tasks others took from it.
    pub stolen: u64,
    /// The most tasks that waited in its queues.
    pub deepest_queue: u32,
}

/// Tasks that one worker took from another.
#[derive(Clone, Debug, Serialize)]
pub struct StealSum {
    /// Their process.
    pub pid: u32,
    /// Worker they were taken from.
    pub from: u32,
    /// Worker that took them.
    pub to: u32,
    /// How often.
    pub steals: u64,
    /// How many.
    pub tasks: u64,
}

pub(super) fn runtimes(model: &Model) -> Vec<RuntimeUse> {
    let mut tasks = vec![0; model.runtimes.len()];
    for task in &model.tasks {
        if let Some(count) = tasks.get_mut(task.runtime as usize) {
            *count += 1;
        }
    }
    let uses = model.runtimes.iter().zip(tasks).map(|(runtime, tasks)| RuntimeUse {
        pid: runtime.pid,
        name: process_name(model, runtime.pid),
        workers: runtime.workers.len(),
        tasks,
        lost: runtime.lost.iter().fold(0, |sum, loss| sum.saturating_add(loss.count)),
        losses: runtime.lost.len(),
        contradictions: runtime.contradictions,
        clock_error_ns: None,
        not_collected: not_collected(runtime),
    });
    uses.collect()
}

fn process_name(model: &Model, pid: u32) -> String {
    let mut threads = model.threads.iter().filter(|thread| thread.pid == pid);
    let first = threads.clone().find(|thread| thread.tid == pid).or_else(|| threads.next());
    first.map_or_else(|| format!("process {pid}"), Thread::name)
}

fn not_collected(runtime: &Runtime) -> Vec<&'static str> {
    let kinds = Kind::ALL.iter().filter(|kind| kind.is_runtime_event());
    kinds.filter(|kind| !runtime.collects(**kind)).map(|kind| kind.tag()).collect()
}

pub(super) fn workers(model: &Model) -> Vec<WorkerUse> {
    let mut polls: FxHashMap<ThreadIndex, (u64, KernelTime)> = FxHashMap::default();
    let tiles = model.tasks.iter().flat_map(Task::tiles);
    for tile in tiles.filter(|tile| tile.span.state == TaskState::Polling) {
        let Some(thread) = tile.span.thread() else { continue };
        let (count, time) = polls.entry(thread).or_default();
        *count += 1;
        time.add(&kernel_time(model.thread(thread), tile.span.start_ns, tile.end_ns));
    }
    let of = |runtime: &Runtime, worker: &Worker| {
        let mut used =
            WorkerUse { pid: runtime.pid, worker: worker.number, ..WorkerUse::default() };
        for thread in &worker.threads {
            used.tid = Some(model.thread(*thread).tid);
            if let Some((count, time)) = polls.get(thread) {
                used.polls += count;
                used.in_polls.add(time);
            }
        }
        used.parks = worker.parks.len() as u64;
        // A process may say any time.
        let parked = worker.parks.iter().map(|park| {
            let end_ns = park.end_ns.map_or(model.end_ns, |end_ns| end_ns.min(model.end_ns));
            end_ns.saturating_sub(park.start_ns)
        });
        used.parked_ns = parked.fold(0, u64::saturating_add);
        used.deepest_queue = worker.depths.iter().map(Depth::total).max().unwrap_or(0);
        let sum = |is_its: &dyn Fn(u32, u32) -> bool| {
            let its = runtime.steals.iter().filter(|steal| is_its(steal.from, steal.to));
            its.fold(0, |sum: u64, steal| sum.saturating_add(steal.count))
        };
        used.stole = sum(&|_, to| to == worker.number);
        used.stolen = sum(&|from, _| from == worker.number);
        used
    };
    let uses = model
        .runtimes
        .iter()
        .flat_map(|runtime| runtime.workers.iter().map(move |worker| (runtime, worker)));
    uses.map(|(runtime, worker)| of(runtime, worker)).collect()
}

pub(super) fn steals(model: &Model) -> Vec<StealSum> {
    let mut sums: BTreeMap<(u32, u32, u32), (u64, u64)> = BTreeMap::new();
    for runtime in &model.runtimes {
        for steal in &runtime.steals {
            let (steals, tasks) = sums.entry((runtime.pid, steal.from, steal.to)).or_default();
            *steals += 1;
            *tasks = tasks.saturating_add(steal.count);
        }
    }
    let rows = sums.into_iter();
    let mut rows: Vec<StealSum> = rows
        .map(|((pid, from, to), (steals, tasks))| StealSum { pid, from, to, steals, tasks })
        .collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.tasks));
    rows
}
