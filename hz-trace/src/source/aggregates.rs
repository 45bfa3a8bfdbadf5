//! The kernel's sums of what threads and CPUs do, for `hz-top`: no record, no wake-up.

use super::{Scope, bpf, sched::refused_by};
use crate::{
    error::StartError,
    host::{self, KernelTypes, clock},
    model::window::Totals,
    recording::{BpfCost, LedgerRow},
};
use hz_probes_ebpf::{
    FILTER_ALL, FILTER_CGROUP, FILTER_PIDS,
    aggregate::{
        AGGREGATE_ENDED, AGGREGATE_SITES, AggregateConfig, CpuTotals, IDLE_CALLS, PLACES,
        ThreadTotals,
    },
};
use libbpf_rs::{Link, MapCore as _, MapFlags, MapImpl, Object, ObjectBuilder};
use rustc_hash::FxHashMap;
use std::{io::Read as _, os::fd::AsFd, time::Duration};
use zerocopy::{FromBytes, IntoBytes as _};

const NAME: &str = "aggregates";

const OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/aggregates.bpf.o"));

/// The task iterator: attached when it is read.
const SNAPSHOT: &str = "snapshot";

/// Tracepoints the programs cannot do without.
const NEEDED: [&str; 3] = ["sched_switch", "sched_wakeup", "sched_wakeup_new"];

/// Threads read from the kernel at once.
const BATCH: u32 = 4096;

/// System calls in which threads wait for work.
const IDLE: [libc::c_long; 7] = [
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(not(target_arch = "x86_64"))]
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait,
    441, // epoll_pwait2, the same on every architecture
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(not(target_arch = "x86_64"))]
    libc::SYS_ppoll,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_io_uring_enter,
];

/// The loaded programs. Dropping it detaches them, and so does the kernel if the process dies.
#[derive(Debug)]
pub struct Aggregates {
    links: Vec<Link>,
    object: Object,
    epoch: u32,
    place_cpus: u32,
    has_processes: bool,
    missing: Vec<String>,
    meter: bpf::SometimesMeter,
}

impl Aggregates {
    /// Loads the programs; nothing is attached yet.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    ///
    /// # Minimum kernel
    ///
    /// 5.15 (`bpf_task_pt_regs`), with BTF.
    pub fn load(scope: &Scope, follow_children: bool) -> Result<Self, StartError> {
        if OBJECT.is_empty() {
            return Err(StartError::NotBuilt { probe: NAME });
        }
        let types = KernelTypes::of_running_kernel()?;
        if let Some(hook) = NEEDED.into_iter().find(|hook| !types.has_tracepoint(hook)) {
            return Err(StartError::NoHook { probe: NAME, hook });
        }
        libbpf_rs::set_print(None);
        let mut open = ObjectBuilder::default().open_memory(OBJECT).map_err(refused)?;
        let mut missing = Vec::new();
        for mut program in open.progs_mut() {
            let name = program.name().to_string_lossy().into_owned();
            if name != SNAPSHOT && !types.has_tracepoint(&name) {
                program.set_autoload(false);
                missing.push(name);
            }
        }
        let config = config(scope, follow_children, &types);
        let map = open.maps_mut().find(|map| map.name() == ".rodata.config");
        let mut map = map.ok_or(StartError::NotBuilt { probe: NAME })?;
        map.set_initial_value(config.as_bytes()).map_err(refused)?;
        let object = open.load().map_err(refused)?;
        let mut aggregates = Self {
            links: Vec::new(),
            object,
            epoch: 0,
            place_cpus: config.place_cpus,
            has_processes: matches!(scope, Scope::Processes(_)),
            missing,
            meter: bpf::SometimesMeter::default(),
        };
        aggregates.next_epoch();
        if let Scope::Processes(pids) = scope {
            pids.iter().try_for_each(|pid| aggregates.add_process(*pid))?;
        }
        Ok(aggregates)
    }

    /// Makes a process part of the target; before [`Aggregates::attach`].
    ///
    /// # Errors
    ///
    /// [`StartError`] if the kernel's map refuses it.
    pub fn add_process(&self, pid: u32) -> Result<(), StartError> {
        let pids = self.map("PIDS").ok_or(StartError::NotBuilt { probe: NAME })?;
        pids.update(&pid.to_ne_bytes(), &[1], MapFlags::ANY).map_err(refused)
    }

    /// Attaches the programs, and makes every thread that is there known to them.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub fn attach(&mut self) -> Result<u64, StartError> {
        let mut programs: Vec<_> = self
            .object
            .progs_mut()
            .filter(|program| program.autoload() && program.name() != SNAPSHOT)
            .collect();
        // Children become known before their first wake-up, wake-ups before switches.
        programs.sort_by_key(|program| program.name() == "sched_switch");
        for program in programs {
            self.links.push(program.attach().map_err(refused)?);
        }
        let program = self.object.progs_mut().find(|program| program.name() == SNAPSHOT);
        let program = program.ok_or(StartError::NotBuilt { probe: NAME })?;
        let link = program.attach().map_err(refused)?;
        let mut iterator = libbpf_rs::Iter::new(&link).map_err(refused)?;
        iterator.read_to_end(&mut Vec::new()).map_err(|error| refused(error.into()))?;
        Ok(clock::monotonic_ns())
    }

    /// Tracepoints this kernel lacks and the programs can do without.
    #[must_use]
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// The sums until now. Threads that have ended are in them for the last time.
    pub fn read(&mut self) -> Totals {
        let epoch = self.epoch;
        self.next_epoch();
        let moves = self.map("MOVES").map(|map| numbers(&map)).unwrap_or_default();
        // As near as can be to what takes longest to read.
        let now_ns = clock::monotonic_ns();
        let cpus = self.cpus();
        let threads = self.threads();
        if let Some(map) = self.map("THREADS") {
            let ended = threads.iter().filter(|(_, thread)| thread.state == AGGREGATE_ENDED);
            // One whose id is already another's again is made anew at its next event.
            ended.for_each(|(tid, _)| _ = map.delete(&tid.to_ne_bytes()));
        }
        Totals { now_ns, epoch, place_cpus: self.place_cpus, cpus, threads, moves }
    }

    /// The ledger, all CPUs together.
    #[must_use]
    pub fn ledger(&self) -> Vec<LedgerRow> {
        let cpus = self.cpus().into_iter().map(|cpu| cpu.ledger);
        bpf::sum_ledger(AGGREGATE_SITES.iter().copied(), cpus)
    }

    /// What each program took.
    #[must_use]
    pub fn cost(&self) -> Vec<BpfCost> {
        let programs = self.object.progs_mut().filter(|program| program.autoload());
        programs
            .map(|program| bpf::cost(&program.name().to_string_lossy(), program.as_fd()))
            .collect()
    }

    /// Lets the kernel measure the programs' run time, or stops it.
    pub fn measure(&mut self, is_on: bool) {
        self.meter.measure(is_on);
    }

    /// For how long the kernel has measured.
    #[must_use]
    pub fn measured(&self) -> Duration {
        self.meter.measured()
    }

    /// The map of the target's processes, which the programs keep up to date: key pid (u32), value u8.
    /// `None` unless processes are the target.
    #[must_use]
    pub fn processes(&self) -> Option<impl AsFd> {
        self.map("PIDS").filter(|_| self.has_processes)
    }

    fn map(&self, name: &str) -> Option<MapImpl<'_>> {
        self.object.maps().find(|map| map.name() == name)
    }

    fn next_epoch(&mut self) {
        self.epoch = self.epoch.wrapping_add(1).max(1);
        if let Some(map) = self.map(".data.control") {
            // A refusal would only let the longest waits of two windows run together.
            let _ = map.update(&0_u32.to_ne_bytes(), &self.epoch.to_ne_bytes(), MapFlags::ANY);
        }
    }

    fn threads(&self) -> FxHashMap<u32, ThreadTotals> {
        let Some(map) = self.map("THREADS") else { return FxHashMap::default() };
        let Ok(batches) = map.lookup_batch(BATCH, MapFlags::ANY, MapFlags::ANY) else {
            return FxHashMap::default();
        };
        let threads = batches.filter_map(|(key, value)| {
            let (tid, _) = u32::read_from_prefix(&key).ok()?;
            let (thread, _) = ThreadTotals::read_from_prefix(&value).ok()?;
            Some((tid, thread))
        });
        threads.collect()
    }

    fn cpus(&self) -> Vec<CpuTotals> {
        let Some(map) = self.map("CPUS") else { return Vec::new() };
        let values = map.lookup_percpu(&0_u32.to_ne_bytes(), MapFlags::ANY).ok().flatten();
        let values = values.unwrap_or_default().into_iter();
        let cpus = values.filter_map(|value| Some(CpuTotals::read_from_prefix(&value).ok()?.0));
        cpus.take(host::possible_cpus()).collect()
    }
}

/// All values of an array of numbers.
fn numbers(map: &MapImpl<'_>) -> Vec<u64> {
    let mut values = vec![0; PLACES * PLACES];
    let Ok(batches) = map.lookup_batch(BATCH, MapFlags::ANY, MapFlags::ANY) else { return values };
    for (key, value) in batches {
        let (Ok((place, _)), Ok((count, _))) =
            (u32::read_from_prefix(&key), u64::read_from_prefix(&value))
        else {
            continue;
        };
        if let Some(sum) = values.get_mut(place as usize) {
            *sum = count;
        }
    }
    values
}

fn config(scope: &Scope, follow_children: bool, types: &KernelTypes) -> AggregateConfig {
    let (filter, cgroup_id, cgroup_level) = match scope {
        Scope::All => (FILTER_ALL, 0, 0),
        Scope::Processes(_) => (FILTER_PIDS, 0, 0),
        Scope::Cgroup { id, level } => (FILTER_CGROUP, *id, *level),
    };
    let mut idle_calls = [-1; IDLE_CALLS];
    let numbers = IDLE.iter().map(|call| i32::try_from(*call).unwrap_or(-1));
    idle_calls.iter_mut().zip(numbers).for_each(|(place, call)| *place = call);
    let cpus = u32::try_from(host::possible_cpus()).unwrap_or(u32::MAX);
    AggregateConfig {
        cgroup_id,
        cgroup_level,
        filter,
        follow_children: u32::from(follow_children),
        switch_has_state: u32::from(types.tracepoint_args("sched_switch") >= Some(4)),
        place_cpus: cpus.div_ceil(PLACES as u32).max(1),
        reserved: 0,
        idle_calls,
    }
}

fn refused(source: libbpf_rs::Error) -> StartError {
    refused_by(NAME, source)
}
