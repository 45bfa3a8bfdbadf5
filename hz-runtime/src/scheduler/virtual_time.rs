//! The time that timers go by: the clock's, or on a thread that runs tasks deterministically a
//! virtual one that only timers move.

use super::sync::thread_local;
use crate::clock;
use std::cell::Cell;

/// Where virtual time begins. Not at 0, so that a deadline in the past is one.
pub(crate) const BEGIN_NS: u64 = 1_000_000_000;

const REAL: u64 = 0;

thread_local! {
    static NOW_NS: Cell<u64> = const { Cell::new(REAL) };
}

/// Now, nanoseconds of `CLOCK_MONOTONIC` or of virtual time.
#[inline]
pub(crate) fn now_ns() -> u64 {
    match NOW_NS.with(Cell::get) {
        REAL => clock::now_ns(),
        virtual_ns => virtual_ns,
    }
}

/// Whether this thread's time is virtual.
pub(crate) fn is_virtual() -> bool {
    NOW_NS.with(Cell::get) != REAL
}

pub(super) fn set(now_ns: u64) {
    NOW_NS.with(|now| now.set(now_ns));
}

/// While it lives, this thread's time is virtual.
#[derive(Debug)]
pub(super) struct Guard {
    before: u64,
}

impl Guard {
    pub(super) fn enter(now_ns: u64) -> Self {
        Self { before: NOW_NS.with(|now| now.replace(now_ns)) }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        set(self.before);
    }
}
