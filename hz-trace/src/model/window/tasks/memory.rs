//! Memory that runtimes tell of: sampled allocations and pools of buffers.

use crate::model::window::{PoolRow, Site, Window};
use hz_probes_ebpf::{
    Kind,
    runtime::{RuntimeEvent, Stack},
};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

/// Sampled allocations that are remembered until they are freed.
const LIVE_MAX: usize = 131_072;

/// Stacks that are remembered.
const STACKS_MAX: usize = 16_384;

/// Bytes that each sample stands for where a runtime does not say.
const MEAN_BYTES: u64 = 512 << 10;

/// What is known of memory.
#[derive(Debug, Default)]
pub(super) struct MemoryNow {
    sites: FxHashMap<(u32, u32), SiteNow>,
    live: FxHashMap<(u32, u64), (u32, u64)>,
    stacks: FxHashMap<(u32, u32), Box<[u64]>>,
    pools: BTreeMap<(u32, u32), PoolNow>,
    mean_bytes: FxHashMap<u32, u64>,
}

#[derive(Debug, Default)]
struct SiteNow {
    bytes: u64,
    live_bytes: u64,
    samples: u64,
}

#[derive(Debug, Default)]
struct PoolNow {
    taken: u64,
    returned: u64,
    used_bytes: u64,
}

impl MemoryNow {
    pub(super) fn forget(&mut self, pid: u32) {
        self.sites.retain(|(of, _), _| *of != pid);
        self.live.retain(|(of, _), _| *of != pid);
        self.stacks.retain(|(of, _), _| *of != pid);
        self.pools.retain(|(of, _), _| *of != pid);
        self.mean_bytes.remove(&pid);
    }

    /// Says how many bytes lie between two samples of a process in the mean, 0: not said.
    pub(super) fn samples_each(&mut self, pid: u32, mean_bytes: u64) {
        if mean_bytes > 0 {
            self.mean_bytes.insert(pid, mean_bytes);
        }
    }

    pub(super) fn stack(&mut self, stack: &Stack) {
        if self.stacks.len() < STACKS_MAX {
            let frames = stack.addresses.iter().take(stack.frames as usize).copied().collect();
            self.stacks.insert((stack.header.pid, stack.header.arg), frames);
        }
    }

    pub(super) fn event(&mut self, kind: Kind, event: &RuntimeEvent, start_ns: u64) {
        let pid = event.header.pid;
        let is_here = event.header.time_ns >= start_ns;
        match kind {
            Kind::AllocSampled => self.allocated(event, is_here),
            Kind::FreeSampled => self.freed(event),
            Kind::BufferTaken => {
                let pool = self.pools.entry((pid, event.aux)).or_default();
                pool.taken += u64::from(is_here);
                pool.used_bytes = pool.used_bytes.saturating_add(event.header.arg.into());
            }
            Kind::BufferReturned => {
                let pool = self.pools.entry((pid, event.aux)).or_default();
                pool.returned += u64::from(is_here);
                pool.used_bytes = pool.used_bytes.saturating_sub(event.header.arg.into());
            }
            _ => {}
        }
    }

    /// What a sample of `size` stands for: the mean distance of samples, or itself where larger.
    fn estimate(&self, pid: u32, size: u32) -> u64 {
        self.mean_bytes.get(&pid).copied().unwrap_or(MEAN_BYTES).max(size.into())
    }

    fn allocated(&mut self, event: &RuntimeEvent, is_here: bool) {
        let (pid, stack) = (event.header.pid, event.header.arg);
        let bytes = self.estimate(pid, event.aux);
        let site = self.sites.entry((pid, stack)).or_default();
        if is_here {
            site.bytes += bytes;
            site.samples += 1;
        }
        if self.live.len() < LIVE_MAX {
            site.live_bytes += bytes;
            self.live.insert((pid, event.value), (stack, bytes));
        }
    }

    fn freed(&mut self, event: &RuntimeEvent) {
        let pid = event.header.pid;
        let Some((stack, bytes)) = self.live.remove(&(pid, event.value)) else { return };
        if let Some(site) = self.sites.get_mut(&(pid, stack)) {
            site.live_bytes = site.live_bytes.saturating_sub(bytes);
        }
    }

    pub(super) fn close(&mut self, window: &mut Window) {
        window.sites = self
            .sites
            .iter()
            .map(|((pid, stack), site)| Site {
                pid: *pid,
                place: self.place(*pid, *stack),
                bytes: site.bytes,
                live_bytes: site.live_bytes,
                samples: site.samples,
            })
            .collect();
        self.sites.retain(|_, site| {
            (site.bytes, site.samples) = (0, 0);
            site.live_bytes > 0
        });
        window.pools = self
            .pools
            .iter()
            .map(|((pid, page), pool)| PoolRow {
                pid: *pid,
                page_bytes: 1_u64.checked_shl(*page).unwrap_or(0),
                taken: pool.taken,
                returned: pool.returned,
                used_bytes: pool.used_bytes,
                waiting: 0,
            })
            .collect();
        for pool in &mut window.pools {
            let groups = window.groups.iter().filter(|group| group.pid == pool.pid);
            pool.waiting = groups.map(|group| group.waits_for_buffer).sum();
        }
        self.pools.values_mut().for_each(|pool| (pool.taken, pool.returned) = (0, 0));
    }

    /// The addresses of a stack, until somebody names them.
    fn place(&self, pid: u32, stack: u32) -> String {
        let Some(frames) = self.stacks.get(&(pid, stack)) else { return format!("stack {stack}") };
        let frames: Vec<String> = frames.iter().take(8).map(|each| format!("{each:#x}")).collect();
        frames.join(" ")
    }
}
