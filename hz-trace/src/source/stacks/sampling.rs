//! What makes samples due: a counter of each CPU that interrupts it again and again, whoever runs there.

use super::NAME;
use crate::{error::StartError, host::BusyClock};
use hz_probes_ebpf::{SAMPLE_CPU_CLOCK, SAMPLE_CYCLES};
use perf_event::{
    Builder, Counter,
    events::{Event, Hardware, Software},
};
use std::{
    fs,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
};

/// What samples are taken by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SampleBy {
    /// The clock of each CPU: a sample stands for time.
    #[default]
    Clock,
    /// The counter of cycles of each CPU, if it has one; else its clock. A sample stands for cycles.
    Cycles,
}

/// The counters of all CPUs.
pub(super) struct Sampling {
    by: SampleBy,
    hz: u32,
    pub(super) counters: Vec<Counter>,
    /// How long each of their CPUs ran threads.
    busy: Vec<BusyClock>,
    /// Changes a counter before it is opened.
    pub(super) adapt: fn(&mut Builder<'_>),
    /// Why it is not what was asked for.
    pub(super) complaint: Option<String>,
}

impl Sampling {
    /// Chooses what samples are taken by: cycles only where this host counts them.
    pub(super) fn choose(asked: SampleBy, hz: u32) -> Self {
        let refused = match asked {
            SampleBy::Clock => None,
            SampleBy::Cycles => builder(SampleBy::Cycles, 0, hz).build().err(),
        };
        let complaint = refused.as_ref().map(|error| {
            format!("cycles of the CPU: {error}; samples are taken by the clock instead")
        });
        let by = if refused.is_some() { SampleBy::Clock } else { asked };
        Self { by, hz, counters: Vec::new(), busy: Vec::new(), adapt: |_| {}, complaint }
    }

    /// What samples say that they are of.
    pub(super) const fn event(&self) -> u32 {
        match self.by {
            SampleBy::Clock => SAMPLE_CPU_CLOCK,
            SampleBy::Cycles => SAMPLE_CYCLES,
        }
    }

    /// What it is called.
    pub(super) const fn name(&self) -> &'static str {
        match self.by {
            SampleBy::Clock => "cpu-clock",
            SampleBy::Cycles => "cycles",
        }
    }

    /// Opens the counter of one CPU; what it gives back is for a program to be attached to.
    pub(super) fn open(&mut self, cpu: usize) -> Result<OwnedFd, StartError> {
        let no_counter = |source| StartError::NoCounter { probe: NAME, source };
        let mut builder = builder(self.by, cpu, self.hz);
        (self.adapt)(&mut builder);
        let counter = builder.build().map_err(no_counter)?;
        // SAFETY: the counter keeps its descriptor open for the length of the call.
        let fd = unsafe { BorrowedFd::borrow_raw(counter.as_raw_fd()) };
        let own = fd.try_clone_to_owned().map_err(no_counter)?;
        self.counters.push(counter);
        self.busy.push(BusyClock::start(cpu));
        Ok(own)
    }

    /// Samples that were due while CPUs ran threads and that no program saw, of which `seen` were seen. How
    /// long they ran is known to some ticks, and a period that has just begun counts as none: so few may
    /// pass unnoticed. Of cycles nobody knows: the kernel chooses the periods.
    pub(super) fn skipped(&self, seen: u64) -> u64 {
        if self.by != SampleBy::Clock {
            return 0;
        }
        let period = period_ns(self.hz);
        let busy = self.busy.iter().filter_map(BusyClock::ns);
        let due: u64 = busy.map(|ns| ns.saturating_sub(BusyClock::RESOLUTION_NS) / period).sum();
        due.saturating_sub(seen + self.busy.len() as u64)
    }
}

pub(super) const fn period_ns(hz: u32) -> u64 {
    let hz = if hz == 0 { 1 } else { hz };
    1_000_000_000 / hz as u64
}

fn builder(by: SampleBy, cpu: usize, hz: u32) -> Builder<'static> {
    let event = match by {
        SampleBy::Clock => Event::from(Software::CPU_CLOCK),
        SampleBy::Cycles => Event::from(Hardware::CPU_CYCLES),
    };
    let mut builder = Builder::new().kind(event).any_pid().one_cpu(cpu);
    builder.exclude_kernel(false).exclude_hv(false).exclude_idle(true);
    match by {
        SampleBy::Clock => builder.sample_period(period_ns(hz)),
        SampleBy::Cycles => builder.sample_frequency(u64::from(hz)),
    };
    builder
}

/// CPUs that are on, by number.
pub(super) fn online_cpus() -> Vec<usize> {
    let text = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    parse_cpus(text.trim())
}

/// A list such as `0-2,5`; only CPU 0 if it cannot be read.
fn parse_cpus(text: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?.min(8191))
    };
    let cpus: Vec<usize> = text.split(',').filter_map(range).flatten().collect();
    if cpus.is_empty() { vec![0] } else { cpus }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_read() {
        assert_eq!(parse_cpus("0-2,5"), [0, 1, 2, 5]);
        assert_eq!(parse_cpus("3"), [3]);
        assert_eq!(parse_cpus(""), [0]);
        assert_eq!(parse_cpus("x-,9"), [9]);
    }
}
