//! Waiting for a time: [`sleep`], [`interval`], [`timeout`].
//!
//! Deadlines are nanoseconds. A timer never fires early; on an idle worker it fires about 50 µs late,
//! which is the kernel's timer slack. On a deterministic runtime time is virtual; there a deadline that was
//! given as an `Instant` depends on the real time that has passed, and only durations are exact.

#![forbid(unsafe_code)]

mod interval;
mod sleep;
mod timeout;

pub use interval::{Interval, MissedTick, interval, interval_at};
pub use sleep::{Sleep, sleep, sleep_until};
pub use timeout::{Elapsed, Timeout, timeout, timeout_at};

use crate::scheduler::virtual_time::now_ns;
use std::time::{Duration, Instant};

fn after_ns(duration: Duration) -> u64 {
    now_ns().saturating_add(nanoseconds(duration))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// An instant on the runtime's clock.
fn instant_ns(instant: Instant) -> u64 {
    let (now, now_ns) = (Instant::now(), now_ns());
    match instant.checked_duration_since(now) {
        Some(left) => now_ns.saturating_add(nanoseconds(left)),
        None => now_ns.saturating_sub(nanoseconds(now.duration_since(instant))),
    }
}
