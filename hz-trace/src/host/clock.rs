//! The clocks of the host.

use rustix::time::{ClockId, Timespec, clock_getres, clock_gettime};

/// Now, nanoseconds of `CLOCK_MONOTONIC`: the clock of every record.
#[must_use]
pub fn monotonic_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

/// Now, nanoseconds since 1970.
#[must_use]
pub fn realtime_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Realtime))
}

/// CPU time of the calling thread, in nanoseconds.
#[must_use]
pub fn own_thread_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::ThreadCPUTime))
}

/// Nanoseconds of one of the kernel's jiffies: the resolution of its coarse clocks, which tick with
/// them.
#[must_use]
pub fn jiffy_ns() -> u64 {
    nanoseconds(clock_getres(ClockId::MonotonicCoarse))
}

fn nanoseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}
