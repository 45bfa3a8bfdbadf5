//! hz's own counts beside the kernel's.

use super::waits::waits_of;
use crate::model::{Model, Thread};
use serde::Serialize;

/// hz's own counts beside the kernel's, for threads that both counted over the same time.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Check {
    /// Threads compared.
    pub threads: usize,
    /// Those whose counts differ by more than one switch.
    pub threads_off: usize,
    /// All of them together.
    #[serde(flatten)]
    pub counts: Counts,
}

/// What hz counted and what the kernel counted of the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Times a CPU was left, as recorded.
    pub recorded_switches: u64,
    /// The same by the kernel (`nvcsw` + `nivcsw`).
    pub kernel_switches: u64,
    /// Waits as recorded.
    pub recorded_wait_ns: u64,
    /// The same by the kernel (`run_delay`); 0 where it does not count them.
    pub kernel_wait_ns: u64,
}

impl Counts {
    /// Those of a thread, if the kernel's were read at both ends.
    #[must_use]
    pub fn of(thread: &Thread) -> Option<Self> {
        let (first, last) = (thread.kernel_first?, thread.kernel_last?);
        let waits = waits_of(thread).filter(|wait| wait.end_ns <= last.time_ns);
        Some(Self {
            recorded_switches: thread.switches,
            kernel_switches: last.switches.saturating_sub(first.switches),
            recorded_wait_ns: waits.map(|wait| wait.duration_ns()).sum(),
            kernel_wait_ns: last.run_delay_ns.saturating_sub(first.run_delay_ns),
        })
    }

    /// Whether the switches differ by more than one.
    const fn are_off(&self) -> bool {
        self.recorded_switches.abs_diff(self.kernel_switches) > 1
    }
}

/// Compares the threads of the target.
pub(super) fn check(model: &Model) -> Check {
    let targets = model.threads.iter().filter(|thread| thread.is_target);
    targets.filter_map(Counts::of).fold(Check::default(), |mut check, counts| {
        check.threads += 1;
        check.threads_off += usize::from(counts.are_off());
        check.counts.recorded_switches += counts.recorded_switches;
        check.counts.kernel_switches += counts.kernel_switches;
        check.counts.recorded_wait_ns += counts.recorded_wait_ns;
        check.counts.kernel_wait_ns += counts.kernel_wait_ns;
        check
    })
}
