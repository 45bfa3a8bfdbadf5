//! How the `stacks` programs are told what to do before they run.

use super::{NAME, StackSettings, refused};
use crate::{
    error::StartError,
    host::{self, KernelTypes},
    source::{Scope, sched_setup},
};
use hz_probes_ebpf::{
    FILTER_ALL, FILTER_CGROUP, FILTER_PIDS, MAX_RINGS, SAMPLE_CPU_CLOCK, StackConfig,
};
use libbpf_rs::{MapHandle, Object, ObjectBuilder, OpenObject};
use std::{collections::BTreeMap, fs, os::fd::BorrowedFd};
use zerocopy::IntoBytes as _;

/// The programs, in Rust, empty when they were not built. libbpf loads them, since it can give one
/// object a map of another; their maps are described in BTF for that.
const OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/stacks"));

/// Programs of `oncpu` and of `offcpu`.
pub(super) const SAMPLE: &str = "oncpu_sample";
const OFF: [&str; 2] = ["offcpu_switch", "offcpu_waking"];

/// Loads the programs that are asked for, and makes their rings.
pub(super) fn load(
    settings: &StackSettings,
    processes: Option<BorrowedFd<'_>>,
) -> Result<(Object, Vec<MapHandle>), StartError> {
    if OBJECT.is_empty() {
        return Err(StartError::NotBuilt { probe: NAME });
    }
    let types = KernelTypes::of_running_kernel()?;
    let mut open = ObjectBuilder::default().open_memory(OBJECT).map_err(refused)?;
    for mut program in open.progs_mut() {
        let name = program.name().to_string_lossy().into_owned();
        let is_wanted =
            if name == SAMPLE { settings.has_oncpu } else { settings.has_offcpu && is_off(&name) };
        program.set_autoload(is_wanted);
    }
    let ring_count = host::possible_cpus().next_power_of_two().min(MAX_RINGS);
    configure(&mut open, &config(settings, ring_count, &types)?)?;
    fit_maps(&mut open, settings, processes)?;
    let object = open.load().map_err(refused)?;
    let rings = sched_setup::make_rings(&object, ring_count, settings.ring_bytes)?;
    Ok((object, rings))
}

fn is_off(program: &str) -> bool {
    OFF.contains(&program)
}

/// Takes the map of the target's processes from `sched`, and no memory for maps that nobody looks at.
fn fit_maps(
    open: &mut OpenObject,
    settings: &StackSettings,
    processes: Option<BorrowedFd<'_>>,
) -> Result<(), StartError> {
    for mut map in open.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        match (name.as_str(), processes) {
            ("PIDS", Some(fd)) => map.reuse_fd(fd).map_err(refused)?,
            ("PIDS", None) => map.set_max_entries(1).map_err(refused)?,
            ("OFF", _) if !settings.has_offcpu => map.set_max_entries(1).map_err(refused)?,
            _ => {}
        }
    }
    Ok(())
}

fn configure(open: &mut OpenObject, config: &StackConfig) -> Result<(), StartError> {
    let map = open.maps_mut().find(|map| map.name() == ".rodata.config");
    let mut map = map.ok_or(StartError::NotBuilt { probe: NAME })?;
    map.set_initial_value(config.as_bytes()).map_err(refused)
}

fn config(
    settings: &StackSettings,
    ring_count: usize,
    types: &KernelTypes,
) -> Result<StackConfig, StartError> {
    let (filter, cgroup_id, cgroup_level) = match &settings.scope {
        Scope::All => (FILTER_ALL, 0, 0),
        Scope::Processes(_) => (FILTER_PIDS, 0, 0),
        Scope::Cgroup { id, level } => (FILTER_CGROUP, *id, *level),
    };
    let of_task = |field| types.member_offset("task_struct", field);
    let task =
        |field| of_task(field).ok_or(StartError::NoHook { probe: NAME, hook: "task_struct" });
    let delayed = types.member_offset("sched_entity", "sched_delayed").zip(of_task("se"));
    Ok(StackConfig {
        cgroup_id,
        off_min_ns: u64::try_from(settings.off_min.as_nanos()).unwrap_or(u64::MAX),
        cgroup_level,
        filter,
        ring_mask: u32::try_from(ring_count - 1).unwrap_or(0),
        off_one_in: settings.off_one_in.max(1),
        has_rows: u32::from(settings.has_rows && cfg!(target_arch = "x86_64")),
        switch_has_state: u32::from(types.tracepoint_args("sched_switch") >= Some(4)),
        event: SAMPLE_CPU_CLOCK,
        task_tid: task("pid")?,
        task_pid: task("tgid")?,
        task_flags: task("flags")?,
        task_state: task("__state")?,
        task_on_rq: task("on_rq")?,
        task_sched_delayed: delayed.map_or(0, |(inside, entity)| inside + entity),
        reserved: 0,
    })
}

/// Where the kernel's functions are in which a thread leaves its CPU or wakes another: above them on a
/// stack are tracepoints and hz's own program. `None`: the kernel does not say, and they stay.
pub(super) fn events_functions() -> Option<[(u64, u64); 2]> {
    let text = fs::read_to_string("/proc/kallsyms").ok()?;
    let mut found: [Option<u64>; 2] = [None; 2];
    let mut starts = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let address = words.next().and_then(|word| u64::from_str_radix(word, 16).ok());
        let (Some(address), Some(_), Some(name)) = (address, words.next(), words.next()) else {
            continue;
        };
        starts.insert(address, ());
        match name {
            "__schedule" => found[0] = Some(address),
            "try_to_wake_up" => found[1] = Some(address),
            _ => {}
        }
    }
    let span = |start: u64| {
        let next = starts.range(start + 1..).next().map(|(next, ())| *next);
        (start != 0).then(|| (start, next.unwrap_or(u64::MAX)))
    };
    Some([span(found[0]?)?, span(found[1]?)?])
}
