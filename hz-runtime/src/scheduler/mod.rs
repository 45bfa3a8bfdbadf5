//! Who polls which task when.

mod abort;
pub(crate) mod budget;
pub(crate) mod cell;
mod deterministic;
mod idle;
mod inject;
mod mode;
#[cfg(all(test, hz_loom))]
mod models;
mod queue;
pub(crate) mod registry;
mod signal;
mod slot;
pub(crate) mod sync;
mod threads;
pub(crate) mod virtual_time;
mod waker;
mod worker;

use crate::blocking::Pool;
use crate::probe::{self, Kind, Spawn};
use crate::reactor::Reactor;
use crate::scope::Entrance;
use crate::task::Priority;
use cell::Owned;
use deterministic::Deterministic;
pub use deterministic::Schedule;
pub(crate) use mode::{Mode, ModeError};
use registry::Shard;
pub(crate) use signal::Signal;
use std::io;
use std::sync::Arc;
pub(crate) use threads::Threads;
pub(crate) use waker::{fetch_ahead, fetch_line_ahead};
pub(crate) use worker::{current_worker, index_in};

/// A runtime as all who hold it share it: its handles, workers, and by [`Shard::core`] its tasks.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) name: String,
    pub(crate) reactor: Arc<Reactor>,
    /// One per worker, and one for all other threads.
    shards: Box<[Arc<Shard>]>,
    scheduler: Scheduler,
    pub(crate) blocking: Pool,
}

/// The ways to run tasks; chosen when the runtime is built, so that no dispatch asks which it is.
#[derive(Debug)]
enum Scheduler {
    /// Worker threads that steal from each other.
    Threads(Threads),
    /// One thread and a seed.
    Deterministic(Deterministic),
}

impl Core {
    /// A runtime of `workers` threads, which are not there yet.
    pub(crate) fn threads(
        name: String,
        workers: usize,
        blocking: Pool,
    ) -> io::Result<(Arc<Self>, Vec<worker::Seed>)> {
        let reactor = Arc::new(Reactor::new(workers)?);
        let (threads, seeds) = Threads::new(workers);
        probe::offer(Kind::ALL);
        let core = Arc::new_cyclic(|core| Self {
            name,
            reactor,
            shards: (0..=workers).map(|_| Arc::new(Shard::new(core.clone()))).collect(),
            scheduler: Scheduler::Threads(threads),
            blocking,
        });
        Ok((core, seeds))
    }

    /// A runtime of one thread: the one in `block_on`.
    pub(crate) fn deterministic(name: String, seed: u64) -> io::Result<Arc<Self>> {
        let reactor = Arc::new(Reactor::new(1)?);
        probe::offer(Kind::ALL);
        Ok(Arc::new_cyclic(|core| Self {
            name,
            reactor,
            shards: [Arc::new(Shard::new(core.clone()))].into(),
            scheduler: Scheduler::Deterministic(Deterministic::new(seed)),
            blocking: Pool::new("none", 1),
        }))
    }

    /// Whether a seed decides on everything.
    pub(crate) const fn is_deterministic(&self) -> bool {
        matches!(self.scheduler, Scheduler::Deterministic(_))
    }

    /// Runs `future` as the deterministic scheduler does; gives it back if another one is at work.
    pub(crate) fn run_deterministically<F: Future>(
        self: &Arc<Self>,
        future: F,
    ) -> Result<F::Output, F> {
        match &self.scheduler {
            Scheduler::Threads(_) => Err(future),
            Scheduler::Deterministic(scheduler) => {
                Ok(deterministic::block_on(self, scheduler, future))
            }
        }
    }

    /// The deterministic scheduler's schedule so far.
    pub(crate) fn schedule(&self) -> Option<Schedule> {
        match &self.scheduler {
            Scheduler::Threads(_) => None,
            Scheduler::Deterministic(scheduler) => Some(scheduler.schedule()),
        }
    }

    /// Spawns a task.
    pub(crate) fn spawn<F>(
        self: &Arc<Self>,
        future: F,
        spawn: &Spawn<'_>,
        priority: Priority,
        entrance: Option<Entrance>,
    ) -> Owned<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let foreign = self.shards.len() - 1;
        let shard = Arc::clone(&self.shards[index_in(self).unwrap_or(foreign)]);
        let mut made = cell::Made { spawn, priority, number: 0, shard, entrance };
        match &self.scheduler {
            Scheduler::Threads(_) => cell::spawn(future, made, worker::schedule),
            Scheduler::Deterministic(scheduler) => {
                made.number = scheduler.number();
                cell::spawn(future, made, deterministic::schedule)
            }
        }
    }

    /// Live tasks.
    pub(crate) fn live_tasks(&self) -> usize {
        self.shards.iter().map(|shard| shard.live()).sum()
    }

    /// Cancels all tasks; the workers end once these are gone.
    pub(crate) fn close(&self) {
        let wakers: Vec<_> = self.shards.iter().flat_map(|shard| shard.close()).collect();
        match &self.scheduler {
            Scheduler::Threads(threads) => threads.close(),
            Scheduler::Deterministic(_) => {}
        }
        probe::with_cause(probe::Cause::Cancel, || {
            wakers.into_iter().for_each(std::task::Waker::wake);
        });
        self.notify_all();
        if let Scheduler::Deterministic(scheduler) = &self.scheduler {
            scheduler.drain(self);
        }
    }

    /// Whether it is closed and all tasks are gone.
    fn is_over(&self) -> bool {
        self.shards.iter().all(|shard| shard.is_over())
    }

    /// The last task of a closed shard is gone.
    fn shard_emptied(&self) {
        if self.is_over() {
            self.notify_all();
        }
    }

    fn notify_all(&self) {
        match &self.scheduler {
            Scheduler::Threads(threads) => {
                for worker in 0..threads.workers() {
                    self.reactor.notify(worker);
                }
            }
            Scheduler::Deterministic(_) => {}
        }
    }
}
