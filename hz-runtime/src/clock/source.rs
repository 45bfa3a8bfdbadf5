//! The counter that stamps are of.

use super::monotonic_ns;
use hz_probes_ebpf::runtime_ring::{CLOCK_HPET, CLOCK_MONOTONIC, CLOCK_TSC};
use std::sync::atomic::{AtomicU32, Ordering};

/// What stamps are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    Monotonic,
    /// The time stamp counter.
    Tsc,
    /// The counter of the HPET.
    Hpet,
}

impl Source {
    /// As `RingPage::clock` has it.
    pub(crate) const fn wire(self) -> u32 {
        match self {
            Self::Monotonic => CLOCK_MONOTONIC,
            Self::Tsc => CLOCK_TSC,
            Self::Hpet => CLOCK_HPET,
        }
    }
}

/// Not chosen yet.
const UNKNOWN: u32 = u32::MAX;
static SOURCE: AtomicU32 = AtomicU32::new(UNKNOWN);

/// What stamps are of in this process.
#[must_use]
pub fn source() -> Source {
    match SOURCE.load(Ordering::Relaxed) {
        UNKNOWN => choose(),
        CLOCK_TSC => Source::Tsc,
        CLOCK_HPET => Source::Hpet,
        _ => Source::Monotonic,
    }
}

#[cold]
fn choose() -> Source {
    let source = if is_tsc_invariant() { Source::Tsc } else { Source::Monotonic };
    SOURCE.store(source.wire(), Ordering::Relaxed);
    source
}

/// The counter now.
#[must_use]
#[inline(always)]
pub fn stamp() -> u64 {
    #[cfg(target_arch = "x86_64")]
    if SOURCE.load(Ordering::Relaxed) == CLOCK_TSC {
        // SAFETY: every x86-64 has the instruction, and it was chosen because it may be used here.
        return unsafe { std::arch::x86_64::_rdtsc() };
    }
    slow_stamp()
}

#[inline(never)]
fn slow_stamp() -> u64 {
    match source() {
        Source::Tsc => stamp(),
        Source::Hpet | Source::Monotonic => monotonic_ns(),
    }
}

/// The counter and `CLOCK_MONOTONIC` in nanoseconds, of one moment.
#[must_use]
pub fn pair() -> (u64, u64) {
    if source() == Source::Monotonic {
        let now = monotonic_ns();
        return (now, now);
    }
    let read = || {
        let before = stamp();
        let now = monotonic_ns();
        let after = stamp();
        (after.wrapping_sub(before), before.wrapping_add(after.wrapping_sub(before) / 2), now)
    };
    // The narrowest of a few: an interrupt between two readings widens the rest.
    let (_, stamp, now) =
        (0..8).map(|_| read()).min_by_key(|(width, ..)| *width).unwrap_or_else(read);
    (stamp, now)
}

#[cfg(target_arch = "x86_64")]
fn is_tsc_invariant() -> bool {
    use std::arch::x86_64::__cpuid;
    const INVARIANT: u32 = 1 << 8;
    __cpuid(0x8000_0000).eax >= 0x8000_0007 && __cpuid(0x8000_0007).edx & INVARIANT != 0
}

#[cfg(not(target_arch = "x86_64"))]
fn is_tsc_invariant() -> bool {
    false
}
