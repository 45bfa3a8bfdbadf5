//! Tasks as the picture shows them: what the kernel did while they were polled is part of their
//! life, and whoever has a CPU is the task that its thread polls.
//!
//! The lanes of threads know how to draw a life and the lanes of CPUs who ran. So a task's life is
//! told in the states of threads, and tasks and their reasons are numbered after the threads.

use crate::analyze::{SocketIdle, SocketWaits, idle_words, tiles_in};
use crate::model::{
    Model, Object, Run, Span, State, Task, TaskIndex, TaskSpan, TaskState, TaskTile, ThreadIndex,
    Tile, Waker, Who, Why,
};
use crate::text::duration;
use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::ops::Range;

/// Tasks with a lane of their own; the rest share lanes by name.
const LANES: usize = 24;

/// Names that have a lane of the tasks without one; the rest share the last.
const FOLDS: usize = 8;

/// Times in which the sockets of a task waited that its lane shows, the worst.
const WAITS: usize = 100;

/// Tasks of which one is pointed out, and how long it is at least: in nanoseconds, and as a part of
/// the picture.
const NOTES: usize = 4;
const NOTED_NS: u64 = 1_000_000;
const NOTED_PART: u64 = 500;

/// The CPU of a task that was not polled yet.
const NO_CPU: u16 = u16::MAX;

/// A poll of a task by a thread.
#[derive(Clone, Copy, Debug)]
struct Poll {
    start_ns: u64,
    end_ns: u64,
    task: TaskIndex,
}

/// A task's lane.
#[derive(Clone, Debug)]
pub(super) struct OwnLane {
    pub(super) task: TaskIndex,
    pub(super) tiles: Vec<Tile>,
    /// When the sockets waited that it waited for.
    pub(super) waits: Vec<SocketWaited>,
}

/// A time in which a task was idle because its socket waited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SocketWaited {
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
    /// How long the task was idle and how much of it the socket waited for what.
    pub(super) words: String,
    /// How long the socket waited meanwhile.
    pub(super) caused_ns: u64,
}

/// The lane of tasks of one name.
#[derive(Clone, Debug)]
pub(super) struct Fold {
    pub(super) name: String,
    pub(super) tasks: Vec<TaskIndex>,
}

/// The tasks of the picture.
#[derive(Clone, Debug, Default)]
pub(super) struct TaskLanes {
    /// The busiest first.
    pub(super) own: Vec<OwnLane>,
    pub(super) folds: Vec<Fold>,
    /// Places among `own` of the tasks of which the worst such time is pointed out.
    pub(super) notes: Vec<usize>,
    /// What tasks wait for or are woken by, and in which process.
    reasons: Vec<(u32, String)>,
    /// By thread, in order.
    polls: FxHashMap<ThreadIndex, Vec<Poll>>,
}

/// Who or what a number after the threads' is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Thread(ThreadIndex),
    Task(TaskIndex),
    Reason(usize),
}

/// The number of a task among those who run.
pub(super) fn as_runner(model: &Model, task: TaskIndex) -> ThreadIndex {
    let threads = u32::try_from(model.threads.len()).unwrap_or(u32::MAX);
    ThreadIndex(threads.saturating_add(task.0))
}

/// Who has a number.
pub(super) fn part(model: &Model, index: ThreadIndex) -> Part {
    let place = index.0 as usize;
    match place.checked_sub(model.threads.len()) {
        None => Part::Thread(index),
        Some(place) => match place.checked_sub(model.tasks.len()) {
            None => Part::Task(TaskIndex(u32::try_from(place).unwrap_or(u32::MAX))),
            Some(reason) => Part::Reason(reason),
        },
    }
}

/// `report (task 12)`.
pub(super) fn task_words(model: &Model, task: TaskIndex) -> String {
    format!("{} (task {})", model.task_name(task), model.task(task).id)
}

/// Nanoseconds of polls in `time`.
fn busy_ns(task: &Task, time: &Range<u64>) -> u64 {
    let polls = task.tiles().filter(|tile| tile.span.state == TaskState::Polling);
    polls
        .map(|tile| tile.end_ns.min(time.end).saturating_sub(tile.span.start_ns.max(time.start)))
        .sum()
}

impl TaskLanes {
    /// Gives lanes to the tasks that were polled longest.
    pub(super) fn of(model: &Model, time: &Range<u64>) -> Self {
        let mut tasks: Vec<(Reverse<u64>, TaskIndex)> = (0_u32..)
            .map(TaskIndex)
            .zip(&model.tasks)
            .filter(|(_, task)| is_there(task, time))
            .map(|(index, task)| (Reverse(busy_ns(task, time)), index))
            .collect();
        tasks.sort_unstable();
        // One more lane costs no more height than the lane of a single folded task.
        let own = if tasks.len() > LANES + 1 { LANES } else { tasks.len() };
        let mut lanes = Self { polls: polls(model), ..Self::default() };
        let sockets = SocketWaits::of(model);
        for (_, task) in &tasks[..own] {
            let tiles = lanes.tiles(model, *task, time);
            let waits = socket_waits(model, &sockets, (*task, time));
            lanes.own.push(OwnLane { task: *task, tiles, waits });
        }
        lanes.choose_notes(time);
        lanes.fold(model, tasks[own..].iter().map(|(_, task)| *task));
        lanes
    }

    /// Points out the worst times that sockets waited, of different tasks.
    fn choose_notes(&mut self, time: &Range<u64>) {
        let least_ns = (time.end.saturating_sub(time.start) / NOTED_PART).max(NOTED_NS);
        let worst = self.own.iter().enumerate().filter_map(|(place, own)| {
            let wait = self.note(own)?;
            (wait.caused_ns >= least_ns).then_some((Reverse(wait.caused_ns), place))
        });
        let mut worst: Vec<(Reverse<u64>, usize)> = worst.collect();
        worst.sort_unstable();
        self.notes = worst.into_iter().take(NOTES).map(|(_, place)| place).collect();
    }

    /// The worst of the times that the sockets of a task waited.
    pub(super) fn note<'a>(&self, own: &'a OwnLane) -> Option<&'a SocketWaited> {
        own.waits.iter().max_by_key(|wait| (wait.caused_ns, Reverse(wait.start_ns)))
    }

    fn fold(&mut self, model: &Model, tasks: impl Iterator<Item = TaskIndex>) {
        let mut by_name: FxHashMap<String, usize> = FxHashMap::default();
        for task in tasks {
            let name = model.task_name(task);
            let known = by_name.get(&name).copied();
            let place = known.unwrap_or_else(|| self.folds.len().min(FOLDS));
            if place == self.folds.len() {
                let name = if place == FOLDS { "others".to_owned() } else { name.clone() };
                self.folds.push(Fold { name, tasks: Vec::new() });
            }
            if place < FOLDS {
                by_name.entry(name).or_insert(place);
            }
            self.folds[place].tasks.push(task);
        }
    }

    /// The life of a task in `time`, and why it was ready or idle.
    fn tiles(&mut self, model: &Model, index: TaskIndex, time: &Range<u64>) -> Vec<Tile> {
        let mut known: FxHashMap<(Why, Option<u32>), Waker> = FxHashMap::default();
        let mut tiles = Vec::new();
        let task = model.task(index);
        for tile in task.tiles() {
            let from = tiles.len();
            add_tiles(model, &tile, time, &mut tiles);
            let span = tile.span;
            if tiles.len() > from && matches!(span.state, TaskState::Ready | TaskState::Idle) {
                let object = span.object().map(|object| object.0);
                let subject = object.or(span.task().map(|task| task.0));
                let waker = *known
                    .entry((span.why, subject))
                    .or_insert_with(|| self.reason(model, task, &span));
                tiles[from].span.waker = waker;
            }
        }
        // Before its first poll it was on no CPU, and did not move to the first.
        if let Some(first) =
            tiles.iter().map(|tile: &Tile| tile.span.cpu).find(|cpu| *cpu != NO_CPU)
        {
            let before = tiles.iter_mut().take_while(|tile| tile.span.cpu == NO_CPU);
            before.for_each(|tile| tile.span.cpu = first);
        }
        tiles
    }

    fn reason(&mut self, model: &Model, task: &Task, span: &TaskSpan) -> Waker {
        if let Some(thread) = span.thread() {
            return Waker::Thread(thread);
        }
        if let (Why::Task, Some(task)) = (span.why, span.task()) {
            return Waker::Thread(as_runner(model, task));
        }
        let Some(words) = reason_words(model, span) else { return Waker::Unknown };
        let pid = model.runtimes.get(task.runtime as usize).map_or(0, |runtime| runtime.pid);
        let next = model.threads.len() + model.tasks.len() + self.reasons.len();
        self.reasons.push((pid, words));
        Waker::Thread(ThreadIndex(u32::try_from(next).unwrap_or(u32::MAX)))
    }

    /// Process and words of a reason.
    pub(super) fn reason_at(&self, place: usize) -> (u32, String) {
        self.reasons.get(place).cloned().unwrap_or_default()
    }

    /// How many polls there are.
    pub(super) fn polls(&self) -> u64 {
        self.polls.values().map(|polls| polls.len() as u64).sum()
    }

    /// Who had a CPU, split where its thread begins and ends polls.
    pub(super) fn split<'a>(
        &'a self,
        model: &'a Model,
        runs: impl Iterator<Item = (Run, u64)> + 'a,
    ) -> impl Iterator<Item = (Run, u64)> + 'a {
        runs.flat_map(move |(run, end_ns)| {
            let polls = match run.who {
                Who::Thread(thread) => self.polls.get(&thread).map_or(&[][..], Vec::as_slice),
                _ => &[],
            };
            let place = polls.partition_point(|poll| poll.end_ns <= run.start_ns);
            Pieces { model, run, at_ns: run.start_ns, end_ns, polls: &polls[place..] }
        })
    }
}

/// A run, piece by piece.
#[derive(Debug)]
struct Pieces<'a> {
    model: &'a Model,
    run: Run,
    at_ns: u64,
    end_ns: u64,
    polls: &'a [Poll],
}

impl Iterator for Pieces<'_> {
    type Item = (Run, u64);

    fn next(&mut self) -> Option<Self::Item> {
        let start_ns = self.at_ns;
        if start_ns >= self.end_ns {
            return None;
        }
        while let [poll, rest @ ..] = self.polls
            && poll.end_ns <= start_ns
        {
            self.polls = rest;
        }
        let (until_ns, who) = match self.polls.first() {
            Some(poll) if poll.start_ns <= start_ns => {
                (poll.end_ns, Who::Thread(as_runner(self.model, poll.task)))
            }
            Some(poll) => (poll.start_ns, self.run.who),
            None => (self.end_ns, self.run.who),
        };
        self.at_ns = until_ns.min(self.end_ns);
        Some((Run { start_ns, who }, self.at_ns))
    }
}

/// The times in which a task was idle because its socket waited.
fn socket_waits(
    model: &Model,
    sockets: &SocketWaits,
    (index, time): (TaskIndex, &Range<u64>),
) -> Vec<SocketWaited> {
    let idle = model
        .task(index)
        .tiles()
        .filter(|tile| tile.span.start_ns < time.end && tile.end_ns > time.start);
    let mut waits: Vec<SocketWaited> = idle
        .filter_map(|tile| {
            let SocketIdle { socket, causes } = sockets.why(model, &tile)?;
            let caused_ns: u64 = causes.iter().map(|cause| cause.duration_ns).sum();
            // What is a small part of a wait does not explain it.
            if caused_ns * 10 < tile.duration_ns() {
                return None;
            }
            let longest_ns = causes.first().map_or(0, |cause| cause.duration_ns);
            let parts: Vec<String> = causes
                .iter()
                .filter(|cause| cause.duration_ns * 20 >= longest_ns)
                .map(|cause| format!("{} for {}", duration(cause.duration_ns), cause.words()))
                .collect();
            let words = format!(
                "idle {} on {} {}: {}",
                duration(tile.duration_ns()),
                idle_words(tile.span.why),
                model.network.socket(socket).peer(),
                parts.join(", "),
            );
            let (start_ns, end_ns) = (tile.span.start_ns, tile.end_ns);
            Some(SocketWaited { start_ns, end_ns, words, caused_ns })
        })
        .collect();
    if waits.len() > WAITS {
        waits.sort_by_key(|wait| Reverse(wait.caused_ns));
        waits.truncate(WAITS);
        waits.sort_by_key(|wait| wait.start_ns);
    }
    waits
}

fn is_there(task: &Task, time: &Range<u64>) -> bool {
    !task.spans.is_empty() && task.start_ns < time.end && task.end_ns >= time.start
}

fn polls(model: &Model) -> FxHashMap<ThreadIndex, Vec<Poll>> {
    let mut polls: FxHashMap<ThreadIndex, Vec<Poll>> = FxHashMap::default();
    for (task, each) in (0_u32..).map(TaskIndex).zip(&model.tasks) {
        for tile in each.tiles().filter(|tile| tile.span.state == TaskState::Polling) {
            let Some(thread) = tile.span.thread() else { continue };
            let poll = Poll { start_ns: tile.span.start_ns, end_ns: tile.end_ns, task };
            polls.entry(thread).or_default().push(poll);
        }
    }
    polls.values_mut().for_each(|polls| polls.sort_unstable_by_key(|poll| poll.start_ns));
    polls
}

/// Adds what of a task's tile is in `time`, in the states of threads.
pub(super) fn add_tiles(model: &Model, tile: &TaskTile, time: &Range<u64>, tiles: &mut Vec<Tile>) {
    let (start_ns, end_ns) = (tile.span.start_ns.max(time.start), tile.end_ns.min(time.end));
    if start_ns >= end_ns {
        return;
    }
    let cpu = tiles.last().map_or(NO_CPU, |last| last.span.cpu);
    let waker = Waker::Unknown;
    let whole = |state| Tile { span: Span { start_ns, state, cpu, waker }, end_ns };
    match (tile.span.state, tile.span.thread()) {
        (TaskState::Ready, _) => tiles.push(whole(State::Woken)),
        (TaskState::Idle, _) => tiles.push(whole(State::Sleeping)),
        (TaskState::Polling, Some(thread)) => {
            let mut at_ns = start_ns;
            for part in tiles_in(model.thread(thread), start_ns, end_ns) {
                let mut part = part;
                if part.span.start_ns > at_ns {
                    tiles.push(whole_until(whole(State::New), at_ns, part.span.start_ns));
                }
                part.span.state = in_poll(part.span.state);
                part.span.waker = waker;
                at_ns = part.end_ns;
                tiles.push(part);
            }
            if at_ns < end_ns {
                tiles.push(whole_until(whole(State::New), at_ns, end_ns));
            }
        }
        (TaskState::Done, _) => {}
        _ => tiles.push(whole(State::Unknown)),
    }
}

const fn whole_until(mut tile: Tile, start_ns: u64, end_ns: u64) -> Tile {
    tile.span.start_ns = start_ns;
    tile.end_ns = end_ns;
    tile
}

/// What a task in a poll did, by what its thread did.
const fn in_poll(state: State) -> State {
    match state {
        State::Woken | State::Preempted => State::Preempted,
        State::Sleeping | State::Stopped | State::Uninterruptible => State::Uninterruptible,
        State::Unknown | State::New => State::New,
        State::Running => State::Running,
    }
}

/// What a task waited for, or what woke it.
fn reason_words(model: &Model, span: &TaskSpan) -> Option<String> {
    let object = span.object().and_then(|object| model.objects.get(object.0 as usize));
    let object = match object {
        Some(Object::File { fd, cookie: 0, .. }) => format!("file {fd}"),
        Some(Object::File { fd, cookie, .. }) => socket_words(model, *fd, *cookie),
        Some(Object::Memory { address, .. }) => format!("{address:#x}"),
        None => String::new(),
    };
    let words = match span.why {
        Why::Spawn => "its spawn".to_owned(),
        Why::File => object,
        Why::Read => format!("{object} to read"),
        Why::Write => format!("{object} to write"),
        Why::Accept => format!("{object} to accept"),
        Why::Connect => format!("{object} to connect"),
        Why::Timer => "a timer".to_owned(),
        Why::Channel => format!("channel {object}"),
        Why::Lock => format!("lock {object}"),
        Why::Cancel => "its cancellation".to_owned(),
        Why::Join => format!("the end of {}", task_words(model, span.task()?)),
        Why::Yield => "itself: it yielded".to_owned(),
        Why::Blocking => "the blocking pool".to_owned(),
        Why::Buffer => "a buffer of the pool".to_owned(),
        _ => return None,
    };
    Some(words)
}

/// A socket, with its other end if that is known.
fn socket_words(model: &Model, fd: u32, cookie: u64) -> String {
    let socket = model.network.sockets.iter().find(|socket| socket.cookie == cookie);
    match socket.filter(|socket| socket.peer().port() != 0) {
        Some(socket) => format!("socket {fd} (→ {})", socket.peer()),
        None => format!("socket {fd}"),
    }
}
