//! What happened in about a second: what `hz-top` shows.
//!
//! Live, the kernel's sums become a [`Window`]; at replay, [`WindowFolder`] folds a recording's events
//! into the same.

mod flame;
mod fold;
mod histogram;
pub(crate) mod network;
mod system;
mod tasks;
mod threads;
mod totals;

pub use flame::{FlameGraph, FlameNode};
pub use fold::WindowFolder;
pub use histogram::Histogram;
pub use network::{
    LimitedBy, Limits, Listener, Network, NetworkFolder, Ports, ProtocolCounts, Qdisc, Reasons,
    Socket, TcpState,
};
pub use system::{NotCollected, Own, PoolRow, ProgramRow, Site};
pub use tasks::{GroupRow, LongPoll, LongReady, RuntimeRow, TaskFolder, TaskRow, WorkerRow};
pub use threads::{Block, CpuRow, Move, ThreadRow, ThreadState, Wait};
pub use totals::{Differ, Totals};

use crate::recording::LedgerRow;
use serde::{Deserialize, Serialize};

/// What happened in about a second.
///
/// Times are nanoseconds, counts are of the window unless they say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Window {
    /// Begin, nanoseconds of `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// End, nanoseconds of `CLOCK_MONOTONIC`.
    pub end_ns: u64,
    /// End, nanoseconds since 1970.
    pub end_realtime_ns: u64,
    /// Where the figures about threads come from: `bpf`, `proc` or `recording`.
    pub origin: String,
    /// CPUs, by number.
    pub cpus: Vec<CpuRow>,
    /// Waits of the target's threads for a CPU that ended here.
    pub waits: Histogram,
    /// Threads that did something here, of the target and, by CPU time, others; none that only slept.
    pub threads: Vec<ThreadRow>,
    /// Threads of the target that there are, those that only slept included.
    pub threads_alive: u64,
    /// Moves of the target's threads between CPUs.
    pub moves: Vec<Move>,
    /// Async runtimes and their workers.
    pub runtimes: Vec<RuntimeRow>,
    /// Tasks by name and place of spawn.
    pub groups: Vec<GroupRow>,
    /// Single tasks.
    pub tasks: Vec<TaskRow>,
    /// Tasks that live, those that are not among `tasks` included.
    pub tasks_alive: u64,
    /// Sockets and what the host counts of its network.
    pub network: Option<Network>,
    /// Places that allocate.
    pub sites: Vec<Site>,
    /// Pools of buffers.
    pub pools: Vec<PoolRow>,
    /// Stacks, while somebody looks at them.
    pub flames: Vec<FlameGraph>,
    /// What became of each run of hz's hooks and of each record.
    pub ledger: Vec<LedgerRow>,
    /// hz's programs in the kernel.
    pub programs: Vec<ProgramRow>,
    /// What hz itself takes.
    pub own: Own,
    /// What is not collected, and why.
    pub not_collected: Vec<NotCollected>,
}

impl Window {
    /// Its length, nanoseconds; never 0.
    #[must_use]
    pub fn length_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns).max(1)
    }

    /// How many a second `count` is.
    #[must_use]
    pub fn per_second(&self, count: u64) -> f64 {
        count as f64 * 1e9 / self.length_ns() as f64
    }

    /// The longest wait for a CPU that ended here, and whose it was.
    #[must_use]
    pub fn worst_wait(&self) -> Option<(&ThreadRow, &Wait)> {
        let waits = self.threads.iter().filter_map(|thread| Some((thread, thread.wait.as_ref()?)));
        waits.max_by_key(|(_, wait)| wait.wait_ns)
    }

    /// The thread with this id.
    #[must_use]
    pub fn thread(&self, tid: u32) -> Option<&ThreadRow> {
        self.threads.iter().find(|thread| thread.tid == tid)
    }

    /// Records and runs that were lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let in_ledger: u64 = self.ledger.iter().map(LedgerRow::lost).sum();
        in_ledger
            + self.programs.iter().map(|program| program.skipped).sum::<u64>()
            + self.own.dropped_windows
    }

    /// Why `what` is not collected, if so.
    #[must_use]
    pub fn why_not(&self, what: &str) -> Option<&str> {
        self.not_collected.iter().find(|each| each.what == what).map(|each| each.why.as_str())
    }

    /// A copy with the `rows` most remarkable of each table: what ten minutes of history hold.
    #[must_use]
    pub fn top(&self, rows: usize) -> Self {
        let mut flames = self.flames.clone();
        flames.iter_mut().for_each(|graph| graph.prune(rows as u64));
        let network = self.network.as_ref().map(|network| Network {
            sockets: top(&network.sockets, rows, Socket::weight),
            listeners: top(&network.listeners, rows, |row| row.queue + row.dropped),
            qdiscs: top(&network.qdiscs, rows, |row| row.packets + row.dropped),
            ..*network
        });
        Self {
            threads: top(&self.threads, rows, ThreadRow::weight_ns),
            tasks: top(&self.tasks, rows, TaskRow::weight_ns),
            groups: top(&self.groups, rows, |group| group.busy_ns + group.ready_ns),
            sites: top(&self.sites, rows, |site| site.bytes),
            network,
            flames,
            origin: self.origin.clone(),
            cpus: self.cpus.clone(),
            waits: self.waits.clone(),
            moves: self.moves.clone(),
            runtimes: self.runtimes.clone(),
            pools: self.pools.clone(),
            ledger: self.ledger.clone(),
            programs: self.programs.clone(),
            own: self.own.clone(),
            not_collected: self.not_collected.clone(),
            ..*self
        }
    }
}

/// Copies of the rows that weigh most, in their order.
fn top<T: Clone>(rows: &[T], count: usize, weight: impl Fn(&T) -> u64) -> Vec<T> {
    if rows.len() <= count {
        return rows.to_vec();
    }
    let mut places: Vec<usize> = (0..rows.len()).collect();
    places.select_nth_unstable_by_key(count, |place| std::cmp::Reverse(weight(&rows[*place])));
    places.truncate(count);
    places.sort_unstable();
    places.into_iter().map(|place| rows[place].clone()).collect()
}

fn keep_top<T>(rows: &mut Vec<T>, count: usize, weight: impl Fn(&T) -> u64) {
    if rows.len() > count {
        rows.select_nth_unstable_by_key(count, |row| std::cmp::Reverse(weight(row)));
        rows.truncate(count);
    }
}
