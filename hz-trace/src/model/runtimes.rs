//! Async runtimes: their workers, queues, timers, and what their programs say of themselves.

use super::{TaskIndex, ThreadIndex};
use hz_probes_ebpf::{Kind, runtime::PRIORITIES};
use rustc_hash::FxHashMap;

/// A process that offered rings.
#[derive(Clone, Debug, Default)]
pub struct Runtime {
    /// Its id.
    pub pid: u32,
    /// Kinds that it can tell: bit `kind − 16`. `None`: it was not said.
    pub offered_kinds: Option<u64>,
    /// Kinds that the recording asked for.
    pub asked_kinds: u64,
    /// Threads that run tasks, by number.
    pub workers: Vec<Worker>,
    /// What waits in the queue that all workers share.
    pub injector: Vec<Depth>,
    /// Tasks that workers took from others, by time.
    pub steals: Vec<Steal>,
    /// Timers that fired, by time.
    pub timers: Vec<TimerFired>,
    /// Calls on the blocking pool.
    pub blocking: Vec<BlockingCall>,
    /// Requests that the program says it served.
    pub requests: Vec<UserSpan>,
    /// Spans of the program's own.
    pub user_spans: Vec<UserSpan>,
    /// Marks of the program's own.
    pub marks: Vec<Mark>,
    /// Buffers of the pool that were taken, by time.
    pub buffers: Vec<BufferUse>,
    /// Places that spawn tasks, by number.
    pub sites: FxHashMap<u32, Site>,
    /// Texts that others name, by number.
    pub texts: FxHashMap<u32, String>,
    /// Records that were overwritten before they were read.
    pub lost: Vec<RuntimeLoss>,
    /// Records that do not fit the ones before: 0 unless records were lost.
    pub contradictions: u64,
}

impl Runtime {
    /// Whether records of `kind` are in the recording, if such things happened.
    #[must_use]
    pub const fn collects(&self, kind: Kind) -> bool {
        match self.offered_kinds {
            Some(offered) => offered & self.asked_kinds & kind.runtime_bit() != 0,
            None => true,
        }
    }

    /// Text number `number`.
    #[must_use]
    pub fn text(&self, number: u32) -> Option<&str> {
        self.texts.get(&number).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// `file:line` of a place that spawns tasks.
    #[must_use]
    pub fn site_place(&self, number: u32) -> Option<String> {
        let site = self.sites.get(&number)?;
        Some(format!("{}:{}", self.text(site.file)?, site.line))
    }

    /// The name of a place that spawns tasks, else its last folder, file and line.
    #[must_use]
    pub fn site_name(&self, number: u32) -> Option<String> {
        let name = self.sites.get(&number).and_then(|site| self.text(site.name));
        name.map(str::to_owned).or_else(|| {
            let place = self.site_place(number)?;
            let tail = place.rmatch_indices('/').nth(1).map_or(0, |(at, _)| at + 1);
            Some(place[tail..].to_owned())
        })
    }

    /// The worker that a thread is.
    #[must_use]
    pub fn worker_of(&self, thread: ThreadIndex) -> Option<&Worker> {
        self.workers.iter().find(|worker| worker.threads.contains(&thread))
    }
}

/// A worker of a runtime.
#[derive(Clone, Debug, Default)]
pub struct Worker {
    /// Its number.
    pub number: u32,
    /// Threads that have been it, one after the other: one, as a rule.
    pub threads: Vec<ThreadIndex>,
    /// What waits in its queues, when it said so.
    pub depths: Vec<Depth>,
    /// When it found nothing to do, and until when.
    pub parks: Vec<Park>,
}

/// How many tasks waited in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// When, nanoseconds of `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// By priority, the highest first.
    pub by_priority: [u16; PRIORITIES],
}

impl Depth {
    /// Of all priorities.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.by_priority.iter().copied().map(u32::from).sum()
    }
}

/// A worker had nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Park {
    /// From, nanoseconds of `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// Until; `None`: to the end, or not seen.
    pub end_ns: Option<u64>,
}

/// A worker took tasks from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steal {
    /// When, nanoseconds of `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// Worker it took them from.
    pub from: u32,
    /// Worker that took them.
    pub to: u32,
    /// Tasks.
    pub count: u64,
}

/// A timer fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerFired {
    /// When, nanoseconds of `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// How long after its deadline.
    pub late_ns: u64,
    /// The task it woke, if any.
    pub task: Option<TaskIndex>,
}

/// A call on the blocking pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockingCall {
    /// Its number in its process.
    pub id: u64,
    /// The task that asked, if any.
    pub task: Option<TaskIndex>,
    /// When it was queued, nanoseconds of `CLOCK_MONOTONIC`.
    pub queued_ns: Option<u64>,
    /// When it began.
    pub start_ns: Option<u64>,
    /// When it ended.
    pub end_ns: Option<u64>,
    /// The thread that ran it.
    pub thread: Option<ThreadIndex>,
}

/// A request, or a span of the program's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserSpan {
    /// Its number in its process.
    pub id: u64,
    /// The task in which it began, if in one.
    pub task: Option<TaskIndex>,
    /// The thread on which it began.
    pub thread: ThreadIndex,
    /// Its name or route: a number of [`Runtime::texts`].
    pub text: u32,
    /// When it began, nanoseconds of `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// When it ended; `None`: not seen.
    pub end_ns: Option<u64>,
    /// A request's status, 0: not said.
    pub status: u32,
}

/// A buffer of the pool, from being taken to coming back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferUse {
    /// The task that took it, if one did.
    pub task: Option<TaskIndex>,
    /// Its size in bytes.
    pub bytes: u32,
    /// Bytes per page of its memory, as a power of two.
    pub page_log2: u8,
    /// When it was taken, nanoseconds of `CLOCK_MONOTONIC`.
    pub taken_ns: u64,
    /// When it came back; `None`: not seen.
    pub returned_ns: Option<u64>,
}

/// A mark of the program's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// When, nanoseconds of `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// The task that set it, if one did.
    pub task: Option<TaskIndex>,
    /// The thread that set it.
    pub thread: ThreadIndex,
    /// Its name: a number of [`Runtime::texts`].
    pub text: u32,
    /// What the program says with it.
    pub value: u64,
}

/// A place in a program that spawns tasks; the texts are numbers of [`Runtime::texts`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// Name of the tasks, 0: none.
    pub name: u32,
    /// Source file.
    pub file: u32,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// Type of the future.
    pub future: u32,
    /// Size of the future in bytes.
    pub future_bytes: u32,
}

/// Records of a ring that were not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuntimeLoss {
    /// The thread whose ring it was, if that is known.
    pub thread: Option<ThreadIndex>,
    /// Start, nanoseconds of `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// End.
    pub end_ns: u64,
    /// Records.
    pub count: u64,
}
