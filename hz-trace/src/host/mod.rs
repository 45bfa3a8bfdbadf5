//! What this host can do: kernel types, control groups, clocks, its own identity.

mod btf;
mod busy;
mod capability;
mod cgroup;
pub mod clock;
mod namespace;
mod steal;

pub use btf::KernelTypes;
pub use busy::BusyClock;
pub use capability::{Capability, may_trace};
pub use cgroup::Cgroup;
pub use namespace::Namespace;
pub use steal::StealClock;

use std::fs;

/// Name of the host.
#[must_use]
pub fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Release of its kernel.
#[must_use]
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// CPUs that are online.
#[must_use]
pub fn online_cpus() -> usize {
    cpu_list("online").map_or(1, |list| count_cpus(&list))
}

/// CPUs the kernel may ever have: one more than the highest number.
#[must_use]
pub fn possible_cpus() -> usize {
    let list = cpu_list("possible").unwrap_or_default();
    let highest = list.rsplit([',', '-']).next().and_then(|last| last.trim().parse::<usize>().ok());
    highest.map_or(1, |last| last + 1)
}

fn cpu_list(which: &str) -> Option<String> {
    fs::read_to_string(format!("/sys/devices/system/cpu/{which}")).ok()
}

/// Counts the CPUs of a list such as `0-3,8`.
fn count_cpus(list: &str) -> usize {
    let ranges = list.trim().split(',').filter(|range| !range.is_empty());
    ranges.map(|range| range_length(range).unwrap_or(0)).sum()
}

fn range_length(range: &str) -> Option<usize> {
    match range.split_once('-') {
        Some((first, last)) => {
            let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
            last.checked_sub(first).map(|more| more + 1)
        }
        None => range.parse::<usize>().ok().map(|_| 1),
    }
}

/// Largest resident memory of this process so far, in bytes.
#[must_use]
pub fn own_memory_peak_bytes() -> u64 {
    let status = procfs::process::Process::myself().and_then(|process| process.status());
    status.ok().and_then(|status| status.vmhwm).map_or(0, |kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_are_counted() {
        for (list, count) in [("0\n", 1), ("0-1\n", 2), ("0-3,8,10-11\n", 7), ("", 0), ("x-y", 0)] {
            assert_eq!(count_cpus(list), count, "{list:?}");
        }
    }
}
