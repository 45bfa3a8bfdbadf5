//! Which tasks become more and more.

use super::program::idle_words;
use crate::model::{Model, Task, TaskState};
use rustc_hash::FxHashMap;
use serde::Serialize;
use std::{cmp::Reverse, collections::BTreeMap};

/// How many groups are listed.
const GROUPS: usize = 10;

/// Moments at which tasks are counted, the first and the last of the recording among them.
const MOMENTS: usize = 17;

/// Fewer more in a whole recording may be chance.
const LEAST: f64 = 4.0;

/// Tasks of one name that were spawned at one place.
#[derive(Clone, Debug, Serialize)]
pub struct TasksOverTime {
    /// Their process.
    pub pid: u32,
    /// Their name.
    pub name: String,
    /// Where they were spawned, `FILE:LINE`, if that is known.
    pub spawned_at: Option<String>,
    /// How many lived, at moments that are equally far from each other: the first is the beginning
    /// of the recording, the last its end.
    pub alive: Vec<u64>,
    /// More of them each second.
    pub per_second: f64,
    /// Whether they became more and more: there were never as few in the second half as there ever
    /// were in the first, and more at its end than at its beginning.
    pub is_growing: bool,
    /// What those that lived at the end were doing, the most first.
    pub parked: Vec<Parked>,
}

/// Tasks that do the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Parked {
    /// What they wait for, or else what they do.
    pub parked: String,
    /// How many.
    pub tasks: u64,
}

/// What is counted of one group.
#[derive(Debug)]
struct Count {
    /// By moment: how many more there are than at the one before.
    changes: [i64; MOMENTS],
    parked: BTreeMap<&'static str, u64>,
}

/// Counts tasks over time: those that grow, then those of which the most lived at the end; the first
/// ten groups.
pub(super) fn tasks_over_time(model: &Model) -> Vec<TasksOverTime> {
    let mut counts: FxHashMap<(u32, u32, u32), Count> = FxHashMap::default();
    for task in model.tasks.iter().filter(|task| !task.spans.is_empty()) {
        let count = counts
            .entry((task.runtime, task.text, task.site))
            .or_insert_with(|| Count { changes: [0; MOMENTS], parked: BTreeMap::new() });
        count.add(model, task);
    }
    let seconds = model.end_ns.saturating_sub(model.start_ns) as f64 / 1e9;
    let rows = counts.into_iter().map(|(key, count)| count.row(model, key, seconds));
    let mut rows: Vec<TasksOverTime> = rows.collect();
    let last = |row: &TasksOverTime| row.alive.last().copied().unwrap_or(0);
    rows.sort_by(|a, b| {
        let key = |row: &TasksOverTime| (Reverse(row.is_growing), Reverse(last(row)));
        let by_name = (a.pid, &a.name, &a.spawned_at).cmp(&(b.pid, &b.name, &b.spawned_at));
        key(a).cmp(&key(b)).then(by_name)
    });
    rows.truncate(GROUPS);
    rows
}

impl Count {
    fn add(&mut self, model: &Model, task: &Task) {
        let born_ns = if task.spawned_ns > 0 { task.spawned_ns } else { task.start_ns };
        let last = task.spans.last();
        let is_over = last.is_some_and(|last| last.state == TaskState::Done);
        let from = moment_from(model, born_ns);
        let to = if is_over { moment_from(model, task.end_ns) } else { MOMENTS };
        if from < to {
            self.changes[from] += 1;
            if let Some(change) = self.changes.get_mut(to) {
                *change -= 1;
            }
        }
        if let Some(last) = last.filter(|_| !is_over) {
            let parked = match last.state {
                TaskState::Idle => idle_words(last.why),
                TaskState::Ready => "a ready queue",
                TaskState::Polling => "a poll",
                _ => "something unknown",
            };
            *self.parked.entry(parked).or_default() += 1;
        }
    }

    fn row(
        self,
        model: &Model,
        (runtime, text, site): (u32, u32, u32),
        seconds: f64,
    ) -> TasksOverTime {
        let runtime = model.runtimes.get(runtime as usize);
        let own = runtime.and_then(|runtime| runtime.text(text)).map(str::to_owned);
        let name = own.or_else(|| runtime?.site_name(site)).unwrap_or_else(|| "?".to_owned());
        let mut now = 0_i64;
        let alive: Vec<u64> = self
            .changes
            .iter()
            .map(|change| {
                now += change;
                u64::try_from(now).unwrap_or(0)
            })
            .collect();
        let grown = alive[MOMENTS - 1] as f64 - alive[0] as f64;
        let parked = self.parked.into_iter().map(|(parked, tasks)| (Reverse(tasks), parked));
        let mut parked: Vec<(Reverse<u64>, &str)> = parked.collect();
        parked.sort_unstable();
        TasksOverTime {
            pid: runtime.map_or(0, |runtime| runtime.pid),
            name,
            spawned_at: runtime.and_then(|runtime| runtime.site_place(site)),
            per_second: if seconds > 0.0 { grown / seconds } else { 0.0 },
            is_growing: is_growing(&alive) && grown >= LEAST,
            alive,
            parked: parked
                .into_iter()
                .map(|(Reverse(tasks), parked)| Parked { parked: parked.to_owned(), tasks })
                .collect(),
        }
    }
}

/// The first moment that is not before `time_ns`, [`MOMENTS`] if none is.
fn moment_from(model: &Model, time_ns: u64) -> usize {
    let length_ns = model.end_ns.saturating_sub(model.start_ns).max(1);
    let since_ns = u128::from(time_ns.saturating_sub(model.start_ns));
    let place = (since_ns * (MOMENTS as u128 - 1)).div_ceil(u128::from(length_ns));
    usize::try_from(place).unwrap_or(MOMENTS).min(MOMENTS)
}

/// Whether numbers grow all the time: what comes and goes does not, and what is made once neither.
pub(super) fn is_growing(counts: &[u64]) -> bool {
    let (before, since) = counts.split_at(counts.len() / 2);
    since.iter().min() > before.iter().max() && since.last() > since.first()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leak_grows_and_what_is_made_once_or_comes_and_goes_does_not() {
        assert!(is_growing(&[1, 3, 2, 5, 6, 9]));
        assert!(!is_growing(&[0, 0, 24, 24, 24, 24]));
        assert!(!is_growing(&[0, 0, 0, 24, 24, 24]));
        assert!(!is_growing(&[1, 9, 2, 9, 3, 10]));
        assert!(!is_growing(&[9, 8, 7, 6, 5, 4]));
        assert!(!is_growing(&[]));
    }
}
