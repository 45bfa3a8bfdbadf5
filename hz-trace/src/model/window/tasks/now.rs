//! What the fold of tasks knows now.

use super::rows::{LongPoll, LongReady};
use crate::model::window::Histogram;
use hz_probes_ebpf::runtime::{NO_WORKER, SpawnSite, TASK_IDLE};
use rustc_hash::FxHashMap;

/// Worker numbers of a runtime that are kept; more would be a process that lies.
const WORKERS_MAX: usize = 4_096;

/// A process with tasks.
#[derive(Debug, Default)]
pub(super) struct RuntimeNow {
    pub(super) pid: u32,
    pub(super) name: String,
    pub(super) is_gone: bool,
    pub(super) workers: Vec<WorkerNow>,
    pub(super) injector: [u16; 4],
    pub(super) texts: FxHashMap<u32, String>,
    pub(super) sites: FxHashMap<u32, SpawnSite>,
    pub(super) lost: u64,
}

impl RuntimeNow {
    pub(super) fn worker(&mut self, number: u32) -> &mut WorkerNow {
        let known = self.workers.iter().position(|worker| worker.number == number);
        let place = known.unwrap_or_else(|| {
            if self.workers.len() < WORKERS_MAX {
                self.workers.push(WorkerNow { number, ..WorkerNow::default() });
            }
            self.workers.len() - 1
        });
        &mut self.workers[place]
    }

    pub(super) fn clear(&mut self) {
        self.lost = 0;
        for worker in &mut self.workers {
            (worker.busy_ns, worker.polls, worker.steals) = (0, 0, 0);
        }
    }

    pub(super) fn text(&self, number: u32) -> Option<&str> {
        self.texts.get(&number).map(String::as_str).filter(|text| !text.is_empty())
    }
}

/// A thread that runs tasks.
#[derive(Debug, Default)]
pub(super) struct WorkerNow {
    pub(super) number: u32,
    pub(super) tid: u32,
    pub(super) depth: [u16; 4],
    /// Task that it polls, since when.
    pub(super) polling: Option<(u64, u64)>,
    pub(super) last_long: Option<LongPoll>,
    pub(super) busy_ns: u64,
    pub(super) polls: u64,
    pub(super) steals: u64,
}

/// A task. What is of the window is only so if `epoch` is the window's.
#[derive(Clone, Debug)]
pub(super) struct TaskNow {
    pub(super) group: u32,
    pub(super) worker: u32,
    pub(super) state: u32,
    pub(super) priority: u8,
    pub(super) is_woken_in_poll: bool,
    /// Begin of its state; 0: not known.
    pub(super) since_ns: u64,
    pub(super) spawned_ns: u64,
    pub(super) polls_total: u64,
    /// What it waits for: kind, argument, value.
    pub(super) waits: (u32, u32, u64),
    /// When the directory named it last.
    pub(super) entry_epoch: u32,
    pub(super) epoch: u32,
    pub(super) polls: u64,
    pub(super) busy_ns: u64,
    pub(super) ready_ns: u64,
    pub(super) longest_ready_ns: u64,
    pub(super) longest_poll_ns: u64,
}

impl Default for TaskNow {
    fn default() -> Self {
        Self {
            group: 0,
            worker: NO_WORKER,
            state: TASK_IDLE,
            priority: u8::MAX,
            is_woken_in_poll: false,
            since_ns: 0,
            spawned_ns: 0,
            polls_total: 0,
            waits: (0, 0, 0),
            entry_epoch: 0,
            epoch: 0,
            polls: 0,
            busy_ns: 0,
            ready_ns: 0,
            longest_ready_ns: 0,
            longest_poll_ns: 0,
        }
    }
}

impl TaskNow {
    pub(super) const fn become_state(&mut self, state: u32, since_ns: u64) {
        self.state = state;
        self.since_ns = since_ns;
    }

    /// Forgets what is of an earlier window.
    pub(super) const fn freshen(&mut self, epoch: u32) {
        if self.epoch != epoch {
            self.epoch = epoch;
            (self.polls, self.busy_ns, self.ready_ns) = (0, 0, 0);
            (self.longest_ready_ns, self.longest_poll_ns) = (0, 0);
        }
    }

    pub(super) fn note_ready(&mut self, ready_ns: u64, here_ns: u64) {
        self.ready_ns += here_ns;
        self.longest_ready_ns = self.longest_ready_ns.max(ready_ns);
    }

    /// Whether it did anything in the window `epoch`.
    pub(super) const fn is_fresh(&self, epoch: u32) -> bool {
        self.epoch == epoch
    }
}

/// Tasks of one name that were spawned at one place.
#[derive(Debug, Default)]
pub(super) struct GroupNow {
    /// Runtime, own name, place of spawn.
    pub(super) key: (u32, u32, u32),
    pub(super) spawned: u64,
    pub(super) ended: u64,
    pub(super) polls: u64,
    pub(super) busy_ns: u64,
    pub(super) ready_ns: u64,
    pub(super) ready: Histogram,
    pub(super) longest_poll: Option<LongPoll>,
    pub(super) longest_ready: Option<LongReady>,
    /// Time polled by thread.
    pub(super) by_tid: Vec<(u32, u64)>,
}

impl GroupNow {
    pub(super) fn note_busy(&mut self, poll: LongPoll, busy_ns: u64) {
        self.busy_ns += busy_ns;
        match self.by_tid.iter_mut().find(|(tid, _)| *tid == poll.tid) {
            Some((_, sum)) => *sum += busy_ns,
            None => self.by_tid.push((poll.tid, busy_ns)),
        }
        if self.longest_poll.as_ref().is_none_or(|longest| longest.poll_ns < poll.poll_ns) {
            self.longest_poll = Some(poll);
        }
    }

    pub(super) fn note_ready(&mut self, ready: LongReady, from_ns: u64) {
        self.ready.add(ready.ready_ns);
        let here_ns = ready.end_ns.saturating_sub(from_ns);
        self.note_waiting(ready, here_ns);
    }

    pub(super) fn note_waiting(&mut self, ready: LongReady, here_ns: u64) {
        self.ready_ns += here_ns;
        if self.longest_ready.as_ref().is_none_or(|longest| longest.ready_ns < ready.ready_ns) {
            self.longest_ready = Some(ready);
        }
    }

    pub(super) fn clear(&mut self) {
        let key = self.key;
        let mut ready = std::mem::take(&mut self.ready);
        ready.clear();
        *self = Self { key, ready, ..Self::default() };
    }
}
