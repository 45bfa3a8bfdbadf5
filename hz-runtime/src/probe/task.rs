//! The probes of one task's life.

use super::directory::Identity;
use super::emit::{Record, emit, words};
use super::thread::{self, Current, Local};
use super::usdt::{self, Gate};
use super::words::TaskWords;
use super::{Activity, Cause, cause, memory, tables};
use hz_probes_ebpf::Kind;
use hz_probes_ebpf::runtime::{
    END_CANCELLED, END_COMPLETED, END_PANICKED, END_UNKNOWN, POLL_OVER, POLL_PANICKED,
    POLL_PENDING, POLL_READY, TASK_DONE, WAKE_SPAWN,
};
use std::mem;
use std::panic::Location;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;

/// What is known of a task when it is spawned.
#[derive(Clone, Copy, Debug)]
pub struct Spawn<'a> {
    /// Its name, if it has one; interned.
    pub name: Option<&'a str>,
    /// Where it was spawned.
    pub location: &'static Location<'static>,
    /// Type of its future (`std::any::type_name`); empty: not known.
    pub future: &'static str,
    /// Size of its future, bytes.
    pub future_bytes: usize,
    /// Priority, 0 the highest of four.
    pub priority: u8,
}

/// How a poll ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PollEnd {
    /// The task goes on later.
    Pending,
    /// The task has its result.
    Ready,
    /// The task panicked.
    Panicked,
    /// The task is over; the runtime does not know how.
    Over,
}

impl PollEnd {
    #[inline]
    const fn wire(self) -> u32 {
        match self {
            Self::Pending => POLL_PENDING,
            Self::Ready => POLL_READY,
            Self::Panicked => POLL_PANICKED,
            Self::Over => POLL_OVER,
        }
    }
}

/// What was being polled when [`TaskProbe::poll_begin`] was called: nothing, or the task that blocks
/// on this one.
#[derive(Clone, Copy, Debug)]
#[must_use = "the poll ends with it"]
pub struct Enclosing(Current);

/// A task's id and place in the task directory, kept beside its future.
///
/// Dropped without [`Poll::Ready`] or a panic from [`TaskProbe::poll`], it says that the task was
/// cancelled.
#[derive(Debug)]
pub struct TaskProbe {
    id: u64,
    slot: Option<Slot>,
    /// One thread at a time polls: no more than a cell that may be shared.
    polls: AtomicU64,
    is_over: AtomicBool,
    priority: u8,
}

/// A place in the directory.
#[derive(Clone, Copy, Debug)]
struct Slot {
    words: &'static TaskWords,
    index: u32,
}

impl TaskProbe {
    /// Emits `task_spawn` and takes a slot of the task directory.
    #[inline]
    pub fn spawned(spawn: &Spawn<'_>) -> Self {
        let memory = memory::get_or_make(0);
        thread::with(|local| {
            let id = local.task_id();
            local.spawned.set(id);
            let slot = memory.and_then(|memory| enter(local, memory, id, spawn));
            Self {
                id,
                slot,
                polls: AtomicU64::new(0),
                is_over: AtomicBool::new(false),
                priority: spawn.priority,
            }
        })
    }

    /// The task's id: from 1, unique in the process.
    #[must_use]
    #[inline]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Says where the future is, once it does not move any more.
    #[inline]
    pub fn future_at(&self, address: usize) {
        if let Some(slot) = self.slot {
            slot.words.future.store(address as u64, Ordering::Relaxed);
        }
    }

    /// The task as those see it that wake it.
    #[must_use]
    #[inline]
    pub const fn task(&self) -> TaskRef {
        let words = match self.slot {
            Some(slot) => Some(slot.words),
            None => None,
        };
        TaskRef { id: self.id, words }
    }

    /// Emits `poll_begin`, makes the task this thread's current one, polls, emits `poll_end`, and
    /// `task_end` when it is ready or has panicked. A panic goes on.
    #[inline]
    pub fn poll<T>(&self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
        let polling = Polling { probe: self, enclosing: self.poll_begin() };
        let polled = poll();
        let enclosing = polling.enclosing;
        mem::forget(polling);
        self.poll_end(enclosing, if polled.is_ready() { PollEnd::Ready } else { PollEnd::Pending });
        polled
    }

    /// The first half of [`TaskProbe::poll`], for a runtime that calls back before a poll and after
    /// it. [`TaskProbe::poll_end`] must follow on this thread; polls within polls end first.
    #[inline]
    pub fn poll_begin(&self) -> Enclosing {
        thread::with(|local| {
            let worker = local.worker.get();
            emit(Kind::PollBegin, || self.record(u32::from(self.priority), worker, 0));
            // After an event it is that event's.
            let stamp = local.coarse_stamp();
            let polls = self.polls.load(Ordering::Relaxed) + 1;
            self.polls.store(polls, Ordering::Relaxed);
            if let Some(slot) = self.slot {
                slot.words.poll_begins(worker, polls, stamp);
            }
            let words = self.slot.map(|slot| slot.words);
            Enclosing(local.current.replace(Current { task: self.id, words, has_told: false }))
        })
    }

    /// The second half of [`TaskProbe::poll`], with what the first returned.
    // The directory is told before the caller can have the task polled elsewhere.
    #[inline]
    pub fn poll_end(&self, enclosing: Enclosing, end: PollEnd) {
        thread::with(|local| {
            let worker = local.worker.get();
            let has_told = local.current.replace(enclosing.0).has_told;
            emit(Kind::PollEnd, || self.record(end.wire(), worker, 0));
            match end {
                PollEnd::Pending => {
                    if let Some(slot) = self.slot {
                        slot.words.poll_pends(worker, has_told);
                    }
                }
                PollEnd::Ready => self.over(worker, END_COMPLETED),
                PollEnd::Panicked => self.over(worker, END_PANICKED),
                PollEnd::Over => self.over(worker, END_UNKNOWN),
            }
        });
    }

    #[inline]
    fn over(&self, worker: u32, how: u32) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(slot) = self.slot {
            slot.words.set(TASK_DONE, worker);
        }
        emit(Kind::TaskEnd, || self.record(how, worker, self.polls.load(Ordering::Relaxed)));
    }

    #[inline]
    fn record(&self, aux: u32, arg: u32, value: u64) -> Record {
        Record { aux, arg, task: self.id, value }
    }
}

/// Enters a task into the directory and emits `task_spawn`.
#[inline]
fn enter(
    local: &Local,
    memory: &'static memory::Memory,
    task: u64,
    spawn: &Spawn<'_>,
) -> Option<Slot> {
    let names = tables::names(local, memory, spawn);
    let parent = local.current.get().task;
    let gate = Gate::of(Kind::TaskSpawn);
    let stamp = if gate.is_open() { local.tick() } else { local.coarse_stamp() };
    if gate.is_open() {
        emit_spawn(gate, stamp, Record { aux: 0, arg: names.site, task, value: parent }, spawn);
    }
    let place = local.take_slot(memory);
    let Some((index, words)) =
        place.and_then(|index| Some((index, memory.directory.get(index as usize)?)))
    else {
        memory.page.directory_overflow.fetch_add(1, Ordering::Relaxed);
        return None;
    };
    words.enter(&Identity {
        task,
        site: names.site,
        name: names.name,
        parent,
        spawned: stamp,
        priority: u32::from(spawn.priority),
    });
    Some(Slot { words, index })
}

#[inline(never)]
fn emit_spawn(gate: Gate, stamp: u64, record: Record, spawn: &Spawn<'_>) {
    if gate.wants_usdt() {
        usdt::fire_spawn(record.task, record.value, spawn);
    }
    if gate.wants_ring() {
        let record = Record { aux: u32::from(spawn.priority), ..record };
        thread::with(|local| local.write(stamp, words(Kind::TaskSpawn, record)));
    }
}

impl Drop for TaskProbe {
    fn drop(&mut self) {
        if !*self.is_over.get_mut() {
            let polls = *self.polls.get_mut();
            let worker = thread::with(|local| local.worker.get());
            emit(Kind::TaskEnd, || self.record(END_CANCELLED, worker, polls));
        }
        let Some(slot) = self.slot else { return };
        slot.words.leave();
        if let Some(memory) = memory::get() {
            thread::with(|local| local.give_slot(memory, slot.index));
        }
    }
}

/// Ends the poll if it unwinds.
struct Polling<'a> {
    probe: &'a TaskProbe,
    enclosing: Enclosing,
}

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        self.probe.poll_end(self.enclosing, PollEnd::Panicked);
    }
}

/// A task as those see it that wake it. It may outlive the task, and then says nothing.
#[derive(Clone, Copy, Debug)]
pub struct TaskRef {
    id: u64,
    words: Option<&'static TaskWords>,
}

impl TaskRef {
    /// A task of a model, which has no place in the directory.
    #[cfg(all(test, hz_loom))]
    pub(crate) const fn of_model(id: u64) -> Self {
        Self { id, words: None }
    }

    /// The task's id.
    #[must_use]
    #[inline]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Emits `task_wake` with the thread's cause, and marks the task ready. For wakers: the task may do
    /// anything meanwhile, or be gone.
    #[inline]
    pub fn woken(&self) {
        if let Some(words) = self.words {
            words.woken(self.id);
        }
        emit(Kind::TaskWake, || self.wake());
    }

    /// As [`TaskRef::woken`], where an executor puts the task into a queue: until it is there it is
    /// neither polled nor gone, which saves an exchange.
    #[inline]
    pub fn scheduled(&self) {
        self.mark_ready();
        emit(Kind::TaskWake, || self.wake());
    }

    #[inline]
    pub(super) fn mark_ready(&self) {
        if let Some(words) = self.words {
            words.scheduled();
        }
    }

    /// Has its line of the directory brought into the cache: it is about to be woken and polled.
    #[cfg(feature = "executor")]
    #[inline]
    pub(crate) fn fetch_ahead(&self) {
        if let Some(words) = self.words {
            words.fetch_state_ahead();
        }
    }

    /// What the task does right now.
    #[must_use]
    pub fn activity(&self) -> Activity {
        self.words.map_or(Activity::Unknown, |words| Activity::of(words, self.id))
    }

    fn wake(&self) -> Record {
        thread::with(|local| match local.cause.get() {
            Cause::Running if local.spawned.get() == self.id && self.is_unpolled() => {
                local.spawned.set(0);
                Record { aux: WAKE_SPAWN, task: self.id, ..Record::default() }
            }
            cause => cause::record(cause, local.current.get().task, self.id),
        })
    }

    fn is_unpolled(&self) -> bool {
        self.words.is_none_or(|words| words.polls.load(Ordering::Relaxed) == 0)
    }
}
