//! What the probes do, and what they are told once.

use super::kinds;
use super::memory::{self, ShareError};
use super::settings::Settings;
use hz_probes_ebpf::Kind;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};

/// Kinds that runtimes in this process said they can tell; 0: none said so.
static OFFERED: AtomicU64 = AtomicU64::new(0);
/// As `RingPage::alloc_mean_bytes`.
pub(super) static ALLOC_MEAN_BYTES: AtomicU64 = AtomicU64::new(0);

/// What the probes do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Status {
    /// Whether this process shares memory with readers; `Ok(None)`: not yet, nothing happened. With
    /// the file descriptor and length of the memory.
    pub shared: Result<Option<(i32, usize)>, ShareError>,
    /// Kinds that are on, by [`Kind::runtime_bit`].
    pub kinds: u64,
    /// Kinds that are always on.
    pub flight_kinds: u64,
    /// What could not be understood of the variables `HZ_*`.
    pub warnings: &'static [String],
}

/// What the probes do.
#[must_use]
pub fn status() -> Status {
    let settings = Settings::get();
    let shared = |memory: &memory::Memory| (memory.fd.as_raw_fd(), memory.layout.bytes);
    Status {
        shared: memory::outcome().map(|_| memory::get().map(shared)),
        kinds: kinds::all_on(),
        flight_kinds: settings.flight_kinds,
        warnings: &settings.warnings,
    }
}

/// Shares memory with readers from now on, with rings for `workers` threads and some more. Without
/// it the first task or worker does so, for as many workers as there are CPUs.
///
/// # Errors
///
/// [`ShareError`] if it is not possible: the runtime goes on without.
pub fn start(workers: usize) -> Result<(), ShareError> {
    let _ = memory::get_or_make(workers);
    memory::outcome().map(|_| ())
}

/// Whether anyone wants `kind`: for what is worth knowing only then.
#[must_use]
#[inline]
pub fn is_on(kind: Kind) -> bool {
    kinds::is_on(kind)
}

/// Says which kinds a runtime can tell at all, so that readers don't take silence for a zero. If there
/// are several runtimes in the process it is all that any of them can; if none says so, every kind.
pub fn offer(kinds: &[Kind]) {
    OFFERED.fetch_or(kinds::mask(kinds), Ordering::Relaxed);
    if let Some(memory) = memory::get() {
        memory.page.offered_kinds.store(offered(), Ordering::Relaxed);
    }
}

/// As `RingPage::offered_kinds`.
pub(super) fn offered() -> u64 {
    match OFFERED.load(Ordering::Relaxed) {
        0 => kinds::ALL,
        offered => offered,
    }
}

/// Says how many bytes lie between two sampled allocations in the mean; 0: none is sampled.
pub fn set_alloc_mean_bytes(bytes: u64) {
    ALLOC_MEAN_BYTES.store(bytes, Ordering::Relaxed);
    if let Some(memory) = memory::get() {
        memory.page.alloc_mean_bytes.store(bytes, Ordering::Relaxed);
    }
}
