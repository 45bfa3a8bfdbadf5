//! What happens now, as a [`Window`] a second: what `hz-top` shows.
//!
//! Like a session, this is where sources are wired: the kernel's sums, the rings of async runtimes,
//! `/proc` and netlink. What cannot be had is in [`Window::not_collected`], with the reason.

mod call;
mod network;
mod own;
mod proc_threads;
mod runtimes;
mod stacks;
mod wants;

use crate::{
    error::{StartError, TargetError},
    host::{self, StealClock, clock},
    model::window::{Differ, NotCollected, ProgramRow, Totals, Window},
    recording::{BpfCost, LedgerRow, Target},
    session::{TargetSpec, target::Attached},
    source::{Aggregates, Scope, descendants},
};
use network::LiveNetwork;
use own::OwnMeter;
use proc_threads::ProcThreads;
use runtimes::LiveRuntimes;
use stacks::LiveStacks;
use std::{
    os::fd::AsFd as _,
    time::{Duration, Instant},
};
pub use wants::{Wants, Wishes};

/// How often rings of runtimes are emptied: they hold what 0.1 s of 600,000 events a second and
/// thread are.
const TICK: Duration = Duration::from_millis(50);

/// For how much of each window the kernel measures the programs' run time.
const MEASURED: Duration = Duration::from_millis(50);

/// What to watch.
#[derive(Clone, Debug)]
pub struct WatchSettings {
    /// What it is about.
    pub target: TargetSpec,
    /// Whether processes that the target starts are watched too.
    pub follow_children: bool,
    /// Whether programs are loaded into the kernel; without, `/proc` is read.
    pub may_use_bpf: bool,
}

/// Where figures about threads come from.
#[derive(Debug)]
enum Threads {
    Kernel(Box<Aggregates>),
    Proc(ProcThreads),
}

/// Watches a host. Dropping it detaches everything; so does the end of the process, however it ends.
#[derive(Debug)]
pub struct Watch {
    target: Target,
    threads: Threads,
    differ: Differ,
    runtimes: LiveRuntimes,
    network: LiveNetwork,
    stacks: LiveStacks,
    /// Switches a second in the last window.
    switches: f64,
    wishes: Wishes,
    wants: Wants,
    steal: StealClock,
    own: OwnMeter,
    not_collected: Vec<NotCollected>,
    ledger_before: Vec<LedgerRow>,
    cost_before: Vec<BpfCost>,
    measured_before: Duration,
    began: Instant,
}

impl Watch {
    /// Attaches to the target.
    ///
    /// # Errors
    ///
    /// [`TargetError`] if the target is not there. A host that cannot trace is none.
    pub fn start(settings: &WatchSettings) -> Result<Self, TargetError> {
        let Attached { target, scope, .. } = settings.target.resolve(settings.follow_children)?;
        let scope = with_children(scope, settings.follow_children);
        let mut not_collected = Vec::new();
        let start_ns = clock::monotonic_ns();
        let threads = match kernel_threads(settings, &scope) {
            Ok(aggregates) => {
                for missing in aggregates.missing() {
                    let why = format!("this kernel has no tracepoint {missing}");
                    not_collected.push(NotCollected::new(missing, why));
                }
                Threads::Kernel(Box::new(aggregates))
            }
            Err(why) => {
                for what in ["waits for a CPU by length", "culprits", "sleeps by system call"] {
                    not_collected.push(NotCollected::new(what, why.clone()));
                }
                Threads::Proc(ProcThreads::new(
                    target.clone(),
                    scope.clone(),
                    settings.follow_children,
                ))
            }
        };
        let runtimes = LiveRuntimes::new(&target, &scope, settings.follow_children, start_ns);
        let mut watch = Self {
            target,
            threads,
            differ: Differ::new(start_ns),
            runtimes,
            network: LiveNetwork::new(&scope),
            stacks: LiveStacks::new(&scope, settings.follow_children),
            switches: 0.0,
            wishes: Wishes::default(),
            wants: Wants::default(),
            steal: StealClock::default(),
            own: OwnMeter::start(),
            not_collected,
            ledger_before: Vec::new(),
            cost_before: Vec::new(),
            measured_before: Duration::ZERO,
            began: Instant::now(),
        };
        watch.steal.read(|_, _| {});
        watch.runtimes.tick();
        Ok(watch)
    }

    /// What is watched.
    #[must_use]
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// What this watch is asked for beside what it always tells; may be changed from anywhere.
    #[must_use]
    pub fn wishes(&self) -> Wishes {
        self.wishes.clone()
    }

    /// Attaches and detaches what somebody looks at now or does no more.
    fn follow_wishes(&mut self) {
        let wants = self.wishes.get();
        if wants == self.wants {
            return;
        }
        self.wants = wants;
        let Threads::Kernel(aggregates) = &self.threads else {
            let why = self.not_collected.first().map_or("", |missing| &missing.why);
            if wants.has_reasons {
                self.network.cannot_attach(why);
            }
            if wants.has_oncpu || wants.has_offcpu {
                self.stacks.refuse(why);
            }
            return;
        };
        let processes = aggregates.processes();
        let processes = processes.as_ref().map(|map| map.as_fd());
        match (wants.has_reasons, self.network.is_attached()) {
            (true, false) => self.network.attach(processes),
            (false, true) => self.network.detach(),
            _ => {}
        }
        self.stacks.follow(wants, processes, self.switches);
        self.runtimes.keep_polls(self.stacks.is_running());
    }

    /// Gathers for `length` and gives what happened meanwhile. `is_over` is asked every 50 ms and may
    /// end it early.
    pub fn next(&mut self, length: Duration, mut is_over: impl FnMut() -> bool) -> Window {
        while let Some(rest) =
            length.checked_sub(self.began.elapsed()).filter(|rest| !rest.is_zero())
        {
            if is_over() {
                break;
            }
            if let Threads::Kernel(aggregates) = &mut self.threads {
                aggregates.measure(self.began.elapsed() < MEASURED);
            }
            self.follow_wishes();
            std::thread::sleep(rest.min(TICK));
            self.runtimes.tick();
            self.network.tick();
            self.stacks.tick();
        }
        self.began = Instant::now();
        self.gather()
    }

    fn gather(&mut self) -> Window {
        let began = Instant::now();
        let totals = self.totals();
        let mut window = self.differ.window(&totals, &mut call::describe);
        drop(totals);
        window.end_realtime_ns = clock::realtime_ns();
        self.origin().clone_into(&mut window.origin);
        self.steal.read(|cpu, steal_ns| {
            if let Some(row) = window.cpus.get_mut(usize::from(cpu)) {
                row.steal_ns = steal_ns;
            }
        });
        window.not_collected.clone_from(&self.not_collected);
        self.runtimes.close(&mut window);
        self.network.close(&mut window, self.wants.has_reasons);
        let runtimes = &self.runtimes;
        self.stacks.close(&mut window, &|tid, time_ns| runtimes.polled(tid, time_ns));
        self.runtimes.forget_polls();
        let switches = window.cpus.iter().map(|cpu| cpu.switches).sum();
        self.switches = window.per_second(switches);
        self.renew_stacks(&window);
        self.add_ledger(&mut window);
        self.own.add(&mut window, began.elapsed());
        window
    }

    fn renew_stacks(&mut self, window: &Window) {
        if let Threads::Kernel(aggregates) = &self.threads {
            let processes = aggregates.processes();
            let processes = processes.as_ref().map(|map| map.as_fd());
            self.stacks.renew(processes, Duration::from_nanos(window.length_ns()));
        }
    }

    fn totals(&mut self) -> Totals {
        match &mut self.threads {
            Threads::Kernel(aggregates) => aggregates.read(),
            Threads::Proc(threads) => threads.read(),
        }
    }

    const fn origin(&self) -> &'static str {
        match self.threads {
            Threads::Kernel(_) => "bpf",
            Threads::Proc(_) => "proc",
        }
    }

    /// What became of hooks and records in the window, and what the programs took.
    fn add_ledger(&mut self, window: &mut Window) {
        let mut rows = self.runtimes.ledger();
        let Threads::Kernel(aggregates) = &mut self.threads else {
            window.ledger = since(&rows, &self.ledger_before);
            self.ledger_before = rows;
            return;
        };
        aggregates.measure(false);
        rows.extend(aggregates.ledger());
        rows.extend(self.network.ledger());
        rows.extend(self.stacks.ledger());
        let mut costs = aggregates.cost();
        costs.extend(self.network.cost());
        costs.extend(self.stacks.cost());
        window.ledger = since(&rows, &self.ledger_before);
        let measured = aggregates.measured();
        let measured_ns = (measured - self.measured_before).as_nanos().max(1);
        let mut bpf_ns = 0;
        for cost in &costs {
            let before = self.cost_before.iter().find(|before| before.program == cost.program);
            let earlier = |of: fn(&BpfCost) -> u64| before.map_or(0, of);
            let row = ProgramRow {
                program: cost.program.clone(),
                measured_runs: cost
                    .measured_runs
                    .saturating_sub(earlier(|cost| cost.measured_runs)),
                measured_ns: cost.measured_ns.saturating_sub(earlier(|cost| cost.measured_ns)),
                skipped: cost
                    .skipped_by_kernel
                    .saturating_sub(earlier(|cost| cost.skipped_by_kernel)),
            };
            bpf_ns += u128::from(row.measured_ns) * u128::from(window.length_ns()) / measured_ns;
            window.programs.push(row);
        }
        window.own.bpf_ns = u64::try_from(bpf_ns).unwrap_or(u64::MAX);
        (self.ledger_before, self.cost_before, self.measured_before) = (rows, costs, measured);
    }
}

/// What rows have more than earlier ones of the same site.
fn since(rows: &[LedgerRow], before: &[LedgerRow]) -> Vec<LedgerRow> {
    let rows = rows.iter().map(|row| {
        let mut row = row.clone();
        if let Some(before) = before.iter().find(|before| before.site == row.site) {
            row.seen = row.seen.saturating_sub(before.seen);
            row.submitted = row.submitted.saturating_sub(before.submitted);
            row.filtered = row.filtered.saturating_sub(before.filtered);
            row.ring_full = row.ring_full.saturating_sub(before.ring_full);
            row.read_failed = row.read_failed.saturating_sub(before.read_failed);
        }
        row
    });
    rows.collect()
}

fn with_children(scope: Scope, follow_children: bool) -> Scope {
    match scope {
        Scope::Processes(pids) if follow_children => {
            let children = descendants(&pids).unwrap_or_default();
            Scope::Processes(pids.into_iter().chain(children).collect())
        }
        scope => scope,
    }
}

fn kernel_threads(settings: &WatchSettings, scope: &Scope) -> Result<Aggregates, String> {
    if !settings.may_use_bpf {
        return Err("programs in the kernel were not wanted (--no-bpf)".to_owned());
    }
    if !host::may_trace() {
        return Err("needs root, or CAP_BPF and CAP_PERFMON".to_owned());
    }
    let started = Aggregates::load(scope, settings.follow_children).and_then(|mut aggregates| {
        aggregates.attach()?;
        Ok(aggregates)
    });
    started.map_err(|error: StartError| error.to_string())
}
