//! Tasks of async runtimes, tiled like threads.

use super::{Model, ThreadIndex};

/// A task's place in [`Model::tasks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskIndex(pub u32);

/// A file, channel or lock's place in [`Model::objects`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectIndex(pub u32);

/// What a task was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum TaskState {
    /// Not seen: before the first evidence, after records were lost, or between polls of a runtime
    /// that does not tell its wake-ups.
    Unknown,
    /// Woken, in a queue of the runtime; [`TaskSpan::why`] is the cause.
    Ready,
    /// Polled, by [`TaskSpan::thread`]. `why` is [`Why::Unknown`] if the poll's begin was not seen.
    Polling,
    /// Waited; [`TaskSpan::why`] is for what.
    Idle,
    /// Over; [`TaskSpan::why`] is how.
    Done,
}

impl TaskState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Unknown, Self::Ready, Self::Polling, Self::Idle, Self::Done];
}

/// Why a task became ready, what it waited for, or how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Why {
    /// Not known.
    Unknown,
    /// It was spawned.
    Spawn,
    /// By another task, [`TaskSpan::task`].
    Task,
    /// By a thread that ran no task, [`TaskSpan::thread`].
    Thread,
    /// A file, [`TaskSpan::object`]; for what is not known.
    File,
    /// A file, to read.
    Read,
    /// A file, to write.
    Write,
    /// A listener.
    Accept,
    /// A connection that was being made.
    Connect,
    /// A timer.
    Timer,
    /// A channel, [`TaskSpan::object`].
    Channel,
    /// A lock, [`TaskSpan::object`].
    Lock,
    /// It was cancelled.
    Cancel,
    /// The end of another task, [`TaskSpan::task`].
    Join,
    /// It yielded.
    Yield,
    /// A call on the blocking pool.
    Blocking,
    /// A buffer of the pool.
    Buffer,
    /// A poll whose begin was seen.
    Poll,
    /// With its result.
    Completed,
    /// Cancelled: its future was dropped.
    Cancelled,
    /// It panicked.
    Panicked,
}

impl Why {
    const fn names_a_task(self) -> bool {
        matches!(self, Self::Task | Self::Join)
    }

    const fn names_an_object(self) -> bool {
        matches!(
            self,
            Self::File
                | Self::Read
                | Self::Write
                | Self::Accept
                | Self::Connect
                | Self::Channel
                | Self::Lock
        )
    }
}

/// A tile of a task's life. It ends where the next begins, the last one at [`Task::end_ns`].
///
/// Sixteen bytes: recordings have millions of polls, and each makes up to three tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskSpan {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// What the task was doing.
    pub state: TaskState,
    /// Why.
    pub why: Why,
    subject: u32,
}
const _: () = assert!(size_of::<TaskSpan>() == 16);

/// Why, and with whom: what a [`TaskSpan`] says beside its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reason {
    pub(super) why: Why,
    subject: u32,
}

impl Reason {
    pub(super) const UNKNOWN: Self = Self::only(Why::Unknown);

    pub(super) const fn only(why: Why) -> Self {
        Self { why, subject: u32::MAX }
    }

    pub(super) const fn task(why: Why, task: TaskIndex) -> Self {
        Self { why, subject: task.0 }
    }

    pub(super) const fn thread(why: Why, thread: ThreadIndex) -> Self {
        Self { why, subject: thread.0 }
    }

    pub(super) const fn object(why: Why, object: ObjectIndex) -> Self {
        Self { why, subject: object.0 }
    }
}

impl TaskSpan {
    pub(super) const fn new(start_ns: u64, state: TaskState, reason: Reason) -> Self {
        Self { start_ns, state, why: reason.why, subject: reason.subject }
    }

    /// The thread that polls it, or that woke it.
    #[must_use]
    pub const fn thread(&self) -> Option<ThreadIndex> {
        match (self.state, self.why) {
            (TaskState::Polling, _) | (_, Why::Thread) => Some(ThreadIndex(self.subject)),
            _ => None,
        }
    }

    /// The task that woke it, or whose end it waited for.
    #[must_use]
    pub const fn task(&self) -> Option<TaskIndex> {
        if self.why.names_a_task() { Some(TaskIndex(self.subject)) } else { None }
    }

    /// The file, channel or lock it waited for, or that woke it.
    #[must_use]
    pub const fn object(&self) -> Option<ObjectIndex> {
        if self.why.names_an_object() { Some(ObjectIndex(self.subject)) } else { None }
    }

    /// A wait was for what ended it: a task may wait for several things, and says one of them or
    /// none. Of the file that it said it says more than what woke it.
    pub(super) const fn learn(&mut self, cause: Reason) {
        let tells = matches!(
            cause.why,
            Why::File | Why::Timer | Why::Channel | Why::Lock | Why::Join | Why::Blocking
        );
        let is_same_file = matches!(cause.why, Why::File)
            && self.why.names_an_object()
            && self.subject == cause.subject;
        if tells && !is_same_file {
            self.set_reason(cause);
        }
    }

    pub(super) const fn set_reason(&mut self, reason: Reason) {
        self.why = reason.why;
        self.subject = reason.subject;
    }
}

/// A tile with its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskTile {
    /// The tile.
    pub span: TaskSpan,
    /// Where it ends, nanoseconds of `CLOCK_MONOTONIC`.
    pub end_ns: u64,
}

impl TaskTile {
    /// Length in nanoseconds.
    #[must_use]
    pub const fn duration_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.span.start_ns)
    }
}

/// A task's life, as far as it was recorded.
#[derive(Clone, Debug)]
pub struct Task {
    /// Place of its runtime in [`Model::runtimes`].
    pub runtime: u32,
    /// Its number in its process, from 1.
    pub id: u64,
    /// Number of its own name among [`super::Runtime::texts`], 0: none.
    pub text: u32,
    /// Number of the place that spawned it among [`super::Runtime::sites`], 0: not known.
    pub site: u32,
    /// Task that spawned it, if one did and that was seen.
    pub parent: Option<TaskIndex>,
    /// Priority, 0 the highest; `None`: not known.
    pub priority: Option<u8>,
    /// When it was spawned, nanoseconds of `CLOCK_MONOTONIC`; 0: not known.
    pub spawned_ns: u64,
    /// Start of what is known of its life.
    pub start_ns: u64,
    /// End of what is known of its life; a task that is over keeps a last tile without length.
    pub end_ns: u64,
    /// Polls whose begin was seen.
    pub polls: u64,
    /// The tiles of its life; empty if it was only mentioned.
    pub spans: Vec<TaskSpan>,
}

impl Task {
    /// The tiles of its life with their ends, in order.
    pub fn tiles(&self) -> impl ExactSizeIterator<Item = TaskTile> + '_ {
        (0..self.spans.len()).map(|index| self.tile(index))
    }

    /// Tile number `index`.
    ///
    /// # Panics
    ///
    /// If there is no such tile.
    #[must_use]
    pub fn tile(&self, index: usize) -> TaskTile {
        let end_ns = self.spans.get(index + 1).map_or(self.end_ns, |next| next.start_ns);
        TaskTile { span: self.spans[index], end_ns }
    }

    /// How it ended, if that was seen.
    #[must_use]
    pub fn outcome(&self) -> Option<Why> {
        self.spans.last().filter(|last| last.state == TaskState::Done).map(|last| last.why)
    }
}

/// Something that tasks wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Object {
    /// A file of a process.
    File {
        /// The process.
        pid: u32,
        /// Its number there.
        fd: u32,
        /// The socket's cookie, 0: no socket.
        cookie: u64,
    },
    /// A channel or lock of a process.
    Memory {
        /// The process.
        pid: u32,
        /// Where it is.
        address: u64,
    },
}

impl Model {
    /// The task at `index`.
    ///
    /// # Panics
    ///
    /// If `index` is of another model.
    #[must_use]
    pub fn task(&self, index: TaskIndex) -> &Task {
        &self.tasks[index.0 as usize]
    }

    /// A task's own name, else that of the place that spawned it, else that place, else its number.
    #[must_use]
    pub fn task_name(&self, index: TaskIndex) -> String {
        let task = self.task(index);
        let Some(runtime) = self.runtimes.get(task.runtime as usize) else {
            return format!("task {}", task.id);
        };
        let own = runtime.text(task.text).map(str::to_owned);
        own.or_else(|| runtime.site_name(task.site)).unwrap_or_else(|| format!("task {}", task.id))
    }
}
