//! Tasks that live now: what each does, and which group of them grows.

use super::leaks::is_growing;
use hz_probes_ebpf::runtime::{
    NO_WORKER, SpawnSite, TASK_DONE, TASK_IDLE, TASK_POLLING, TASK_READY, TaskEntry, Text,
    WAIT_ACCEPT, WAIT_BLOCKING, WAIT_BUFFER, WAIT_CANCEL, WAIT_CHANNEL, WAIT_CONNECT, WAIT_JOIN,
    WAIT_LOCK, WAIT_READ, WAIT_SCOPE, WAIT_TIMER, WAIT_WRITE,
};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

/// Priorities, the highest first.
const PRIORITY_NAMES: [&str; 4] = ["critical", "high", "normal", "background"];

/// What the numbers in directory entries name.
#[derive(Clone, Debug, Default)]
pub struct Names {
    texts: HashMap<u32, String>,
    sites: HashMap<u32, SpawnSite>,
}

impl Names {
    /// Names of what `entries` name, looked up once each.
    pub fn of(
        entries: &[TaskEntry],
        text: impl Fn(u32) -> Option<Text>,
        site: impl Fn(u32) -> Option<SpawnSite>,
    ) -> Self {
        let mut names = Self::default();
        for entry in entries {
            let number = entry.header.arg;
            if !names.sites.contains_key(&number)
                && let Some(found) = site(number)
            {
                names.sites.insert(number, found);
                names.add_texts(&[found.name, found.file, found.future], &text);
            }
            names.add_texts(&[entry.name], &text);
        }
        names
    }

    fn add_texts(&mut self, numbers: &[u32], text: impl Fn(u32) -> Option<Text>) {
        for number in numbers {
            if !self.texts.contains_key(number)
                && let Some(found) = text(*number)
            {
                self.texts.insert(*number, words(&found));
            }
        }
    }

    fn text(&self, number: u32) -> Option<&str> {
        self.texts.get(&number).map(String::as_str)
    }
}

fn words(text: &Text) -> String {
    let end = text.text.iter().position(|byte| *byte == 0).unwrap_or(text.text.len());
    let cut = if text.bytes as usize > end { "…" } else { "" };
    String::from_utf8_lossy(&text.text[..end]).trim_end_matches('\u{fffd}').to_owned() + cut
}

/// What an idle task waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Awaited {
    /// `read`, `write`, `accept`, `connect`, `timer`, `channel`, `lock`, `join`, `blocking` or
    /// `buffer`.
    pub kind: &'static str,
    /// The file, for the first four.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fd: Option<u32>,
    /// The file's socket cookie, if it is a socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<u64>,
    /// Time until the timer fires, nanoseconds; negative: it is late.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_ns: Option<i64>,
    /// Address of the channel or lock, hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The task that is joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<u64>,
    /// The call on the blocking pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<u64>,
}

impl Awaited {
    fn of(entry: &TaskEntry, now_ns: u64) -> Option<Self> {
        let value = entry.wait_value;
        let file = |kind| {
            let cookie = (value != 0).then_some(value);
            Self { kind, fd: Some(entry.wait_arg), cookie, ..Self::default() }
        };
        let place = |kind| Self { kind, address: Some(format!("{value:#x}")), ..Self::default() };
        Some(match entry.waits_for {
            WAIT_READ => file("read"),
            WAIT_WRITE => file("write"),
            WAIT_ACCEPT => file("accept"),
            WAIT_CONNECT => file("connect"),
            WAIT_TIMER => {
                let in_ns = i128::from(value) - i128::from(now_ns);
                let in_ns = in_ns.clamp(i64::MIN.into(), i64::MAX.into());
                Self { kind: "timer", in_ns: i64::try_from(in_ns).ok(), ..Self::default() }
            }
            WAIT_CHANNEL => place("channel"),
            WAIT_LOCK => place("lock"),
            WAIT_JOIN => Self { kind: "join", task: Some(value), ..Self::default() },
            WAIT_BLOCKING => Self { kind: "blocking", call: Some(value), ..Self::default() },
            WAIT_BUFFER => Self { kind: "buffer", ..Self::default() },
            WAIT_CANCEL => Self { kind: "cancellation", ..Self::default() },
            WAIT_SCOPE => Self { kind: "scope", ..Self::default() },
            _ => return None,
        })
    }
}

/// A task that lives now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LiveTask {
    /// Its id in its process.
    pub task: u64,
    /// Its name, or that of its spawn site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `idle`, `ready`, `polling` or `done`.
    pub state: &'static str,
    /// What it waits for, if it is idle and that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<Awaited>,
    /// Since it was spawned, nanoseconds.
    pub age_ns: u64,
    /// Since its last poll began, nanoseconds; none: never polled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_poll_ago_ns: Option<u64>,
    /// Polls so far.
    pub polls: u64,
    /// Its priority.
    pub priority: &'static str,
    /// Worker that polls it or polled it last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<u32>,
    /// Task that spawned it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<u64>,
    /// Where it was spawned: file and line.
    pub spawned_at: String,
    /// Type of its future.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub future: Option<String>,
    /// Size of its future, bytes.
    pub future_bytes: u32,
    /// The innermost `.await` it is suspended at, if that was looked for and found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parked_at: Option<String>,
}

impl LiveTask {
    /// What the directory says of a task, at `now_ns` of `CLOCK_MONOTONIC`.
    #[must_use]
    pub fn new(entry: &TaskEntry, names: &Names, now_ns: u64) -> Self {
        let site = names.sites.get(&entry.header.arg);
        let name = names.text(entry.name).or_else(|| names.text(site?.name));
        let file = site.and_then(|site| names.text(site.file)).unwrap_or("?");
        let (state, is_idle) = match entry.state {
            TASK_IDLE => ("idle", true),
            TASK_READY => ("ready", false),
            TASK_POLLING => ("polling", false),
            TASK_DONE => ("done", false),
            _ => ("?", false),
        };
        let priority = PRIORITY_NAMES.get(entry.priority as usize).copied().unwrap_or("?");
        Self {
            task: entry.task,
            name: name.map(str::to_owned),
            state,
            waits_for: is_idle.then(|| Awaited::of(entry, now_ns)).flatten(),
            age_ns: now_ns.saturating_sub(entry.spawned_ns),
            last_poll_ago_ns: (entry.last_poll_ns > 0)
                .then(|| now_ns.saturating_sub(entry.last_poll_ns)),
            polls: entry.polls,
            priority,
            worker: (entry.worker != NO_WORKER && entry.polls > 0).then_some(entry.worker),
            parent: (entry.parent != 0).then_some(entry.parent),
            spawned_at: site.map_or(file.to_owned(), |site| format!("{file}:{}", site.line)),
            future: site.and_then(|site| names.text(site.future)).map(str::to_owned),
            future_bytes: site.map_or(0, |site| site.future_bytes),
            parked_at: None,
        }
    }

    /// Where it is parked: at which `.await` if that is known, else what it waits for, else what it
    /// does.
    #[must_use]
    pub fn parked(&self) -> &str {
        let waits_for = self.waits_for.as_ref().map(|wait| wait.kind);
        self.parked_at.as_deref().or(waits_for).unwrap_or(self.state)
    }
}

/// Which tasks belong together: those of one name that were spawned at one place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct GroupKey {
    /// Their name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where they were spawned: file and line.
    pub spawned_at: String,
    /// Where they are parked, for groups by that too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parked: Option<String>,
}

/// Tasks that belong together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Which.
    #[serde(flatten)]
    pub key: GroupKey,
    /// How many live.
    pub tasks: u64,
    /// How many of them wait.
    pub idle: u64,
    /// How many of them are in a run queue.
    pub ready: u64,
    /// How many of them are being polled.
    pub polling: u64,
    /// Age of the oldest, nanoseconds.
    pub oldest_ns: u64,
    /// Their polls so far.
    pub polls: u64,
}

/// Groups of tasks by where they were spawned, the largest first.
#[must_use]
pub fn groups(tasks: &[LiveTask]) -> Vec<Group> {
    groups_by(tasks, |_| None)
}

/// Groups of tasks by where they were spawned and where they are parked, the largest first.
#[must_use]
pub fn parked_groups(tasks: &[LiveTask]) -> Vec<Group> {
    groups_by(tasks, |task| Some(task.parked().to_owned()))
}

fn groups_by(tasks: &[LiveTask], parked: impl Fn(&LiveTask) -> Option<String>) -> Vec<Group> {
    let mut groups: BTreeMap<GroupKey, Group> = BTreeMap::new();
    for task in tasks {
        let key = GroupKey {
            name: task.name.clone(),
            spawned_at: task.spawned_at.clone(),
            parked: parked(task),
        };
        let group = groups.entry(key.clone()).or_insert_with(|| Group { key, ..Group::default() });
        group.tasks += 1;
        group.idle += u64::from(task.state == "idle");
        group.ready += u64::from(task.state == "ready");
        group.polling += u64::from(task.state == "polling");
        group.oldest_ns = group.oldest_ns.max(task.age_ns);
        group.polls = group.polls.saturating_add(task.polls);
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.tasks));
    groups
}

/// Looks that are remembered.
const LOOKS_MAX: usize = 120;

/// Looks that a growth takes to be one.
const LOOKS_MIN: usize = 4;

/// How many tasks there were of each group, look by look.
#[derive(Clone, Debug, Default)]
pub struct Growth {
    times_ns: Vec<u64>,
    counts: BTreeMap<GroupKey, Vec<u64>>,
}

/// A group that grows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Growing {
    /// Which.
    #[serde(flatten)]
    pub key: GroupKey,
    /// How many live now.
    pub tasks: u64,
    /// How many lived at the first look.
    pub tasks_before: u64,
    /// Tasks more each second.
    pub per_second: f64,
}

impl Growth {
    /// Remembers a look at `now_ns`.
    pub fn add(&mut self, now_ns: u64, groups: &[Group]) {
        let looks = self.times_ns.len();
        for group in groups {
            self.counts.entry(group.key.clone()).or_insert_with(|| vec![0; looks]);
        }
        let now: HashMap<&GroupKey, u64> =
            groups.iter().map(|group| (&group.key, group.tasks)).collect();
        for (key, counts) in &mut self.counts {
            counts.push(now.get(key).copied().unwrap_or(0));
        }
        self.times_ns.push(now_ns);
        if looks >= LOOKS_MAX {
            self.times_ns.remove(0);
            self.counts.values_mut().for_each(|counts| _ = counts.remove(0));
            self.counts.retain(|_, counts| counts.iter().any(|count| *count > 0));
        }
    }

    /// Tasks of a group more each second since the first look; negative if they become fewer.
    #[must_use]
    pub fn per_second(&self, key: &GroupKey) -> f64 {
        let Some([first, .., last]) = self.counts.get(key).map(Vec::as_slice) else { return 0.0 };
        let seconds = self.seconds();
        if seconds > 0.0 { (*last as f64 - *first as f64) / seconds } else { 0.0 }
    }

    /// Time between the first look and the last, seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        let [first_ns, .., last_ns] = self.times_ns[..] else { return 0.0 };
        last_ns.saturating_sub(first_ns) as f64 / 1e9
    }

    /// Groups that grow, the fastest first: of which there were never as few in the second half of
    /// the looks as there ever were in the first, and of which there are more now than when the second
    /// half began. What only goes up and down, or was made once, is not among them.
    #[must_use]
    pub fn growing(&self) -> Vec<Growing> {
        if self.times_ns.len() < LOOKS_MIN {
            return Vec::new();
        }
        let mut growing: Vec<Growing> = self
            .counts
            .iter()
            .filter(|(_, counts)| is_growing(counts))
            .map(|(key, counts)| Growing {
                key: key.clone(),
                tasks: counts.last().copied().unwrap_or(0),
                tasks_before: counts.first().copied().unwrap_or(0),
                per_second: self.per_second(key),
            })
            .collect();
        growing.sort_by(|a, b| b.per_second.total_cmp(&a.per_second));
        growing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str, tasks: u64) -> Group {
        let key = GroupKey {
            name: Some(name.to_owned()),
            spawned_at: "a.rs:1".to_owned(),
            ..GroupKey::default()
        };
        Group { key, tasks, ..Group::default() }
    }

    fn watched(name: &str, counts: &[u64]) -> Growth {
        let mut growth = Growth::default();
        for (second, count) in (0..).zip(counts) {
            growth.add(second * 1_000_000_000, &[group(name, *count), group("steady", 5)]);
        }
        growth
    }

    #[test]
    fn a_leak_grows_and_a_crowd_that_comes_and_goes_does_not() {
        let leak = watched("leak", &[10, 12, 11, 30, 41, 52]).growing();
        assert_eq!(leak.len(), 1, "{leak:?}");
        assert_eq!((leak[0].tasks, leak[0].tasks_before), (52, 10));
        assert!((leak[0].per_second - 8.4).abs() < 1e-9, "{leak:?}");
        assert_eq!(watched("crowd", &[10, 40, 12, 50, 11, 60]).growing(), []);
        assert_eq!(watched("young", &[1, 2, 3]).growing(), []);
    }

    #[test]
    fn a_group_that_was_not_there_before_grows_from_nothing() {
        let mut growth = watched("other", &[1, 1, 1]);
        (3..8).for_each(|second| growth.add(second * 1_000_000_000, &[group("new", second)]));
        let growing = growth.growing();
        assert_eq!((growing[0].tasks_before, growing[0].tasks), (0, 7), "{growing:?}");
    }

    #[test]
    fn looks_are_not_remembered_for_ever() {
        let counts: Vec<u64> = (0..1_000).collect();
        let growth = watched("leak", &counts);
        assert!(growth.times_ns.len() <= LOOKS_MAX);
        assert!(growth.counts.values().all(|counts| counts.len() == growth.times_ns.len()));
    }

    #[test]
    fn a_task_says_what_it_waits_for_only_while_it_waits() {
        let idle = TaskEntry {
            task: 3,
            state: TASK_IDLE,
            waits_for: WAIT_TIMER,
            wait_value: 1_500,
            spawned_ns: 200,
            worker: NO_WORKER,
            priority: 1,
            ..TaskEntry::default()
        };
        let task = LiveTask::new(&idle, &Names::default(), 1_000);
        assert_eq!(task.waits_for.unwrap().in_ns, Some(500));
        assert_eq!((task.age_ns, task.last_poll_ago_ns, task.worker), (800, None, None));
        assert_eq!((task.priority, &*task.spawned_at), ("high", "?"));
        let ready = TaskEntry { state: TASK_READY, ..idle };
        assert_eq!(LiveTask::new(&ready, &Names::default(), 1_000).waits_for, None);
    }
}
