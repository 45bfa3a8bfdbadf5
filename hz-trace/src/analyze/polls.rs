//! The kernel's truth inside polls: what the thread of a poll really did meanwhile.

use super::culprit::{Culprits, culprits};
use crate::model::{Model, State, TaskTile, Thread, ThreadIndex, Tile, Why};
use serde::Serialize;

/// By how much the runtime's clock may differ from the kernel's before it is called a
/// contradiction, in nanoseconds.
const AGREES_NS: u64 = 2_000;

/// What a thread did in some time; the parts sum to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KernelTime {
    /// It had a CPU.
    pub on_cpu_ns: u64,
    /// It waited for a CPU.
    pub waiting_ns: u64,
    /// It slept, or was stopped.
    pub sleeping_ns: u64,
    /// It slept uninterruptibly.
    pub uninterruptible_ns: u64,
    /// It was not recorded.
    pub not_recorded_ns: u64,
}

impl KernelTime {
    /// All of it.
    #[must_use]
    pub const fn total_ns(&self) -> u64 {
        self.on_cpu_ns + self.waiting_ns + self.blocked_ns() + self.not_recorded_ns
    }

    /// It slept, in whichever way: inside a poll, somebody called what blocks.
    #[must_use]
    pub const fn blocked_ns(&self) -> u64 {
        self.sleeping_ns + self.uninterruptible_ns
    }

    pub(super) const fn add(&mut self, other: &Self) {
        self.on_cpu_ns += other.on_cpu_ns;
        self.waiting_ns += other.waiting_ns;
        self.sleeping_ns += other.sleeping_ns;
        self.uninterruptible_ns += other.uninterruptible_ns;
        self.not_recorded_ns += other.not_recorded_ns;
    }

    const fn count(&mut self, state: State, ns: u64) {
        match state {
            State::Running => self.on_cpu_ns += ns,
            State::Woken | State::Preempted => self.waiting_ns += ns,
            State::Sleeping | State::Stopped => self.sleeping_ns += ns,
            State::Uninterruptible => self.uninterruptible_ns += ns,
            State::Unknown | State::New => self.not_recorded_ns += ns,
        }
    }
}

/// The tiles of a thread's life that overlap `[start_ns, end_ns)`, cut to it.
pub fn tiles_in(thread: &Thread, start_ns: u64, end_ns: u64) -> impl Iterator<Item = Tile> + '_ {
    let first = thread.spans.partition_point(|span| span.start_ns <= start_ns).saturating_sub(1);
    (first..thread.spans.len())
        .map(|place| thread.tile(place))
        .take_while(move |tile| tile.span.start_ns < end_ns)
        .map(move |mut tile| {
            tile.span.start_ns = tile.span.start_ns.max(start_ns);
            tile.end_ns = tile.end_ns.min(end_ns);
            tile
        })
        .filter(|tile| tile.span.start_ns < tile.end_ns)
}

/// What `thread` did in `[start_ns, end_ns)`.
#[must_use]
pub fn kernel_time(thread: &Thread, start_ns: u64, end_ns: u64) -> KernelTime {
    let mut time = KernelTime::default();
    let mut known_ns = 0;
    for tile in tiles_in(thread, start_ns, end_ns) {
        time.count(tile.span.state, tile.duration_ns());
        known_ns += tile.duration_ns();
    }
    time.not_recorded_ns += end_ns.saturating_sub(start_ns).saturating_sub(known_ns);
    time
}

/// Who had the CPUs that `thread` waited for in `[start_ns, end_ns)`.
#[must_use]
pub fn culprits_in(model: &Model, thread: ThreadIndex, start_ns: u64, end_ns: u64) -> Culprits {
    let mut sum = Culprits::default();
    let tiles = tiles_in(model.thread(thread), start_ns, end_ns);
    for tile in tiles.filter(|tile| tile.span.state.is_waiting()) {
        sum.add(&culprits(model, tile.span.cpu, tile.span.start_ns, tile.end_ns));
    }
    sum
}

/// Whether the runtime's clock and the kernel's agree: a thread that begins or ends a poll has a
/// CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClockCheck {
    /// Polls of which the begin or the end could be compared.
    pub polls: u64,
    /// Polls of which neither could be: the recording does not have their thread then.
    pub not_compared: u64,
    /// Those that begin or end while the kernel has their thread off the CPU by more than 2 µs.
    pub contradictions: u64,
    /// The furthest that one of them is off.
    pub furthest_ns: u64,
}

impl ClockCheck {
    /// Compares a poll of `thread`; `is_ended` says that its end was seen.
    pub(super) fn poll(&mut self, thread: &Thread, poll: &TaskTile, is_ended: bool) {
        let begin = (poll.span.why == Why::Poll).then_some(poll.span.start_ns);
        let end = is_ended.then_some(poll.end_ns);
        let off = [begin, end].into_iter().flatten().filter_map(|time_ns| off_cpu(thread, time_ns));
        let Some(furthest_ns) = off.max() else {
            self.not_compared += 1;
            return;
        };
        self.polls += 1;
        self.contradictions += u64::from(furthest_ns > AGREES_NS);
        self.furthest_ns = self.furthest_ns.max(furthest_ns);
    }
}

/// How far from having a CPU the thread was at `time_ns`, 0 if it had one; `None` if that is not
/// known.
fn off_cpu(thread: &Thread, time_ns: u64) -> Option<u64> {
    let place = thread.spans.partition_point(|span| span.start_ns <= time_ns).checked_sub(1)?;
    let is_off = |place: usize| {
        let state = thread.spans.get(place).map(|span| span.state);
        state.is_some_and(|state| !matches!(state, State::Running | State::Unknown | State::New))
    };
    match thread.spans[place].state {
        State::Running => return Some(0),
        State::Unknown | State::New => return None,
        _ if time_ns > thread.end_ns => return None,
        _ => {}
    }
    let first = (0..place).rev().take_while(|place| is_off(*place)).last().unwrap_or(place);
    let last = (place..thread.spans.len()).take_while(|place| is_off(*place)).last();
    let end_ns = thread.tile(last.unwrap_or(place)).end_ns;
    Some((time_ns - thread.spans[first].start_ns).min(end_ns.saturating_sub(time_ns)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Span, Waker};

    fn thread() -> Thread {
        let span = |start_ns, state| Span { start_ns, state, cpu: 0, waker: Waker::Unknown };
        Thread {
            tid: 7,
            pid: 7,
            comm: [0; 16],
            is_kernel: false,
            is_target: true,
            parent: None,
            start_ns: 0,
            end_ns: 100_000,
            has_exited: false,
            spans: vec![
                span(10_000, State::Running),
                span(30_000, State::Sleeping),
                span(50_000, State::Woken),
                span(60_000, State::Running),
            ],
            migrations: 0,
            switches: 0,
            kernel_first: None,
            kernel_last: None,
        }
    }

    #[test]
    fn what_the_thread_did_sums_to_the_time_asked_for() {
        let time = kernel_time(&thread(), 5_000, 65_000);
        let expected = KernelTime {
            on_cpu_ns: 25_000,
            waiting_ns: 10_000,
            sleeping_ns: 20_000,
            uninterruptible_ns: 0,
            not_recorded_ns: 5_000,
        };
        assert_eq!((time, time.total_ns()), (expected, 60_000));
    }

    #[test]
    fn a_sleep_and_the_wait_after_it_are_one_time_off_the_cpu() {
        let off = |time_ns| off_cpu(&thread(), time_ns);
        assert_eq!([off(9_000), off(10_000), off(29_999)], [None, Some(0), Some(0)]);
        assert_eq!(
            [off(31_500), off(48_000), off(59_000)],
            [Some(1_500), Some(12_000), Some(1_000)]
        );
    }
}
