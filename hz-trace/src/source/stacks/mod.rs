//! The kernel probes `oncpu` and `offcpu`: stacks, who had them, and what their addresses lie in.

mod elf_file;
mod mappings;
mod perf_ring;
mod rows;
mod setup;
mod tables;
mod tell;

use super::{Scope, bpf, descendants};
use crate::{
    error::StartError,
    host::clock,
    recording::{BpfCost, LedgerRow},
};
use hz_probes_ebpf::{Header, Kind, Loss, OFF_UNFINISHED, OFF_WOKEN, OffCpu, StackSite};
use libbpf_rs::{Link, MapCore as _, MapFlags, MapHandle, Object, RingBuffer, RingBufferBuilder};
use mappings::Mappings;
use perf_event::{Builder, Counter, events::Software};
use perf_ring::PerfRings;
use std::{
    cell::RefCell,
    fmt,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, IntoRawFd as _},
    rc::Rc,
    time::Duration,
};
use tables::Tables;
use tell::Told;
use zerocopy::{FromBytes as _, IntoBytes as _};

pub(super) const NAME: &str = "oncpu, offcpu";

/// How long recording waits for the tables of processes that are there already.
const PATIENCE: Duration = Duration::from_secs(5);

/// Records that one look takes from the rings at the most.
const RECORDS_PER_DRAIN: usize = 65_536;

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
    /// Times off a CPU that are shorter are left out. That saves records: the stack was taken already.
    pub off_min: Duration,
    /// One of so many times off a CPU is recorded. That bounds what taking stacks costs.
    pub off_one_in: u32,
    /// Whether functions without frame pointers are left by what their file says of them.
    pub has_rows: bool,
    /// Memory of all rings together, in bytes.
    pub ring_bytes: usize,
}

/// The loaded probes. Dropping them detaches everything.
pub struct Stacks {
    settings: StackSettings,
    links: Vec<Link>,
    /// Read through a shared reference, which reading needs alone.
    counters: RefCell<Vec<Counter>>,
    rings: RingBuffer<'static>,
    inbox: Rc<RefCell<Inbox>>,
    perf: Option<PerfRings>,
    mappings: Mappings,
    tables: Option<Tables>,
    told: Told,
    missing: Vec<String>,
    // Behind the rings, whose maps it has.
    object: Object,
}

/// Records that were taken from the rings, one behind the other.
#[derive(Default)]
struct Inbox {
    bytes: Vec<u8>,
    ends: Vec<usize>,
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
        let (object, maps) = setup::load(&settings, processes)?;
        let inbox = Rc::new(RefCell::new(Inbox::default()));
        let rings = reader(&maps, &inbox)?;
        let tables = match (map(&object, "PLACES"), map(&object, "ROWS")) {
            (Some(places), Some(rows)) if settings.has_rows => Some(Tables::start(places, rows)),
            _ => None,
        };
        let functions = if settings.has_offcpu { setup::events_functions() } else { None };
        let told = Told::new(functions.map_or_else(Vec::new, |functions| functions.to_vec()));
        let (links, counters) = (Vec::new(), RefCell::default());
        let (mappings, missing) = (Mappings::default(), Vec::new());
        let perf = None;
        Ok(Self {
            settings,
            links,
            counters,
            rings,
            inbox,
            perf,
            mappings,
            tables,
            told,
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
        for program in self.object.progs_mut().filter(|program| program.autoload()) {
            if program.name() != setup::SAMPLE {
                self.links.push(program.attach().map_err(refused)?);
                continue;
            }
            for cpu in &cpus {
                let counter = sampler(*cpu, self.settings.sample_hz).map_err(no_counter)?;
                // SAFETY: the counter keeps its descriptor open for the length of the call.
                let fd = unsafe { BorrowedFd::borrow_raw(counter.as_raw_fd()) };
                // The link closes what it is given.
                let own = fd.try_clone_to_owned().map_err(no_counter)?.into_raw_fd();
                self.links.push(program.attach_perf_event(own).map_err(refused)?);
                self.counters.get_mut().push(counter);
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
        let bound = RECORDS_PER_DRAIN;
        loop {
            let count = self.rings.consume_raw_n(bound);
            self.learn(tell);
            self.deliver(tell);
            if usize::try_from(count).is_ok_and(|count| count < bound) || count < 0 {
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

    fn deliver(&mut self, tell: &mut dyn FnMut(&[u8])) {
        let inbox = self.inbox.take();
        let mut from = 0;
        for end in inbox.ends {
            let record = &inbox.bytes[from..end];
            from = end;
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
    }

    /// Tells of threads that are off their CPU still.
    pub fn end(&mut self, tell: &mut dyn FnMut(&[u8])) {
        self.drain(tell);
        let Some(off) = map(&self.object, "OFF").filter(|_| self.settings.has_offcpu) else {
            return;
        };
        let now_ns = clock::monotonic_ns();
        for key in off.keys() {
            let value = off.lookup(&key, MapFlags::ANY).ok().flatten().unwrap_or_default();
            let Ok((kept, _)) = OffCpu::read_from_prefix(&value) else { continue };
            let off_ns = now_ns.saturating_sub(kept.header.time_ns);
            if kept.header.time_ns == 0 || u128::from(off_ns) < self.settings.off_min.as_nanos() {
                continue;
            }
            let is_awake = kept.header.arg & OFF_WOKEN != 0;
            let runq_ns = if is_awake { now_ns.saturating_sub(kept.runq_ns) } else { 0 };
            let arg = kept.header.arg | OFF_UNFINISHED;
            let header = Header { time_ns: now_ns, arg, ..kept.header };
            tell(OffCpu { header, off_ns, runq_ns, ..kept }.as_bytes());
        }
    }

    /// Probes that run, with their hooks.
    #[must_use]
    pub fn running(&self) -> String {
        let hz = self.settings.sample_hz;
        let oncpu = self.settings.has_oncpu.then(|| format!("oncpu (cpu-clock, {hz} Hz)"));
        let offcpu = self.settings.has_offcpu.then(|| "offcpu (tp_btf)".to_owned());
        oncpu.into_iter().chain(offcpu).collect::<Vec<_>>().join(", ")
    }

    /// What cannot be had here, a phrase each.
    #[must_use]
    pub fn not_collected(&self) -> Vec<String> {
        let complaints = self.tables.as_ref().map(Tables::complaints).unwrap_or_default();
        self.missing.iter().cloned().chain(complaints).collect()
    }

    /// The ledger, all CPUs together.
    #[must_use]
    pub fn ledger(&self) -> Vec<LedgerRow> {
        let Settings { has_oncpu, has_offcpu, .. } = &self.settings;
        let is_on = |site: &StackSite| match site {
            StackSite::Sample => *has_oncpu,
            StackSite::Stack => true,
            _ => *has_offcpu,
        };
        let sites = StackSite::ALL.iter().filter(|site| is_on(site));
        sites.map(|site| LedgerRow::new(site.tag(), &self.loss(*site))).collect()
    }

    fn loss(&self, site: StackSite) -> Loss {
        let mut sum = Loss::default();
        let Some(ledger) = map(&self.object, "LEDGER") else { return sum };
        let key = (site as u32).to_ne_bytes();
        let per_cpu = ledger.lookup_percpu(&key, MapFlags::ANY).ok().flatten().unwrap_or_default();
        for cpu in per_cpu {
            if let Ok((loss, _)) = Loss::read_from_prefix(&cpu) {
                sum.add(&loss);
            }
        }
        sum
    }

    /// What each program took.
    #[must_use]
    pub fn cost(&self) -> Vec<BpfCost> {
        let skipped = self.skipped_samples();
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

    /// Samples that were due and that no program saw. A period that has just begun counts as none, so
    /// that one for each CPU may pass unnoticed.
    fn skipped_samples(&self) -> u64 {
        let period = period_ns(self.settings.sample_hz);
        let mut counters = self.counters.borrow_mut();
        let due = counters.iter_mut().filter_map(|counter| counter.read().ok());
        let due: u64 = due.map(|counted| counted / period).sum();
        let cpus = counters.len() as u64;
        due.saturating_sub(self.loss(StackSite::Sample).seen + cpus)
    }
}

use StackSettings as Settings;

/// A map of the object, by name.
fn map(object: &Object, name: &str) -> Option<MapHandle> {
    let map = object.maps().find(|map| map.name() == name)?;
    MapHandle::try_from(&map).ok()
}

/// A reader of all rings, which puts records into `inbox`.
fn reader(
    maps: &[MapHandle],
    inbox: &Rc<RefCell<Inbox>>,
) -> Result<RingBuffer<'static>, StartError> {
    let mut builder = RingBufferBuilder::new();
    for ring in maps {
        let inbox = Rc::clone(inbox);
        let take = move |record: &[u8]| {
            let mut inbox = inbox.borrow_mut();
            inbox.bytes.extend_from_slice(record);
            let end = inbox.bytes.len();
            inbox.ends.push(end);
            0
        };
        builder.add(ring, take).map_err(refused)?;
    }
    builder.build().map_err(refused)
}

const fn period_ns(hz: u32) -> u64 {
    let hz = if hz == 0 { 1 } else { hz };
    1_000_000_000 / hz as u64
}

/// A clock of one CPU that is due so many times a second, whoever runs there.
fn sampler(cpu: usize, hz: u32) -> std::io::Result<Counter> {
    let mut builder = Builder::new().kind(Software::CPU_CLOCK).any_pid().one_cpu(cpu);
    builder.exclude_kernel(false).exclude_hv(false);
    builder.sample_period(period_ns(hz));
    builder.build()
}

/// CPUs that are on, by number.
fn online_cpus() -> Vec<usize> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    parse_cpus(text.trim())
}

/// A list such as `0-2,5`; only CPU 0 if it cannot be read.
fn parse_cpus(text: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?.min(8191))
    };
    let cpus: Vec<usize> = text.split(',').filter_map(range).flatten().collect();
    if cpus.is_empty() { vec![0] } else { cpus }
}

fn no_counter(source: std::io::Error) -> StartError {
    StartError::NoCounter { probe: NAME, source }
}

pub(super) fn refused(source: libbpf_rs::Error) -> StartError {
    if source.kind() == libbpf_rs::ErrorKind::PermissionDenied && !crate::host::may_trace() {
        return StartError::NotPermitted { probe: NAME };
    }
    StartError::Refused { probe: NAME, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_read() {
        assert_eq!(parse_cpus("0-2,5"), [0, 1, 2, 5]);
        assert_eq!(parse_cpus("3"), [3]);
        assert_eq!(parse_cpus(""), [0]);
        assert_eq!(parse_cpus("x-,9"), [9]);
    }
}
