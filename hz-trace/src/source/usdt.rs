//! The user probe `usdt`: loads its programs, puts them on statically defined probes, reads what
//! they write.

use super::{Scope, bpf, processes};
use crate::{host, recording::BpfCost, symbol::UsdtProbe};
use hz_probes_ebpf::{FILTER_ALL, FILTER_CGROUP, FILTER_PIDS, Loss, UsdtConfig, UsdtHit, UsdtSite};
use libbpf_rs::{
    Link, Map, MapCore as _, MapFlags, Object, ObjectBuilder, OpenObject, RingBuffer,
    RingBufferBuilder, UsdtOpts,
};
use std::{cell::RefCell, fmt, os::fd::AsFd as _, path::PathBuf, rc::Rc};
use zerocopy::{FromBytes as _, IntoBytes as _};

/// The programs, empty when they were not built.
static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/usdt.bpf.o"));

/// The program that probes run.
const HIT: &str = "usdt_hit";

/// Records that one [`Usdt::drain`] reads at most: what the ring holds.
const DRAIN_MAX: usize = (8 << 20) / (size_of::<UsdtHit>() + 8);

/// Why statically defined probes cannot be recorded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UsdtError {
    /// Built with `AYA_BUILD_SKIP`.
    #[error("usdt: this hz-trace was built without BPF programs; run scripts/setup and rebuild")]
    NotBuilt,
    /// `EPERM` or `EACCES` on loading or attaching.
    #[error("usdt: not permitted; run as root or grant CAP_BPF and CAP_PERFMON")]
    NotPermitted,
    /// A process to be recorded does not exist.
    #[error("usdt: no process {pid}")]
    NoSuchProcess {
        /// Its number.
        pid: u32,
    },
    /// More processes than the kernel's map of targets holds.
    #[error("usdt: too many processes to follow ({count}); record a control group instead")]
    TooManyProcesses {
        /// How many there are.
        count: usize,
    },
    /// A program or a map was refused.
    #[error("usdt: the kernel refuses the programs")]
    Refused {
        /// What libbpf says.
        #[source]
        source: libbpf_rs::Error,
    },
    /// A probe cannot be attached to.
    #[error("usdt: cannot attach to {provider}:{name} in {}", binary.display())]
    Attach {
        /// Who defines the probe.
        provider: String,
        /// Its name.
        name: String,
        /// The file.
        binary: PathBuf,
        /// What libbpf says.
        #[source]
        source: libbpf_rs::Error,
    },
    /// `/proc` cannot be read.
    #[error("usdt: cannot find the children of the recorded processes")]
    Proc(#[from] procfs::ProcError),
}

/// What became of every hit, summed over CPUs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UsdtLedger {
    rows: [Loss; UsdtSite::ALL.len()],
    /// What the programs took, and runs that the kernel kept from them, which no row has seen.
    pub cost: Vec<BpfCost>,
}

impl UsdtLedger {
    /// One program's counters.
    #[must_use]
    pub const fn row(&self, site: UsdtSite) -> &Loss {
        &self.rows[site as usize]
    }
}

/// Statically defined probes in place. Nothing is left behind when it is dropped or its process
/// dies: the kernel lowers the semaphores too.
///
/// # Minimum kernel
///
/// Linux 5.15, for cookies; with BTF, to filter by process.
///
/// # Blind spots
///
/// Arguments behind the sixth; arguments in memory that is not there; processes that start later, if
/// [`UsdtProbe::is_swallowed`].
///
/// # Overhead
///
/// About 1 µs a hit, also for processes that the filter discards, except when one process is
/// recorded without its children.
pub struct Usdt {
    probes: Vec<Link>,
    /// Fork and free, which keep the targets up to date.
    hooks: Vec<Link>,
    ring: RingBuffer<'static>,
    waiting: Rc<RefCell<Vec<UsdtHit>>>,
    object: Object,
}

impl fmt::Debug for Usdt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Usdt").field("probes", &self.probes.len()).finish_non_exhaustive()
    }
}

impl Usdt {
    /// Attaches to every probe; a record's `arg` is the place of its probe in `probes`.
    ///
    /// `follow_children` adds, to [`Scope::Processes`], those that the processes have started and
    /// will start.
    ///
    /// # Errors
    ///
    /// [`UsdtError`], and then nothing stays attached.
    pub fn attach(
        probes: &[UsdtProbe],
        scope: &Scope,
        follow_children: bool,
    ) -> Result<Self, UsdtError> {
        if OBJECT.is_empty() {
            return Err(UsdtError::NotBuilt);
        }
        let object = load(scope, follow_children)?;
        let hooks = match scope {
            Scope::Processes(pids) => target_processes(&object, pids, follow_children)?,
            _ => Vec::new(),
        };
        let waiting = Rc::default();
        let ring = ring(&object, &waiting)?;
        let pid = scope.only_process(follow_children).filter(|_| filters_whole_processes());
        let pid = pid.and_then(|pid| i32::try_from(pid).ok()).unwrap_or(-1);
        let links = (0..).zip(probes).map(|(number, probe)| attach(&object, probe, pid, number));
        let probes = links.collect::<Result<_, _>>()?;
        Ok(Self { probes, hooks, ring, waiting, object })
    }

    /// Gives every record that waits to `record`, oldest first, and returns how many there were.
    /// Does not block, and reads no more than the ring holds, however fast it fills.
    pub fn drain(&mut self, record: &mut dyn FnMut(&[u8])) -> usize {
        // The result is the number of records, or an error of a callback, which gives none.
        self.ring.consume_raw_n(DRAIN_MAX);
        let mut waiting = self.waiting.borrow_mut();
        waiting.iter().for_each(|hit| record(hit.as_bytes()));
        let count = waiting.len();
        waiting.clear();
        count
    }

    /// Records nothing more, at once; hits are filtered from now on.
    pub fn stop(&self) {
        if let Ok(control) = map(&self.object, ".data.control") {
            // If that fails, recording goes on until the probes are away.
            let _ = control.update(&0_u32.to_ne_bytes(), &1_u32.to_ne_bytes(), MapFlags::ANY);
        }
    }

    /// Takes the probes away: some 50 ms for each. Records that wait can still be drained, and the ledger is final.
    pub fn detach(&mut self) {
        self.probes.clear();
        self.hooks.clear();
    }

    /// What became of every hit so far.
    ///
    /// # Errors
    ///
    /// [`UsdtError::Refused`] when the kernel does not give the counters.
    pub fn ledger(&self) -> Result<UsdtLedger, UsdtError> {
        let programs = self.object.progs_mut().filter(|program| program.autoload());
        let cost = programs
            .map(|program| bpf::cost(&program.name().to_string_lossy(), program.as_fd()))
            .collect();
        let mut ledger = UsdtLedger { cost, ..UsdtLedger::default() };
        let map = map(&self.object, "LEDGER")?;
        for (row, site) in ledger.rows.iter_mut().zip(0_u32..) {
            let found = map.lookup_percpu(&site.to_ne_bytes(), MapFlags::ANY).map_err(refused)?;
            for cpu in found.unwrap_or_default() {
                if let Ok((loss, _)) = Loss::read_from_prefix(&cpu) {
                    row.add(&loss);
                }
            }
        }
        Ok(ledger)
    }
}

/// Loads the programs, with the filter in place.
fn load(scope: &Scope, follow_children: bool) -> Result<Object, UsdtError> {
    let mut open = ObjectBuilder::default().open_memory(OBJECT).map_err(refused)?;
    let config = match scope {
        Scope::All => UsdtConfig { filter: FILTER_ALL, ..UsdtConfig::default() },
        Scope::Processes(_) => UsdtConfig { filter: FILTER_PIDS, ..UsdtConfig::default() },
        Scope::Cgroup { id, level } => {
            UsdtConfig { cgroup_id: *id, cgroup_level: *level, filter: FILTER_CGROUP }
        }
    };
    let is_by_process = config.filter == FILTER_PIDS;
    configure(&mut open, &config)?;
    for mut program in open.progs_mut() {
        let is_wanted = match program.name().to_str() {
            Some("usdt_free") => is_by_process,
            Some("usdt_fork") => is_by_process && follow_children,
            _ => true,
        };
        program.set_autoload(is_wanted);
    }
    open.load().map_err(refused)
}

fn configure(open: &mut OpenObject, config: &UsdtConfig) -> Result<(), UsdtError> {
    for mut map in open.maps_mut() {
        if map.name() == ".rodata.config" {
            map.set_initial_value(config.as_bytes()).map_err(refused)?;
        } else if map.name() == "PIDS" && config.filter != FILTER_PIDS {
            // Nobody looks into it, so it needs no memory.
            map.set_max_entries(1).map_err(refused)?;
        }
    }
    Ok(())
}

/// Fills the map of targets: the hooks that keep it up to date come first, so that no process is
/// born or dies between them and the look at `/proc`.
fn target_processes(object: &Object, pids: &[u32], follow: bool) -> Result<Vec<Link>, UsdtError> {
    let hooks = object.progs_mut().filter(|program| program.autoload() && program.name() != HIT);
    let hooks = hooks.map(|program| program.attach().map_err(refused)).collect::<Result<_, _>>()?;
    let targets = map(object, "PIDS")?;
    let insert = |pids: &[u32]| {
        for pid in pids {
            targets.update(&pid.to_ne_bytes(), &[0], MapFlags::ANY).map_err(|source| {
                if source.kind() == libbpf_rs::ErrorKind::TooBig {
                    UsdtError::TooManyProcesses { count: pids.len() }
                } else {
                    refused(source)
                }
            })?;
        }
        Ok::<_, UsdtError>(())
    };
    insert(pids)?;
    if let Some(pid) = processes::missing(pids) {
        return Err(UsdtError::NoSuchProcess { pid });
    }
    if follow {
        processes::follow_descendants(pids, insert)?;
    }
    Ok(hooks)
}

fn attach(object: &Object, probe: &UsdtProbe, pid: i32, number: u64) -> Result<Link, UsdtError> {
    let program = object.progs_mut().find(|program| program.name() == HIT);
    let program = program.ok_or(UsdtError::NotBuilt)?;
    let options = UsdtOpts { cookie: number, ..UsdtOpts::default() };
    let link =
        program.attach_usdt_with_opts(pid, &probe.binary, &probe.provider, &probe.name, options);
    link.map_err(|source| {
        if is_denied(&source) {
            return UsdtError::NotPermitted;
        }
        let UsdtProbe { provider, name, binary, .. } = probe.clone();
        UsdtError::Attach { provider, name, binary, source }
    })
}

/// Whether a link for a process is for all its threads. From 6.6 on libbpf makes links for many
/// places at once, which were for the first thread only before 6.10.
/// <https://github.com/torvalds/linux/commit/46ba0e49b64232adac35a2bc892f1710c5b0fb7f>
fn filters_whole_processes() -> bool {
    procfs::sys::kernel::Version::current()
        .is_ok_and(|kernel| !((6, 6)..(6, 10)).contains(&(kernel.major, kernel.minor)))
}

/// A reader of the ring that puts records into `waiting`.
fn ring(
    object: &Object,
    waiting: &Rc<RefCell<Vec<UsdtHit>>>,
) -> Result<RingBuffer<'static>, UsdtError> {
    let waiting = Rc::clone(waiting);
    let events = map(object, "EVENTS")?;
    let mut builder = RingBufferBuilder::new();
    let keep = move |bytes: &[u8]| {
        if let Ok((hit, _)) = UsdtHit::read_from_prefix(bytes) {
            waiting.borrow_mut().push(hit);
        }
        0
    };
    builder.add(&events, keep).map_err(refused)?;
    builder.build().map_err(refused)
}

fn map<'a>(object: &'a Object, name: &str) -> Result<Map<'a>, UsdtError> {
    object.maps().find(|map| map.name() == name).ok_or(UsdtError::NotBuilt)
}

fn refused(source: libbpf_rs::Error) -> UsdtError {
    // The verifier, too, refuses with a permission error.
    if is_denied(&source) { UsdtError::NotPermitted } else { UsdtError::Refused { source } }
}

fn is_denied(error: &libbpf_rs::Error) -> bool {
    error.kind() == libbpf_rs::ErrorKind::PermissionDenied && !host::may_trace()
}
