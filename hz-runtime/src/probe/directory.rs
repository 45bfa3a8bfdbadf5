//! The task directory's lines: the algorithm alone, over any words.

use super::atomic::{Ordering, fence};
use super::words::TaskWords;
use crate::prefetch;
use hz_probes_ebpf::runtime::{NO_WORKER, TASK_IDLE, TASK_POLLING, TASK_READY, WAIT_UNKNOWN};
use hz_probes_ebpf::runtime_ring::{STATE_MASK, TURN_MASK, woken_in_poll};

/// Where in a state word it says which of the tasks it is that have had the slot. That keeps a wake-up
/// that comes late from changing the next task's state.
const TURN_SHIFT: u32 = TURN_MASK.trailing_zeros();

/// What does not change while a task lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) task: u64,
    pub(super) site: u32,
    pub(super) name: u32,
    pub(super) parent: u64,
    pub(super) spawned: u64,
    pub(super) priority: u32,
}

impl TaskWords {
    /// Has both lines brought into this CPU's cache, to be written.
    #[inline]
    pub(super) fn fetch_ahead(&self) {
        prefetch::to_write(&self.seq);
        prefetch::to_write(&self.state);
    }

    /// As [`TaskWords::fetch_ahead`], the line that wake-ups and polls write.
    #[cfg(feature = "executor")]
    #[inline]
    pub(super) fn fetch_state_ahead(&self) {
        prefetch::to_write(&self.state);
    }

    /// Enters a task. The slot must be the caller's alone.
    #[inline]
    pub(super) fn enter(&self, identity: &Identity) {
        let turn = self.seq.load(Ordering::Relaxed) / 2 + 1;
        let changing = turn.wrapping_mul(2).wrapping_sub(1);
        self.seq.store(changing, Ordering::Relaxed);
        // Who sees a word of the new identity sees that it is changing.
        fence(Ordering::Release);
        self.task.store(identity.task, Ordering::Relaxed);
        self.site.store(identity.site, Ordering::Relaxed);
        self.parent.store(identity.parent, Ordering::Relaxed);
        self.spawned.store(identity.spawned, Ordering::Relaxed);
        self.future.store(0, Ordering::Relaxed);
        self.priority.store(identity.priority, Ordering::Relaxed);
        self.name.store(identity.name, Ordering::Relaxed);
        self.polls.store(0, Ordering::Relaxed);
        self.last_poll.store(0, Ordering::Relaxed);
        self.wait.store(u64::from(WAIT_UNKNOWN), Ordering::Relaxed);
        self.wait_value.store(0, Ordering::Relaxed);
        let state = word(TASK_IDLE, NO_WORKER) | u64::from(turn) << TURN_SHIFT & TURN_MASK;
        // Release, and after the task: whoever wakes by this state knows whose it is.
        self.state.store(state, Ordering::Release);
        self.seq.store(changing.wrapping_add(1), Ordering::Release);
    }

    /// The task is gone; the slot may be given away.
    #[inline]
    pub(super) fn leave(&self) {
        self.task.store(0, Ordering::Release);
    }

    /// The task is being polled by `worker`, for the `polls`th time, since `stamp`.
    #[inline]
    pub(super) fn poll_begins(&self, worker: u32, polls: u64, stamp: u64) {
        self.polls.store(polls, Ordering::Relaxed);
        self.last_poll.store(stamp, Ordering::Relaxed);
        self.set(TASK_POLLING, worker);
    }

    /// The poll is over and the task waits, unless it was woken meanwhile: then `woken` says so, and
    /// nothing of that is looked at here. To see a wake-up that comes just now would cost each poll an exchange.
    #[inline]
    pub(super) fn poll_pends(&self, worker: u32, has_told: bool) {
        if !has_told {
            self.wait.store(u64::from(WAIT_UNKNOWN), Ordering::Relaxed);
        }
        self.set(TASK_IDLE, worker);
    }

    /// The task, whose poller this is, goes into `state`.
    #[inline]
    pub(super) fn set(&self, state: u32, worker: u32) {
        let turn = self.state.load(Ordering::Relaxed) & TURN_MASK;
        // Release: whoever wakes it in a poll knows which one.
        self.state.store(word(state, worker) | turn, Ordering::Release);
    }

    /// `task` was woken, if it is still the one that is here.
    #[inline]
    pub(super) fn woken(&self, task: u64) {
        let state = self.state.load(Ordering::Acquire);
        if self.task.load(Ordering::Relaxed) != task {
            return;
        }
        match (state & STATE_MASK) as u32 {
            TASK_IDLE => {
                let ready = state & !STATE_MASK | u64::from(TASK_READY);
                // If it fails, the task has moved on by itself, or is gone.
                let order = (Ordering::Relaxed, Ordering::Relaxed);
                let _ = self.state.compare_exchange(state, ready, order.0, order.1);
            }
            TASK_POLLING => {
                let polls = self.polls.load(Ordering::Relaxed);
                self.woken.store(woken_in_poll(state, polls), Ordering::Relaxed);
            }
            _ => {}
        }
    }

    /// The task was woken, says who alone may have it polled: it is still the one that is here, and what it does
    /// nobody else changes.
    #[inline]
    pub(super) fn scheduled(&self) {
        let state = self.state.load(Ordering::Relaxed);
        let state = state & !STATE_MASK | u64::from(TASK_READY);
        // Release: it may be another thread than the last poller, and whoever sees it knows whose it is.
        self.state.store(state, Ordering::Release);
    }

    /// The state of `task`, its worker, and the words of what it waits for; `None`: it is gone.
    pub(super) fn look(&self, task: u64) -> Option<(u32, u32, (u32, u32, u64))> {
        let state = self.state.load(Ordering::Acquire);
        let wait = self.wait.load(Ordering::Relaxed);
        let value = self.wait_value.load(Ordering::Relaxed);
        let polls = self.polls.load(Ordering::Relaxed);
        let is_woken = self.woken.load(Ordering::Relaxed) == woken_in_poll(state, polls);
        // After the rest: if it is still there, all of it was its.
        fence(Ordering::Acquire);
        let is_its = self.task.load(Ordering::Relaxed) == task;
        let halves = |word: u64| (word as u32, (word >> 32) as u32);
        let (what, arg) = halves(wait);
        let name = match (state & STATE_MASK) as u32 {
            TASK_IDLE if polls > 0 && is_woken => TASK_READY,
            name => name,
        };
        is_its.then(|| (name, halves(state).1, (what, arg, value)))
    }

    /// The task waits for this.
    #[inline]
    pub(super) fn waits(&self, what: u32, arg: u32, value: u64) {
        self.wait.store(u64::from(what) | u64::from(arg) << 32, Ordering::Relaxed);
        self.wait_value.store(value, Ordering::Relaxed);
    }
}

const fn word(state: u32, worker: u32) -> u64 {
    state as u64 | (worker as u64) << 32
}
