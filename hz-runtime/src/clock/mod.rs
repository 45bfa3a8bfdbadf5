//! The runtime's clock, which follows the kernel's `CLOCK_MONOTONIC`, and the counter that stamps events.
//!
//! Where the processor's time stamp counter can be relied on, the time is read from it, in half the
//! time of `clock_gettime`. The two are compared each half millisecond in which anybody asks; the
//! largest difference that was found is [`error_ns`]. `HZ_CLOCK` chooses another [`Source`].

#![cfg_attr(hz_shuttle, allow(dead_code, reason = "its time is made up"))]

mod anchor;
mod conversion;
mod hpet;
#[cfg(hz_shuttle)]
mod model;
mod source;
mod sync;

#[cfg(hz_shuttle)]
pub use model::now_ns;
#[cfg(hz_shuttle)]
pub(crate) use model::passes;
pub use source::{ClockError, Source, check, pair, source, stamp};

#[cfg(not(hz_loom))]
static ANCHOR: anchor::Anchor = anchor::Anchor::new();

/// Now, nanoseconds of `CLOCK_MONOTONIC`, to within [`error_ns`].
///
/// On one thread it never goes back.
#[must_use]
#[inline]
#[cfg(not(any(hz_loom, hz_shuttle)))]
pub fn now_ns() -> u64 {
    if source::is_tsc()
        && let Some(ns) = ANCHOR.ns(stamp(), 1)
    {
        return ns;
    }
    slow_now_ns()
}

#[inline(never)]
#[cfg(not(any(hz_loom, hz_shuttle)))]
fn slow_now_ns() -> u64 {
    match source() {
        Source::Monotonic => monotonic_ns(),
        Source::Tsc => ANCHOR.renew(|| source::closest_pair(3)),
        Source::Hpet => {
            ANCHOR.ns(stamp(), 1).unwrap_or_else(|| ANCHOR.renew(|| source::closest_pair(3)))
        }
    }
}

/// Models do not ask for the time.
#[cfg(hz_loom)]
#[must_use]
pub fn now_ns() -> u64 {
    monotonic_ns()
}

/// The most that [`now_ns`] was off the kernel's clock so far, as far as was seen when the two were
/// compared; 0 where it is the kernel's own.
#[must_use]
#[cfg(not(hz_loom))]
pub fn error_ns() -> u64 {
    ANCHOR.error_ns()
}

/// Models have no clock of their own.
#[cfg(hz_loom)]
#[must_use]
pub fn error_ns() -> u64 {
    0
}

/// Now, as the kernel's `CLOCK_MONOTONIC` has it.
#[must_use]
#[inline]
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}
