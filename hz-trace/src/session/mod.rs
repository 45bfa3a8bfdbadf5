//! A recording from start to end: check, load, attach, drain, account. The only place that wires
//! sources to a file.

pub(crate) mod candidates;
mod collect;
mod collector;
mod disk;
mod looks;
mod mapped;
mod net;
mod observer;
mod own;
mod runtimes;
mod sockets;
mod stacks;
pub(crate) mod target;
mod user_probes;

pub use looks::record_looks;
pub use observer::{Observer, Outcome, Progress};
pub use target::TargetSpec;

use crate::{
    error::{StartError, TargetError},
    host::{self, StealClock, clock},
    probe::Selection,
    recording::{BpfCost, LedgerRow, Meta, OwnCost, RuntimeProcess, State, schema},
    source::{Drain, SampleBy, Sched, SchedSettings, Scope, UprobeError, UsdtError},
    symbol::{ResolveError, UprobeSpec, UsdtSpec},
};
use collect::Collect;
use collector::{Collector, STREAM_SNAPSHOT};
use disk::Disk;
use net::NetCollect;
use own::OwnMeter;
use runtimes::Runtimes;
use sockets::SocketsCollect;
use std::{
    cell::RefCell,
    io::{self, Write},
    os::fd::AsFd,
    rc::Rc,
    time::{Duration, Instant},
};
use target::{Attached, Watch};
use user_probes::UserProbes;

/// How long the reader sleeps between two looks at the rings. Nobody wakes it: a wake-up per
/// record would cost more than the record.
const TICK: Duration = Duration::from_millis(10);

/// Looks at the rings per tick, at the most. One look takes up to 65,536 records.
const DRAINS_PER_TICK: usize = 16;

/// How often the ledger is written and hosts' counters are read.
const SECOND: Duration = Duration::from_secs(1);

/// For how much of each second the kernel measures the programs' run time.
const MEASURED: Duration = Duration::from_millis(100);

/// Memory of all rings together by default, in bytes: 0.2 s of `perf bench sched pipe` on one of
/// two CPUs.
pub const DEFAULT_RING_BYTES: usize = 32 << 20;

/// Samples a second on each CPU by default: not 100, which would keep step with what is done 100 times a
/// second.
pub const DEFAULT_SAMPLE_HZ: u32 = 99;

/// How often the queues of sockets are looked at by default.
pub const DEFAULT_QUEUES_EVERY: Duration = Duration::from_millis(100);

/// How often the kernel is asked for sockets, ports and counters by default.
pub const DEFAULT_SOCKETS_EVERY: Duration = Duration::from_secs(1);

/// Bytes of allocations between two samples by default, in the mean.
pub const DEFAULT_ALLOC_MEAN_BYTES: u64 = 512 << 10;

/// The same at the most.
pub const ALLOC_MEAN_MAX: u64 = hz_probes_ebpf::HEAP_MEAN_MAX;

/// What to record, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the recording is about.
    pub target: TargetSpec,
    /// Whether processes that the target starts are recorded too.
    pub follow_children: bool,
    /// The probes to run.
    pub probes: Selection,
    /// Functions in user space to observe.
    pub uprobes: Vec<UprobeSpec>,
    /// Statically defined probes (USDT) to observe.
    pub usdts: Vec<UsdtSpec>,
    /// For `oncpu`: samples a second on each CPU.
    pub sample_hz: u32,
    /// For `oncpu`: what samples are taken by.
    pub sample_by: SampleBy,
    /// For `alloc`: bytes between two samples, in the mean.
    pub alloc_mean_bytes: u64,
    /// For `offcpu`: shorter times off a CPU are left out, which saves records.
    pub off_min: Duration,
    /// For `offcpu`: one of so many is recorded, which bounds what taking stacks costs.
    pub off_one_in: u32,
    /// For `net`: how often the queues of sockets are looked at. With many sockets less often: a look may
    /// take a hundredth of a CPU.
    pub queues_every: Duration,
    /// For `sockets`: how often the kernel is asked. With many sockets less often: to ask may take a
    /// fiftieth of a CPU.
    pub sockets_every: Duration,
    /// Whether stacks are unwound without frame pointers, by what files say of their functions.
    pub has_rows: bool,
    /// When to stop; `None`: when told to, or when the target ends.
    pub duration: Option<Duration>,
    /// Memory of all rings together, in bytes.
    pub ring_bytes: usize,
    /// Whether to show what libbpf and the verifier say.
    pub is_verbose: bool,
    /// Whether to use plain raw tracepoints even where BTF tracepoints work.
    pub prefer_raw: bool,
    /// Whether the kernel measures the programs' run time all the time, not a tenth of it.
    pub always_measure: bool,
}

impl Settings {
    /// The usual settings for a target.
    #[must_use]
    pub fn new(target: TargetSpec) -> Self {
        Self {
            target,
            follow_children: true,
            probes: Selection::usual(),
            uprobes: Vec::new(),
            usdts: Vec::new(),
            sample_hz: DEFAULT_SAMPLE_HZ,
            sample_by: SampleBy::Clock,
            alloc_mean_bytes: DEFAULT_ALLOC_MEAN_BYTES,
            off_min: Duration::ZERO,
            off_one_in: 1,
            queues_every: DEFAULT_QUEUES_EVERY,
            sockets_every: DEFAULT_SOCKETS_EVERY,
            has_rows: true,
            duration: None,
            ring_bytes: DEFAULT_RING_BYTES,
            is_verbose: false,
            prefer_raw: false,
            always_measure: false,
        }
    }
}

/// Why a recording failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// This host cannot.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The target is not there.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A user probe names nothing that is there.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// User probes cannot run here.
    #[error(transparent)]
    Uprobe(#[from] UprobeError),
    /// Statically defined probes cannot run here.
    #[error(transparent)]
    Usdt(#[from] UsdtError),
    /// The file could not be written; what was written before is a sound recording.
    #[error("cannot write the recording")]
    Write(#[source] io::Error),
}

/// Records into `out` until the duration is over, the target has ended or the observer says so.
///
/// # Errors
///
/// [`RecordError`]. Once recording has begun, only writing can fail.
///
/// # Minimum kernel
///
/// 5.14, with BTF.
pub fn record<W: Write + Send + 'static>(
    settings: &Settings,
    out: W,
    observer: &mut dyn Observer,
) -> Result<Outcome, RecordError> {
    let own = OwnMeter::start();
    let attached = settings.target.resolve(settings.follow_children)?;
    let sched = Sched::load(&SchedSettings {
        scope: attached.scope.clone(),
        follow_children: settings.follow_children,
        has_switches: settings.probes.has("sched"),
        ring_bytes: settings.ring_bytes,
        is_verbose: settings.is_verbose,
        prefer_raw: settings.prefer_raw,
    })?;
    let user_probes = UserProbes::attach(settings, &attached.scope)?;
    user_probes.warnings().for_each(|warning| observer.warn(&warning));
    let runtimes =
        settings.probes.has("runtime").then(|| Runtimes::of(&attached, settings.follow_children));
    let chosen = chosen(settings, &attached.scope, &sched)?;
    let probes = Probes { sched, user_probes, runtimes, chosen };
    Session::begin(settings, probes, attached, own, out)?.run(observer)
}

/// Loads those that are chosen by name.
fn chosen(
    settings: &Settings,
    scope: &Scope,
    sched: &Sched,
) -> Result<Vec<Box<dyn Collect>>, StartError> {
    let mut chosen: Vec<Box<dyn Collect>> = Vec::new();
    if settings.probes.has("sockets") {
        chosen.push(Box::new(SocketsCollect::new(scope, settings.sockets_every)));
    }
    if settings.probes.has("net") {
        let processes = sched.processes();
        let processes = processes.as_ref().map(AsFd::as_fd);
        chosen.push(Box::new(NetCollect::load(scope, processes, settings.queues_every)?));
    }
    chosen.extend(stacks::load(settings, scope, sched)?);
    Ok(chosen)
}

/// Every probe of a session.
#[derive(Debug)]
struct Probes {
    sched: Sched,
    user_probes: UserProbes,
    runtimes: Option<Runtimes>,
    /// Those that are chosen by name.
    chosen: Vec<Box<dyn Collect>>,
}

impl Probes {
    /// Their names, with the hook each one got.
    fn names(&self) -> Vec<String> {
        let sched = if self.sched.has_switches() { "sched" } else { "threads" };
        let sched = format!("{sched} ({})", self.sched.hook());
        let user = self.user_probes.running().map(str::to_owned);
        let runtime = self.runtimes.as_ref().filter(|runtimes| runtimes.is_on());
        let chosen = self.chosen.iter().map(|probe| probe.name());
        std::iter::once(sched)
            .chain(user)
            .chain(runtime.map(|_| "runtime".to_owned()))
            .chain(chosen)
            .collect()
    }

    /// Attaches all; the time just before switches are recorded, nanoseconds of `CLOCK_MONOTONIC`.
    fn attach(&mut self) -> Result<u64, StartError> {
        // A chosen one that is attached first has its target's processes from the start.
        for probe in &mut self.chosen {
            probe.attach()?;
        }
        let start_ns = self.sched.attach()?;
        if let Some(runtimes) = &mut self.runtimes {
            runtimes.attach();
        }
        Ok(start_ns)
    }

    /// Tells what there was already.
    fn begin(&mut self, collector: &mut Collector) -> Result<(), StartError> {
        if let Some(runtimes) = &mut self.runtimes {
            runtimes.begin(collector);
        }
        self.chosen.iter_mut().try_for_each(|probe| probe.begin(collector))
    }

    /// Reads all but the rings of `sched`.
    fn drain(&mut self, collector: &mut Collector) {
        self.user_probes.drain(&mut |stream, record| collector.push(stream, record));
        if let Some(runtimes) = &mut self.runtimes {
            runtimes.drain(collector);
        }
        self.chosen.iter_mut().for_each(|probe| probe.drain(collector));
    }

    /// Tells what is still there, when all is detached and drained.
    fn end(&mut self, collector: &mut Collector) {
        if let Some(runtimes) = &mut self.runtimes {
            runtimes.end(collector);
        }
        self.chosen.iter_mut().for_each(|probe| probe.end(collector));
    }

    /// Async runtimes that were found so far.
    fn runtimes_found(&self) -> Vec<RuntimeProcess> {
        self.runtimes.as_ref().map_or_else(Vec::new, |runtimes| runtimes.found().to_vec())
    }

    fn ledger_and_cost(&self) -> (Vec<LedgerRow>, Vec<BpfCost>) {
        let (mut ledger, mut cost) = (self.sched.ledger(), self.sched.cost());
        let (rows, costs) = self.user_probes.ledger_and_cost();
        ledger.extend(rows);
        ledger.extend(self.runtimes.iter().flat_map(Runtimes::ledger));
        ledger.extend(self.chosen.iter().flat_map(|probe| probe.ledger()));
        cost.extend(costs);
        cost.extend(self.chosen.iter().flat_map(|probe| probe.cost()));
        (ledger, cost)
    }

    /// What cannot be had here, as far as is known now.
    fn not_collected(&self) -> Vec<String> {
        let mut missing = missing_tracepoints(&self.sched);
        if !self.sched.has_switches() {
            missing.push("switches, wake-ups and waits for a CPU: not among --probes".to_owned());
        }
        missing.extend(self.runtimes.iter().flat_map(Runtimes::not_collected));
        missing.extend(self.chosen.iter().flat_map(|probe| probe.not_collected()));
        missing
    }

    /// What there is to know of what was recorded.
    fn notes(&self) -> Vec<String> {
        self.chosen.iter().flat_map(|probe| probe.notes()).collect()
    }

    /// Ends recording, nanoseconds of `CLOCK_MONOTONIC`.
    fn detach(&mut self) -> u64 {
        self.user_probes.stop();
        self.sched.detach();
        self.chosen.iter_mut().for_each(|probe| probe.detach());
        let end_ns = clock::monotonic_ns();
        self.user_probes.detach();
        end_ns
    }
}

/// A recording in progress.
struct Session<'a> {
    settings: &'a Settings,
    probes: Probes,
    collector: Rc<RefCell<Collector>>,
    disk: Disk,
    own: OwnMeter,
    watch: Watch,
    steal: StealClock,
    meta: Meta,
    began: Instant,
    last_second: Instant,
}

impl<'a> Session<'a> {
    /// Attaches everything; a command is still held.
    fn begin<W: Write + Send + 'static>(
        settings: &'a Settings,
        mut probes: Probes,
        attached: Attached,
        own: OwnMeter,
        out: W,
    ) -> Result<Self, RecordError> {
        probes.sched.measure(settings.always_measure);
        let start_ns = probes.attach()?;
        let meta = Meta {
            hz_version: env!("CARGO_PKG_VERSION").to_owned(),
            host: host::name(),
            kernel: host::kernel_release(),
            cpus: u32::try_from(host::online_cpus()).unwrap_or(u32::MAX),
            start_ns,
            start_realtime_ns: clock::realtime_ns(),
            target: attached.target,
            probes: probes.names(),
            not_collected: probes.not_collected(),
            runtimes: probes.runtimes_found(),
            uprobes: probes.user_probes.names(),
            usdts: probes.user_probes.usdt_names(),
            schema: schema(),
        };
        let collector = Rc::new(RefCell::new(Collector::default()));
        // The thread that writes inherits it; a command does not, it was forked before.
        own::hurry();
        let disk = Disk::start(out, &meta).map_err(RecordError::Write)?;
        let began = Instant::now();
        let watch = Watch::new(attached.held, attached.watched);
        Ok(Self {
            settings,
            probes,
            collector,
            disk,
            own,
            watch,
            steal: StealClock::default(),
            meta,
            began,
            last_second: began,
        })
    }

    fn run(mut self, observer: &mut dyn Observer) -> Result<Outcome, RecordError> {
        let sink = Rc::clone(&self.collector);
        let newcomers = self.probes.runtimes.as_ref().map(Runtimes::newcomers);
        let drain = self.probes.sched.drain(move |ring, record: &[u8]| {
            if let Some(newcomers) = &newcomers {
                newcomers.notice(record);
            }
            sink.borrow_mut().push(ring, record);
        })?;
        self.snapshot(false)?;
        self.probes.begin(&mut self.collector.borrow_mut())?;
        self.own.mark_started();
        observer.recording(&self.meta);
        self.watch.release()?;
        let because = loop {
            std::thread::sleep(TICK);
            self.drain(&drain, observer)?;
            self.each_second(observer)?;
            if let Some(because) = self.reason_to_stop(observer) {
                break because;
            }
        };
        self.snapshot(true)?;
        let end_ns = self.probes.detach();
        self.drain(&drain, observer)?;
        self.probes.end(&mut self.collector.borrow_mut());
        self.tell_untold();
        self.hand_over(true, observer)?;
        self.finish(&because, end_ns)
    }

    /// Empties the rings, but not for ever: records may come as fast as they are read.
    fn drain(&mut self, drain: &Drain<'_>, observer: &mut dyn Observer) -> Result<(), RecordError> {
        self.probes.drain(&mut self.collector.borrow_mut());
        for _ in 0..DRAINS_PER_TICK {
            let is_empty = !drain.run();
            self.hand_over(false, observer)?;
            if is_empty {
                break;
            }
        }
        Ok(())
    }

    /// What was lost and could not be told for want of room.
    fn tell_untold(&self) {
        let mut collector = self.collector.borrow_mut();
        self.probes.sched.untold(|cpu, since_ns, count| collector.push_lost(cpu, since_ns, count));
    }

    fn snapshot(&self, is_last: bool) -> Result<(), StartError> {
        let mut collector = self.collector.borrow_mut();
        self.probes.sched.snapshot(is_last, |record| collector.push(STREAM_SNAPSHOT, record))
    }

    /// Gives full batches to the disk, or all of them.
    fn hand_over(&mut self, is_last: bool, observer: &mut dyn Observer) -> Result<(), RecordError> {
        let mut collector = self.collector.borrow_mut();
        std::iter::from_fn(|| self.disk.spare()).for_each(|spare| collector.keep(spare));
        for batch in collector.take_ready(is_last) {
            observer.batch(&batch);
            // At the end there is time to wait for the disk.
            if is_last {
                self.disk.write_waiting(batch);
            } else if let Some(refused) = self.disk.write(batch) {
                collector.note_dropped(&refused);
            }
        }
        self.disk.check().map_err(RecordError::Write)
    }

    fn each_second(&mut self, observer: &mut dyn Observer) -> Result<(), RecordError> {
        let into_second = self.last_second.elapsed();
        self.probes.sched.measure(self.settings.always_measure || into_second < MEASURED);
        if into_second < SECOND {
            return Ok(());
        }
        self.last_second = Instant::now();
        self.read_steal();
        let mut collector = self.collector.borrow_mut();
        self.probes.chosen.iter_mut().for_each(|probe| probe.each_second(&mut collector));
        drop(collector);
        let state = self.state(false, "");
        observer.progress(&Progress {
            elapsed: self.began.elapsed(),
            records: state.received,
            lost: state.lost(),
        });
        self.disk.write_state(state);
        self.disk.check().map_err(RecordError::Write)
    }

    fn read_steal(&mut self) {
        let mut collector = self.collector.borrow_mut();
        let now_ns = clock::monotonic_ns();
        let since_ns = now_ns.saturating_sub(SECOND.as_nanos().try_into().unwrap_or(0));
        self.steal.read(|cpu, steal_ns| collector.push_steal(cpu, (since_ns, now_ns), steal_ns));
    }

    fn reason_to_stop(&mut self, observer: &mut dyn Observer) -> Option<String> {
        if observer.wants_stop() {
            return Some("interrupted".to_owned());
        }
        if self.settings.duration.is_some_and(|duration| self.began.elapsed() >= duration) {
            return Some("duration over".to_owned());
        }
        self.watch.ended()
    }

    fn state(&mut self, is_final: bool, because: &str) -> State {
        let (ledger, bpf) = self.probes.ledger_and_cost();
        let bpf_ns = own::bpf_ns(&bpf, self.probes.sched.measured(), self.began.elapsed());
        let own = self.own.read();
        let collector = self.collector.borrow();
        State {
            time_ns: clock::monotonic_ns(),
            is_final,
            ended_because: because.to_owned(),
            received: collector.received(),
            dropped_by_writer: collector.dropped(),
            own: OwnCost { bpf_ns, ..own },
            ledger,
            bpf,
            runtimes: self.probes.runtimes_found(),
            not_collected: self.probes.not_collected(),
            notes: self.probes.notes(),
        }
    }

    fn finish(mut self, because: &str, end_ns: u64) -> Result<Outcome, RecordError> {
        let state = State { time_ns: end_ns, ..self.state(true, because) };
        let file_bytes = self.disk.finish(state.clone()).map_err(RecordError::Write)?;
        let command_status = self.watch.command_status();
        Ok(Outcome { meta: self.meta, state, command_status, file_bytes })
    }
}

fn missing_tracepoints(sched: &Sched) -> Vec<String> {
    let missing = sched.missing().iter();
    missing.map(|name| format!("{name}: this kernel has no such tracepoint")).collect()
}
