//! What hz itself takes.

use crate::{
    host,
    recording::{BpfCost, OwnCost},
};
use perf_event::{Builder, Counter, events::Software};
use std::time::{Duration, Instant};

/// Counts the CPU time of this process and its threads to come, but not of a recorded command,
/// which is its child.
#[derive(Debug)]
pub(super) struct OwnMeter {
    counter: Option<Counter>,
    /// CPU time that went before the recording.
    earlier_ns: u64,
    began: Instant,
    startup_ns: u64,
}

impl OwnMeter {
    pub(super) fn start() -> Self {
        let mut builder = Builder::new().kind(Software::TASK_CLOCK);
        builder.inherit(true).inherit_thread(true);
        let counter = builder
            .build()
            .ok()
            .and_then(|mut counter| counter.enable().is_ok().then_some(counter));
        Self { counter, earlier_ns: 0, began: Instant::now(), startup_ns: 0 }
    }

    /// Says that recording has begun.
    pub(super) fn mark_started(&mut self) {
        self.earlier_ns = self.cpu_ns();
        self.startup_ns = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    }

    fn cpu_ns(&mut self) -> u64 {
        let counted = self.counter.as_mut().and_then(|counter| counter.read().ok());
        counted.unwrap_or_else(process_cpu_ns)
    }

    pub(super) fn read(&mut self) -> OwnCost {
        OwnCost {
            cpu_ns: self.cpu_ns().saturating_sub(self.earlier_ns),
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

/// CPU time of all threads of this process so far, those that have ended included: it does where
/// perf counters are forbidden.
fn process_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// CPU time of the programs over `elapsed`, of which the kernel measured a part.
pub(super) fn bpf_ns(programs: &[BpfCost], measured: Duration, elapsed: Duration) -> u64 {
    let measured_ns: u64 = programs.iter().map(|program| program.measured_ns).sum();
    let scaled = u128::from(measured_ns) * elapsed.as_nanos() / measured.as_nanos().max(1);
    u64::try_from(scaled).unwrap_or(u64::MAX)
}
