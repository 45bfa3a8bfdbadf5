//! Waiting for a time: [`sleep`], [`interval`], [`timeout`].
//!
//! Deadlines are nanoseconds. A timer never fires early; on an idle worker it fires about 50 µs late,
//! which is the kernel's timer slack. On a deterministic runtime time is virtual: there [`now`] gives instants of it,
//! while a deadline that was made from `Instant::now()` depends on the real time that has passed.

#![forbid(unsafe_code)]

mod interval;
mod now;
mod sleep;
mod timeout;

pub use interval::{Interval, MissedTick, interval, interval_at};
pub use now::now;
pub use sleep::{Sleep, sleep, sleep_until};
pub use timeout::{Elapsed, Timeout, timeout, timeout_at};

use crate::scheduler::virtual_time::now_ns;
use now::{instant_ns, instant_of};
use std::time::Duration;

fn after_ns(duration: Duration) -> u64 {
    now_ns().saturating_add(nanoseconds(duration))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
