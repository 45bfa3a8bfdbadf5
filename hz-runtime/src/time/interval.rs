//! A deadline again and again.

use super::sleep::Sleep;
use super::{instant_ns, instant_of, nanoseconds};
use crate::scheduler::budget;
use crate::scheduler::virtual_time::now_ns;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// What an [`Interval`] does about ticks that nobody waited for in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MissedTick {
    /// They come at once, one after the other, until the interval has caught up.
    #[default]
    Burst,
    /// The next tick is one period after the late one.
    Delay,
    /// They are left out: the next tick is the next multiple of the period from the start.
    Skip,
}

/// Ticks now and then once each `period`.
///
/// # Panics
///
/// If `period` is zero.
#[track_caller]
pub fn interval(period: Duration) -> Interval {
    interval_at(super::now(), period)
}

/// Ticks at `start` and then once each `period`.
///
/// # Panics
///
/// If `period` is zero.
#[track_caller]
pub fn interval_at(start: Instant, period: Duration) -> Interval {
    assert!(!period.is_zero(), "an interval needs a period above zero");
    Interval {
        sleep: Sleep::until_ns(instant_ns(start)),
        period_ns: nanoseconds(period),
        missed: MissedTick::default(),
    }
}

/// Regular ticks; see [`interval`].
#[derive(Debug)]
pub struct Interval {
    sleep: Sleep,
    period_ns: u64,
    missed: MissedTick,
}

impl Interval {
    /// Says what happens about missed ticks.
    pub const fn set_missed_tick(&mut self, missed: MissedTick) {
        self.missed = missed;
    }

    /// The period.
    #[must_use]
    pub const fn period(&self) -> Duration {
        Duration::from_nanos(self.period_ns)
    }

    /// Waits for the next tick and returns when it was due. Dropped before, it loses no tick.
    pub async fn tick(&mut self) -> Instant {
        poll_fn(|context| self.poll_tick(context)).await
    }

    /// As [`Interval::tick`].
    pub fn poll_tick(&mut self, context: &mut Context<'_>) -> Poll<Instant> {
        ready!(budget::consume(context));
        ready!(self.sleep.poll_elapsed(context));
        let (now, due) = (now_ns(), self.sleep.deadline_ns());
        self.sleep.reset_ns(self.following(due, now));
        Poll::Ready(instant_of(due))
    }

    const fn following(&self, due: u64, now: u64) -> u64 {
        let next = due.saturating_add(self.period_ns);
        if next > now {
            return next;
        }
        match self.missed {
            MissedTick::Burst => next,
            MissedTick::Delay => now.saturating_add(self.period_ns),
            MissedTick::Skip => {
                let periods = (now - due) / self.period_ns + 1;
                due.saturating_add(periods.saturating_mul(self.period_ns))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(missed: MissedTick, due: u64, now: u64) -> u64 {
        let mut interval = interval(Duration::from_nanos(10));
        interval.set_missed_tick(missed);
        interval.following(due, now)
    }

    #[test]
    fn ticks_in_time_are_a_period_apart() {
        for missed in [MissedTick::Burst, MissedTick::Delay, MissedTick::Skip] {
            assert_eq!(next(missed, 100, 109), 110, "{missed:?}");
        }
    }

    #[test]
    fn missed_ticks_burst_are_put_off_or_left_out() {
        assert_eq!(next(MissedTick::Burst, 100, 135), 110);
        assert_eq!(next(MissedTick::Delay, 100, 135), 145);
        assert_eq!(next(MissedTick::Skip, 100, 135), 140);
        assert_eq!(next(MissedTick::Skip, 100, 140), 150);
    }
}
