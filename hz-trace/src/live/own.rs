//! What this process takes while it watches.

use crate::model::window::Window;
use rustix::time::{ClockId, clock_gettime};
use std::{fs, time::Duration};

/// Reads this process's own CPU time and memory.
#[derive(Debug)]
pub(super) struct OwnMeter {
    before_ns: u64,
}

impl OwnMeter {
    pub(super) fn start() -> Self {
        Self { before_ns: cpu_ns() }
    }

    pub(super) fn add(&mut self, window: &mut Window, gather: Duration) {
        let now_ns = cpu_ns();
        window.own.cpu_ns = now_ns.saturating_sub(self.before_ns);
        self.before_ns = now_ns;
        window.own.memory_bytes = memory_bytes();
        window.own.gather_ns = u64::try_from(gather.as_nanos()).unwrap_or(u64::MAX);
    }
}

fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// The second figure of `/proc/self/statm`: resident pages.
fn memory_bytes() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}
