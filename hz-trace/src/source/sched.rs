//! The kernel probe `sched`: its programs, rings, ledger and snapshots.

use super::{
    Scope, bpf,
    sched_setup::{choose_programs, config, configure, make_rings, shrink_filter_maps},
};
use crate::{
    error::StartError,
    host::{self, KernelTypes, clock},
    recording::{BpfCost, LedgerRow},
};
use hz_probes_ebpf::{FILTER_ALL, Loss, MAX_CPUS, MAX_RINGS, Site};
use libbpf_rs::{
    Link, MapCore, MapFlags, MapHandle, Object, ObjectBuilder, PrintLevel, RingBuffer,
    RingBufferBuilder,
};
use std::{io::Read as _, os::fd::AsFd, time::Duration};
use zerocopy::FromBytes as _;

pub(super) const NAME: &str = "sched";

/// The programs for BTF tracepoints, then those for plain raw tracepoints.
const OBJECTS: [(&str, &[u8]); 2] = [
    ("tp_btf", include_bytes!(concat!(env!("OUT_DIR"), "/sched.bpf.o"))),
    ("raw_tp", include_bytes!(concat!(env!("OUT_DIR"), "/sched_raw.bpf.o"))),
];

/// Tracepoints the probe cannot do without.
const NEEDED: [&str; 7] = [
    "sched_switch",
    "sched_waking",
    "sched_wakeup",
    "sched_wakeup_new",
    "sched_process_fork",
    "sched_process_exec",
    "sched_process_exit",
];

/// The task iterator: attached when it is read.
pub(super) const SNAPSHOT: &str = "snapshot";

/// Records taken from the rings before the reader looks at anything else.
const RECORDS_PER_DRAIN: usize = 65_536;

/// How to record.
#[derive(Clone, Debug)]
pub struct SchedSettings {
    /// Which threads.
    pub scope: Scope,
    /// Whether processes that a process of the scope starts are recorded too.
    pub follow_children: bool,
    /// Whether switches, wake-ups, migrations and interrupts are recorded, or lives of threads only.
    pub has_switches: bool,
    /// Memory of all rings together, in bytes.
    pub ring_bytes: usize,
    /// Whether to show what libbpf and the verifier say.
    pub is_verbose: bool,
    /// Whether to use plain raw tracepoints even where BTF tracepoints work.
    pub prefer_raw: bool,
}

/// The loaded probe. Dropping it detaches everything.
#[derive(Debug)]
pub struct Sched {
    links: Vec<Link>,
    object: Object,
    rings: Vec<MapHandle>,
    hook: &'static str,
    has_switches: bool,
    has_processes: bool,
    missing: Vec<String>,
    meter: bpf::SometimesMeter,
}

impl Sched {
    /// Loads the programs; nothing is attached yet.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub fn load(settings: &SchedSettings) -> Result<Self, StartError> {
        let cpus = host::possible_cpus();
        if cpus > MAX_CPUS {
            return Err(StartError::TooManyCpus { probe: NAME, cpus, max: MAX_CPUS });
        }
        let types = KernelTypes::of_running_kernel()?;
        if let Some(hook) = NEEDED.into_iter().find(|hook| !types.has_tracepoint(hook)) {
            return Err(StartError::NoHook { probe: NAME, hook });
        }
        quiet_libbpf(settings.is_verbose);
        let first = usize::from(settings.prefer_raw);
        let mut refusal = None;
        for (hook, bytes) in &OBJECTS[first..] {
            match Self::load_object(hook, bytes, settings, &types) {
                Ok(sched) => return Ok(sched),
                Err(error @ StartError::Refused { .. }) => refusal = refusal.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        Err(refusal.unwrap_or(StartError::NotBuilt { probe: NAME }))
    }

    fn load_object(
        hook: &'static str,
        bytes: &[u8],
        settings: &SchedSettings,
        types: &KernelTypes,
    ) -> Result<Self, StartError> {
        if bytes.is_empty() {
            return Err(StartError::NotBuilt { probe: NAME });
        }
        let ring_count = host::possible_cpus().next_power_of_two().min(MAX_RINGS);
        let mut open = ObjectBuilder::default().open_memory(bytes).map_err(refused)?;
        let missing = choose_programs(&mut open, types, settings.has_switches);
        let config = config(settings, ring_count, types);
        configure(&mut open, &config)?;
        if config.filter == FILTER_ALL {
            shrink_filter_maps(&mut open)?;
        }
        let object = open.load().map_err(refused)?;
        let rings = make_rings(&object, ring_count, settings.ring_bytes)?;
        let sched = Self {
            links: Vec::new(),
            object,
            rings,
            hook,
            has_switches: settings.has_switches,
            has_processes: matches!(settings.scope, Scope::Processes(_)),
            missing,
            meter: bpf::SometimesMeter::default(),
        };
        if let Scope::Processes(pids) = &settings.scope {
            for pid in pids {
                sched.add_process(*pid)?;
            }
        }
        Ok(sched)
    }

    /// Makes a process part of the target.
    ///
    /// # Errors
    ///
    /// [`StartError`] if the kernel's map refuses it.
    pub fn add_process(&self, pid: u32) -> Result<(), StartError> {
        let pids = self.object.maps().find(|map| map.name() == "PIDS");
        let pids = pids.ok_or(StartError::NotBuilt { probe: NAME })?;
        pids.update(&pid.to_ne_bytes(), &[1], MapFlags::ANY).map_err(refused)
    }

    /// Attaches every program; the time just before switches are recorded, nanoseconds of
    /// `CLOCK_MONOTONIC`.
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
        programs.sort_by_key(|program| attach_rank(&program.name().to_string_lossy()));
        let mut start_ns = 0;
        for program in programs {
            start_ns = clock::monotonic_ns();
            self.links.push(program.attach().map_err(refused)?);
        }
        Ok(start_ns)
    }

    /// Detaches every program. What is in the rings can still be drained.
    pub fn detach(&mut self) {
        self.links.clear();
    }

    /// Calls `each` with a record of every thread of the target.
    ///
    /// # Errors
    ///
    /// [`StartError`] if the iterator cannot be attached or read.
    pub fn snapshot(&self, is_last: bool, mut each: impl FnMut(&[u8])) -> Result<(), StartError> {
        let control = self.object.maps().find(|map| map.name() == ".data.control");
        let control = control.ok_or(StartError::NotBuilt { probe: NAME })?;
        let is_last = u32::from(is_last).to_ne_bytes();
        control.update(&0_u32.to_ne_bytes(), &is_last, MapFlags::ANY).map_err(refused)?;
        let program = self.object.progs_mut().find(|program| program.name() == SNAPSHOT);
        let program = program.ok_or(StartError::NotBuilt { probe: NAME })?;
        let link = program.attach().map_err(refused)?;
        let mut bytes = Vec::new();
        let mut iterator = libbpf_rs::Iter::new(&link).map_err(refused)?;
        iterator.read_to_end(&mut bytes).map_err(|error| refused(error.into()))?;
        bytes.chunks_exact(size_of::<hz_probes_ebpf::Thread>()).for_each(&mut each);
        Ok(())
    }

    /// A reader of all rings, which calls `each(ring, record)`.
    ///
    /// # Errors
    ///
    /// [`StartError`] if a ring cannot be mapped.
    pub fn drain<'cb>(
        &self,
        each: impl FnMut(u16, &[u8]) + Clone + 'cb,
    ) -> Result<Drain<'cb>, StartError> {
        let mut builder = RingBufferBuilder::new();
        for (place, ring) in (0_u16..).zip(&self.rings) {
            let mut each = each.clone();
            let callback = move |record: &[u8]| {
                each(place, record);
                0
            };
            builder.add(ring, callback).map_err(refused)?;
        }
        builder.build().map(|rings| Drain { rings }).map_err(refused)
    }

    /// The hook the programs got: `tp_btf` or `raw_tp`.
    #[must_use]
    pub const fn hook(&self) -> &'static str {
        self.hook
    }

    /// Whether it records more than lives of threads.
    #[must_use]
    pub const fn has_switches(&self) -> bool {
        self.has_switches
    }

    /// The map of the target's processes, which the programs keep up to date as processes come and go;
    /// key: pid (u32), value: u8. Other objects may reuse it. `None` unless processes are the target.
    #[must_use]
    pub fn processes(&self) -> Option<impl AsFd> {
        let map = self.object.maps().find(|map| map.name() == "PIDS");
        map.filter(|_| self.has_processes)
    }

    /// Tracepoints this kernel lacks and the probe can do without.
    #[must_use]
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// The ledger, all CPUs together.
    #[must_use]
    pub fn ledger(&self) -> Vec<LedgerRow> {
        let rows = |cpu: Vec<u8>| {
            let rows = <[Loss]>::ref_from_prefix_with_elems(&cpu, Site::ALL.len());
            rows.map_or_else(|_| Vec::new(), |(rows, _)| rows.to_vec())
        };
        let cpus = self.cpu_states().into_iter().map(rows);
        bpf::sum_ledger(Site::ALL.iter().map(|site| site.tag()), cpus)
    }

    /// Calls `each(cpu, since_ns, count)` for records that were lost and not told, because their
    /// ring had no room until the end.
    pub fn untold(&self, mut each: impl FnMut(u16, u64, u64)) {
        let behind_ledger = Site::ALL.len() * size_of::<Loss>();
        for (cpu, state) in (0..).zip(self.cpu_states()) {
            let rest = state.get(behind_ledger..).unwrap_or_default();
            if let Ok(([since_ns, count], _)) = <[u64; 2]>::read_from_prefix(rest)
                && count > 0
            {
                each(cpu, since_ns, count);
            }
        }
    }

    /// What the programs keep of each CPU; the ledger is at the start of it.
    fn cpu_states(&self) -> Vec<Vec<u8>> {
        let map = self.object.maps().find(|map| map.name().to_string_lossy().ends_with(".bss"));
        let bytes =
            map.and_then(|map| map.lookup(&0_u32.to_ne_bytes(), MapFlags::ANY).ok()).flatten();
        let bytes = bytes.unwrap_or_default();
        let stride = (bytes.len() / MAX_CPUS).max(1);
        bytes.chunks_exact(stride).take(host::possible_cpus()).map(<[u8]>::to_vec).collect()
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
}

/// Reads the rings.
#[derive(Debug)]
pub struct Drain<'cb> {
    rings: RingBuffer<'cb>,
}

impl Drain<'_> {
    /// Reads what is there, up to a bound; true if there may be more.
    pub fn run(&self) -> bool {
        let bound = RECORDS_PER_DRAIN;
        usize::try_from(self.rings.consume_raw_n(bound)).is_ok_and(|count| count >= bound)
    }
}

/// Programs that learn of new processes come first; the end of an interrupt before its beginning,
/// or an interrupt that begins in between would never end; and switches last.
fn attach_rank(program: &str) -> u8 {
    match program {
        "sched_process_fork" => 0,
        "sched_switch" => 3,
        _ if program.ends_with("_entry") => 2,
        _ => 1,
    }
}

pub(super) fn refused(source: libbpf_rs::Error) -> StartError {
    refused_by(NAME, source)
}

/// Why the kernel refused a program of `probe`.
pub(super) fn refused_by(probe: &'static str, source: libbpf_rs::Error) -> StartError {
    // The verifier, too, refuses with a permission error.
    if source.kind() == libbpf_rs::ErrorKind::PermissionDenied && !host::may_trace() {
        return StartError::NotPermitted { probe };
    }
    StartError::Refused { probe, source }
}

/// libbpf writes to standard error unless told otherwise.
fn quiet_libbpf(is_verbose: bool) {
    #[expect(clippy::needless_pass_by_value, reason = "libbpf-rs wants it so")]
    fn print(_: PrintLevel, text: String) {
        eprint!("{text}");
    }
    libbpf_rs::set_print(is_verbose.then_some((PrintLevel::Debug, print)));
}
