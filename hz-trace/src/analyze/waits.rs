//! Waits for a CPU.

use super::culprit::{Culprits, culprits};
use crate::model::{Model, State, Thread, Waker};

/// One wait on a run queue, from becoming runnable to running. A wait that moves to another CPU
/// stays one wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// When it began, nanoseconds of `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// When it ended.
    pub end_ns: u64,
    /// The CPU it ended on.
    pub cpu: u16,
    /// Whether it began because a CPU was taken from the thread, not because it woke.
    pub is_preempted: bool,
    /// Who woke the thread, if it woke.
    pub waker: Waker,
    /// Whether it ended with running; else the recording or the thread's life ended first.
    pub is_over: bool,
}

impl Wait {
    /// Length in nanoseconds.
    #[must_use]
    pub const fn duration_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }
}

/// The waits of a thread, in order.
pub fn waits_of(thread: &Thread) -> impl Iterator<Item = Wait> + '_ {
    let mut tiles = thread.tiles().peekable();
    std::iter::from_fn(move || {
        let first = tiles.find(|tile| tile.span.state.is_waiting())?;
        let mut wait = Wait {
            start_ns: first.span.start_ns,
            end_ns: first.end_ns,
            cpu: first.span.cpu,
            is_preempted: first.span.state == State::Preempted,
            waker: first.span.waker,
            is_over: false,
        };
        while let Some(next) = tiles.next_if(|tile| tile.span.state.is_waiting()) {
            wait.end_ns = next.end_ns;
            wait.cpu = next.span.cpu;
        }
        wait.is_over = tiles.peek().is_some_and(|tile| tile.span.state == State::Running);
        Some(wait)
    })
}

/// Who had the CPUs that `thread` waited for during `wait`, one after the other.
#[must_use]
pub fn culprits_of(model: &Model, thread: &Thread, wait: &Wait) -> Culprits {
    let mut sum = Culprits::default();
    let first = thread.spans.partition_point(|span| span.start_ns < wait.start_ns);
    for index in first..thread.spans.len() {
        let tile = thread.tile(index);
        if tile.span.start_ns >= wait.end_ns {
            break;
        }
        sum.add(&culprits(model, tile.span.cpu, tile.span.start_ns, tile.end_ns));
    }
    sum
}
