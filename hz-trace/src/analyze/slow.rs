//! Polls that took long, with what the kernel did with their thread meanwhile.

use super::{
    polls::{KernelTime, culprits_in, kernel_time, tiles_in},
    summary::{Holder, holders},
};
use crate::{
    model::{Model, State, TaskIndex, ThreadIndex},
    text::duration,
};
use serde::Serialize;
use std::cmp::Reverse;

/// A poll that took long.
#[derive(Clone, Debug, Serialize)]
pub struct SlowPoll {
    /// The task's number in its process.
    pub task: u64,
    /// Its process.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// The worker that polled it; `None`: a thread that is none.
    pub worker: Option<u32>,
    /// The thread that polled it.
    pub tid: u32,
    /// When, since the recording began.
    pub start_ns: u64,
    /// How long.
    pub duration_ns: u64,
    /// What the kernel did with the thread.
    pub kernel: KernelTime,
    /// Who had the CPU while the thread waited for it, the longest first.
    pub culprits: Vec<Holder>,
    /// The same in a sentence.
    pub sentence: String,
}

/// Describes the poll of a task by a thread that took `duration_ns` from `start_ns` on.
pub(super) fn slow_poll(
    model: &Model,
    (duration_ns, start_ns, index, thread): (u64, u64, TaskIndex, ThreadIndex),
) -> SlowPoll {
    let task = model.task(index);
    let end_ns = start_ns + duration_ns;
    let runtime = model.runtimes.get(task.runtime as usize);
    let worker = runtime.and_then(|runtime| runtime.worker_of(thread)).map(|each| each.number);
    let mut poll = SlowPoll {
        task: task.id,
        pid: runtime.map_or(0, |runtime| runtime.pid),
        name: model.task_name(index),
        worker,
        tid: model.thread(thread).tid,
        start_ns: start_ns.saturating_sub(model.start_ns),
        duration_ns,
        kernel: kernel_time(model.thread(thread), start_ns, end_ns),
        culprits: holders(model, &culprits_in(model, thread, start_ns, end_ns)),
        sentence: String::new(),
    };
    let mut cpus: Vec<u16> = tiles_in(model.thread(thread), start_ns, end_ns)
        .filter(|tile| tile.span.state == State::Running)
        .map(|tile| tile.span.cpu)
        .collect();
    cpus.sort_unstable();
    cpus.dedup();
    poll.sentence = sentence(&poll, &cpus);
    poll
}

fn sentence(poll: &SlowPoll, cpus: &[u16]) -> String {
    let SlowPoll { name, task, duration_ns, kernel, .. } = poll;
    let worker = poll
        .worker
        .map_or_else(|| format!("thread {}", poll.tid), |worker| format!("worker {worker}"));
    let took = duration(*duration_ns);
    let blocked_ns = kernel.blocked_ns();
    let most_ns = blocked_ns.max(kernel.on_cpu_ns).max(kernel.waiting_ns);
    let head = if kernel.not_recorded_ns > most_ns {
        format!("task `{name}` ({task}) was polled by {worker} for {took}")
    } else if blocked_ns == most_ns {
        format!("task `{name}` ({task}) blocked {worker} for {took} in a poll")
    } else if kernel.waiting_ns == most_ns {
        format!("task `{name}` ({task}) was polled by {worker} for {took}, mostly without a CPU")
    } else {
        format!("task `{name}` ({task}) kept {worker} busy for {took} in a poll")
    };
    format!("{head}: {}", parts(poll, cpus).join(", "))
}

/// What at least a hundredth of the poll went into, the longest first.
fn parts(poll: &SlowPoll, cpus: &[u16]) -> Vec<String> {
    let SlowPoll { kernel, culprits, .. } = poll;
    let on = match cpus {
        [one] => format!("on CPU {one}"),
        _ => {
            let cpus: Vec<String> = cpus.iter().map(u16::to_string).collect();
            format!("on CPUs {}", cpus.join(", "))
        }
    };
    let waiting = match culprits.first() {
        Some(Holder { name, tid: Some(tid), .. }) => {
            format!("waiting for a CPU that {name} ({tid}) had")
        }
        _ => "waiting for a CPU".to_owned(),
    };
    let mut parts = [
        (kernel.sleeping_ns, "asleep".to_owned()),
        (kernel.uninterruptible_ns, "in uninterruptible sleep".to_owned()),
        (kernel.waiting_ns, waiting),
        (kernel.on_cpu_ns, on),
        (kernel.not_recorded_ns, "not recorded".to_owned()),
    ];
    parts.sort_by_key(|(ns, _)| Reverse(*ns));
    let noted = parts.into_iter().filter(|(ns, _)| *ns > 0 && *ns * 100 >= poll.duration_ns);
    noted.map(|(ns, words)| format!("{} {words}", duration(ns))).collect()
}
