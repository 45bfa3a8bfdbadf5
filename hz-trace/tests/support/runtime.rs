//! A small async runtime on the threads of the small scheduler: it writes the records that its ring
//! would carry, and knows what really happened.
//!
//! Its workers are the target's threads. One acts only while the scheduler has it on a CPU, so that
//! polls are interrupted, preempted and put to sleep as the scheduler likes.

use super::scheduler::{START_NS, Scheduler, TARGET_PID};
use hz_probes_ebpf::{
    Header, Kind,
    runtime::{
        END_CANCELLED, END_COMPLETED, END_PANICKED, IO_ACCEPT, IO_READ, IO_WRITE, POLL_PANICKED,
        POLL_PENDING, POLL_READY, RuntimeEvent, RuntimeFound, RuntimeThread, SpawnSite, TEXT_BYTES,
        Text, WAKE_CANCEL, WAKE_CHANNEL, WAKE_IO, WAKE_TASK, WAKE_THREAD, WAKE_TIMER, WAKE_YIELD,
    },
};
use hz_trace::model::{TaskState, Why};
use std::collections::BTreeMap;
use zerocopy::{Immutable, IntoBytes};

/// A tile of a task's life, as it really was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Was {
    pub(crate) start_ns: u64,
    pub(crate) state: TaskState,
    pub(crate) why: Why,
    /// Who polled it.
    pub(crate) tid: u32,
}

/// A task of the simulation.
#[derive(Clone, Debug)]
pub(crate) struct Future {
    pub(crate) id: u64,
    pub(crate) parent: u64,
    pub(crate) life: Vec<Was>,
    pub(crate) polls: u64,
    waits: Why,
}

impl Future {
    pub(crate) fn state(&self) -> TaskState {
        self.life.last().map_or(TaskState::Unknown, |was| was.state)
    }
}

/// A record of the runtime, by the thread that wrote it.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) tid: u32,
    pub(crate) time_ns: u64,
    /// Its place among the records of all.
    pub(crate) place: usize,
}

/// The runtime and the scheduler below it.
#[derive(Debug)]
pub(crate) struct Runtime {
    pub(crate) scheduler: Scheduler,
    pub(crate) futures: Vec<Future>,
    /// What rings carried.
    pub(crate) told: Vec<Told>,
    /// What each thread polls.
    polling: BTreeMap<u32, usize>,
    workers: BTreeMap<u32, u32>,
}

const SITES: [(&str, u32); 3] = [("accept", 12), ("connection", 31), ("", 44)];

impl Runtime {
    pub(crate) fn new(scheduler: Scheduler) -> Self {
        let mut new = Self {
            scheduler,
            futures: Vec::new(),
            told: Vec::new(),
            polling: BTreeMap::new(),
            workers: BTreeMap::new(),
        };
        let offered_kinds =
            (0x00ff_ffff & !Kind::BufferTaken.runtime_bit()) & !Kind::BufferReturned.runtime_bit();
        let header = new.header(Kind::RuntimeFound, 0, 2);
        let (flight_kinds, asked_kinds, alloc_mean_bytes) = (0, u64::MAX, 0);
        new.emit(&RuntimeFound {
            header,
            flight_kinds,
            asked_kinds,
            offered_kinds,
            alloc_mean_bytes,
        });
        new.text(1, "/home/me/api/src/main.rs");
        for (number, (name, line)) in (1_u32..).zip(SITES) {
            if !name.is_empty() {
                new.text(number + 10, name);
            }
            let header = new.header(Kind::SpawnSite, 0, number);
            let name = if name.is_empty() { 0 } else { number + 10 };
            new.emit(&SpawnSite { header, name, file: 1, line, column: 5, ..SpawnSite::default() });
        }
        new
    }

    /// Lets the scheduler or a thread that has a CPU do one thing, which `choice` chooses.
    pub(crate) fn step(&mut self, choice: u32) {
        let cpu = choice as usize % self.scheduler.current.len();
        let pick = (choice >> 11) as usize;
        let thread = self.scheduler.current[cpu].map(|place| &self.scheduler.tasks[place]);
        let thread = thread.filter(|thread| thread.is_target).map(|thread| thread.tid);
        match thread {
            Some(tid) if !(choice >> 4).is_multiple_of(4) => {
                self.scheduler.now_ns += 300 + u64::from(choice >> 18);
                self.act(tid, pick);
            }
            // Threads of a runtime seldom begin or end.
            _ if matches!((choice.rotate_left(9) >> 4) % 16, 13 | 14)
                && !pick.is_multiple_of(64) => {}
            _ => self.scheduler.step(choice.rotate_left(9)),
        }
    }

    fn act(&mut self, tid: u32, pick: usize) {
        self.take_ring(tid);
        match self.polling.get(&tid).copied() {
            Some(future) => match pick % 8 {
                0 | 1 => self.end_poll(tid, future, pick >> 3),
                2 => self.spawn(tid, future, pick >> 3),
                3 | 4 => self.wake(tid, pick >> 3),
                5 => self.wait_for_file(tid, future, pick >> 3),
                6 => self.cancel(tid, pick >> 3),
                _ => self.depth(tid, pick >> 3),
            },
            None => match pick % 8 {
                0..4 => self.begin_poll(tid, pick >> 3),
                4 => self.wake(tid, pick >> 3),
                5 => self.spawn(tid, usize::MAX, pick >> 3),
                6 => self.steal(tid, pick >> 3),
                _ => self.park(tid),
            },
        }
    }

    fn header(&self, kind: Kind, tid: u32, arg: u32) -> Header {
        let time_ns = self.scheduler.now_ns;
        Header { time_ns, kind: kind as u16, cpu: u16::MAX, tid, pid: TARGET_PID, arg }
    }

    fn emit(&mut self, record: &(impl IntoBytes + Immutable)) {
        self.scheduler.records.push((100, record.as_bytes().to_vec()));
    }

    fn text(&mut self, number: u32, text: &str) {
        let mut bytes = [0; TEXT_BYTES];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        let header = self.header(Kind::Text, 0, number);
        self.emit(&Text { header, bytes: text.len() as u32, text: bytes });
    }

    /// What a ring carries.
    fn tell(&mut self, kind: Kind, (tid, arg): (u32, u32), (task, value, aux): (u64, u64, u32)) {
        self.scheduler.now_ns += 40;
        let header = self.header(kind, tid, arg);
        let place = self.scheduler.records.len();
        self.told.push(Told { tid, time_ns: header.time_ns, place });
        self.emit(&RuntimeEvent { header, task, value, aux, reserved: 0 });
    }

    fn take_ring(&mut self, tid: u32) {
        let next = self.workers.len() as u32;
        if let std::collections::btree_map::Entry::Vacant(free) = self.workers.entry(tid) {
            free.insert(next);
            let header = self.header(Kind::RuntimeThread, tid, next);
            self.emit(&RuntimeThread { header });
        }
    }

    fn become_(&mut self, future: usize, state: TaskState, why: Why, tid: u32) {
        let start_ns = self.scheduler.now_ns;
        self.futures[future].life.push(Was { start_ns, state, why, tid });
    }

    fn find(&self, pick: usize, states: &[TaskState]) -> Option<usize> {
        let found: Vec<usize> = (0..self.futures.len())
            .filter(|place| states.contains(&self.futures[*place].state()))
            .collect();
        (!found.is_empty()).then(|| found[pick % found.len()])
    }

    fn spawn(&mut self, tid: u32, parent: usize, pick: usize) {
        let id = self.futures.len() as u64 + 1;
        let parent = self.futures.get(parent).map_or(0, |parent| parent.id);
        let site = (pick % SITES.len()) as u32 + 1;
        self.tell(Kind::TaskSpawn, (tid, site), (id, parent, 2));
        self.futures.push(Future { id, parent, life: Vec::new(), polls: 0, waits: Why::Unknown });
        self.become_(self.futures.len() - 1, TaskState::Ready, Why::Spawn, tid);
    }

    fn begin_poll(&mut self, tid: u32, pick: usize) {
        let Some(future) = self.find(pick, &[TaskState::Ready]) else { return };
        let id = self.futures[future].id;
        self.tell(Kind::PollBegin, (tid, self.workers[&tid]), (id, 0, 2));
        self.futures[future].polls += 1;
        self.futures[future].waits = Why::Unknown;
        self.polling.insert(tid, future);
        self.become_(future, TaskState::Polling, Why::Poll, tid);
    }

    fn end_poll(&mut self, tid: u32, future: usize, pick: usize) {
        let worker = self.workers[&tid];
        let (id, polls) = (self.futures[future].id, self.futures[future].polls);
        self.polling.remove(&tid);
        let (result, end, how) = match pick % 8 {
            0 => (POLL_READY, END_COMPLETED, Why::Completed),
            1 => (POLL_PANICKED, END_PANICKED, Why::Panicked),
            _ => (POLL_PENDING, 0, Why::Unknown),
        };
        self.tell(Kind::PollEnd, (tid, worker), (id, 0, result));
        if result != POLL_PENDING {
            self.become_(future, TaskState::Done, how, tid);
            return self.tell(Kind::TaskEnd, (tid, worker), (id, polls, end));
        }
        let waits = self.futures[future].waits;
        self.become_(future, TaskState::Idle, waits, tid);
        if pick % 8 == 2 {
            self.tell(Kind::TaskWake, (tid, 0), (id, 0, WAKE_YIELD));
            self.become_(future, TaskState::Ready, Why::Yield, tid);
        }
    }

    fn wake(&mut self, tid: u32, pick: usize) {
        let Some(future) = self.find(pick, &[TaskState::Idle]) else { return };
        let id = self.futures[future].id;
        let waker = self.polling.get(&tid).map(|waker| self.futures[*waker].id);
        let (why, arg, value, aux) = match (self.futures[future].waits, pick % 4) {
            (Why::Read | Why::Write | Why::Accept, _) => (Why::File, id as u32 + 2, id, WAKE_IO),
            (_, 0) => (Why::Timer, 0, 0, WAKE_TIMER),
            (_, 1) => (Why::Channel, 0, 0x1000, WAKE_CHANNEL),
            _ => match waker {
                Some(waker) => (Why::Task, 0, waker, WAKE_TASK),
                None => (Why::Thread, 0, 0, WAKE_THREAD),
            },
        };
        self.tell(Kind::TaskWake, (tid, arg), (id, value, aux));
        self.become_(future, TaskState::Ready, why, tid);
        if why == Why::Timer {
            self.tell(Kind::TimerFired, (tid, 0), (id, 1_000 + pick as u64 % 7_000, 0));
        }
    }

    fn wait_for_file(&mut self, tid: u32, future: usize, pick: usize) {
        let (aux, why) =
            [(IO_READ, Why::Read), (IO_WRITE, Why::Write), (IO_ACCEPT, Why::Accept)][pick % 3];
        let id = self.futures[future].id;
        self.tell(Kind::IoWaitBegin, (tid, id as u32 + 2), (id, id, aux));
        self.futures[future].waits = why;
    }

    fn cancel(&mut self, tid: u32, pick: usize) {
        let waiting = self.find(pick, &[TaskState::Ready, TaskState::Idle]);
        let Some(future) = waiting.filter(|_| pick.is_multiple_of(5)) else { return };
        let Future { id, polls, .. } = self.futures[future];
        if self.futures[future].state() == TaskState::Idle {
            self.tell(Kind::TaskWake, (tid, 0), (id, 0, WAKE_CANCEL));
            self.become_(future, TaskState::Ready, Why::Cancel, tid);
        }
        self.tell(Kind::TaskEnd, (tid, self.workers[&tid]), (id, polls, END_CANCELLED));
        self.become_(future, TaskState::Done, Why::Cancelled, tid);
    }

    fn depth(&mut self, tid: u32, pick: usize) {
        let ready = self.futures.iter().filter(|each| each.state() == TaskState::Ready).count();
        let value = (ready as u64) << 32 | (pick as u64 % 3);
        self.tell(Kind::QueueDepth, (tid, self.workers[&tid]), (0, value, 0));
    }

    fn steal(&mut self, tid: u32, pick: usize) {
        let own = self.workers[&tid];
        let from = pick as u32 % self.workers.len() as u32;
        if from != own {
            self.tell(Kind::Steal, (tid, own), (0, 1 + pick as u64 % 4, from));
        }
    }

    fn park(&mut self, tid: u32) {
        let worker = self.workers[&tid];
        self.tell(Kind::Park, (tid, worker), (0, 0, 0));
        self.tell(Kind::Unpark, (tid, worker), (0, 0, 0));
    }
}

/// A runtime that did what `choices` choose.
pub(crate) fn simulated(cpus: u16, is_filtered: bool, choices: &[u32]) -> Runtime {
    let mut runtime = Runtime::new(Scheduler::new(cpus, is_filtered));
    assert!(runtime.scheduler.now_ns >= START_NS);
    choices.iter().for_each(|choice| runtime.step(*choice));
    runtime.scheduler.finish();
    runtime
}
