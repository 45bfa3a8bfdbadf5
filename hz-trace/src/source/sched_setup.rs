//! How the `sched` programs are told what to do, and given their rings, before they run.

use super::{
    SchedSettings, Scope,
    sched::{NAME, SNAPSHOT, refused},
};
use crate::{error::StartError, host::KernelTypes};
use hz_probes_ebpf::{FILTER_ALL, FILTER_CGROUP, FILTER_PIDS, SchedConfig};
use libbpf_rs::{MapCore as _, MapFlags, MapHandle, MapType, Object, OpenObject};
use std::os::fd::{AsFd as _, AsRawFd as _};
use zerocopy::IntoBytes as _;

/// Programs that keep track of the lives of threads, without which no thread would have a name.
const LIVES: [&str; 5] = [
    "sched_process_fork",
    "sched_process_exec",
    "sched_process_exit",
    "sched_process_free",
    "task_rename",
];

/// Leaves out programs that were not asked for and those whose tracepoint this kernel lacks, and
/// names the latters' tracepoints.
pub(super) fn choose_programs(
    open: &mut OpenObject,
    types: &KernelTypes,
    has_switches: bool,
) -> Vec<String> {
    let mut missing = Vec::new();
    for mut program in open.progs_mut() {
        let name = program.name().to_string_lossy().into_owned();
        if name == SNAPSHOT {
            continue;
        }
        if !has_switches && !LIVES.contains(&name.as_str()) {
            program.set_autoload(false);
        } else if !types.has_tracepoint(&name) {
            program.set_autoload(false);
            missing.push(name);
        }
    }
    missing
}

pub(super) fn config(
    settings: &SchedSettings,
    ring_count: usize,
    types: &KernelTypes,
) -> SchedConfig {
    let (filter, cgroup_id, cgroup_level) = match &settings.scope {
        Scope::All => (FILTER_ALL, 0, 0),
        Scope::Processes(_) => (FILTER_PIDS, 0, 0),
        Scope::Cgroup { id, level } => (FILTER_CGROUP, *id, *level),
    };
    SchedConfig {
        cgroup_id,
        // A fifth of that made a quarter of the bytes of a recording of a network service.
        interrupts_min_ns: 100_000,
        interrupts_max_ns: 1_000_000,
        cgroup_level,
        filter,
        follow_children: u32::from(settings.follow_children),
        ring_mask: u32::try_from(ring_count - 1).unwrap_or(0),
        switch_has_state: u32::from(types.tracepoint_args("sched_switch") >= Some(4)),
        reserved: 0,
    }
}

pub(super) fn configure(open: &mut OpenObject, config: &SchedConfig) -> Result<(), StartError> {
    let map = open.maps_mut().find(|map| map.name() == ".rodata.config");
    let mut map = map.ok_or(StartError::NotBuilt { probe: NAME })?;
    map.set_initial_value(config.as_bytes()).map_err(refused)
}

/// Without a filter nobody looks into its maps, so they need no memory.
pub(super) fn shrink_filter_maps(open: &mut OpenObject) -> Result<(), StartError> {
    let maps = open.maps_mut();
    for mut map in
        maps.filter(|map| ["PIDS", "WAITERS", "NAMED"].iter().any(|name| map.name() == *name))
    {
        map.set_max_entries(1).map_err(refused)?;
    }
    Ok(())
}

/// Gives every CPU a ring of its share of `bytes`.
pub(super) fn make_rings(
    object: &Object,
    count: usize,
    bytes: usize,
) -> Result<Vec<MapHandle>, StartError> {
    let outer = object.maps().find(|map| map.name() == "RINGS");
    let outer = outer.ok_or(StartError::NotBuilt { probe: NAME })?;
    // A ring's length is a power of two, and whole pages.
    let share = (bytes / count).max(rustix::param::page_size());
    let length = if share.is_power_of_two() { share } else { share.next_power_of_two() / 2 };
    let length = u32::try_from(length).unwrap_or(1 << 30);
    let options = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
        ..Default::default()
    };
    (0..u32::try_from(count).unwrap_or(1))
        .map(|place| {
            let ring = MapHandle::create(MapType::RingBuf, Some("hz_ring"), 0, 0, length, &options)
                .map_err(refused)?;
            let fd = ring.as_fd().as_raw_fd().to_ne_bytes();
            outer.update(&place.to_ne_bytes(), &fd, MapFlags::ANY).map_err(refused)?;
            Ok(ring)
        })
        .collect()
}
