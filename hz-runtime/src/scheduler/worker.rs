//! A worker thread: takes tasks in the order of their priorities, steals, sleeps.

use super::cell::{self, Job};
use super::idle::Awoken;
use super::queue::Queues;
use super::sync::thread_local;
use super::threads::Threads;
use super::{Core, Scheduler, budget};
use crate::clock::now_ns;
use crate::probe;
use crate::task::Priority;
use async_task::ScheduleInfo;
use std::cell::Cell;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

/// Dispatches between two looks at the reactor and the clock, a prime so that no pattern of the
/// program meets it.
const REACTOR_INTERVAL: u32 = 61;

/// Each so many dispatches the injector goes before the worker's own queue of the same level.
const INJECTOR_INTERVAL: u32 = 16;

/// What a worker is made of, before it has its thread.
#[derive(Debug)]
pub(crate) struct Seed {
    pub(super) index: usize,
    pub(super) queues: Queues,
}

/// One worker, on its thread's stack.
#[derive(Debug)]
struct Worker {
    index: usize,
    core: Arc<Core>,
    queues: Queues,
    dispatches: Cell<u32>,
    is_searching: Cell<bool>,
    /// In the reactor or between two polls, not in a poll: this thread looks at its queues next.
    is_between_polls: Cell<bool>,
    random: Cell<u32>,
}

thread_local! {
    static CURRENT: Cell<*const Worker> = const { Cell::new(ptr::null()) };
}

/// Calls `f` with the worker that this thread is.
fn with_current<R>(f: impl FnOnce(Option<&Worker>) -> R) -> R {
    let current = CURRENT.with(Cell::get);
    // SAFETY: `Seed::run` sets it to a worker that it keeps until it has reset it, and only this
    // thread sees it.
    f(unsafe { current.as_ref() })
}

/// The worker that this thread is, of whichever runtime.
pub(crate) fn current_worker() -> Option<usize> {
    with_current(|worker| worker.map(|worker| worker.index))
}

/// The worker of `core` that this thread is.
pub(crate) fn index_in(core: &Arc<Core>) -> Option<usize> {
    with_current(|worker| {
        worker.filter(|worker| Arc::ptr_eq(&worker.core, core)).map(|worker| worker.index)
    })
}

/// Puts a woken task where a worker will find it.
pub(super) fn schedule(job: Job, info: ScheduleInfo) {
    let core = job.metadata().shard.core().as_ptr();
    let is_here = |worker: &&Worker| ptr::eq(Arc::as_ptr(&worker.core), core);
    with_current(|worker| match worker.filter(is_here) {
        Some(worker) => worker.schedule(job, info),
        None => inject(job),
    });
}

/// Hands a task to the workers from another thread.
#[cold]
fn inject(job: Job) {
    cell::woken(&job);
    // Without a runtime there is nobody to poll it: dropping it cancels it.
    let Some(core) = job.metadata().shard.core().upgrade() else { return };
    match &core.scheduler {
        Scheduler::Threads(threads) => threads.inject(&core, job),
        Scheduler::Deterministic(_) => unreachable!("its tasks have a `schedule` of its own"),
    }
}

impl Seed {
    /// Runs tasks until the runtime is closed and all its tasks are gone.
    pub(crate) fn run(self, core: Arc<Core>) {
        let worker = Worker {
            index: self.index,
            core,
            queues: self.queues,
            dispatches: Cell::new(0),
            is_searching: Cell::new(false),
            is_between_polls: Cell::new(true),
            random: Cell::new(self.index as u32 + 1),
        };
        CURRENT.with(|current| current.set(&raw const worker));
        probe::worker_started(worker.index as u32);
        worker.run();
        CURRENT.with(|current| current.set(ptr::null()));
    }
}

/// The level that dispatch `n` prefers to all others, if it is one of those kept for lower levels.
///
/// Of any 32 dispatches in a row, four go to `high` first, two to `normal` and one to `background`;
/// all others to the highest level that has a task. So each level gets its share of any 32, however
/// many tasks there are above it.
const fn preferred_level(n: u32) -> Option<usize> {
    match n % 32 {
        1 | 9 | 17 | 25 => Some(Priority::High as usize),
        3 | 19 => Some(Priority::Normal as usize),
        5 => Some(Priority::Background as usize),
        _ => None,
    }
}

impl Worker {
    fn threads(&self) -> &Threads {
        match &self.core.scheduler {
            Scheduler::Threads(threads) => threads,
            Scheduler::Deterministic(_) => unreachable!("it has no worker threads"),
        }
    }

    fn run(&self) {
        while !self.threads().is_closing() {
            match self.next().or_else(|| self.search()) {
                Some(job) => self.dispatch(job),
                None => self.park(),
            }
        }
        self.drain();
    }

    fn dispatch(&self, job: Job) {
        if self.is_searching.replace(false) && self.threads().idle.stop_searching() {
            self.threads().wake_one(&self.core);
        }
        budget::refill();
        self.is_between_polls.set(false);
        cell::run(job);
        self.is_between_polls.set(true);
        budget::lift();
    }

    /// A task of this runtime was woken on this thread.
    fn schedule(&self, job: Job, info: ScheduleInfo) {
        if info.woken_while_running {
            // Its poll is just over, and this thread looks into the queues next: nobody is needed
            // for one task alone.
            cell::woken_in_poll(&job);
            let is_alone = self.queues.is_empty();
            self.queues.push(job);
            if !is_alone {
                self.threads().wake_one(&self.core);
            }
            return;
        }
        cell::woken(&job);
        if self.is_between_polls.get() {
            // The reactor wakes many: in the order of their events, and `park` tells the others.
            self.queues.push(job);
        } else if self.queues.push_slot(job) {
            self.threads().wake_one(&self.core);
        }
    }

    /// The next task of its own or of the injector.
    fn next(&self) -> Option<Job> {
        let n = self.dispatches.get().wrapping_add(1);
        self.dispatches.set(n);
        self.queues.begin_poll(n);
        if n.is_multiple_of(REACTOR_INTERVAL) {
            self.look_up();
        }
        let mut preferred = preferred_level(n);
        loop {
            let injected = self.threads().injector.ready();
            let ready = self.queues.ready() | injected;
            let level = preferred.take().filter(|level| ready & 1 << level != 0);
            if level.is_none()
                && let Some(job) = self.queues.pop_slot(ready)
            {
                return Some(job);
            }
            let ready = self.queues.ready() | injected;
            if ready == 0 {
                return None;
            }
            let level = level.unwrap_or(ready.trailing_zeros() as usize);
            if let Some(job) = self.take(level, injected & 1 << level != 0, n) {
                return Some(job);
            }
        }
    }

    fn take(&self, level: usize, is_injected: bool, n: u32) -> Option<Job> {
        let injected = || {
            let workers = self.threads().workers();
            let take = || self.threads().injector.take(level, workers, |job| self.queues.push(job));
            is_injected.then(take).flatten()
        };
        if n.is_multiple_of(INJECTOR_INTERVAL) {
            return injected().or_else(|| self.queues.pop(level));
        }
        self.queues.pop(level).or_else(injected)
    }

    /// What a busy worker does now and then: I/O, timers, the coarse clock, the queues' depth.
    fn look_up(&self) {
        probe::worker_tick();
        self.tell_depths();
        self.turn(Some(Duration::ZERO));
        let victim = self.next_random() as usize % self.threads().workers();
        self.relieve(victim, now_ns());
        if self.queues.has_more() {
            self.threads().wake_one(&self.core);
        }
    }

    fn tell_depths(&self) {
        probe::queue_depth(Some(self.index as u32), || self.queues.depths());
        probe::queue_depth(None, || self.threads().injector.depths());
    }

    fn turn(&self, timeout: Option<Duration>) {
        let relieve = |now_ns| {
            let victims = 0..self.threads().workers();
            victims.map(|victim| usize::from(self.relieve(victim, now_ns))).sum()
        };
        // An error here is an error of this process (a closed epoll descriptor); the tasks that are
        // ready still run.
        let _ = self.core.reactor.turn_and_look(self.index, timeout, &relieve);
    }

    /// Takes over the task that waits in another's slot behind a poll that goes on for long.
    fn relieve(&self, victim: usize, now_ns: u64) -> bool {
        if victim == self.index {
            return false;
        }
        let Some(job) = self.threads().stealers[victim].take_stale(now_ns) else { return false };
        probe::steal(victim as u32, 1);
        self.queues.push(job);
        true
    }

    /// Looks for a task that another worker has.
    fn search(&self) -> Option<Job> {
        if !self.is_searching.get() && !self.threads().idle.start_searching() {
            return None;
        }
        self.is_searching.set(true);
        let stealers = &self.threads().stealers;
        let first = self.next_random() as usize % stealers.len();
        let victims =
            (first..stealers.len()).chain(0..first).filter(|victim| *victim != self.index);
        for victim in victims {
            if let Some((job, count)) = self.queues.steal(&stealers[victim]) {
                probe::steal(victim as u32, count);
                return Some(job);
            }
        }
        self.next()
    }

    /// Sleeps until there is an event or another worker picks this one.
    fn park(&self) {
        self.tell_depths();
        let idle = &self.threads().idle;
        let must_look = idle.park(self.index, self.is_searching.replace(false));
        if must_look && self.threads().has_work() {
            // Whoever is picked, perhaps this one, searches again.
            self.threads().wake_one(&self.core);
        }
        probe::park();
        self.turn(None);
        probe::unpark();
        probe::worker_tick();
        self.is_searching.set(idle.unpark(self.index) == Awoken::Picked);
        if self.queues.len() > 1 {
            self.threads().wake_one(&self.core);
        }
    }

    /// Polls what is woken, which ends it, until all tasks of the runtime are gone.
    fn drain(&self) {
        loop {
            while let Some(job) = self.next() {
                self.dispatch(job);
            }
            if self.core.is_over() {
                return;
            }
            self.turn(None);
        }
    }

    /// Marsaglia's xorshift: which victim is first must only differ.
    fn next_random(&self) -> u32 {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        self.random.set(x);
        x
    }
}
