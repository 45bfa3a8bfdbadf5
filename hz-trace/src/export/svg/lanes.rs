//! Which threads have a lane, and in what order.

use super::survey::Survey;
use super::tasks::TaskLanes;
use super::words;
use crate::export::Subject;
use crate::model::{Model, ThreadIndex};
use rustc_hash::FxHashMap;
use std::cmp::Reverse;

/// Threads with a lane of their own; the rest share one.
const LANES: usize = 40;

/// The threads of a process.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) pid: u32,
    /// The process's name: that of its first thread.
    pub(super) name: String,
    /// The worst first.
    pub(super) threads: Vec<ThreadIndex>,
}

/// Who is shown where.
#[derive(Clone, Debug)]
pub(super) struct Lanes {
    /// The process with the worst thread first.
    pub(super) groups: Vec<Group>,
    /// Threads that share a lane.
    pub(super) folded: Vec<ThreadIndex>,
    pub(super) tasks: TaskLanes,
}

impl Lanes {
    /// Gives lanes to the threads that waited longest for a CPU and to the busiest. Waits shorter
    /// than `visible_ns` are not seen, so they order nothing.
    pub(super) fn of(subject: &Subject<'_>, survey: &Survey, visible_ns: u64) -> Self {
        let model = subject.model;
        let rank = |index: &ThreadIndex| {
            let life = survey.life(*index);
            let longest_ns = life.longest_wait_ns;
            let seen_ns = if longest_ns >= visible_ns { longest_ns } else { 0 };
            let busy_ns = life.running_ns() + life.waiting_ns();
            (Reverse(seen_ns), Reverse(busy_ns), model.thread(*index).tid, *index)
        };
        let mut threads: Vec<ThreadIndex> = (0..model.threads.len())
            .map(|index| ThreadIndex(u32::try_from(index).unwrap_or(u32::MAX)))
            .filter(|index| survey.life(*index).tiles > 0 && model.thread(*index).tid != 0)
            .collect();
        let chosen = choose(&mut threads, survey, rank);
        let mut groups: Vec<Group> = Vec::new();
        let mut by_pid: FxHashMap<u32, usize> = FxHashMap::default();
        for index in threads.iter().take(chosen) {
            let pid = model.thread(*index).pid;
            let group = *by_pid.entry(pid).or_insert_with(|| {
                groups.push(Group { pid, name: process_name(model, *index), threads: Vec::new() });
                groups.len() - 1
            });
            groups[group].threads.push(*index);
        }
        // The picture opens on the one process that has tasks.
        let only = words::only_runtime(subject);
        groups.sort_by_key(|group| Some(group.pid) != only);
        let tasks = TaskLanes::of(model, &(subject.from_ns..subject.to_ns));
        Self { groups, folded: threads.split_off(chosen), tasks }
    }

    /// Threads with a lane of their own, from top to bottom.
    pub(super) fn threads(&self) -> impl Iterator<Item = ThreadIndex> + '_ {
        self.groups.iter().flat_map(|group| group.threads.iter().copied())
    }
}

/// Sorts `threads` by `rank` with those that get a lane before all others; says how many they are.
fn choose<K: Ord>(
    threads: &mut [ThreadIndex],
    survey: &Survey,
    rank: impl Fn(&ThreadIndex) -> K,
) -> usize {
    threads.sort_by_cached_key(&rank);
    // One more lane costs no more height than the lane of a single folded thread.
    if threads.len() <= LANES + 1 {
        return threads.len();
    }
    let half = LANES / 2;
    let busy_ns = |index: &ThreadIndex| {
        Reverse(survey.life(*index).running_ns() + survey.life(*index).waiting_ns())
    };
    threads[half..].sort_by_cached_key(|index| (busy_ns(index), rank(index)));
    threads[..LANES].sort_by_cached_key(rank);
    LANES
}

/// The name of the thread that a process began with, or of the one at hand.
fn process_name(model: &Model, thread: ThreadIndex) -> String {
    let pid = model.thread(thread).pid;
    let leader = model.threads.iter().find(|each| each.tid == pid);
    leader.unwrap_or_else(|| model.thread(thread)).name()
}
