//! How the `stacks` programs are told what to do before they run.

use super::{
    NAME, StackSettings,
    functions::Functions,
    heap::HeapHooks,
    refused,
    row_maps::{self, RowMaps},
};
use crate::{
    error::StartError,
    host::{self, KernelTypes},
    source::{Scope, sched_setup},
};
use hz_probes_ebpf::{
    FILTER_ALL, FILTER_CGROUP, FILTER_PIDS, HEAP_MEAN_MAX, MAX_RINGS, StackConfig,
};
use libbpf_rs::{MapHandle, Object, ObjectBuilder, OpenObject};
use std::{ffi::OsStr, os::fd::BorrowedFd};
use zerocopy::IntoBytes as _;

/// The programs, in Rust, empty when they were not built. libbpf loads them, since it can give one
/// object a map of another; their maps are described in BTF for that.
const OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/stacks"));

/// Programs of `oncpu` and of `offcpu`; those of `alloc` are in `heap.rs`.
pub(super) const SAMPLE: &str = "oncpu_sample";
const OFF: [&str; 2] = ["offcpu_switch", "offcpu_waking"];
/// Maps of `alloc` that take memory.
const OF_HEAP: [&str; 3] = ["HEAP_CALLS", "HEAP_LIVE", "HEAP_SCRATCH"];

/// What the programs are told beside the settings.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) functions: Functions,
    /// What samples count: a `SAMPLE_*`.
    pub(super) event: u32,
    /// Whether perf writes each sample too, behind the program: so that tests can compare what both say.
    pub(super) passes_samples: bool,
    /// How probes are put on allocators, if they are.
    pub(super) hooks: Option<HeapHooks>,
}

/// The loaded programs.
pub(super) struct Loaded {
    pub(super) object: Object,
    pub(super) rings: Vec<MapHandle>,
    pub(super) rows: Option<RowMaps>,
}

/// Loads the programs that are asked for, and makes their rings.
pub(super) fn load(
    settings: &StackSettings,
    facts: &Facts,
    processes: Option<BorrowedFd<'_>>,
) -> Result<Loaded, StartError> {
    if OBJECT.is_empty() {
        return Err(StartError::NotBuilt { probe: NAME });
    }
    let types = KernelTypes::of_running_kernel()?;
    let mut open = ObjectBuilder::default().open_memory(OBJECT).map_err(refused)?;
    for mut program in open.progs_mut() {
        let name = program.name().to_owned();
        let is_wanted = if name == SAMPLE {
            settings.has_oncpu
        } else if is_off(&name) {
            settings.has_offcpu
        } else {
            facts.hooks.is_some_and(|hooks| hooks.wants(&mut program))
        };
        program.set_autoload(is_wanted);
    }
    let ring_count = host::possible_cpus().next_power_of_two().min(MAX_RINGS);
    let interrupts = &facts.functions.interrupts;
    let config = StackConfig {
        event: facts.event,
        sample_result: u32::from(facts.passes_samples),
        interrupts: [interrupts.start, interrupts.end - interrupts.start],
        ..config(settings, ring_count, &types)?
    };
    configure(&mut open, &config)?;
    fit_maps(&mut open, settings, processes)?;
    let types = row_maps::Types::of(&open);
    let object = open.load().map_err(refused)?;
    let rings = sched_setup::make_rings(&object, ring_count, settings.ring_bytes)?;
    let rows = RowMaps::of(&object, types);
    Ok(Loaded { object, rings, rows })
}

pub(super) fn is_off(program: &OsStr) -> bool {
    OFF.iter().any(|name| program == *name)
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
            (name, _) if settings.heap_mean_bytes.is_none() && OF_HEAP.contains(&name) => {
                map.set_max_entries(1).map_err(refused)?;
            }
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
    let of_entity = |field| types.member_offset("sched_entity", field).zip(of_task("se"));
    let entity = |field| of_entity(field).map(|(inside, entity)| inside + entity);
    let no_entity = StartError::NoHook { probe: NAME, hook: "sched_entity" };
    Ok(StackConfig {
        cgroup_id,
        off_min_ns: u64::try_from(settings.off_min.as_nanos()).unwrap_or(u64::MAX),
        heap_mean_bytes: settings.heap_mean_bytes.unwrap_or(1).clamp(1, HEAP_MEAN_MAX),
        cgroup_level,
        filter,
        ring_mask: u32::try_from(ring_count - 1).unwrap_or(0),
        off_one_in: settings.off_one_in.max(1),
        has_rows: u32::from(settings.has_rows && cfg!(target_arch = "x86_64")),
        switch_has_state: u32::from(types.tracepoint_args("sched_switch") >= Some(4)),
        task_tid: task("pid")?,
        task_pid: task("tgid")?,
        task_flags: task("flags")?,
        task_state: task("__state")?,
        task_on_rq: task("on_rq")?,
        task_sched_delayed: entity("sched_delayed").unwrap_or(0),
        task_ran_ns: entity("sum_exec_runtime").ok_or(no_entity)?,
        ..StackConfig::default()
    })
}
