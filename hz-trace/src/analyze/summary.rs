//! The summary of a recording: what a reader wants to know first. Every key names its unit.

use super::{
    check::{Check, Counts, check},
    culprit::Culprits,
    distribution::{Distribution, distribution},
    tasks::{POLL_OVER_NS, TaskSummary, summarize_tasks},
    waits::{Wait, culprits_of, waits_of},
};
use crate::{
    model::{Model, State, Thread, ThreadIndex, Waker, Who},
    recording::{BpfCost, LedgerRow, Meta, State as RecordingState},
};
use serde::Serialize;
use std::collections::BTreeMap;

/// How many of the worst are listed.
const WORST: usize = 10;

/// What a reader wants to know first.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// What was recorded.
    pub target: String,
    /// Name of the host.
    pub host: String,
    /// Release of its kernel.
    pub kernel: String,
    /// When recording began, nanoseconds since 1970.
    pub start_realtime_ns: u64,
    /// How long was recorded.
    pub duration_ns: u64,
    /// Why it ended.
    pub ended_because: String,
    /// Whether the recorder ended the file itself.
    pub is_complete: bool,
    /// Threads of the target that were seen.
    pub threads: usize,
    /// Whether switches were recorded: without them all that follows from them is 0 or empty.
    pub has_switches: bool,
    /// Context switches recorded.
    pub switches: u64,
    /// Records of all kinds.
    pub records: u64,
    /// Moves of the target's threads to another CPU.
    pub migrations: u64,
    /// Every CPU.
    pub cpus: Vec<CpuUse>,
    /// Processes of the target by CPU time, the first ten.
    pub processes: Vec<ProcessUse>,
    /// Waits for a CPU, of all threads of the target.
    pub run_queue_wait: Distribution,
    /// Threads by total wait, the first ten.
    pub threads_by_wait: Vec<ThreadWaits>,
    /// The longest waits, the first ten.
    pub worst_waits: Vec<Worst>,
    /// Records that were lost.
    pub lost: u64,
    /// Where they were lost.
    pub lost_by_site: Vec<LostBySite>,
    /// What became of every run of every hook.
    pub ledger: Vec<LedgerRow>,
    /// What each BPF program took while the kernel measured.
    pub bpf: Vec<BpfCost>,
    /// Records that contradict earlier ones.
    pub contradictions: u64,
    /// What hz counted beside what the kernel counted.
    pub check: Check,
    /// What was not collected, and why.
    pub not_collected: Vec<String>,
    /// What there is to know of what was recorded, a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What the tasks of async runtimes did, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<TaskSummary>,
    /// What hz itself took.
    pub own: OwnUse,
}

/// How one CPU was used.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CpuUse {
    /// Its number.
    pub cpu: u16,
    /// Time threads had it, interrupts on their time included.
    pub busy_ns: u64,
    /// Time nobody had it.
    pub idle_ns: u64,
    /// Time that was not recorded: with a filter, while nobody of the target ran or waited there.
    pub not_recorded_ns: u64,
    /// Time in hardware interrupts.
    pub hard_interrupts_ns: u64,
    /// Time in software interrupts.
    pub soft_interrupts_ns: u64,
    /// Time the hypervisor took.
    pub steal_ns: u64,
}

/// How much CPU one process used.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ProcessUse {
    /// Its id.
    pub pid: u32,
    /// Its name: that of its first thread.
    pub name: String,
    /// Threads that ran.
    pub threads: usize,
    /// CPU time of all of them.
    pub running_ns: u64,
}

/// One thread's waits.
#[derive(Clone, Debug, Serialize)]
pub struct ThreadWaits {
    /// Its id.
    pub tid: u32,
    /// Its process.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// Its CPU time.
    pub running_ns: u64,
    /// Moves to another CPU.
    pub migrations: u64,
    /// Its waits.
    pub run_queue_wait: Distribution,
    /// Its counts beside the kernel's, if both counted over the same time.
    pub check: Option<Counts>,
}

/// One of the longest waits.
#[derive(Clone, Debug, Serialize)]
pub struct Worst {
    /// The thread that waited.
    pub tid: u32,
    /// Its process.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// When, since the recording began.
    pub start_ns: u64,
    /// How long.
    pub duration_ns: u64,
    /// For which CPU.
    pub cpu: u16,
    /// `woken` or `preempted`.
    pub after: &'static str,
    /// Who woke it, if it woke: a thread's name and id, or an interrupt.
    pub waker: Option<String>,
    /// Whether it got the CPU before the recording ended.
    pub is_over: bool,
    /// Who had the CPU meanwhile, the longest first.
    pub culprits: Vec<Holder>,
}

/// Who or what had the CPU during a wait. Threads, idle and unrecorded time sum to the wait;
/// interrupts came on top of whoever had the CPU.
#[derive(Clone, Debug, Serialize)]
pub struct Holder {
    /// A thread's name, or `idle`, `not recorded`, `hardware interrupts`, `software interrupts`,
    /// `hypervisor`.
    pub name: String,
    /// Its thread id, if it is a thread.
    pub tid: Option<u32>,
    /// Its process, if it is a thread.
    pub pid: Option<u32>,
    /// For how long.
    pub duration_ns: u64,
}

/// Records lost at one site.
#[derive(Clone, Debug, Serialize)]
pub struct LostBySite {
    /// The site.
    pub site: String,
    /// How many.
    pub lost: u64,
    /// Why: `ring full`, `map full`, `skipped by kernel`, `disk too slow`.
    pub reason: &'static str,
}

/// What hz itself took.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct OwnUse {
    /// CPU time of hz as a share of one CPU.
    pub cpu_pct: f64,
    /// Run time of its BPF programs as a share of one CPU, estimated from a tenth of the time;
    /// `None` where the kernel does not tell (`CAP_SYS_ADMIN`).
    pub bpf_pct: Option<f64>,
    /// Largest resident memory.
    pub memory_peak_bytes: u64,
    /// From start to recording.
    pub startup_ns: u64,
    /// Length of the recording, if it was kept.
    pub file_bytes: u64,
}

/// Summarizes a recording.
#[must_use]
pub fn summarize(meta: &Meta, state: &RecordingState, model: &Model) -> Summary {
    let duration_ns = model.end_ns.saturating_sub(model.start_ns);
    let targets =
        || (0_u32..).map(ThreadIndex).zip(&model.threads).filter(|(_, thread)| thread.is_target);
    let mut tasks = summarize_tasks(model, POLL_OVER_NS);
    tasks.iter_mut().for_each(|tasks| tasks.add_processes(&state.runtimes));
    let waits: Vec<(ThreadIndex, Wait)> = targets()
        .flat_map(|(index, thread)| waits_of(thread).map(move |wait| (index, wait)))
        .collect();
    Summary {
        target: meta.target.to_string(),
        host: meta.host.clone(),
        kernel: meta.kernel.clone(),
        start_realtime_ns: meta.start_realtime_ns,
        duration_ns,
        ended_because: state.ended_because.clone(),
        is_complete: state.is_final,
        threads: targets().filter(|(_, thread)| !thread.spans.is_empty()).count(),
        has_switches: meta.has_switches(),
        switches: model.switches,
        records: model.records,
        migrations: targets().map(|(_, thread)| thread.migrations).sum(),
        cpus: cpu_use(model),
        processes: process_use(model),
        run_queue_wait: distribution(waits.iter().map(|(_, wait)| wait.duration_ns()).collect()),
        threads_by_wait: threads_by_wait(model),
        worst_waits: worst_waits(model, waits),
        lost: state.lost(),
        lost_by_site: lost_by_site(state),
        ledger: state.ledger.clone(),
        bpf: state.bpf.clone(),
        contradictions: model.contradictions,
        check: check(model),
        not_collected: state.not_collected(meta),
        notes: state.notes.clone(),
        tasks,
        own: own_use(state, duration_ns),
    }
}

fn cpu_use(model: &Model) -> Vec<CpuUse> {
    let uses = model.cpus.iter().map(|cpu| {
        let mut total = CpuUse { cpu: cpu.id, ..CpuUse::default() };
        for (run, end_ns) in model.runs_between(cpu.id, model.start_ns, model.end_ns) {
            let duration_ns = end_ns - run.start_ns;
            match run.who {
                Who::Thread(_) => total.busy_ns += duration_ns,
                Who::Idle => total.idle_ns += duration_ns,
                Who::Unknown => total.not_recorded_ns += duration_ns,
            }
        }
        for taken in &cpu.interrupts {
            total.hard_interrupts_ns += taken.hard_ns;
            total.soft_interrupts_ns += taken.soft_ns;
            total.steal_ns += taken.steal_ns;
        }
        total
    });
    uses.collect()
}

fn process_use(model: &Model) -> Vec<ProcessUse> {
    let mut processes: BTreeMap<u32, ProcessUse> = BTreeMap::new();
    for thread in model.threads.iter().filter(|thread| thread.is_target) {
        let running_ns = running_ns(thread);
        let process = processes.entry(thread.pid).or_default();
        process.pid = thread.pid;
        process.threads += usize::from(running_ns > 0);
        process.running_ns += running_ns;
        if process.name.is_empty() || thread.tid == thread.pid {
            process.name = thread.name();
        }
    }
    let mut processes: Vec<ProcessUse> = processes.into_values().collect();
    processes.retain(|process| process.running_ns > 0);
    processes.sort_by_key(|process| std::cmp::Reverse(process.running_ns));
    processes.truncate(WORST);
    processes
}

fn running_ns(thread: &Thread) -> u64 {
    let running = thread.tiles().filter(|tile| tile.span.state == State::Running);
    running.map(|tile| tile.duration_ns()).sum()
}

fn threads_by_wait(model: &Model) -> Vec<ThreadWaits> {
    let targets = model.threads.iter().filter(|thread| thread.is_target);
    let mut rows: Vec<ThreadWaits> = targets
        .map(|thread| ThreadWaits {
            tid: thread.tid,
            pid: thread.pid,
            name: thread.name(),
            running_ns: running_ns(thread),
            migrations: thread.migrations,
            run_queue_wait: distribution(waits_of(thread).map(|wait| wait.duration_ns()).collect()),
            check: Counts::of(thread),
        })
        .filter(|row| row.run_queue_wait.count > 0)
        .collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.run_queue_wait.total_ns));
    rows.truncate(WORST);
    rows
}

fn worst_waits(model: &Model, mut waits: Vec<(ThreadIndex, Wait)>) -> Vec<Worst> {
    waits.sort_unstable_by_key(|(index, wait)| {
        (std::cmp::Reverse(wait.duration_ns()), wait.start_ns, *index)
    });
    waits.truncate(WORST);
    waits.into_iter().map(|(index, wait)| worst(model, index, &wait)).collect()
}

fn worst(model: &Model, index: ThreadIndex, wait: &Wait) -> Worst {
    let thread = model.thread(index);
    Worst {
        tid: thread.tid,
        pid: thread.pid,
        name: thread.name(),
        start_ns: wait.start_ns.saturating_sub(model.start_ns),
        duration_ns: wait.duration_ns(),
        cpu: wait.cpu,
        after: if wait.is_preempted { "preempted" } else { "woken" },
        waker: waker(model, wait.waker),
        is_over: wait.is_over,
        culprits: holders(model, &culprits_of(model, thread, wait)),
    }
}

pub(super) fn holders(model: &Model, culprits: &Culprits) -> Vec<Holder> {
    let threads = culprits.ran.iter().map(|culprit| {
        let thread = model.thread(culprit.thread);
        let (tid, pid) = (Some(thread.tid), Some(thread.pid));
        Holder { name: thread.name(), tid, pid, duration_ns: culprit.ran_ns }
    });
    let others = [
        ("idle", culprits.idle_ns),
        ("not recorded", culprits.unknown_ns),
        ("hardware interrupts", culprits.hard_ns),
        ("software interrupts", culprits.soft_ns),
        ("hypervisor", culprits.steal_ns),
    ];
    let others = others.into_iter().filter(|(_, duration_ns)| *duration_ns > 0).map(
        |(name, duration_ns)| Holder { name: name.to_owned(), tid: None, pid: None, duration_ns },
    );
    let mut holders: Vec<Holder> = threads.chain(others).collect();
    holders.sort_by_key(|holder| std::cmp::Reverse(holder.duration_ns));
    holders
}

fn waker(model: &Model, waker: Waker) -> Option<String> {
    match waker {
        Waker::Unknown => None,
        Waker::Thread(index) => {
            Some(format!("{} ({})", model.thread(index).name(), model.thread(index).tid))
        }
        Waker::HardIrq => Some("a hardware interrupt".to_owned()),
        Waker::SoftIrq => Some("a software interrupt".to_owned()),
    }
}

fn lost_by_site(state: &RecordingState) -> Vec<LostBySite> {
    let row = |site: &str, lost, reason| LostBySite { site: site.to_owned(), lost, reason };
    let in_kernel = state.ledger.iter().flat_map(|each| {
        [
            row(&each.site, each.ring_full, "ring full"),
            row(&each.site, each.read_failed, "map full"),
        ]
    });
    let skipped = state.bpf.iter();
    let skipped =
        skipped.map(|each| row(&each.program, each.skipped_by_kernel, "skipped by kernel"));
    let disk = std::iter::once(row("recorder", state.dropped_by_writer, "disk too slow"));
    in_kernel.chain(skipped).chain(disk).filter(|row| row.lost > 0).collect()
}

fn own_use(state: &RecordingState, duration_ns: u64) -> OwnUse {
    let share = |ns: u64| 100.0 * ns as f64 / duration_ns.max(1) as f64;
    OwnUse {
        cpu_pct: share(state.own.cpu_ns),
        bpf_pct: (state.own.bpf_ns > 0).then(|| share(state.own.bpf_ns)),
        memory_peak_bytes: state.own.memory_peak_bytes,
        startup_ns: state.own.startup_ns,
        file_bytes: 0,
    }
}
