//! The life of every task.
//!
//! Records of different threads are in the order of their time but for their clocks' error, and any
//! kind may be off or lost. So nothing is concluded from one record alone: what the next one does
//! not confirm becomes [`TaskState::Unknown`].

use super::Folder;
use crate::model::{
    TaskIndex, TaskSpan, TaskState, ThreadIndex, Why,
    tasks::{Reason, Task},
};
use hz_probes_ebpf::{
    Kind,
    runtime::{
        END_CANCELLED, END_COMPLETED, END_PANICKED, POLL_OVER, POLL_PANICKED, POLL_READY,
        RuntimeEvent, TASK_DONE, TASK_IDLE, TASK_POLLING, TASK_READY, TaskEntry,
    },
};

/// How late a record may come beside those of other threads, in nanoseconds: clocks agree to less
/// than 1 µs, and two of them may be off.
pub(super) const TOLERANCE_NS: u64 = 2_000;

/// What still has to be confirmed of a task's last tiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Doubt {
    #[default]
    None,
    /// A poll began on another thread before this tile's poll ended on its own.
    Overlapped { tile: u32, thread: ThreadIndex },
    /// A poll began while the task was idle: the wake-up is late or lost.
    NotWoken { tile: u32 },
}

/// What the fold knows of a task beside its tiles.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TaskNow {
    /// Why it was woken while it was polled.
    woken: Option<Reason>,
    /// What it said it waits for.
    waits: Option<Reason>,
    doubt: Doubt,
    /// Whether a wake-up may have been lost while it was polled.
    may_be_woken: bool,
}

impl TaskNow {
    /// What is still known once records were lost. The tiles were made anew, so that no doubt
    /// finds the one it speaks of.
    pub(super) fn after_loss(self) -> Self {
        Self { doubt: Doubt::None, may_be_woken: true, ..self }
    }
}

impl Folder {
    pub(super) fn task_spawn(&mut self, runtime: u32, event: &RuntimeEvent) {
        let index = self.task_index(runtime, event.task);
        let parent = (event.value != 0).then(|| self.task_index(runtime, event.value));
        let time_ns = self.clamp(event.header.time_ns);
        let task = &mut self.model.tasks[index.0 as usize];
        task.parent = parent;
        task.site = event.header.arg;
        task.priority = u8::try_from(event.aux).ok();
        task.spawned_ns = event.header.time_ns;
        if task.spans.is_empty() {
            self.task_to(index, (time_ns, TaskState::Ready, Reason::only(Why::Spawn)));
        }
    }

    pub(super) fn task_wake(&mut self, runtime: u32, thread: ThreadIndex, event: &RuntimeEvent) {
        let index = self.task_index(runtime, event.task);
        let cause = self.cause(runtime, thread, event);
        let time_ns = self.clamp(event.header.time_ns);
        if self.is_late_wake(index, time_ns, cause) {
            return;
        }
        match self.task_state(index) {
            Some(TaskState::Polling) => self.task_now(index).woken = Some(cause),
            Some(TaskState::Ready | TaskState::Done) => {}
            Some(TaskState::Idle) => {
                if let Some(idle) = self.model.tasks[index.0 as usize].spans.last_mut() {
                    idle.learn(cause);
                }
                self.task_to(index, (time_ns, TaskState::Ready, cause));
            }
            Some(TaskState::Unknown) | None => {
                self.task_to(index, (time_ns, TaskState::Ready, cause));
            }
        }
    }

    /// A wake-up that is stamped just after the begin of the poll that it led to.
    fn is_late_wake(&mut self, index: TaskIndex, time_ns: u64, cause: Reason) -> bool {
        let Doubt::NotWoken { tile } = self.task_now(index).doubt else { return false };
        self.task_now(index).doubt = Doubt::None;
        let spans = &mut self.model.tasks[index.0 as usize].spans;
        let poll_ns = spans.get(tile as usize + 1).map_or(0, |poll| poll.start_ns);
        if time_ns > poll_ns.saturating_add(TOLERANCE_NS) {
            return false;
        }
        let idle = &mut spans[tile as usize];
        idle.state = TaskState::Idle;
        idle.learn(cause);
        true
    }

    pub(super) fn poll_begin(&mut self, runtime: u32, thread: ThreadIndex, event: &RuntimeEvent) {
        let index = self.task_index(runtime, event.task);
        let time_ns = self.clamp(event.header.time_ns);
        let is_cut = event.header.time_ns < self.model.start_ns;
        let task = &mut self.model.tasks[index.0 as usize];
        if task.priority.is_none() {
            task.priority = u8::try_from(event.aux).ok();
        }
        task.polls += u64::from(!is_cut);
        let tile = u32::try_from(task.spans.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let last = task.spans.last_mut();
        let doubt = match last.as_ref().map(|last| last.state) {
            Some(TaskState::Done) => {
                self.model.runtimes[runtime as usize].contradictions += 1;
                return;
            }
            Some(TaskState::Polling) => {
                let thread = last.as_ref().and_then(|last| last.thread()).unwrap_or(thread);
                Doubt::Overlapped { tile, thread }
            }
            Some(TaskState::Idle) => Doubt::NotWoken { tile },
            _ => Doubt::None,
        };
        if let Some(last) = last.filter(|_| doubt != Doubt::None) {
            last.state = TaskState::Unknown;
        }
        let begin = if is_cut { Why::Unknown } else { Why::Poll };
        self.task_to(index, (time_ns, TaskState::Polling, Reason::thread(begin, thread)));
        let now = self.task_now(index);
        *now = TaskNow { doubt, ..TaskNow::default() };
    }

    pub(super) fn poll_end(&mut self, runtime: u32, thread: ThreadIndex, event: &RuntimeEvent) {
        let index = self.task_index(runtime, event.task);
        let time_ns = self.clamp(event.header.time_ns);
        if self.is_late_end(index, thread, time_ns) {
            return;
        }
        let state = self.task_state(index);
        let is_polled_here = state == Some(TaskState::Polling)
            && self.last_span(index).and_then(|span| span.thread()) == Some(thread);
        if state == Some(TaskState::Done) {
            return;
        }
        if !is_polled_here && matches!(state, Some(TaskState::Ready | TaskState::Idle)) {
            // The poll's begin is missing: when the tile before ended nobody knows.
            self.forget_last(index);
        }
        if !is_polled_here && state.is_some_and(|state| state != TaskState::Unknown) {
            self.model.runtimes[runtime as usize].contradictions += 1;
        }
        let (state, reason) = match event.aux {
            POLL_READY => (TaskState::Done, Reason::only(Why::Completed)),
            POLL_PANICKED => (TaskState::Done, Reason::only(Why::Panicked)),
            POLL_OVER => (TaskState::Done, Reason::UNKNOWN),
            _ => self.after_poll(runtime, index, is_polled_here),
        };
        let doubt = self.task_now(index).doubt;
        *self.task_now(index) = TaskNow { doubt, ..TaskNow::default() };
        self.task_to(index, (time_ns, state, reason));
    }

    /// What a task does after a poll that left it pending.
    fn after_poll(
        &mut self,
        runtime: u32,
        index: TaskIndex,
        is_whole: bool,
    ) -> (TaskState, Reason) {
        let now = *self.task_now(index);
        let tells_wakes = self.model.runtimes[runtime as usize].collects(Kind::TaskWake);
        match now.woken {
            Some(cause) => (TaskState::Ready, cause),
            None if tells_wakes && is_whole && !now.may_be_woken => {
                (TaskState::Idle, now.waits.unwrap_or(Reason::UNKNOWN))
            }
            None => (TaskState::Unknown, Reason::UNKNOWN),
        }
    }

    /// The end of a poll after another thread has begun the next one: the clocks of the two differ.
    fn is_late_end(&mut self, index: TaskIndex, thread: ThreadIndex, time_ns: u64) -> bool {
        let Doubt::Overlapped { tile, thread: before } = self.task_now(index).doubt else {
            return false;
        };
        let spans = &mut self.model.tasks[index.0 as usize].spans;
        let next_ns = spans.get(tile as usize + 1).map_or(0, |next| next.start_ns);
        let is_late = before == thread && time_ns <= next_ns.saturating_add(TOLERANCE_NS);
        let is_next_over = spans.len() > tile as usize + 2;
        let is_same = spans.last().and_then(TaskSpan::thread) == Some(thread) && !is_next_over;
        if is_late && !is_same {
            if let Some(span) = spans.get_mut(tile as usize) {
                span.state = TaskState::Polling;
            }
            self.task_now(index).doubt = Doubt::None;
            return true;
        }
        false
    }

    pub(super) fn task_end(&mut self, runtime: u32, event: &RuntimeEvent) {
        let index = self.task_index(runtime, event.task);
        let why = match event.aux {
            END_COMPLETED => Why::Completed,
            END_CANCELLED => Why::Cancelled,
            END_PANICKED => Why::Panicked,
            _ => Why::Unknown,
        };
        let time_ns = self.clamp(event.header.time_ns);
        let spans = &mut self.model.tasks[index.0 as usize].spans;
        match spans.last_mut() {
            Some(last) if last.state == TaskState::Done => last.set_reason(Reason::only(why)),
            _ => self.task_to(index, (time_ns, TaskState::Done, Reason::only(why))),
        }
    }

    pub(super) fn io_wait(&mut self, runtime: u32, event: &RuntimeEvent, begins: bool) {
        let index = self.task_index(runtime, event.task);
        let waits = begins.then(|| self.file_wait(runtime, event));
        if self.task_state(index) == Some(TaskState::Polling) {
            self.task_now(index).waits = waits;
        }
    }

    /// What the directory says of a task. The rings say when something happens, so its state counts
    /// only where they have said nothing.
    pub(super) fn task_entry(&mut self, runtime: u32, entry: &TaskEntry) {
        let index = self.task_index(runtime, entry.task);
        let parent = (entry.parent != 0).then(|| self.task_index(runtime, entry.parent));
        let wait = self.directory_wait(runtime, entry);
        let time_ns = self.clamp(entry.header.time_ns);
        let worker = self.worker_thread(runtime, entry.worker);
        let task = &mut self.model.tasks[index.0 as usize];
        task.parent = task.parent.or(parent);
        task.text = entry.name;
        task.site = entry.header.arg;
        task.priority = u8::try_from(entry.priority).ok();
        task.spawned_ns = entry.spawned_ns;
        let last = task.spans.last_mut();
        match last {
            Some(last) if last.state == TaskState::Idle => {
                if last.why == Why::Unknown && entry.state == TASK_IDLE {
                    last.set_reason(wait);
                }
                return;
            }
            Some(last) if last.state != TaskState::Unknown => return,
            _ => {}
        }
        let (state, reason) = match (entry.state, worker) {
            (TASK_IDLE, _) => (TaskState::Idle, wait),
            (TASK_READY, _) => (TaskState::Ready, Reason::UNKNOWN),
            (TASK_POLLING, Some(thread)) => {
                (TaskState::Polling, Reason::thread(Why::Unknown, thread))
            }
            (TASK_DONE, _) => (TaskState::Done, Reason::UNKNOWN),
            _ => (TaskState::Unknown, Reason::UNKNOWN),
        };
        self.task_to(index, (time_ns, state, reason));
    }

    fn forget_last(&mut self, index: TaskIndex) {
        if let Some(last) = self.model.tasks[index.0 as usize].spans.last_mut() {
            last.state = TaskState::Unknown;
            last.set_reason(Reason::UNKNOWN);
        }
    }

    pub(super) fn last_span(&self, index: TaskIndex) -> Option<TaskSpan> {
        self.model.task(index).spans.last().copied()
    }

    fn task_state(&self, index: TaskIndex) -> Option<TaskState> {
        self.last_span(index).map(|span| span.state)
    }

    pub(super) fn task_now(&mut self, index: TaskIndex) -> &mut TaskNow {
        &mut self.runtimes.tasks[index.0 as usize]
    }

    /// Times before the recording are its start: a runtime remembers what was before.
    pub(super) fn clamp(&self, time_ns: u64) -> u64 {
        time_ns.max(self.model.start_ns)
    }

    /// Begins a tile of a task's life.
    fn task_to(&mut self, index: TaskIndex, (time_ns, state, reason): (u64, TaskState, Reason)) {
        let task = &mut self.model.tasks[index.0 as usize];
        let floor_ns = task.spans.last().map_or(0, |last| last.start_ns);
        let span = TaskSpan::new(time_ns.max(floor_ns), state, reason);
        match task.spans.last_mut() {
            Some(last) if last.start_ns == span.start_ns => *last = span,
            _ => task.spans.push(span),
        }
        if task.spans.len() == 1 {
            task.start_ns = span.start_ns;
        }
    }

    pub(super) fn task_index(&mut self, runtime: u32, id: u64) -> TaskIndex {
        let next = TaskIndex(u32::try_from(self.model.tasks.len()).unwrap_or(u32::MAX));
        let index = *self.runtimes.by_task.entry((runtime, id)).or_insert(next);
        if index == next {
            self.runtimes.tasks.push(TaskNow::default());
            self.model.tasks.push(Task {
                runtime,
                id,
                text: 0,
                site: 0,
                parent: None,
                priority: None,
                spawned_ns: 0,
                start_ns: 0,
                end_ns: 0,
                polls: 0,
                spans: Vec::new(),
            });
        }
        index
    }

    /// Ends every task's life with its end or the recording's, and cuts what comes after.
    pub(super) fn finish_tasks(&mut self) {
        let end_ns = self.model.end_ns;
        for task in &mut self.model.tasks {
            let kept = task.spans.partition_point(|span| span.start_ns <= end_ns);
            task.spans.truncate(kept);
            task.spans.shrink_to_fit();
            task.start_ns = task.start_ns.min(end_ns);
            task.end_ns = match task.spans.last() {
                Some(last) if last.state == TaskState::Done => last.start_ns,
                Some(_) => end_ns,
                None => task.start_ns,
            };
        }
    }
}
