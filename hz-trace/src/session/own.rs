//! What hz itself takes.

use crate::{
    host,
    recording::{BpfCost, OwnCost},
};
use perf_event::{Builder, Counter, events::Software};
use std::time::Instant;

/// Counts the CPU time of this process and all its threads to come.
#[derive(Debug)]
pub(super) struct OwnMeter {
    counter: Option<Counter>,
    began: Instant,
    startup_ns: u64,
}

impl OwnMeter {
    pub(super) fn start() -> Self {
        let mut builder = Builder::new().kind(Software::TASK_CLOCK);
        builder.inherit(true);
        let counter = builder
            .build()
            .ok()
            .and_then(|mut counter| counter.enable().is_ok().then_some(counter));
        Self { counter, began: Instant::now(), startup_ns: 0 }
    }

    /// Says that recording has begun.
    pub(super) fn mark_started(&mut self) {
        self.startup_ns = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    }

    pub(super) fn read(&mut self) -> OwnCost {
        let cpu_ns = self.counter.as_mut().and_then(|counter| counter.read().ok());
        OwnCost {
            cpu_ns: cpu_ns.unwrap_or_else(process_cpu_ns),
            memory_peak_bytes: host::own_memory_peak_bytes(),
            bpf_ns: 0,
            startup_ns: self.startup_ns,
        }
    }
}

/// Lets this thread, and those it will start, run before others, as far as that is permitted.
///
/// The busier a machine is, the more there is to record and the later a reader like any other gets
/// a CPU to empty the rings: on two CPUs with six runnable threads, one pair of high priority, it
/// waited up to 2 s at once and half of the records were lost. It needs little CPU time, so nobody waits long
/// for it. Real-time priority would be too much: a reader that cannot keep up would take a CPU
/// for itself.
pub(super) fn hurry() {
    const HIGHEST: i32 = -20;
    // To the kernel, the process 0 is the calling thread. Without the right to, it stays as it is.
    let _ = rustix::process::setpriority_process(None, HIGHEST);
}

/// Where perf counters are forbidden, the process's own clock does.
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
