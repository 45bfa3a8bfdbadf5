//! User probes on the allocators of processes: where they go, and what they cost.

use super::{
    StackSettings, loss,
    mappings::{Area, Mappings, open},
    perf_ring::FileId,
};
use crate::{
    error::StartError,
    recording::LedgerRow,
    source::{Scope, processes_of},
    symbol::{AllocatorSite, FirstInstruction, allocator_sites},
    text,
};
use hz_probes_ebpf::{HeapSite, Loss};
use libbpf_rs::{
    Link, Object, OpenProgramMut, ProgramAttachType, ProgramMut, UprobeMultiOpts, UprobeOpts,
};
use rustix::fs::{major, minor};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fs::File,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    rc::Rc,
    time::Instant,
};

/// Processes whose allocators get probes, at the most: each of them makes every hit of the others dearer.
const PROCESSES_MAX: usize = 64;

/// Calls by which the cost of a probe is measured.
const MEASURED_CALLS: u32 = 10_000;

/// Complaints that are kept.
const COMPLAINTS_MAX: usize = 8;

const SESSION: &str = "alloc_session";
const CALL: &str = "alloc_call";
const RETURN: &str = "alloc_return";

/// How this kernel lets probes be put on functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeapHooks {
    /// One link for all of a file, and a return only for calls that are sampled: Linux 6.13.
    Session,
    /// One link for all of a file. Not before Linux 6.10: until then it filters by a process's first
    /// thread only.
    /// <https://github.com/torvalds/linux/commit/46ba0e49b64232adac35a2bc892f1710c5b0fb7f>
    Multi,
    /// One for each function.
    Single,
}

impl HeapHooks {
    fn of_running_kernel() -> Self {
        match procfs::sys::kernel::Version::current() {
            Ok(kernel) if (kernel.major, kernel.minor) >= (6, 13) => Self::Session,
            Ok(kernel) if (kernel.major, kernel.minor) >= (6, 10) => Self::Multi,
            _ => Self::Single,
        }
    }

    /// The hook's name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Session => "uprobe_session",
            Self::Multi => "uprobe_multi",
            Self::Single => "uprobe",
        }
    }

    /// Whether a program is needed, which is told what it is to be attached to.
    pub(super) fn wants(self, program: &mut OpenProgramMut<'_>) -> bool {
        let is_session = program.name() == SESSION;
        if is_session == (self == Self::Session) && self == Self::Multi {
            program.set_attach_type(ProgramAttachType::TraceUprobeMulti);
        }
        is_session == (self == Self::Session)
    }
}

/// Probes on allocators. Dropping them takes them away.
pub(super) struct Heap {
    hooks: HeapHooks,
    scope: Scope,
    follow_children: bool,
    mean_bytes: u64,
    program: Option<PathBuf>,
    links: BTreeMap<u32, Vec<Link>>,
    attached: HashSet<(u32, FileId)>,
    files: HashMap<FileId, Rc<[AllocatorSite]>>,
    /// Functions that are single-stepped, with their instruction.
    stepped: BTreeSet<String>,
    /// Allocators that are part of a program: the compiler may have inlined what is short.
    within_programs: BTreeSet<String>,
    complaints: BTreeSet<String>,
    /// What a hit costs, and hits before the recording.
    hit_ns: Option<u64>,
    before: u64,
    has_detached: bool,
}

impl std::fmt::Debug for Heap {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Heap").field("hooks", &self.hooks).finish_non_exhaustive()
    }
}

impl Heap {
    /// `None` if allocators are to be left alone.
    pub(super) fn new(settings: &StackSettings) -> Result<Option<Self>, StartError> {
        let Some(mean_bytes) = settings.heap_mean_bytes else { return Ok(None) };
        if settings.scope == Scope::All {
            return Err(StartError::NeedsProcesses { probe: "alloc" });
        }
        Ok(Some(Self {
            hooks: HeapHooks::of_running_kernel(),
            scope: settings.scope.clone(),
            follow_children: settings.follow_children,
            mean_bytes,
            program: settings.program.clone(),
            links: BTreeMap::new(),
            attached: HashSet::new(),
            files: HashMap::new(),
            stepped: BTreeSet::new(),
            within_programs: BTreeSet::new(),
            complaints: BTreeSet::new(),
            hit_ns: None,
            before: 0,
            has_detached: false,
        }))
    }

    pub(super) const fn hooks(&self) -> HeapHooks {
        self.hooks
    }

    /// Measures what a probe costs, and puts them on what the target has mapped.
    pub(super) fn begin(&mut self, object: &Object, mappings: &mut Mappings) {
        self.hit_ns = self.measure(object);
        self.before = self.hits(object);
        self.look_for_processes(object, mappings);
        let held = self.links.keys().next().copied();
        if let Some((path, pid)) = self.program.take().zip(held) {
            self.attach_program(object, &path, pid);
        }
    }

    /// Puts probes on what processes have mapped anew.
    pub(super) fn update(
        &mut self,
        object: &Object,
        mappings: &mut Mappings,
        changed: &HashSet<u32>,
    ) {
        for pid in changed {
            if mappings.is_gone(*pid) {
                self.links.remove(pid);
                self.attached.retain(|(owner, _)| owner != pid);
            } else if self.links.contains_key(pid) {
                self.follow(object, mappings, *pid);
            }
        }
    }

    /// Puts probes on processes that have joined the target.
    pub(super) fn look_for_processes(&mut self, object: &Object, mappings: &mut Mappings) {
        let pids = match &self.scope {
            // Probes on everybody's allocator would slow everybody.
            Scope::All => Vec::new(),
            Scope::Processes(pids) if !self.follow_children => pids.clone(),
            scope => processes_of(scope),
        };
        for pid in pids {
            if self.links.contains_key(&pid) || self.has_detached {
                continue;
            }
            if self.links.len() >= PROCESSES_MAX {
                self.complain(format!("allocations of more than {PROCESSES_MAX} processes"));
                return;
            }
            self.follow(object, mappings, pid);
        }
    }

    fn follow(&mut self, object: &Object, mappings: &mut Mappings, pid: u32) {
        self.links.entry(pid).or_default();
        let areas: Vec<Area> = mappings.areas(pid).values().cloned().collect();
        for area in areas {
            if self.has_detached || area.file.inode == 0 || !self.attached.insert((pid, area.file))
            {
                continue;
            }
            let Some(file) = open(pid, &area) else { continue };
            let sites = self.sites(&file, area.file);
            if !sites.is_empty() {
                self.remark(pid, &area, &sites);
                self.attach(object, &file, &sites, pid);
            }
        }
    }

    /// What a process is about to become.
    fn attach_program(&mut self, object: &Object, path: &Path, pid: u32) {
        let Ok(file) = File::open(path) else { return };
        let Ok(copy) = file.try_clone() else { return };
        let Ok(metadata) = file.metadata() else { return };
        let (device, inode) = (metadata.dev(), metadata.ino());
        let (device_major, device_minor) = (major(device), minor(device));
        let sites = allocator_sites(copy);
        if !sites.is_empty()
            && self.attached.insert((pid, FileId { device_major, device_minor, inode }))
        {
            self.attach(object, &file, &sites, pid);
        }
    }

    fn sites(&mut self, file: &File, id: FileId) -> Rc<[AllocatorSite]> {
        let find = || file.try_clone().map_or_else(|_| Vec::new(), allocator_sites).into();
        Rc::clone(self.files.entry(id).or_insert_with(find))
    }

    /// Keeps what there is to say about a file.
    fn remark(&mut self, pid: u32, area: &Area, sites: &[AllocatorSite]) {
        let path = String::from_utf8_lossy(&area.path).into_owned();
        for site in sites {
            if let FirstInstruction::Stepped { instruction } = &site.first {
                self.stepped.insert(format!("{} (`{instruction}`)", site.symbol));
            }
        }
        let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        if program.as_os_str().as_encoded_bytes() == &*area.path {
            self.within_programs.insert(path);
        }
    }

    fn attach(&mut self, object: &Object, file: &File, sites: &[AllocatorSite], pid: u32) {
        match self.links_of(object, file, sites, pid) {
            Ok(links) => self.links.entry(pid).or_default().extend(links),
            // It has ended meanwhile.
            Err(_) if !Path::new(&format!("/proc/{pid}")).exists() => {}
            Err(error) => self.complain(format!("allocations of pid {pid}: {error}")),
        }
    }

    fn links_of(
        &self,
        object: &Object,
        file: &File,
        sites: &[AllocatorSite],
        pid: u32,
    ) -> Result<Vec<Link>, libbpf_rs::Error> {
        // The very file, whatever its path names by now.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let pid = i32::try_from(pid).unwrap_or(-1);
        let allocating: Vec<_> =
            sites.iter().filter(|site| site.function.bytes != 0).cloned().collect();
        let mut links = Vec::new();
        // Returns first: a call that is told must be seen to return.
        let steps = match self.hooks {
            HeapHooks::Session => vec![(SESSION, false, sites)],
            _ => vec![(RETURN, true, &allocating[..]), (CALL, false, sites)],
        };
        for (name, is_return, sites) in steps {
            let Some(program) = object.progs_mut().find(|each| each.name() == name) else {
                continue;
            };
            if self.hooks == HeapHooks::Single {
                for site in sites {
                    links.push(single(&program, &path, site, (pid, is_return))?);
                }
            } else {
                let options = UprobeMultiOpts {
                    offsets: sites.iter().filter_map(|it| it.file_offset.try_into().ok()).collect(),
                    cookies: sites.iter().map(|site| site.function.pack()).collect(),
                    retprobe: is_return,
                    session: self.hooks == HeapHooks::Session,
                    ..UprobeMultiOpts::default()
                };
                links.push(program.attach_uprobe_multi_with_opts(pid, &path, "", options)?);
            }
        }
        Ok(links)
    }

    /// What a hit costs here: `free` of nothing in this very process, with the probe less without it.
    fn measure(&self, object: &Object) -> Option<u64> {
        let own = std::process::id();
        let free: unsafe extern "C" fn(*mut libc::c_void) = std::hint::black_box(libc::free);
        let address = free as usize as u64;
        let mut mappings = Mappings::default();
        let areas = mappings.areas(own).values();
        let area =
            areas.into_iter().find(|area| (area.start..area.end).contains(&address))?.clone();
        let file = open(own, &area)?;
        let mut sites = allocator_sites(file.try_clone().ok()?);
        // One that is emulated, as most are.
        sites.retain(|site| {
            ["free", "cfree"].contains(&site.symbol.as_str())
                && site.first == FirstInstruction::Emulated
        });
        let time = || {
            let start = Instant::now();
            for _ in 0..MEASURED_CALLS {
                // SAFETY: giving nothing back does nothing.
                unsafe { free(std::ptr::null_mut()) };
            }
            start.elapsed()
        };
        if sites.is_empty() {
            return None;
        }
        let without = time();
        let links = self.links_of(object, &file, &sites, own).ok()?;
        let with = time();
        drop(links);
        let more = with.saturating_sub(without).as_nanos() / u128::from(MEASURED_CALLS);
        u64::try_from(more).ok()
    }

    /// Calls that were trapped. One that gives back and takes counts twice.
    fn hits(&self, object: &Object) -> u64 {
        self.loss(object, HeapSite::Call).seen + self.loss(object, HeapSite::Free).seen
    }

    fn loss(&self, object: &Object, site: HeapSite) -> Loss {
        loss(object, "HEAP_LEDGER", site as u32)
    }

    pub(super) fn ledger(&self, object: &Object) -> Vec<LedgerRow> {
        let row = |site: &HeapSite| LedgerRow::new(site.tag(), &self.loss(object, *site));
        HeapSite::ALL.iter().map(row).collect()
    }

    /// Takes all probes away.
    pub(super) fn detach(&mut self) {
        self.has_detached = true;
        self.links.clear();
    }

    fn complain(&mut self, complaint: String) {
        if self.complaints.len() < COMPLAINTS_MAX {
            self.complaints.insert(complaint);
        }
    }

    pub(super) fn not_collected(&self) -> Vec<String> {
        let mut missing: Vec<String> = self.complaints.iter().cloned().collect();
        if self.attached.is_empty() || !self.files.values().any(|sites| !sites.is_empty()) {
            missing.push("allocations: no file that the target has mapped defines malloc, or an allocator that hz knows".to_owned());
        }
        for path in &self.within_programs {
            missing.push(format!(
                "calls that were inlined: {path} has its allocator in itself, and what the compiler inlined of that has no probe"
            ));
        }
        missing
    }

    /// What the probes cost.
    pub(super) fn notes(&self, object: &Object) -> Vec<String> {
        let hits = self.hits(object).saturating_sub(self.before);
        let mut note = format!(
            "alloc: a sample every {} in the mean; {} of the allocator were trapped",
            text::bytes(self.mean_bytes),
            text::plural(hits, "call"),
        );
        if let Some(hit_ns) = self.hit_ns {
            note.push_str(&format!(
                ", at {} each as measured here: {} of the target's CPU time",
                text::duration(hit_ns),
                text::duration(hits.saturating_mul(hit_ns)),
            ));
        }
        let mut notes = vec![note];
        if !self.stepped.is_empty() {
            let names: Vec<_> = self.stepped.iter().cloned().collect();
            notes.push(format!(
                "alloc: the kernel single-steps {}, at about 20 times that a call",
                names.join(", ")
            ));
        }
        notes
    }
}

fn single(
    program: &ProgramMut<'_>,
    path: &str,
    site: &AllocatorSite,
    (pid, retprobe): (i32, bool),
) -> Result<Link, libbpf_rs::Error> {
    let options = UprobeOpts { cookie: site.function.pack(), retprobe, ..UprobeOpts::default() };
    let offset = usize::try_from(site.file_offset).unwrap_or(usize::MAX);
    program.attach_uprobe_with_opts(pid, path, offset, options)
}
