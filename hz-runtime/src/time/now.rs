//! Instants on the runtime's clock.

use crate::scheduler::virtual_time::{self, now_ns};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Where virtual time begins, as an `Instant`: so far from now that no instant of the real clock is
/// taken for a virtual one.
static BASE: LazyLock<Instant> = LazyLock::new(|| {
    let hundred_years = Duration::from_secs(100 * 365 * 24 * 3600);
    let now = Instant::now();
    now.checked_add(hundred_years).unwrap_or(now)
});

/// Now, on the clock that timers go by.
///
/// That is `Instant::now()`, but on a deterministic runtime it is virtual: deadlines made from it are
/// exact there, and two instants of it are as far apart as the program's timers say. With instants of the real
/// clock it cannot be compared.
#[must_use]
pub fn now() -> Instant {
    instant_of(now_ns())
}

/// A time of the runtime's clock, which is now or a little while ago, as an instant.
pub(super) fn instant_of(time_ns: u64) -> Instant {
    if virtual_time::is_virtual() {
        return *BASE + Duration::from_nanos(time_ns);
    }
    let (real, now_ns) = (Instant::now(), now_ns());
    real.checked_sub(Duration::from_nanos(now_ns.saturating_sub(time_ns))).unwrap_or(real)
}

/// An instant on the runtime's clock.
pub(super) fn instant_ns(instant: Instant) -> u64 {
    if virtual_time::is_virtual()
        && let Some(since) = instant.checked_duration_since(*BASE)
    {
        return super::nanoseconds(since);
    }
    let (real, now_ns) = (Instant::now(), now_ns());
    match instant.checked_duration_since(real) {
        Some(left) => now_ns.saturating_add(super::nanoseconds(left)),
        None => now_ns.saturating_sub(super::nanoseconds(real.duration_since(instant))),
    }
}
