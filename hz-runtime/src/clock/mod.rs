//! The runtime's clock: nanoseconds of `CLOCK_MONOTONIC` at the price of a counter's reading.

mod source;

pub use source::{Source, pair, source, stamp};

/// Now, nanoseconds of `CLOCK_MONOTONIC`.
#[must_use]
#[inline]
pub fn now_ns() -> u64 {
    monotonic_ns()
}

/// Now, as the kernel's `CLOCK_MONOTONIC` has it.
#[must_use]
#[inline]
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// Error of [`now_ns`] when it was last compared with the kernel's clock, nanoseconds.
#[must_use]
pub fn error_ns() -> u64 {
    0
}
