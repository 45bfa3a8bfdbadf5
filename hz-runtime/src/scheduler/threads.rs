//! What the worker threads of one runtime share.

use super::Core;
use super::cell::Job;
use super::idle::Idle;
use super::inject::Injector;
use super::queue::{Queues, Stealers};
use super::sync::{AtomicBool, Ordering, fence};
use super::worker::Seed;

/// The shared half of the workers.
#[derive(Debug)]
pub(crate) struct Threads {
    pub(super) injector: Injector,
    pub(super) idle: Idle,
    pub(super) stealers: Box<[Stealers]>,
    is_closing: AtomicBool,
}

impl Threads {
    /// Queues for `workers`, and what each thread is made of.
    pub(crate) fn new(workers: usize) -> (Self, Vec<Seed>) {
        let queues: Vec<_> = (0..workers).map(|_| Queues::new()).collect();
        let threads = Self {
            injector: Injector::new(),
            idle: Idle::new(workers),
            stealers: queues.iter().map(Queues::stealers).collect(),
            is_closing: AtomicBool::new(false),
        };
        let seeds = queues.into_iter().enumerate().map(|(index, queues)| Seed { index, queues });
        (threads, seeds.collect())
    }

    pub(crate) fn workers(&self) -> usize {
        self.stealers.len()
    }

    pub(super) fn close(&self) {
        self.is_closing.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::SeqCst)
    }

    /// A thread that is no worker has woken a task.
    pub(super) fn inject(&self, core: &Core, job: Job) {
        self.injector.push(job);
        self.wake_one(core);
        // Workers that drain count as awake, and sleep. One that does not drain yet when this says so
        // finds the task when it begins to: the flag is read after the task was made visible.
        if self.is_closing() {
            core.notify_all();
        }
    }

    /// Wakes a worker for a task that has just been made visible, if there is need.
    pub(super) fn wake_one(&self, core: &Core) {
        if let Some(worker) = self.idle.pick() {
            core.reactor.notify(worker);
        }
    }

    /// Whether any worker would find a task.
    ///
    /// For who has just said that it sleeps: the fence is the other half of [`Idle::pick`]'s.
    pub(super) fn has_work(&self) -> bool {
        fence(Ordering::SeqCst);
        self.injector.ready() != 0 || self.stealers.iter().any(|stealers| !stealers.is_empty())
    }
}
