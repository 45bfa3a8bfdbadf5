//! The runtime's clock, which is the kernel's `CLOCK_MONOTONIC`, and the counter that stamps events.

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
