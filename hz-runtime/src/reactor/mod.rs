//! Waits for files and timers; the workers themselves turn it, no thread stands between.
//!
//! **One epoll per worker.** A file belongs to one worker's epoll for its whole life, so that its
//! task is woken where it ran before: socket, task and buffers stay in one CPU's cache, no second
//! thread is woken to take half of a batch, and no epoll's lock is shared. The alternative, one
//! epoll that all workers wait on, gives each event to whoever is idle, which is work-conserving for
//! free, but moves each connection from CPU to CPU.
//!
//! **Nobody starves.** What the shared epoll gives for free has to be done here: a worker that is
//! inside a long poll does not turn. An idle worker that finds a sibling outside its turn for
//! [`STUCK_NS`] or more turns the sibling's epoll and timers as well, so that its tasks run here.
//! It looks when it goes idle, and then once each [`WATCH_NS`] while anyone has been active within
//! [`ACTIVE_NS`]; the idle workers share that duty, so that many of them cost no more than one.
//! After that they all sleep without a limit, and the first worker to become active wakes one; so does
//! the one that was looking when it finds work to do, for it may get stuck as well.
//!
//! A notification is sticky, as an unpark is, and costs a system call only if the worker sleeps. The
//! eventfd behind it is edge-triggered and never read: each write to it is an edge.

mod context;
mod dispatch;
#[cfg(all(test, hz_loom))]
mod models;
#[cfg_attr(hz_shuttle, path = "poller_model.rs")]
mod poller;
mod readiness;
mod source;
mod timers;
mod turn;
mod worker;

pub(crate) use context::{add_timer, current};
pub(crate) use source::Registration;

use crate::clock::now_ns;
use crate::scheduler::sync::{AtomicUsize, Ordering};
use std::io;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;
use timers::SlotKey;
use worker::Worker;

/// A worker outside its turn for this long is not waited for by an idle sibling.
const STUCK_NS: u64 = 500_000;
/// How often idle workers, all together, look at those that are busy.
const WATCH_NS: u64 = 1_000_000;
/// For how long after the last activity they go on looking.
const ACTIVE_NS: u64 = 50_000_000;

/// A timer that was added. Dropped, it stays and wakes whom it was to wake.
///
/// It counts as a user of its worker, whose count is in that worker's cache, not of the reactor, whose count all
/// workers would fight for.
#[derive(Debug)]
pub(crate) struct Timer {
    home: Arc<Worker>,
    slot: SlotKey,
}

impl Timer {
    /// Says whether it fired; if it did not, it will wake `waker`.
    pub(crate) fn poll(&self, waker: &Waker) -> bool {
        self.home.timers.poll(self.slot, waker)
    }

    /// Takes it away, if it has not fired.
    pub(crate) fn remove(&self) {
        self.home.timers.remove(self.slot);
    }
}

/// The files and timers of a runtime, a part of them for each worker.
#[derive(Debug)]
pub(crate) struct Reactor {
    workers: Box<[Arc<Worker>]>,
    /// Idle workers that wake now and then to look at the others.
    watching: AtomicUsize,
    /// Where the next file, or the timer of a foreign thread, goes.
    next_home: AtomicUsize,
}

impl Reactor {
    /// Makes a reactor for so many workers, at least one.
    pub(crate) fn new(workers: usize) -> io::Result<Self> {
        let workers: io::Result<Box<[Arc<Worker>]>> =
            (0..workers.max(1)).map(|_| Worker::new().map(Arc::new)).collect();
        Ok(Self {
            workers: workers?,
            watching: AtomicUsize::new(0),
            next_home: AtomicUsize::new(0),
        })
    }

    /// Waits, on behalf of worker `worker`, for files, timers or a notification up to `timeout` (none:
    /// until something happens; zero: does not wait), wakes the tasks that waited for them, and says
    /// how many it woke.
    ///
    /// One thread at a time turns for a worker.
    pub(crate) fn turn(&self, worker: usize, timeout: Option<Duration>) -> io::Result<usize> {
        self.turn_and_look(worker, timeout, &|_| 0)
    }

    /// As [`Reactor::turn`]; whenever the worker looks after its siblings `look` is called, too, with the
    /// time, and says how many tasks it took over.
    pub(crate) fn turn_and_look(
        &self,
        worker: usize,
        timeout: Option<Duration>,
        look: &dyn Fn(u64) -> usize,
    ) -> io::Result<usize> {
        let me = &self.workers[worker];
        if timeout == Some(Duration::ZERO) {
            return me.turn_at_once();
        }
        let deadline = timeout.map_or(u64::MAX, |timeout| {
            now_ns().saturating_add(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX))
        });
        loop {
            if let Some(woken) = self.wait(worker, deadline, look)? {
                return Ok(woken);
            }
        }
    }

    /// Ends the turn that the worker is in, or else its next one that waits.
    pub(crate) fn notify(&self, worker: usize) {
        self.workers[worker].notify();
    }

    /// Adds a timer, on the thread of worker `local` if of any; `task` is the one that waits for it.
    fn add_timer(&self, local: Option<usize>, deadline_ns: u64, task: u64, waker: Waker) -> Timer {
        let home = &self.workers[local.unwrap_or_else(|| self.choose_home())];
        let (slot, is_first) = home.timers.add(deadline_ns, task, waker);
        if is_first && local.is_none() {
            home.kick();
        }
        Timer { home: Arc::clone(home), slot }
    }

    /// The earliest deadline of all timers.
    pub(crate) fn next_timer_ns(&self) -> Option<u64> {
        let next = self.workers.iter().map(|worker| worker.timers.next_ns()).min();
        next.filter(|next_ns| *next_ns != u64::MAX)
    }

    /// Whether any file is registered.
    pub(crate) fn has_files(&self) -> bool {
        self.workers.iter().any(|worker| !worker.sources.is_empty())
    }

    fn choose_home(&self) -> usize {
        self.next_home.fetch_add(1, Ordering::Relaxed) % self.workers.len()
    }

    /// Waits once. `None`: nothing happened, and the deadline has not come.
    fn wait(
        &self,
        worker: usize,
        deadline: u64,
        look: &dyn Fn(u64) -> usize,
    ) -> io::Result<Option<usize>> {
        let me = &self.workers[worker];
        let helped = self.help(worker, look)?;
        if helped > 0 {
            self.becomes_active(worker);
            return Ok(Some(helped));
        }
        if !me.begin_turn() {
            let woken = me.turn_at_once()?;
            self.becomes_active(worker);
            return Ok(Some(woken));
        }
        let now = now_ns();
        let watch = self.watch_ns(worker, now);
        if watch.is_some() {
            self.watching.fetch_add(1, Ordering::SeqCst);
        }
        let until = deadline.min(me.timers.next_ns());
        let wait = until.saturating_sub(now).min(watch.unwrap_or(u64::MAX));
        let turned = me.turn_for((until != u64::MAX || watch.is_some()).then_some(wait));
        let was_notified = me.end_turn();
        let is_watched = match watch {
            Some(_) => self.watching.fetch_sub(1, Ordering::SeqCst) > 1,
            None => self.watching.load(Ordering::SeqCst) > 0,
        };
        let woken = turned?;
        let is_over = woken > 0 || was_notified;
        if is_over {
            me.set_active();
        }
        if is_over && !is_watched {
            self.wake_watcher(worker);
        }
        let is_over = is_over || (deadline != u64::MAX && now_ns() >= deadline);
        Ok(is_over.then_some(woken))
    }

    /// The worker goes to its tasks without having waited, and looks after nobody any more.
    fn becomes_active(&self, worker: usize) {
        self.workers[worker].set_active();
        if self.watching.load(Ordering::SeqCst) == 0 {
            self.wake_watcher(worker);
        }
    }

    /// Turns for those siblings that have not done so for a while.
    fn help(&self, worker: usize, look: &dyn Fn(u64) -> usize) -> io::Result<usize> {
        if self.workers.len() == 1 {
            return Ok(0);
        }
        let now = now_ns();
        let mut woken = look(now);
        for (_, sibling) in self.siblings(worker) {
            if sibling.is_stuck(now, STUCK_NS) {
                woken += sibling.turn_for_sibling()?;
            }
        }
        Ok(woken)
    }

    /// For how long an idle worker may sleep before it looks at its siblings again; `None`: nobody
    /// has been active.
    fn watch_ns(&self, worker: usize, now: u64) -> Option<u64> {
        let mut is_active = false;
        let mut idle = 1;
        for (_, sibling) in self.siblings(worker) {
            let is_idle = sibling.is_in_turn();
            idle += u64::from(is_idle);
            is_active |= !is_idle || sibling.was_active_since(now.saturating_sub(ACTIVE_NS));
        }
        is_active.then_some(WATCH_NS * idle)
    }

    /// Lets one sleeping sibling watch over this worker, which becomes active.
    fn wake_watcher(&self, worker: usize) {
        let mut siblings = self.siblings(worker);
        if let Some((_, sibling)) = siblings.find(|(_, sibling)| sibling.is_in_turn()) {
            sibling.kick();
        }
    }

    fn siblings(&self, worker: usize) -> impl Iterator<Item = (usize, &Arc<Worker>)> {
        let all = self.workers.iter().enumerate();
        all.filter(move |(index, _)| *index != worker)
    }
}

#[cfg(test)]
mod tests;
