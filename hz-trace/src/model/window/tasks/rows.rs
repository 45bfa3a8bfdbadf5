//! Tasks as they are shown.

use super::{ROWS_MAX, TaskFolder, now::TaskNow};
use crate::{
    model::window::{Histogram, ThreadRow},
    text,
};
use hz_probes_ebpf::runtime::{
    NO_WORKER, TASK_DONE, TASK_IDLE, TASK_POLLING, TASK_READY, WAIT_ACCEPT, WAIT_BLOCKING,
    WAIT_BUFFER, WAIT_CHANNEL, WAIT_CONNECT, WAIT_JOIN, WAIT_LOCK, WAIT_READ, WAIT_TIMER,
    WAIT_WRITE,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A poll that took long.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LongPoll {
    /// How long, so far if it is not over.
    pub poll_ns: u64,
    /// Begin, nanoseconds of `CLOCK_MONOTONIC`.
    pub begin_ns: u64,
    /// End; that of the window if it is not over.
    pub end_ns: u64,
    /// Whether it is over.
    pub is_over: bool,
    /// The task.
    pub task: u64,
    /// Its name, if the poll took a millisecond.
    pub name: String,
    /// Process.
    pub pid: u32,
    /// Thread that polled.
    pub tid: u32,
    /// Worker that this thread is.
    pub worker: u32,
}

/// A wait of a task for a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LongReady {
    /// How long, so far if it is not over.
    pub ready_ns: u64,
    /// When the task was polled, nanoseconds of `CLOCK_MONOTONIC`; 0: not yet.
    pub end_ns: u64,
    /// The task.
    pub task: u64,
    /// Worker that polled it then, or that is in the way.
    pub worker: u32,
    /// What that worker did meanwhile, if it was one poll of a millisecond or more.
    pub blame: Option<LongPoll>,
}

/// Tasks of one name that were spawned at one place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupRow {
    /// Process.
    pub pid: u32,
    /// Its name.
    pub process: String,
    /// Name of the tasks.
    pub name: String,
    /// Where they were spawned: file and line.
    pub spawned_at: String,
    /// How many live.
    pub alive: u64,
    /// How many of them are ready to be polled.
    pub ready_now: u64,
    /// How many of them are being polled.
    pub polling_now: u64,
    /// What most of those that wait wait for.
    pub waits_for: String,
    /// How many wait for a buffer of the pool.
    pub waits_for_buffer: u64,
    /// Tasks spawned.
    pub spawned: u64,
    /// Tasks that ended.
    pub ended: u64,
    /// Polls that ended.
    pub polls: u64,
    /// Time in polls.
    pub busy_ns: u64,
    /// Time ready and not polled, of all of them together.
    pub ready_ns: u64,
    /// Waits for a worker that ended here.
    pub ready: Histogram,
    /// The longest poll, over or not.
    pub longest_poll: Option<LongPoll>,
    /// The longest wait for a worker, over or not.
    pub longest_ready: Option<LongReady>,
    /// Time in polls by place, as far as the workers' places are known: their time there, shared out.
    pub place_ns: Vec<u64>,
    /// Age of the oldest.
    pub oldest_ns: u64,
}

/// One task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskRow {
    /// Process.
    pub pid: u32,
    /// Its number there.
    pub task: u64,
    /// Its name.
    pub name: String,
    /// Where it was spawned: file and line.
    pub spawned_at: String,
    /// `idle`, `ready`, `polling` or `done`.
    pub state: String,
    /// For how long, 0: not known.
    pub state_ns: u64,
    /// What it waits for.
    pub waits_for: String,
    /// Cookie of the socket that it waits for, 0: none.
    pub cookie: u64,
    /// Worker that polls it or polled it last.
    pub worker: Option<u32>,
    /// Since it was spawned, 0: not known.
    pub age_ns: u64,
    /// Polls since it was spawned, as far as known.
    pub polls_total: u64,
    /// Polls in the window.
    pub polls: u64,
    /// Time in polls in the window.
    pub busy_ns: u64,
    /// Time ready and not polled in the window.
    pub ready_ns: u64,
    /// Its longest wait for a worker.
    pub longest_ready_ns: u64,
    /// Its longest poll.
    pub longest_poll_ns: u64,
}

impl TaskRow {
    /// What makes it remarkable.
    pub(in crate::model::window) fn weight_ns(&self) -> u64 {
        self.busy_ns + self.ready_ns + self.longest_ready_ns + self.longest_poll_ns
    }
}

/// A worker of a runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkerRow {
    /// Its number.
    pub worker: u32,
    /// Its thread.
    pub tid: u32,
    /// Tasks in its queues, by priority, the highest first.
    pub depth: [u16; 4],
    /// Task that it polls.
    pub polling: Option<u64>,
    /// For how long.
    pub polling_ns: u64,
    /// Time in polls.
    pub busy_ns: u64,
    /// Polls that ended.
    pub polls: u64,
    /// Tasks that it took from others.
    pub steals: u64,
}

/// A process with tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuntimeRow {
    /// Process.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// Its workers.
    pub workers: Vec<WorkerRow>,
    /// Tasks in the queue that all share, by priority.
    pub injector: [u16; 4],
    /// Records of it that were overwritten before they were read.
    pub lost: u64,
}

/// A task's state, as people say it.
const fn state_word(state: u32) -> &'static str {
    match state {
        TASK_IDLE => "idle",
        TASK_READY => "ready",
        TASK_POLLING => "polling",
        TASK_DONE => "done",
        _ => "?",
    }
}

/// What a task waits for, as people say it.
fn wait_word((kind, argument, value): (u32, u32, u64), now_ns: u64) -> String {
    match kind {
        WAIT_READ => format!("read fd {argument}"),
        WAIT_WRITE => format!("write fd {argument}"),
        WAIT_ACCEPT => format!("accept fd {argument}"),
        WAIT_CONNECT => format!("connect fd {argument}"),
        WAIT_TIMER => format!("timer in {}", text::duration(value.saturating_sub(now_ns))),
        WAIT_CHANNEL => format!("channel {value:#x}"),
        WAIT_LOCK => format!("lock {value:#x}"),
        WAIT_JOIN => format!("task {value}"),
        WAIT_BLOCKING => "blocking pool".to_owned(),
        WAIT_BUFFER => "buffer".to_owned(),
        _ => String::new(),
    }
}

/// The kind of a wait, for many tasks together.
const fn wait_kind(kind: u32) -> &'static str {
    match kind {
        WAIT_READ => "read",
        WAIT_WRITE => "write",
        WAIT_ACCEPT => "accept",
        WAIT_CONNECT => "connect",
        WAIT_TIMER => "timer",
        WAIT_CHANNEL => "channel",
        WAIT_LOCK => "lock",
        WAIT_JOIN => "join",
        WAIT_BLOCKING => "blocking pool",
        WAIT_BUFFER => "buffer",
        _ => "",
    }
}

/// Tasks of a group, counted.
#[derive(Default)]
struct Census {
    alive: u64,
    ready: u64,
    polling: u64,
    oldest_ns: u64,
    waits: BTreeMap<u32, u64>,
}

impl TaskFolder {
    /// Name and place of spawn of a group.
    pub(super) fn group_name(&self, group: u32) -> (String, String) {
        let (runtime, name, site) = self.groups[group as usize].key;
        let runtime = &self.runtimes[runtime as usize];
        let site = runtime.sites.get(&site);
        let place = site.map_or_else(String::new, |site| {
            format!("{}:{}", runtime.text(site.file).unwrap_or("?"), site.line)
        });
        let own = runtime.text(name).or_else(|| runtime.text(site?.name)).map(str::to_owned);
        let short = || {
            let tail = place.rmatch_indices('/').nth(1).map_or(0, |(at, _)| at + 1);
            if place.is_empty() { "not known yet".to_owned() } else { place[tail..].to_owned() }
        };
        (text::showable(&own.unwrap_or_else(short)), text::showable(&place))
    }

    pub(super) fn runtime_rows(&self, end_ns: u64) -> Vec<RuntimeRow> {
        let runtimes = self.runtimes.iter().filter(|runtime| !runtime.is_gone);
        let rows = runtimes.map(|runtime| {
            let mut workers: Vec<WorkerRow> = runtime
                .workers
                .iter()
                .map(|worker| WorkerRow {
                    worker: worker.number,
                    tid: worker.tid,
                    depth: worker.depth,
                    polling: worker.polling.map(|(task, _)| task),
                    polling_ns: worker.polling.map_or(0, |(_, begin)| end_ns.saturating_sub(begin)),
                    busy_ns: worker.busy_ns,
                    polls: worker.polls,
                    steals: worker.steals,
                })
                .collect();
            workers.sort_by_key(|worker| worker.worker);
            RuntimeRow {
                pid: runtime.pid,
                name: runtime.name.clone(),
                workers,
                injector: runtime.injector,
                lost: runtime.lost,
            }
        });
        rows.collect()
    }

    pub(super) fn group_rows(&self, threads: &[ThreadRow]) -> Vec<GroupRow> {
        let mut census: Vec<Census> = self.groups.iter().map(|_| Census::default()).collect();
        for task in self.tasks.values().filter(|task| task.state != TASK_DONE) {
            let group = &mut census[task.group as usize];
            group.alive += 1;
            group.ready += u64::from(task.state == TASK_READY);
            group.polling += u64::from(task.state == TASK_POLLING);
            group.oldest_ns = group.oldest_ns.max(self.age_ns(task));
            if task.state == TASK_IDLE {
                *group.waits.entry(task.waits.0).or_default() += 1;
            }
        }
        let mut rows = Vec::new();
        for ((number, group), census) in (0..).zip(&self.groups).zip(census) {
            if census.alive == 0 && group.polls == 0 && group.spawned == 0 {
                continue;
            }
            let runtime = &self.runtimes[group.key.0 as usize];
            let (name, spawned_at) = self.group_name(number);
            let common = census.waits.iter().max_by_key(|(_, count)| **count);
            rows.push(GroupRow {
                pid: runtime.pid,
                process: runtime.name.clone(),
                name,
                spawned_at,
                alive: census.alive,
                ready_now: census.ready,
                polling_now: census.polling,
                waits_for: common.map_or("", |(kind, _)| wait_kind(*kind)).to_owned(),
                waits_for_buffer: census.waits.get(&WAIT_BUFFER).copied().unwrap_or(0),
                spawned: group.spawned,
                ended: group.ended,
                polls: group.polls,
                busy_ns: group.busy_ns,
                ready_ns: group.ready_ns,
                ready: group.ready.clone(),
                longest_poll: group.longest_poll.clone(),
                longest_ready: group.longest_ready.clone(),
                place_ns: place(&group.by_tid, threads),
                oldest_ns: census.oldest_ns,
            });
        }
        rows
    }

    fn age_ns(&self, task: &TaskNow) -> u64 {
        if task.spawned_ns == 0 { 0 } else { self.now_ns.saturating_sub(task.spawned_ns) }
    }

    pub(super) fn task_rows(&self, end_ns: u64) -> Vec<TaskRow> {
        let names: Vec<(String, String)> =
            (0..).zip(&self.groups).map(|(number, _)| self.group_name(number)).collect();
        let tasks = self.tasks.iter().filter(|(_, task)| task.state != TASK_DONE);
        let rows = tasks.map(|((runtime, id), task)| {
            let is_fresh = task.is_fresh(self.epoch);
            let fresh = |value: u64| if is_fresh { value } else { 0 };
            let (name, spawned_at) = names[task.group as usize].clone();
            let is_idle = task.state == TASK_IDLE;
            let is_file =
                matches!(task.waits.0, WAIT_READ | WAIT_WRITE | WAIT_ACCEPT | WAIT_CONNECT);
            TaskRow {
                pid: self.runtimes[*runtime as usize].pid,
                task: *id,
                name,
                spawned_at,
                state: state_word(task.state).to_owned(),
                state_ns: if task.since_ns == 0 { 0 } else { end_ns.saturating_sub(task.since_ns) },
                waits_for: if is_idle { wait_word(task.waits, end_ns) } else { String::new() },
                cookie: if is_idle && is_file { task.waits.2 } else { 0 },
                worker: (task.worker != NO_WORKER).then_some(task.worker),
                age_ns: self.age_ns(task),
                polls_total: task.polls_total,
                polls: fresh(task.polls),
                busy_ns: fresh(task.busy_ns),
                ready_ns: fresh(task.ready_ns),
                longest_ready_ns: fresh(task.longest_ready_ns),
                longest_poll_ns: fresh(task.longest_poll_ns),
            }
        });
        let mut rows: Vec<TaskRow> = rows.collect();
        super::super::keep_top(&mut rows, ROWS_MAX, TaskRow::weight_ns);
        rows
    }
}

/// Shares out the time that workers polled a group over the places where these workers ran.
fn place(by_tid: &[(u32, u64)], threads: &[ThreadRow]) -> Vec<u64> {
    let mut places: Vec<u64> = Vec::new();
    for (tid, busy_ns) in by_tid {
        let Some(thread) = threads.iter().find(|thread| thread.tid == *tid) else { continue };
        let total_ns: u64 = thread.place_ns.iter().sum();
        places.resize(places.len().max(thread.place_ns.len()), 0);
        for (sum, place_ns) in places.iter_mut().zip(&thread.place_ns) {
            let share = u128::from(*busy_ns) * u128::from(*place_ns) / u128::from(total_ns.max(1));
            *sum += u64::try_from(share).unwrap_or(0);
        }
    }
    places
}
