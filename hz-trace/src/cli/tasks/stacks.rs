//! Where every task is suspended.

use anyhow::{Context as _, Result};
use hz_probes_ebpf::runtime::{TASK_IDLE, TASK_POLLING, TASK_READY, TaskEntry};
use hz_trace::{
    analyze::{LiveTask, Names},
    source::{ProcessMemory, RuntimeMemory, executable},
    symbol::{DebugInfo, FutureFrame, FutureName, Futures},
};
use serde::Serialize;
use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
};

/// How often a task is looked at that moves on meanwhile.
const TRIES: u32 = 4;

/// Where tasks debug files are looked for, beside those that the user names.
const DEBUG_DIRS: [&str; 1] = ["/usr/lib/debug"];

/// Tasks that are suspended in the same way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct StackGroup {
    /// Their name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// Where they were spawned.
    pub(super) spawned_at: String,
    /// Their numbers.
    pub(super) tasks: Vec<u64>,
    /// What they wait for, if they say and it is the same for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) waits_for: Option<String>,
    /// The futures they are suspended in, the outermost first.
    pub(super) frames: Vec<FutureFrame>,
    /// Why there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
}

/// The program of the tasks, with what its debug info says.
#[derive(Debug)]
pub(super) struct Program {
    info: DebugInfo,
    memory: ProcessMemory,
    bias: u64,
}

impl Program {
    /// That of a process.
    pub(super) fn open(pid: u32, debug_dirs: &[PathBuf]) -> Result<Self> {
        let (path, name, first) =
            executable(pid).with_context(|| format!("cannot look at process {pid}"))?;
        let memory = ProcessMemory::open(pid).with_context(|| {
            format!("cannot read the memory of process {pid}: be root, or grant CAP_SYS_PTRACE")
        })?;
        let more = DEBUG_DIRS.iter().map(PathBuf::from);
        let debug_dirs: Vec<PathBuf> = debug_dirs.iter().cloned().chain(more).collect();
        let info = DebugInfo::read(&path, &name, &debug_dirs)?;
        let bias = first.wrapping_sub(info.base());
        Ok(Self { info, memory, bias })
    }

    /// What its debug info says of futures, to be filled.
    pub(super) fn futures(&self) -> Futures<'_> {
        Futures::new(&self.info)
    }
}

/// What is known of one task's place.
type Place = Result<Vec<FutureFrame>, String>;

/// Where each of the tasks is suspended, by number. A task is looked at in the directory, then in
/// its memory, then in the directory again: what it said before holds only if it has not moved.
pub(super) fn places(
    runtime: &mut RuntimeMemory,
    program: &Program,
    futures: &mut Futures<'_>,
) -> Result<HashMap<u64, Place>> {
    let mut places: HashMap<u64, Place> = HashMap::new();
    let mut before = runtime.tasks().entries;
    for attempt in 1..=TRIES {
        let names =
            Names::of(&before, |number| runtime.text(number), |number| runtime.site(number));
        let named: Vec<(TaskEntry, FutureName)> =
            before.iter().map(|entry| (*entry, future_name(entry, &names))).collect();
        futures.learn(&program.info, named.iter().map(|(_, name)| name.clone()))?;
        let seen: Vec<(TaskEntry, Place)> = named
            .into_iter()
            .map(|(entry, name)| (entry, place(program, futures, (&entry, &name))))
            .collect();
        let after: HashMap<u64, TaskEntry> =
            runtime.tasks().entries.into_iter().map(|entry| (entry.task, entry)).collect();
        before.clear();
        for (entry, place) in seen {
            match after.get(&entry.task) {
                Some(now) if has_moved(&entry, now) && attempt < TRIES => before.push(*now),
                Some(now) if has_moved(&entry, now) => {
                    let reason = "it moves on faster than it can be looked at".to_owned();
                    places.insert(entry.task, Err(reason));
                }
                Some(_) => _ = places.insert(entry.task, place),
                None => {}
            }
        }
        if before.is_empty() {
            break;
        }
    }
    Ok(places)
}

/// Whether a task was polled between two looks, or may be polled in one of them.
const fn has_moved(before: &TaskEntry, now: &TaskEntry) -> bool {
    before.polls != now.polls
        || before.future != now.future
        || before.spawned_ns != now.spawned_ns
        || is_polled(before) != is_polled(now)
}

const fn is_polled(entry: &TaskEntry) -> bool {
    !matches!(entry.state, TASK_IDLE | TASK_READY)
}

fn future_name(entry: &TaskEntry, names: &Names) -> FutureName {
    let task = LiveTask::new(entry, names, 0);
    FutureName {
        name: task.future.unwrap_or_default(),
        bytes: task.future_bytes.into(),
        spawned_at: task.spawned_at,
    }
}

fn place(
    program: &Program,
    futures: &Futures<'_>,
    (entry, name): (&TaskEntry, &FutureName),
) -> Place {
    match entry.state {
        TASK_POLLING => return Err("it is being polled".to_owned()),
        state if is_polled(entry) && state != TASK_POLLING => return Err("it is over".to_owned()),
        _ => {}
    }
    if name.name.is_empty() {
        return Err("its runtime does not tell the type of its future".to_owned());
    }
    if entry.future == 0 {
        let is_new = entry.polls == 0;
        let reason =
            if is_new { "it was not polled yet" } else { "its runtime does not tell where it is" };
        return Err(reason.to_owned());
    }
    futures.stack(name, entry.future, (&program.memory, program.bias))
}

/// Tasks of one name, place of spawn and stack together; the most first.
pub(super) fn grouped(tasks: &[LiveTask], places: &HashMap<u64, Place>) -> Vec<StackGroup> {
    type Key<'a> = (Option<&'a str>, &'a str, &'a [FutureFrame], Option<&'a str>);
    let mut groups: BTreeMap<Key<'_>, StackGroup> = BTreeMap::new();
    for task in tasks {
        let Some(place) = places.get(&task.task) else { continue };
        let (frames, reason) = match place {
            Ok(frames) => (&frames[..], None),
            Err(reason) => (&[][..], Some(reason.as_str())),
        };
        let waits_for = task.waits_for.as_ref().map(|wait| wait.kind.to_owned());
        let key = (task.name.as_deref(), task.spawned_at.as_str(), frames, reason);
        let group = groups.entry(key).or_insert_with(|| StackGroup {
            name: task.name.clone(),
            spawned_at: task.spawned_at.clone(),
            tasks: Vec::new(),
            waits_for: waits_for.clone(),
            frames: frames.to_vec(),
            reason: reason.map(str::to_owned),
        });
        if group.waits_for != waits_for {
            group.waits_for = None;
        }
        group.tasks.push(task.task);
    }
    let mut groups: Vec<StackGroup> = groups.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.tasks.len()));
    groups
}

/// Where a stack ends: the innermost `.await` of the program, in words.
pub(super) fn innermost(place: &Place) -> Option<String> {
    let frames = place.as_ref().ok()?;
    let last = frames.iter().rev().find(|frame| frame.line.is_some())?;
    let (file, line) = (last.file.as_deref()?, last.line?);
    Some(format!("{} at {file}:{line}", last.future))
}
