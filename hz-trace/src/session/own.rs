//! What hz itself takes.

use crate::{
    host,
    recording::{BpfCost, OwnCost},
};
use std::time::Instant;

/// Counts the CPU time of this process and its threads. A perf counter would count the recorded
/// command too, which inherits it.
#[derive(Debug)]
pub(super) struct OwnMeter {
    /// CPU time that went before the recording.
    earlier_ns: u64,
    began: Instant,
    startup_ns: u64,
}

impl OwnMeter {
    pub(super) fn start() -> Self {
        Self { earlier_ns: process_cpu_ns(), began: Instant::now(), startup_ns: 0 }
    }

    /// Says that recording has begun.
    pub(super) fn mark_started(&mut self) {
        self.earlier_ns = process_cpu_ns();
        self.startup_ns = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    }

    pub(super) fn read(&self) -> OwnCost {
        OwnCost {
            cpu_ns: process_cpu_ns().saturating_sub(self.earlier_ns),
            memory_peak_bytes: host::own_memory_peak_bytes(),
            bpf_ns: 0,
            startup_ns: self.startup_ns,
        }
    }
}

/// CPU time of all threads of this process so far, those that have ended included.
fn process_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// CPU time of the programs: the mean of the measured runs, times all runs.
pub(super) fn bpf_ns(programs: &[BpfCost], runs: u64) -> u64 {
    let measured_ns: u64 = programs.iter().map(|program| program.measured_ns).sum();
    let measured_runs: u64 = programs.iter().map(|program| program.measured_runs).sum();
    let scaled = u128::from(measured_ns) * u128::from(runs.max(measured_runs));
    u64::try_from(scaled / u128::from(measured_runs.max(1))).unwrap_or(u64::MAX)
}
