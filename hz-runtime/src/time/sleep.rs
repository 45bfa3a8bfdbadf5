//! One deadline.

use super::{after_ns, instant_ns};
use crate::probe::{self, Wait};
use crate::reactor::{Timer, add_timer};
use crate::scheduler::budget;
use crate::scheduler::virtual_time::now_ns;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// Waits until `duration` has passed from now.
pub fn sleep(duration: Duration) -> Sleep {
    Sleep::until_ns(after_ns(duration))
}

/// Waits until `deadline`.
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep::until_ns(instant_ns(deadline))
}

/// The wait for a deadline; see [`sleep`].
///
/// # Panics
///
/// Polled on a thread that has entered no runtime.
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct Sleep {
    deadline_ns: u64,
    /// Once it waits.
    timer: Option<Timer>,
}

impl Sleep {
    pub(super) const fn until_ns(deadline_ns: u64) -> Self {
        Self { deadline_ns, timer: None }
    }

    pub(super) const fn deadline_ns(&self) -> u64 {
        self.deadline_ns
    }

    /// Whether the deadline has passed.
    #[must_use]
    pub fn is_elapsed(&self) -> bool {
        now_ns() >= self.deadline_ns
    }

    /// Waits until another deadline instead.
    pub fn reset(&mut self, deadline: Instant) {
        self.reset_ns(instant_ns(deadline));
    }

    pub(super) fn reset_ns(&mut self, deadline_ns: u64) {
        self.cancel();
        self.deadline_ns = deadline_ns;
    }

    fn cancel(&mut self) {
        if let Some(timer) = self.timer.take() {
            timer.remove();
        }
    }

    /// As `poll`, without taking from the task's budget.
    pub(super) fn poll_elapsed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let has_fired = match &self.timer {
            Some(timer) => timer.poll(context.waker()),
            None => self.is_elapsed(),
        };
        if has_fired {
            self.timer = None;
            // It stays over, whatever is asked of it next.
            return Poll::Ready(());
        }
        if self.timer.is_none() {
            let task = probe::current_task();
            self.timer = Some(add_timer(self.deadline_ns, task, context.waker().clone()));
        }
        probe::waiting(Wait::Timer(self.deadline_ns));
        Poll::Pending
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        ready!(budget::consume(context));
        self.poll_elapsed(context)
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.cancel();
    }
}
