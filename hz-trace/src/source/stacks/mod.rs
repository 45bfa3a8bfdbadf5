//! The kernel probes `oncpu`, `offcpu` and `alloc`: stacks, who had them, and what their addresses lie in.

#[cfg(test)]
mod against_framehop;
mod elf_file;
mod functions;
mod heap;
mod mappings;
mod perf_ring;
mod rings;
mod row_maps;
mod rows;
mod sampling;
mod setup;
mod tables;
mod tell;
mod unfinished;

pub use sampling::SampleBy;

use super::{Scope, bpf, descendants};
use crate::{
    error::StartError,
    host::clock,
    recording::{BpfCost, LedgerRow},
};
use functions::Functions;
use heap::Heap;
use hz_probes_ebpf::{Header, Kind, Loss, StackSite};
use libbpf_rs::{Link, MapCore as _, MapFlags, MapHandle, Object};
use mappings::Mappings;
use perf_ring::PerfRings;
use rings::Rings;
use sampling::{Sampling, online_cpus};
use setup::{Facts, Loaded};
use std::{
    ffi::OsStr,
    fmt,
    os::fd::{AsFd as _, BorrowedFd, IntoRawFd as _},
    path::PathBuf,
    time::Duration,
};
use tables::Tables;
use tell::Told;
use zerocopy::FromBytes as _;

pub(super) const NAME: &str = "oncpu, offcpu, alloc";

/// How long recording waits for the tables of processes that are there already.
const PATIENCE: Duration = Duration::from_secs(5);

/// How to record stacks.
#[derive(Clone, Debug)]
pub struct StackSettings {
    /// Which threads.
    pub scope: Scope,
    /// Whether processes that a process of the scope starts are recorded too.
    pub follow_children: bool,
    /// Whether threads that run are sampled.
    pub has_oncpu: bool,
    /// Whether times off a CPU are recorded.
    pub has_offcpu: bool,
    /// Samples a second on each CPU.
    pub sample_hz: u32,
    /// What samples are taken by.
    pub sample_by: SampleBy,
    /// Times off a CPU that are shorter are left out. That saves records: the stack was taken already.
    pub off_min: Duration,
    /// One of so many times off a CPU is recorded. That bounds what taking stacks costs.
    pub off_one_in: u32,
    /// Whether functions without frame pointers are left by what their file says of them.
    pub has_rows: bool,
    /// Bytes of allocations between two samples, in the mean; `None`: allocators are left alone.
    pub heap_mean_bytes: Option<u64>,
    /// A file that the target is about to become, which it has not mapped yet.
    pub program: Option<PathBuf>,
    /// Memory of all rings together, in bytes.
    pub ring_bytes: usize,
}

/// The loaded probes. Dropping them detaches everything.
pub struct Stacks {
    settings: StackSettings,
    links: Vec<Link>,
    heap: Option<Heap>,
    sampling: Sampling,
    rings: Rings,
    perf: Option<PerfRings>,
    mappings: Mappings,
    tables: Option<Tables>,
    told: Told,
    missing: Vec<String>,
    // Behind the rings, whose maps it has.
    object: Object,
}

impl fmt::Debug for Stacks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Stacks").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Stacks {
    /// Loads the programs; nothing is attached yet. `processes` is the map of the target's processes,
    /// which somebody keeps: needed if the scope is of processes.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    ///
    /// # Minimum kernel
    ///
    /// Linux 5.17, for `bpf_loop`.
    pub fn load(
        settings: StackSettings,
        processes: Option<BorrowedFd<'_>>,
    ) -> Result<Self, StartError> {
        Self::load_with(settings, processes, false)
    }

    /// As [`Stacks::load`]; `passes_samples` lets perf write samples, too.
    fn load_with(
        settings: StackSettings,
        processes: Option<BorrowedFd<'_>>,
        passes_samples: bool,
    ) -> Result<Self, StartError> {
        let sampling = Sampling::choose(settings.sample_by, settings.sample_hz);
        let heap = Heap::new(&settings)?;
        let functions =
            if settings.has_offcpu { Functions::of_running_kernel() } else { Functions::default() };
        let hooks = heap.as_ref().map(Heap::hooks);
        let facts = Facts { functions, event: sampling.event(), passes_samples, hooks };
        let Loaded { object, rings, rows } = setup::load(&settings, &facts, processes)?;
        let tables = match (map(&object, "PLACES"), rows) {
            (Some(places), Some(rows)) if settings.has_rows => Some(Tables::start(places, rows)),
            _ => None,
        };
        let missing = missing(&settings, &facts, &sampling);
        Ok(Self {
            settings,
            links: Vec::new(),
            heap,
            sampling,
            rings: Rings::new(&rings)?,
            perf: None,
            mappings: Mappings::default(),
            tables,
            told: Told::new(facts.functions.events),
            missing,
            object,
        })
    }

    /// Begins to record, once it is known how to unwind what runs already.
    ///
    /// # Errors
    ///
    /// [`StartError`] if the kernel refuses a program.
    pub fn attach(&mut self) -> Result<(), StartError> {
        let cpus = online_cpus();
        match PerfRings::open(&cpus) {
            Ok(rings) => self.perf = Some(rings),
            Err(error) => self.missing.push(format!(
                "code that processes load while they are recorded: perf's records of it: {error}"
            )),
        }
        self.prepare();
        if let Some(heap) = &mut self.heap {
            heap.begin(&self.object, &mut self.mappings);
        }
        let own = |name: &OsStr| name == setup::SAMPLE || setup::is_off(name);
        for program in self.object.progs_mut().filter(|program| program.autoload()) {
            if !own(program.name()) {
                continue;
            }
            if program.name() != setup::SAMPLE {
                self.links.push(program.attach().map_err(refused)?);
                continue;
            }
            for cpu in &cpus {
                // The link closes what it is given.
                let counter = self.sampling.open(*cpu)?.into_raw_fd();
                self.links.push(program.attach_perf_event(counter).map_err(refused)?);
            }
        }
        Ok(())
    }

    /// Fills the unwinder's tables for the processes of the target that are there.
    fn prepare(&mut self) {
        let Scope::Processes(pids) = &self.settings.scope else { return };
        let mut all = pids.clone();
        if self.settings.follow_children {
            all.extend(descendants(pids).unwrap_or_default());
        }
        let Some(tables) = &self.tables else { return };
        for pid in all {
            tables.update(pid, self.mappings.areas(pid).values().cloned().collect());
        }
        tables.settle(PATIENCE);
    }

    /// Calls `tell` with every record that has come.
    pub fn drain(&mut self, tell: &mut dyn FnMut(&[u8])) {
        loop {
            let (inbox, has_more) = self.rings.take();
            self.learn(tell);
            self.deliver(&inbox, tell);
            if !has_more {
                return;
            }
        }
    }

    /// Takes in what processes have mapped. After the rings were read: a stack is never ahead of what its
    /// addresses lie in.
    fn learn(&mut self, tell: &mut dyn FnMut(&[u8])) {
        let happened = self.perf.as_mut().map(PerfRings::read).unwrap_or_default();
        for (time_ns, what) in happened {
            self.mappings.learn(time_ns, what, tell);
        }
        self.update_tables();
    }

    fn update_tables(&mut self) {
        let changed = self.mappings.take_changed();
        if let Some(heap) = &mut self.heap {
            heap.update(&self.object, &mut self.mappings, &changed);
        }
        let Some(tables) = &self.tables else { return };
        for pid in changed {
            let is_gone = self.mappings.is_gone(pid);
            let areas = if is_gone {
                Vec::new()
            } else {
                self.mappings.areas(pid).values().cloned().collect()
            };
            tables.update(pid, areas);
        }
    }

    fn deliver(&mut self, inbox: &rings::Inbox, tell: &mut dyn FnMut(&[u8])) {
        for record in inbox.records() {
            let Ok((header, _)) = Header::read_from_prefix(record) else { continue };
            self.mappings.need(header.time_ns, header.pid, tell);
            if header.kind == Kind::StackTrace as u16 {
                self.told.tell(record, tell);
            } else {
                tell(record);
            }
        }
        self.update_tables();
    }

    /// Records nothing more. What is in the rings can still be drained.
    pub fn detach(&mut self) {
        self.links.clear();
        if let Some(heap) = &mut self.heap {
            heap.detach();
        }
    }

    /// Looks for processes that have joined the target.
    pub fn each_second(&mut self) {
        if let Some(heap) = &mut self.heap {
            heap.look_for_processes(&self.object, &mut self.mappings);
        }
    }

    /// What there is to know of what was recorded, a sentence each.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        self.heap.iter().flat_map(|heap| heap.notes(&self.object)).collect()
    }

    /// Tells of threads that are off their CPU still.
    pub fn end(&mut self, tell: &mut dyn FnMut(&[u8])) {
        self.drain(tell);
        let Some(off) = map(&self.object, "OFF").filter(|_| self.settings.has_offcpu) else {
            return;
        };
        let min_ns = u64::try_from(self.settings.off_min.as_nanos()).unwrap_or(u64::MAX);
        unfinished::tell_all(&off, clock::monotonic_ns(), min_ns, tell);
    }

    /// Probes that run, with their hooks.
    #[must_use]
    pub fn running(&self) -> String {
        let (name, hz) = (self.sampling.name(), self.settings.sample_hz);
        let oncpu = self.settings.has_oncpu.then(|| format!("oncpu ({name}, {hz} Hz)"));
        let offcpu = self.settings.has_offcpu.then(|| "offcpu (tp_btf)".to_owned());
        let alloc = self.heap.as_ref().map(|heap| format!("alloc ({})", heap.hooks().name()));
        oncpu.into_iter().chain(offcpu).chain(alloc).collect::<Vec<_>>().join(", ")
    }

    /// What cannot be had here, a phrase each.
    #[must_use]
    pub fn not_collected(&self) -> Vec<String> {
        let complaints = self.tables.as_ref().map(Tables::complaints).unwrap_or_default();
        let of_heap = self.heap.iter().flat_map(Heap::not_collected);
        self.missing.iter().cloned().chain(complaints).chain(of_heap).collect()
    }

    /// The ledger, all CPUs together.
    #[must_use]
    pub fn ledger(&self) -> Vec<LedgerRow> {
        let Settings { has_oncpu, has_offcpu, .. } = &self.settings;
        let is_on = |site: &StackSite| match site {
            StackSite::Sample => *has_oncpu,
            StackSite::Stack => *has_oncpu || *has_offcpu,
            _ => *has_offcpu,
        };
        let sites = StackSite::ALL.iter().filter(|site| is_on(site));
        let rows = sites.map(|site| LedgerRow::new(site.tag(), &self.loss(*site)));
        rows.chain(self.heap.iter().flat_map(|heap| heap.ledger(&self.object))).collect()
    }

    fn loss(&self, site: StackSite) -> Loss {
        loss(&self.object, "LEDGER", site as u32)
    }

    /// Times off a CPU that were recorded.
    pub(crate) fn off_recorded(&self) -> u64 {
        self.loss(StackSite::Return).submitted
    }

    /// What each program took.
    #[must_use]
    pub fn cost(&self) -> Vec<BpfCost> {
        let skipped = self.sampling.skipped(self.loss(StackSite::Sample).seen);
        let programs = self.object.progs_mut().filter(|program| program.autoload());
        let cost = |program: libbpf_rs::ProgramMut<'_>| {
            let name = program.name().to_string_lossy().into_owned();
            let mut cost = bpf::cost(&name, program.as_fd());
            if name == setup::SAMPLE {
                cost.skipped_by_kernel += skipped;
            }
            cost
        };
        programs.map(cost).collect()
    }
}

use StackSettings as Settings;

/// A map of the object, by name.
fn map(object: &Object, name: &str) -> Option<MapHandle> {
    let map = object.maps().find(|map| map.name() == name)?;
    MapHandle::try_from(&map).ok()
}

/// What is known from the start not to be had, a phrase each.
fn missing(settings: &Settings, facts: &Facts, sampling: &Sampling) -> Vec<String> {
    let no_interrupts = settings.has_offcpu && facts.functions.interrupts.is_empty();
    let no_interrupts = no_interrupts.then(|| {
        "which wake-ups come from interrupts of busy CPUs: /proc/kallsyms does not name their entries"
            .to_owned()
    });
    sampling.complaint.iter().cloned().chain(no_interrupts).collect()
}

/// A row of a ledger, all CPUs together.
fn loss(object: &Object, ledger: &str, row: u32) -> Loss {
    let mut sum = Loss::default();
    let Some(ledger) = map(object, ledger) else { return sum };
    let per_cpu = ledger.lookup_percpu(&row.to_ne_bytes(), MapFlags::ANY);
    for cpu in per_cpu.ok().flatten().unwrap_or_default() {
        if let Ok((loss, _)) = Loss::read_from_prefix(&cpu) {
            sum.add(&loss);
        }
    }
    sum
}

pub(super) fn refused(source: libbpf_rs::Error) -> StartError {
    if source.kind() == libbpf_rs::ErrorKind::PermissionDenied && !crate::host::may_trace() {
        return StartError::NotPermitted { probe: NAME };
    }
    StartError::Refused { probe: NAME, source }
}
