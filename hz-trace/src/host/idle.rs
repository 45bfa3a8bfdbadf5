//! Time in which a CPU ran no thread.

use std::fs;

/// How long a CPU was idle or served interrupts since it was first looked at, by `/proc/stat`, which
/// counts in ticks of 10 ms.
#[derive(Clone, Copy, Debug)]
pub struct IdleClock {
    cpu: usize,
    before_ns: Option<u64>,
}

impl IdleClock {
    /// What two readings may be off together.
    pub const RESOLUTION_NS: u64 = 20_000_000;

    /// Looks at a CPU, by its number.
    #[must_use]
    pub fn start(cpu: usize) -> Self {
        Self { cpu, before_ns: idle_ns(cpu) }
    }

    /// Nanoseconds since then; none if the kernel does not say.
    #[must_use]
    pub fn ns(&self) -> Option<u64> {
        Some(idle_ns(self.cpu)?.saturating_sub(self.before_ns?))
    }
}

fn idle_ns(cpu: usize) -> Option<u64> {
    let ns_per_tick = 1_000_000_000 / procfs::ticks_per_second().max(1);
    idle_ticks(&fs::read_to_string("/proc/stat").ok()?, cpu).map(|ticks| ticks * ns_per_tick)
}

/// Ticks in which a CPU had nothing to do, waited for a disk, or served interrupts: of those nobody knows
/// whether it was idle otherwise.
fn idle_ticks(stat: &str, cpu: usize) -> Option<u64> {
    let name = format!("cpu{cpu}");
    let line = stat.lines().find(|line| line.split(' ').next() == Some(&name))?;
    let ticks = line.split(' ').skip(4).take(4).map(|ticks| ticks.parse::<u64>().ok());
    ticks.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpus_idle_ticks_are_read_by_its_number() {
        let stat =
            "cpu  1 2 3 40 5 6 7 8 9 10\ncpu1 1 2 3 41 5 6 7 8 9 10\ncpu10 1 2 3 7 1 0 0\nintr 1\n";
        assert_eq!(idle_ticks(stat, 1), Some(59));
        assert_eq!(idle_ticks(stat, 10), Some(8));
        assert_eq!(idle_ticks(stat, 0), None);
    }
}
