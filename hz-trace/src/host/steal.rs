//! Time that the hypervisor took from each CPU.

use procfs::{CurrentSI as _, KernelStats};

/// Reads steal time from `/proc/stat`, which counts it in ticks of 10 ms.
#[derive(Debug, Default)]
pub struct StealClock {
    seen_ticks: Vec<u64>,
}

impl StealClock {
    /// Calls `each(cpu, nanoseconds)` for every CPU that lost time since the last call. The first
    /// call only looks.
    pub fn read(&mut self, mut each: impl FnMut(u16, u64)) {
        let Ok(stats) = KernelStats::current() else { return };
        let ns_per_tick = 1_000_000_000 / procfs::ticks_per_second().max(1);
        let ticks: Vec<u64> = stats.cpu_time.iter().map(|cpu| cpu.steal.unwrap_or(0)).collect();
        for (cpu, (now, before)) in ticks.iter().zip(&self.seen_ticks).enumerate() {
            if now > before {
                each(u16::try_from(cpu).unwrap_or(u16::MAX), (now - before) * ns_per_tick);
            }
        }
        self.seen_ticks = ticks;
    }
}
