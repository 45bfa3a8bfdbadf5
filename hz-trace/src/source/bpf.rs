//! What the kernel says of BPF programs: how often they ran, for how long, and how often not.

use crate::recording::{BpfCost, LedgerRow};
use hz_probes_ebpf::Loss;
use std::{
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

/// Lets the kernel measure the run time of all programs while it lives.
///
/// # Overhead
///
/// Two clock reads per program run, about 30 ns: so hz measures a tenth of the time.
#[derive(Debug)]
pub(super) struct RunTimeMeter {
    _fd: OwnedFd,
}

impl RunTimeMeter {
    /// `None` where the kernel does not permit it (`CAP_SYS_ADMIN`).
    pub(super) fn start() -> Option<Self> {
        // SAFETY: takes a number and returns a new file descriptor or a negative error.
        let fd = unsafe { libbpf_sys::bpf_enable_stats(libbpf_sys::BPF_STATS_RUN_TIME) };
        if fd < 0 {
            return None;
        }
        // SAFETY: the kernel just gave us this descriptor; nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Some(Self { _fd: fd })
    }
}

/// The kernel's counts of one program.
pub(super) fn cost(program: &str, fd: BorrowedFd<'_>) -> BpfCost {
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut length = u32::try_from(size_of_val(&info)).unwrap_or(0);
    // SAFETY: `info` is as long as `length` says and all its pointers are null, so that the kernel
    // writes into `info` only.
    let result = unsafe {
        libbpf_sys::bpf_obj_get_info_by_fd(
            fd.as_raw_fd(),
            std::ptr::from_mut(&mut info).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return BpfCost { program: program.to_owned(), ..BpfCost::default() };
    }
    BpfCost {
        program: program.to_owned(),
        measured_runs: info.run_cnt,
        measured_ns: info.run_time_ns,
        skipped_by_kernel: info.recursion_misses,
    }
}

/// Measures now and then, and knows for how long it did.
#[derive(Debug, Default)]
pub(super) struct SometimesMeter {
    running: Option<(RunTimeMeter, Instant)>,
    measured: Duration,
}

impl SometimesMeter {
    /// Lets the kernel measure, or stops it.
    pub(super) fn measure(&mut self, is_on: bool) {
        if is_on && self.running.is_none() {
            self.running = RunTimeMeter::start().map(|meter| (meter, Instant::now()));
        } else if !is_on && let Some((_, since)) = self.running.take() {
            self.measured += since.elapsed();
        }
    }

    /// For how long the kernel has measured.
    pub(super) fn measured(&self) -> Duration {
        let now = self.running.as_ref().map_or(Duration::ZERO, |(_, since)| since.elapsed());
        self.measured + now
    }
}

/// The rows of a ledger, all CPUs together: `cpus` has the rows of each, in the order of `sites`.
pub(super) fn sum_ledger<'a>(
    sites: impl ExactSizeIterator<Item = &'a str>,
    cpus: impl IntoIterator<Item = impl IntoIterator<Item = Loss>>,
) -> Vec<LedgerRow> {
    let mut sums = vec![Loss::default(); sites.len()];
    for cpu in cpus {
        sums.iter_mut().zip(cpu).for_each(|(sum, row)| sum.add(&row));
    }
    sites.zip(&sums).map(|(site, loss)| LedgerRow::new(site, loss)).collect()
}
