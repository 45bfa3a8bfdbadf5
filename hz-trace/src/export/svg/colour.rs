//! One colour per process, the same in every picture if it can be; a shade of it per thread.

use super::style::Paint;
use super::survey::Survey;
use super::tasks::{TaskLanes, as_runner};
use crate::model::{Model, ThreadIndex};
use rustc_hash::{FxHashMap, FxHasher};
use std::cmp::Reverse;
use std::hash::{Hash, Hasher};

/// Colours of processes: Okabe and Ito's without the orange, which means waiting, and without
/// the yellow, which a white page swallows; three more that keep apart from them.
const HUES: [Paint; 8] = [
    Paint(0x00, 0x72, 0xb2),
    Paint(0x00, 0x9e, 0x73),
    Paint(0xcc, 0x79, 0xa7),
    Paint(0x7b, 0x61, 0xd9),
    Paint(0x94, 0x6c, 0x43),
    Paint(0x2b, 0xa8, 0xb5),
    Paint(0x8f, 0x9e, 0x2e),
    Paint(0x9a, 0x3d, 0x8c),
];

/// Shades of a hue, as how far it is mixed with white (positive) or black (negative), percent.
const SHADES: [i32; 4] = [0, 34, -28, 58];

/// A colour by its place in [`Colours::paints`].
pub(super) type PaintIndex = u8;

/// Names of tasks that have a hue each, before processes have theirs.
const TASK_HUES: usize = 5;

/// The colours of a recording's threads and tasks.
#[derive(Clone, Debug)]
pub(super) struct Colours {
    /// Every colour in use; the first is that of everybody else.
    pub(super) paints: Vec<Paint>,
    /// By [`ThreadIndex`], tasks after the threads.
    of_thread: Vec<PaintIndex>,
}

impl Colours {
    /// Gives the processes that ran longest a hue each, everybody else and threads that the
    /// recording was not about grey.
    pub(super) fn of(model: &Model, survey: &Survey, tasks: &TaskLanes) -> Self {
        let runners = model.threads.len() + model.tasks.len();
        let mut colours = Self { paints: vec![Paint::OTHER], of_thread: vec![0; runners] };
        let mut is_taken = [false; HUES.len()];
        for (name, tasks) in busiest_names(model, tasks) {
            let Some(hue) = free_hue(&is_taken, hue_of(&name)) else { break };
            is_taken[hue] = true;
            colours.shade(&tasks, HUES[hue]);
        }
        for process in busiest_processes(model, survey) {
            let wanted = favourite(model, process[0]);
            let Some(hue) = free_hue(&is_taken, wanted) else { break };
            is_taken[hue] = true;
            colours.shade(&process, HUES[hue]);
        }
        colours
    }

    /// Place of a thread's colour.
    pub(super) fn index(&self, thread: ThreadIndex) -> PaintIndex {
        self.of_thread[thread.0 as usize]
    }

    /// A thread's colour.
    pub(super) fn paint(&self, thread: ThreadIndex) -> Paint {
        self.paints[usize::from(self.index(thread))]
    }

    fn shade(&mut self, threads: &[ThreadIndex], hue: Paint) {
        let first = self.paints.len();
        let shades = SHADES.iter().take(threads.len()).map(|percent| mixed(hue, *percent));
        self.paints.extend(shades);
        for (number, thread) in threads.iter().enumerate() {
            let shade = first + number % SHADES.len();
            self.of_thread[thread.0 as usize] = u8::try_from(shade).unwrap_or(0);
        }
    }
}

/// The target's threads by process, the process that ran longest first; in each the threads in
/// the order of their ids, so that one that comes or goes does not recolour the others.
fn busiest_processes(model: &Model, survey: &Survey) -> Vec<Vec<ThreadIndex>> {
    let mut processes: FxHashMap<u32, (u64, Vec<ThreadIndex>)> = FxHashMap::default();
    for (index, thread) in model.threads.iter().enumerate() {
        if thread.is_target && !thread.spans.is_empty() {
            let index = ThreadIndex(u32::try_from(index).unwrap_or(u32::MAX));
            let (ran_ns, threads) = processes.entry(thread.pid).or_default();
            *ran_ns += survey.life(index).running_ns();
            threads.push(index);
        }
    }
    let mut processes: Vec<_> = processes.into_iter().collect();
    processes.sort_by_key(|(pid, (ran_ns, _))| (Reverse(*ran_ns), *pid));
    processes
        .into_iter()
        .map(|(_, (_, mut threads))| {
            threads.sort_by_key(|index| model.thread(*index).tid);
            threads
        })
        .collect()
}

/// The hue that a process of this name has wherever nobody busier has it.
fn favourite(model: &Model, thread: ThreadIndex) -> usize {
    hue_of(&model.thread(thread).comm)
}

fn free_hue(is_taken: &[bool; HUES.len()], wanted: usize) -> Option<usize> {
    let mut hues = (0..HUES.len()).map(|step| (wanted + step) % HUES.len());
    hues.find(|hue| !is_taken[*hue])
}

/// Tasks by name, the name of the longest polled first.
fn busiest_names(model: &Model, tasks: &TaskLanes) -> Vec<(String, Vec<ThreadIndex>)> {
    let mut names: Vec<(String, Vec<ThreadIndex>)> = Vec::new();
    for own in &tasks.own {
        let name = model.task_name(own.task);
        if names.len() < TASK_HUES && names.iter().all(|(known, _)| *known != name) {
            names.push((name, Vec::new()));
        }
    }
    let folded = tasks.folds.iter().flat_map(|fold| fold.tasks.iter().copied());
    for task in tasks.own.iter().map(|own| own.task).chain(folded) {
        let name = model.task_name(task);
        if let Some((_, members)) = names.iter_mut().find(|(known, _)| *known == name) {
            members.push(as_runner(model, task));
        }
    }
    names
}

/// The hue that a name has wherever nobody busier has it.
fn hue_of(name: &(impl Hash + ?Sized)) -> usize {
    let mut hasher = FxHasher::default();
    name.hash(&mut hasher);
    // The low bits of this hash are the poorest.
    (hasher.finish() >> 40) as usize % HUES.len()
}

fn mixed(paint: Paint, percent: i32) -> Paint {
    let channel = |value: u8| {
        let towards = if percent >= 0 { 255 } else { 0 };
        let value = i32::from(value);
        u8::try_from(value + (towards - value) * percent.abs() / 100).unwrap_or(u8::MAX)
    };
    Paint(channel(paint.0), channel(paint.1), channel(paint.2))
}
