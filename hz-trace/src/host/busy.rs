//! Time in which a CPU ran threads.

use std::fs;

/// How long a CPU ran threads, or would have if its hypervisor had let it, since it was first looked at. By
/// `/proc/stat`, where the kernel adds a tick to whoever runs when it ticks: so over times much longer than
/// a tick, and not by what is left beside idle time, since going idle and coming back is neither.
#[derive(Clone, Copy, Debug)]
pub struct BusyClock {
    cpu: usize,
    before_ns: Option<u64>,
}

impl BusyClock {
    /// What two readings may be off together: each adds up four figures in steps of 10 ms.
    pub const RESOLUTION_NS: u64 = 40_000_000;

    /// Looks at a CPU, by its number.
    #[must_use]
    pub fn start(cpu: usize) -> Self {
        Self { cpu, before_ns: busy_ns(cpu) }
    }

    /// Nanoseconds since then; none if the kernel does not say.
    #[must_use]
    pub fn ns(&self) -> Option<u64> {
        Some(busy_ns(self.cpu)?.saturating_sub(self.before_ns?))
    }
}

fn busy_ns(cpu: usize) -> Option<u64> {
    let ns_per_tick = 1_000_000_000 / procfs::ticks_per_second().max(1);
    busy_ticks(&fs::read_to_string("/proc/stat").ok()?, cpu).map(|ticks| ticks * ns_per_tick)
}

/// Ticks of threads in user mode, of nice ones, and in the kernel, and those that were stolen.
fn busy_ticks(stat: &str, cpu: usize) -> Option<u64> {
    let name = format!("cpu{cpu}");
    let mut lines = stat.lines().map(|line| line.split(' '));
    let line = lines.find_map(|mut line| (line.next() == Some(&name)).then_some(line))?;
    let ticks: Vec<u64> = line.map_while(|ticks| ticks.parse().ok()).collect();
    let [user, nice, system, _idle, _iowait, _irq, _softirq, stolen, ..] = ticks.as_slice() else {
        return None;
    };
    Some(user + nice + system + stolen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpus_busy_ticks_are_read_by_its_number() {
        let stat = "cpu  1 2 3 40 5 6 7 8 9 10\ncpu1 1 2 3 41 5 6 7 8 9 10\ncpu10 7 1 0 1 1 1 1 0 0 0\nintr 1\n";
        assert_eq!(busy_ticks(stat, 1), Some(14));
        assert_eq!(busy_ticks(stat, 10), Some(8));
        assert_eq!(busy_ticks(stat, 0), None);
        assert_eq!(busy_ticks("cpu0 1 2 3 4\n", 0), None);
    }

    #[test]
    fn this_kernel_says_what_its_cpus_ran() {
        assert!(busy_ns(0).is_some_and(|ran| ran > 0));
    }
}
