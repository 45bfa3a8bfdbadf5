//! The user probe `uprobe`: loads its programs, puts them on functions, reads what they write.

use super::uprobe_error::{UprobeError, is_denied, map_error, program_error, site_error};
use super::uprobe_multi::{MultiProgram, Numbered, by_file};
use super::{Scope, processes};
use crate::symbol::Site;
use aya::maps::{HashMap, Map, MapData, MapError, PerCpuArray, RingBuf};
use aya::programs::uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope};
use aya::programs::{BtfTracePoint, Program, ProgramError, UProbe};
use aya::sys::SyscallError;
use aya::{Btf, Ebpf, EbpfLoader};
use aya_log::{EbpfLogger, Level};
use hz_probes_ebpf::{FILTER_ALL, FILTER_CGROUP, FILTER_PIDS, Loss, UprobeHit, UprobeSite};
use libbpf_rs::btf::types::{MemberAttr, Struct};
use libbpf_rs::query::ProgInfoIter;
use std::fmt;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;

/// The programs, empty when they were not built.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/uprobe"));

/// Records that one [`Uprobes::drain`] reads at most: what the ring holds.
const DRAIN_MAX: usize = (8 << 20) / (size_of::<UprobeHit>() + 8);

/// What became of every hit, summed over CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UprobeLedger {
    rows: [Loss; UprobeSite::ALL.len()],
    /// Runs that the kernel kept from the programs (`recursion_misses`), which no row has seen.
    pub skipped_by_kernel: u64,
}

impl UprobeLedger {
    /// One program's counters.
    #[must_use]
    pub const fn row(&self, site: UprobeSite) -> &Loss {
        &self.rows[site as usize]
    }
}

/// [`Loss`] as a map's value.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct PodLoss(Loss);

// SAFETY: transparent over a struct of five `u64`, whose derives reject padding.
unsafe impl aya::Pod for PodLoss {}

/// User probes in place. Nothing is left behind when it is dropped or its process dies.
///
/// # Minimum kernel
///
/// Linux 5.15, for cookies; with BTF, to filter by process.
///
/// # Blind spots
///
/// A function left by `longjmp`, an exception or the end of its thread has no return; nor has a
/// call nested more than 64 deep among return probes of one thread. Children of a recorded process
/// whose own parent died before recording began are not followed.
///
/// # Overhead
///
/// A trap for each hit: about 0.5 to 0.8 µs for a mark and 0.8 to 1.2 µs for a span, 17 to 25 µs on
/// an instruction that is single-stepped (Linux 6.18 in a virtual machine;
/// `examples/uprobe_cost.rs`). Also for processes that the filter discards, except when one process
/// is recorded without its children: then only that process has the probes.
pub struct Uprobes {
    // Dropped in this order: no function is entered under a probe whose return is not seen.
    enter_links: Vec<Link>,
    return_links: Vec<Link>,
    /// Kernel numbers of programs that aya does not know of.
    multi_ids: Vec<u32>,
    ring: RingBuf<MapData>,
    ledger: PerCpuArray<MapData, PodLoss>,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
    bpf: Ebpf,
}

/// What keeps a program on its sites; closing it takes the probes away.
#[expect(dead_code, reason = "held to be dropped")]
enum Link {
    Single(UProbeLink),
    Multi(OwnedFd),
}

impl fmt::Debug for Uprobes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Uprobes")
            .field("enter_links", &self.enter_links.len())
            .field("return_links", &self.return_links.len())
            .finish_non_exhaustive()
    }
}

impl Uprobes {
    /// Puts a probe on every site; a record's `arg` is the place of its site in `sites`.
    ///
    /// `follow_children` adds, to [`Scope::Processes`], those that the processes have started and
    /// will start. With a `logger` the programs tell what they do; without, that costs nothing.
    ///
    /// # Errors
    ///
    /// [`UprobeError`], and then nothing stays attached.
    pub fn attach(
        sites: &[Site],
        scope: &Scope,
        follow_children: bool,
        logger: Option<&'static dyn log::Log>,
    ) -> Result<Self, UprobeError> {
        if OBJECT.is_empty() {
            return Err(UprobeError::NotBuilt);
        }
        let mut bpf = load_object(scope, logger.is_some())?;
        // Before any map is taken: a program that is loaded holds its maps, aya's numbers do not.
        let leave = Hook::load(&mut bpf, "uprobe_return", true)?;
        let enter = Hook::load(&mut bpf, "uprobe_enter", false)?;
        if let Scope::Processes(pids) = scope {
            target_processes(&mut bpf, pids, follow_children)?;
        }
        let pid = scope.only_process(follow_children).and_then(NonZeroU32::new);
        // Returns first: a call entered under a probe must find the other in place.
        let spans: Vec<_> = (0..).zip(sites).filter(|(_, site)| site.wants_return).collect();
        let return_links = leave.attach(&mut bpf, &spans, pid)?;
        let all: Vec<_> = (0..).zip(sites).collect();
        let enter_links = enter.attach(&mut bpf, &all, pid)?;
        let logger = match logger {
            None => None,
            Some(logger) => EbpfLogger::init_with_logger(&mut bpf, logger).ok(),
        };
        Ok(Self {
            enter_links,
            return_links,
            multi_ids: [enter, leave].iter().filter_map(Hook::multi_id).collect(),
            ring: take_map(&mut bpf, "EVENTS")?,
            ledger: take_map(&mut bpf, "LEDGER")?,
            logger,
            bpf,
        })
    }

    /// Gives every record that waits to `record`, oldest first, and returns how many there were.
    /// Does not block, and reads no more than the ring holds, however fast it fills.
    pub fn drain(&mut self, record: &mut dyn FnMut(&[u8])) -> usize {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
        let mut count = 0;
        while count < DRAIN_MAX
            && let Some(bytes) = self.ring.next()
        {
            record(&bytes);
            count += 1;
        }
        count
    }

    /// Takes the probes away. Records that wait can still be drained, and the ledger is final.
    pub fn detach(&mut self) {
        self.enter_links.clear();
        self.return_links.clear();
    }

    /// What became of every hit so far.
    ///
    /// # Errors
    ///
    /// [`UprobeError::Map`] when the kernel does not give the counters.
    pub fn ledger(&self) -> Result<UprobeLedger, UprobeError> {
        let mut ledger = UprobeLedger { skipped_by_kernel: self.skipped(), ..Default::default() };
        for (row, index) in ledger.rows.iter_mut().zip(0_u32..) {
            let per_cpu = self.ledger.get(&index, 0).map_err(map_error("LEDGER"))?;
            for PodLoss(loss) in per_cpu.iter() {
                row.add(loss);
            }
        }
        Ok(ledger)
    }

    /// Ids of the programs, for what the kernel says about them: run time, recursion misses.
    #[must_use]
    pub fn program_ids(&self) -> Vec<u32> {
        let loaded = self.bpf.programs().filter_map(|(_, program)| program.info().ok());
        loaded.map(|info| info.id()).chain(self.multi_ids.iter().copied()).collect()
    }

    fn skipped(&self) -> u64 {
        let ids = self.program_ids();
        let ours = ProgInfoIter::default().filter(|info| ids.contains(&info.id));
        ours.map(|info| info.recursion_misses).sum()
    }
}

/// Creates the maps and reads the programs, with the filter patched in.
fn load_object(scope: &Scope, is_verbose: bool) -> Result<Ebpf, UprobeError> {
    let (filter, cgroup_id, cgroup_level) = match scope {
        Scope::All => (FILTER_ALL, 0, 0),
        Scope::Processes(_) => (FILTER_PIDS, 0, 0),
        Scope::Cgroup { id, level } => (FILTER_CGROUP, *id, *level),
    };
    let (task_tid, task_pid) = if filter == FILTER_PIDS { task_offsets()? } else { (0, 0) };
    let log_level = if is_verbose { Level::Debug as u8 } else { 0 };
    let mut loader = EbpfLoader::new();
    loader
        .override_global("FILTER", &filter, true)
        .override_global("CGROUP_ID", &cgroup_id, true)
        .override_global("CGROUP_LEVEL", &cgroup_level, true)
        .override_global("TASK_TID", &task_tid, true)
        .override_global("TASK_PID", &task_pid, true)
        .override_global(aya_log::LEVEL, &log_level, true);
    // Maps of what is off stay as small as the kernel lets them be.
    if filter != FILTER_PIDS {
        loader.map_max_entries("PIDS", 1);
    }
    if !is_verbose {
        loader.map_max_entries("AYA_LOGS", 4096);
    }
    loader.load(OBJECT).map_err(|source| match &source {
        aya::EbpfError::MapError(MapError::CreateError { io_error, .. }) if is_denied(io_error) => {
            UprobeError::NotPermitted
        }
        _ => UprobeError::Object { source: Box::new(source) },
    })
}

/// Offsets of `pid` and `tgid` in the kernel's `task_struct`, in bytes: hz's tid and pid.
fn task_offsets() -> Result<(u32, u32), UprobeError> {
    let btf = libbpf_rs::btf::Btf::from_vmlinux().map_err(|_| UprobeError::NoBtf)?;
    let task: Struct<'_> = btf.type_by_name("task_struct").ok_or(UprobeError::NoBtf)?;
    let offset = |name: &str| {
        let member = task.iter().find(|member| member.name.is_some_and(|found| found == name))?;
        match member.attr {
            MemberAttr::Normal { offset } => Some(offset / 8),
            MemberAttr::BitField { .. } => None,
        }
    };
    offset("pid").zip(offset("tgid")).ok_or(UprobeError::NoBtf)
}

/// Fills the map of targets: the hooks that keep it up to date come first, so that no process is
/// born or dies between them and the look at `/proc`.
fn target_processes(bpf: &mut Ebpf, pids: &[u32], follow: bool) -> Result<(), UprobeError> {
    let btf = Btf::from_sys_fs().map_err(|_| UprobeError::NoBtf)?;
    attach_tracepoint(bpf, ("uprobe_free", "sched_process_free"), &btf)?;
    if follow {
        attach_tracepoint(bpf, ("uprobe_fork", "sched_process_fork"), &btf)?;
    }
    let mut targets: HashMap<MapData, u32, u8> = take_map(bpf, "PIDS")?;
    insert(&mut targets, pids)?;
    if let Some(pid) = processes::missing(pids) {
        return Err(UprobeError::NoSuchProcess { pid });
    }
    if !follow {
        return Ok(());
    }
    processes::follow_descendants(pids, |new| insert(&mut targets, new))
}

fn insert(targets: &mut HashMap<MapData, u32, u8>, pids: &[u32]) -> Result<(), UprobeError> {
    for pid in pids {
        targets.insert(pid, 0, 0).map_err(|source| match source {
            MapError::SyscallError(error) if error.io_error.raw_os_error() == Some(libc::E2BIG) => {
                UprobeError::TooManyProcesses { count: pids.len() }
            }
            source => map_error("PIDS")(source),
        })?;
    }
    Ok(())
}

fn attach_tracepoint(
    bpf: &mut Ebpf,
    (name, tracepoint): (&'static str, &str),
    btf: &Btf,
) -> Result<(), UprobeError> {
    let program: &mut BtfTracePoint = program(bpf, name)?;
    program.load(tracepoint, btf).map_err(program_error(name))?;
    program.attach().map_err(program_error(name))?;
    Ok(())
}

/// A program for user probes, loaded the best way this kernel has.
struct Hook {
    name: &'static str,
    is_return: bool,
    multi: Option<MultiProgram>,
}

impl Hook {
    fn load(bpf: &mut Ebpf, name: &'static str, is_return: bool) -> Result<Self, UprobeError> {
        let multi = MultiProgram::load(OBJECT, bpf, name);
        if multi.is_none() {
            let program: &mut UProbe = program(bpf, name)?;
            program.load().map_err(program_error(name))?;
        }
        Ok(Self { name, is_return, multi })
    }

    fn multi_id(&self) -> Option<u32> {
        self.multi.as_ref().and_then(MultiProgram::id)
    }

    /// Puts the program on sites, each with its number as the cookie.
    fn attach(
        &self,
        bpf: &mut Ebpf,
        sites: &Numbered<'_>,
        pid: Option<NonZeroU32>,
    ) -> Result<Vec<Link>, UprobeError> {
        let mut links = Vec::new();
        let Some(multi) = &self.multi else {
            let program: &mut UProbe = program(bpf, self.name)?;
            for (number, site) in sites {
                let location = UProbeAttachLocation::AbsoluteOffset(site.file_offset);
                let point = UProbeAttachPoint { location, cookie: Some(*number) };
                let scope = pid.map_or(UProbeScope::AllProcesses, UProbeScope::OneProcess);
                let attached = program.attach(point, &site.binary, scope);
                let link = attached.and_then(|id| program.take_link(id));
                links.push(Link::Single(link.map_err(|source| site_error(site, source))?));
            }
            return Ok(links);
        };
        for (binary, sites) in by_file(sites) {
            let link = multi.attach(binary, &sites, self.is_return, pid.map(NonZeroU32::get));
            let call = "bpf_link_create";
            // The kernel does not say which of them it refuses.
            let error = |io_error| site_error(sites[0].1, SyscallError { call, io_error }.into());
            links.push(Link::Multi(link.map_err(error)?));
        }
        Ok(links)
    }
}

fn program<'a, T>(bpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut T, UprobeError>
where
    &'a mut T: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let missing = || program_error(name)(ProgramError::NotLoaded);
    bpf.program_mut(name).ok_or_else(missing)?.try_into().map_err(program_error(name))
}

fn take_map<T: TryFrom<Map, Error = MapError>>(
    bpf: &mut Ebpf,
    name: &'static str,
) -> Result<T, UprobeError> {
    let missing = MapError::InvalidName { name: name.to_owned() };
    let map = bpf.take_map(name).ok_or(missing).map_err(map_error(name))?;
    map.try_into().map_err(map_error(name))
}
