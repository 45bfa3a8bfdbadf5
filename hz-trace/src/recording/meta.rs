//! What a recording says about itself, beside its records.

use super::RecordSchema;
use hz_probes_ebpf::Loss;
use serde::{Deserialize, Serialize};

/// What was recorded, where and how: the first chunk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Meta {
    /// Version of hz that recorded.
    pub hz_version: String,
    /// Name of the host.
    pub host: String,
    /// Release of its kernel.
    pub kernel: String,
    /// CPUs online when the recording began.
    pub cpus: u32,
    /// Start, nanoseconds of `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// The same moment in nanoseconds since 1970 (`CLOCK_REALTIME`).
    pub start_realtime_ns: u64,
    /// What the recording is about.
    pub target: Target,
    /// Probes that ran, with the kind of hook each one got.
    pub probes: Vec<String>,
    /// What was asked for or is usual and cannot be had on this host, with the reason.
    pub not_collected: Vec<String>,
    /// Async runtimes that were found when the recording began; [`State::runtimes`] has all.
    pub runtimes: Vec<RuntimeProcess>,
    /// Functions that user probes were put on, by the number their records carry.
    pub uprobes: Vec<String>,
    /// Statically defined probes (USDT), by the number their records carry.
    pub usdts: Vec<UsdtName>,
    /// Layout of every record kind the recorder knew.
    pub schema: Vec<RecordSchema>,
}

/// A process whose async tasks were recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuntimeProcess {
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Worker threads of its runtime.
    pub workers: u32,
    /// Kinds of records that its runtime does not tell.
    pub not_told: Vec<String>,
    /// By how much its clock may differ from the kernel's, as it said last, in nanoseconds.
    pub clock_error_ns: Option<u64>,
}

/// A statically defined probe that was recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UsdtName {
    /// The file it is in.
    pub binary: String,
    /// Who defines it.
    pub provider: String,
    /// Its name.
    pub name: String,
    /// Its arguments, `SIZE@OPERAND` each; signed ones have a negative size.
    pub arguments: String,
}

impl Meta {
    /// Whether switches were recorded, or lives of threads only.
    #[must_use]
    pub fn has_switches(&self) -> bool {
        self.probes.is_empty() || self.probes.iter().any(|probe| probe.starts_with("sched"))
    }

    /// Names of all user probes, by [`Call::probe`](crate::model::Call::probe).
    #[must_use]
    pub fn probe_names(&self) -> Vec<String> {
        let usdts = self.usdts.iter().map(|usdt| format!("{}:{}", usdt.provider, usdt.name));
        self.uprobes.iter().cloned().chain(usdts).collect()
    }
}

/// What a recording is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Every thread.
    #[default]
    WholeSystem,
    /// Processes, and their children if those were followed.
    Processes {
        /// Process ids in the initial pid namespace.
        pids: Vec<u32>,
        /// Whether processes that they started are included.
        with_children: bool,
    },
    /// A command that hz started, and its children if those were followed.
    Command {
        /// The command and its arguments.
        command: Vec<String>,
        /// Its process id.
        pid: u32,
        /// Whether processes that it started are included.
        with_children: bool,
    },
    /// A control group and all below it.
    Cgroup {
        /// Its directory.
        path: String,
        /// Its id: the inode of the directory.
        id: u64,
    },
}

impl Target {
    /// Whether only a part of the system was recorded.
    #[must_use]
    pub const fn is_filtered(&self) -> bool {
        !matches!(self, Self::WholeSystem)
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::WholeSystem => f.write_str("whole system"),
            Self::Processes { pids, with_children } => {
                let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
                let children = if *with_children { " and children" } else { "" };
                write!(f, "pid {}{children}", pids.join(", "))
            }
            Self::Command { command, pid, .. } => write!(f, "{} (pid {pid})", command.join(" ")),
            Self::Cgroup { path, .. } => write!(f, "cgroup {path}"),
        }
    }
}

/// The ledger and the cost at some moment: one chunk a second, and one at the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// When this was, nanoseconds of `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// Whether the recording was ended properly here.
    pub is_final: bool,
    /// Why it ended.
    pub ended_because: String,
    /// What became of every run of every hook.
    pub ledger: Vec<LedgerRow>,
    /// Records that came out of the rings.
    pub received: u64,
    /// Records that came out of the rings and were not written because the disk was slower than
    /// they came.
    pub dropped_by_writer: u64,
    /// What the BPF programs took.
    pub bpf: Vec<BpfCost>,
    /// What hz itself took.
    pub own: OwnCost,
    /// Async runtimes that were found so far.
    pub runtimes: Vec<RuntimeProcess>,
    /// What could not be collected so far, with the reason: what [`Meta::not_collected`] says, and
    /// more.
    pub not_collected: Vec<String>,
    /// What there is to know of what was recorded, a sentence each: what probes on functions cost, for
    /// instance.
    pub notes: Vec<String>,
}

impl State {
    /// What could not be collected, as the recording's beginning and this state say.
    #[must_use]
    pub fn not_collected(&self, meta: &Meta) -> Vec<String> {
        let new = self.not_collected.iter().filter(|reason| !meta.not_collected.contains(reason));
        meta.not_collected.iter().chain(new).cloned().collect()
    }

    /// Records that were lost, wherever.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let in_kernel: u64 = self.ledger.iter().map(LedgerRow::lost).sum();
        let skipped: u64 = self.bpf.iter().map(|program| program.skipped_by_kernel).sum();
        in_kernel + skipped + self.dropped_by_writer
    }
}

/// One site's counters, all CPUs together: [`Loss`] as it is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LedgerRow {
    /// The site, [`hz_probes_ebpf::Site::tag`] or a user probe's.
    pub site: String,
    /// [`Loss::seen`].
    pub seen: u64,
    /// [`Loss::submitted`].
    pub submitted: u64,
    /// [`Loss::filtered`].
    pub filtered: u64,
    /// [`Loss::ring_full`].
    pub ring_full: u64,
    /// [`Loss::read_failed`].
    pub read_failed: u64,
}

impl LedgerRow {
    /// A row of `site`.
    #[must_use]
    pub fn new(site: &str, loss: &Loss) -> Self {
        Self {
            site: site.to_owned(),
            seen: loss.seen,
            submitted: loss.submitted,
            filtered: loss.filtered,
            ring_full: loss.ring_full,
            read_failed: loss.read_failed,
        }
    }

    /// Adds the counters of another row of the same site.
    pub fn add(&mut self, other: &Self) {
        self.seen = self.seen.saturating_add(other.seen);
        self.submitted = self.submitted.saturating_add(other.submitted);
        self.filtered = self.filtered.saturating_add(other.filtered);
        self.ring_full = self.ring_full.saturating_add(other.ring_full);
        self.read_failed = self.read_failed.saturating_add(other.read_failed);
    }

    /// Records that should have been written and were not.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.ring_full.saturating_add(self.read_failed)
    }
}

/// What one BPF program took, as the kernel counts it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BpfCost {
    /// The program.
    pub program: String,
    /// Times it ran while the kernel measured; hz lets it measure a part of the time only, since
    /// measuring costs too.
    pub measured_runs: u64,
    /// Nanoseconds these runs took together.
    pub measured_ns: u64,
    /// Runs that the kernel left out because the program was running on that CPU already.
    pub skipped_by_kernel: u64,
}

/// What hz itself took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OwnCost {
    /// CPU time of all its threads since the recording began, nanoseconds.
    pub cpu_ns: u64,
    /// Its largest resident memory so far, bytes.
    pub memory_peak_bytes: u64,
    /// Estimated CPU time of its BPF programs, nanoseconds: mean measured run × runs.
    pub bpf_ns: u64,
    /// From the start of the command to the first record, nanoseconds.
    pub startup_ns: u64,
}
