//! The time of programs that shuttle runs: it goes on a little whenever somebody looks, and sometimes
//! to where somebody waits for.

use shuttle::rand::{Rng, thread_rng};
use std::sync::atomic::{AtomicU64, Ordering};

/// How much passes between two looks.
const STEP_NS: u64 = 1_000;

/// One time for all programs of a process: that it does not begin anew does no harm.
static NOW_NS: AtomicU64 = AtomicU64::new(1_000_000_000);

/// Now. It never goes back.
#[must_use]
pub fn now_ns() -> u64 {
    NOW_NS.fetch_add(STEP_NS, Ordering::Relaxed) + STEP_NS
}

/// Whether `until_ns` has come, for a thread that has nothing to do before: perhaps it comes now, or
/// perhaps others do something first.
pub(crate) fn passes(until_ns: u64) -> bool {
    if now_ns() < until_ns && thread_rng().gen_ratio(3, 4) {
        return false;
    }
    NOW_NS.fetch_max(until_ns, Ordering::Relaxed);
    true
}
