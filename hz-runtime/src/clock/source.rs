//! The counter that stamps are of.

use super::hpet::Hpet;
use super::monotonic_ns;
use hz_probes_ebpf::runtime_ring::{CLOCK_HPET, CLOCK_MONOTONIC, CLOCK_TSC};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, io};

const CLOCK: &str = "HZ_CLOCK";

/// What the kernel keeps its own time by.
const KERNEL_SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

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
        chosen => of_wire(chosen),
    }
}

/// Why there is not the clock that `HZ_CLOCK` asks for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClockError {
    /// It asks for what is no clock.
    #[error("HZ_CLOCK={value} is not tsc, hpet or monotonic")]
    Unknown {
        /// What it says.
        value: String,
    },
    /// The counter cannot be relied on.
    #[error(
        "HZ_CLOCK=tsc: this processor's counter changes its rate, or must not be read here; unset it"
    )]
    NoTsc,
    /// There is none, or it may not be mapped.
    #[error(
        "HZ_CLOCK=hpet: cannot map /dev/hpet; be root on a kernel with CONFIG_HPET_MMAP, or unset it"
    )]
    Hpet {
        /// What the kernel said.
        source: io::Error,
    },
    /// Its counter would begin anew every few minutes.
    #[error("HZ_CLOCK=hpet: this machine's HPET counts to 32 bits only; unset it")]
    HpetOf32Bits,
}

/// Chooses what stamps are of in this process, if it has not been chosen.
///
/// `HZ_CLOCK` may say `tsc`, `hpet` or `monotonic`; else it is the time stamp counter where it is
/// invariant and the kernel keeps its own time by it.
///
/// # Errors
///
/// [`ClockError`], if `HZ_CLOCK` asks for what is not there. Stamps are then as if it were not set.
pub fn check() -> Result<Source, ClockError> {
    if let Some(asked) = asked() {
        let chosen = named(&asked)?;
        // Once stamps are written, they stay of one counter.
        let order = (Ordering::Relaxed, Ordering::Relaxed);
        let _ = SOURCE.compare_exchange(UNKNOWN, chosen.wire(), order.0, order.1);
    }
    Ok(source())
}

/// What `HZ_CLOCK` says.
fn asked() -> Option<String> {
    let asked = env::var_os(CLOCK).filter(|value| !value.is_empty())?;
    Some(asked.to_string_lossy().into_owned())
}

fn named(asked: &str) -> Result<Source, ClockError> {
    match asked {
        "monotonic" => Ok(Source::Monotonic),
        "tsc" if is_tsc_invariant() => Ok(Source::Tsc),
        "tsc" => Err(ClockError::NoTsc),
        "hpet" => Hpet::open().map(|_| Source::Hpet),
        value => Err(ClockError::Unknown { value: value.to_owned() }),
    }
}

#[cold]
fn choose() -> Source {
    let asked = asked().and_then(|asked| named(&asked).ok());
    let source = asked.unwrap_or_else(|| {
        if is_tsc_invariant() && is_kernels_own() { Source::Tsc } else { Source::Monotonic }
    });
    let order = (Ordering::Relaxed, Ordering::Relaxed);
    match SOURCE.compare_exchange(UNKNOWN, source.wire(), order.0, order.1) {
        Ok(_) => source,
        Err(chosen) => of_wire(chosen),
    }
}

const fn of_wire(wire: u32) -> Source {
    match wire {
        CLOCK_TSC => Source::Tsc,
        CLOCK_HPET => Source::Hpet,
        _ => Source::Monotonic,
    }
}

/// Whether the kernel goes by the counter too, itself or as its hypervisor's. One that it has found
/// to differ between CPUs it does not use.
fn is_kernels_own() -> bool {
    let source = fs::read_to_string(KERNEL_SOURCE).unwrap_or_default();
    // Without sysfs nothing is known against it.
    !["hpet", "acpi_pm", "jiffies", "refined-jiffies", "pit"].contains(&source.trim())
}

/// Whether stamps are the time stamp counter, if that is chosen already.
#[inline(always)]
pub(super) fn is_tsc() -> bool {
    SOURCE.load(Ordering::Relaxed) == CLOCK_TSC
}

/// The counter now.
#[must_use]
#[inline(always)]
pub fn stamp() -> u64 {
    #[cfg(target_arch = "x86_64")]
    if SOURCE.load(Ordering::Relaxed) == CLOCK_TSC {
        // SAFETY: every x86-64 has the instruction, and it was chosen because it is permitted.
        return unsafe { std::arch::x86_64::_rdtsc() };
    }
    slow_stamp()
}

#[inline(never)]
fn slow_stamp() -> u64 {
    match source() {
        Source::Tsc => stamp(),
        Source::Hpet => Hpet::counter(),
        Source::Monotonic => monotonic_ns(),
    }
}

/// The counter and `CLOCK_MONOTONIC` in nanoseconds, of one moment.
#[must_use]
pub fn pair() -> (u64, u64) {
    closest_pair(8)
}

/// The closest of so many readings of both.
pub(super) fn closest_pair(tries: u32) -> (u64, u64) {
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
        (0..tries).map(|_| read()).min_by_key(|(width, ..)| *width).unwrap_or_else(read);
    (stamp, now)
}

#[cfg(target_arch = "x86_64")]
fn is_tsc_invariant() -> bool {
    use std::arch::x86_64::__cpuid;
    const INVARIANT: u32 = 1 << 8;
    let is_invariant =
        __cpuid(0x8000_0000).eax >= 0x8000_0007 && __cpuid(0x8000_0007).edx & INVARIANT != 0;
    is_invariant && is_tsc_permitted()
}

/// Whether reading the counter does not end the process: `prctl(PR_SET_TSC)` forbids it to a thread and to those
/// that it starts.
#[cfg(target_arch = "x86_64")]
fn is_tsc_permitted() -> bool {
    let mut permission: libc::c_int = 0;
    // SAFETY: it writes an int there.
    let code = unsafe { libc::prctl(libc::PR_GET_TSC, &raw mut permission) };
    // Where the kernel does not know the question, nobody can have forbidden it.
    code != 0 || permission == libc::PR_TSC_ENABLE
}

#[cfg(not(target_arch = "x86_64"))]
fn is_tsc_invariant() -> bool {
    false
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    fn set_tsc(permission: libc::c_int) {
        // SAFETY: an int by value, and for this thread alone.
        assert_eq!(unsafe { libc::prctl(libc::PR_SET_TSC, permission) }, 0);
    }

    #[test]
    fn a_counter_that_must_not_be_read_is_not_chosen() {
        let ask = || {
            set_tsc(libc::PR_TSC_SIGSEGV);
            let is_permitted = is_tsc_permitted();
            set_tsc(libc::PR_TSC_ENABLE);
            (is_permitted, is_tsc_permitted())
        };
        assert_eq!(std::thread::spawn(ask).join().expect("it does not panic"), (false, true));
    }
}
