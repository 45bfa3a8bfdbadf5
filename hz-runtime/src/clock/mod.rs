//! The runtime's clock: nanoseconds of `CLOCK_MONOTONIC` at the price of a counter's reading.

/// Now, nanoseconds of `CLOCK_MONOTONIC`.
#[must_use]
#[inline]
pub fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}
