//! Threads and CPUs as `/proc` has them: for those who may not trace.

use crate::{
    host::clock, model::window::Totals, recording::Target, session::candidates::Candidates,
    source::Scope,
};
use hz_probes_ebpf::{
    Comm, Loss,
    aggregate::{
        AGGREGATE_PREEMPTED, AGGREGATE_RUNNING, AGGREGATE_SLEEPING, AGGREGATE_STATES,
        AGGREGATE_STOPPED, AGGREGATE_TARGET, AGGREGATE_UNINTERRUPTIBLE, AGGREGATE_UNKNOWN,
        AGGREGATE_WOKEN, BUCKETS, CpuTotals, PLACES, TURNS, ThreadTotals, Turn, WorstBlock,
        WorstWait,
    },
};
use procfs::{CurrentSI as _, KernelStats};
use rustc_hash::FxHashMap;
use std::fs;

/// Threads that are read; more would take too long each second.
const THREADS_MAX: usize = 20_000;

/// Reads `/proc`, for the processes of a target.
#[derive(Debug)]
pub(super) struct ProcThreads {
    candidates: Candidates,
    place_cpus: u32,
}

impl ProcThreads {
    pub(super) fn new(target: Target, scope: Scope, follow_children: bool) -> Self {
        let cpus = u32::try_from(crate::host::possible_cpus()).unwrap_or(u32::MAX);
        Self {
            candidates: Candidates::new(target, scope, follow_children),
            place_cpus: cpus.div_ceil(PLACES as u32).max(1),
        }
    }

    /// The sums until now, as far as `/proc` has them: it says nothing of what goes on.
    pub(super) fn read(&self) -> Totals {
        let now_ns = clock::monotonic_ns();
        let mut threads = FxHashMap::default();
        for pid in self.candidates.pids() {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
            let tids = tasks.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
            for tid in tids {
                if threads.len() < THREADS_MAX
                    && let Some(thread) = read_thread(pid, tid, now_ns)
                {
                    threads.insert(tid, thread);
                }
            }
        }
        Totals {
            now_ns,
            epoch: 0,
            place_cpus: self.place_cpus,
            cpus: read_cpus(now_ns),
            threads,
            moves: Vec::new(),
        }
    }
}

fn read_cpus(now_ns: u64) -> Vec<CpuTotals> {
    let Ok(stats) = KernelStats::current() else { return Vec::new() };
    let ns_per_tick = 1_000_000_000 / procfs::ticks_per_second().max(1);
    let cpus = stats.cpu_time.iter().map(|cpu| {
        let busy =
            cpu.user + cpu.nice + cpu.system + cpu.irq.unwrap_or(0) + cpu.softirq.unwrap_or(0);
        CpuTotals {
            since_ns: now_ns,
            idle_ns: (cpu.idle + cpu.iowait.unwrap_or(0)) * ns_per_tick,
            busy_ns: busy * ns_per_tick,
            unknown_ns: 0,
            switches: 0,
            waits: [0; BUCKETS],
            ledger: [Loss::default(); 5],
            turns: [Turn::default(); TURNS],
            turn: 0,
            tid: 0,
            pid: 0,
        }
    });
    cpus.collect()
}

/// What three small files say of a thread.
fn read_thread(pid: u32, tid: u32, now_ns: u64) -> Option<ThreadTotals> {
    let directory = format!("/proc/{pid}/task/{tid}");
    let stat = fs::read_to_string(format!("{directory}/stat")).ok()?;
    let (comm, letter, cpu) = parse_stat(&stat)?;
    let schedstat = fs::read_to_string(format!("{directory}/schedstat")).unwrap_or_default();
    let mut figures = schedstat.split_whitespace().map(|figure| figure.parse().unwrap_or(0));
    let mut state_ns = [0; AGGREGATE_STATES];
    state_ns[AGGREGATE_RUNNING as usize] = figures.next().unwrap_or(0);
    state_ns[AGGREGATE_WOKEN as usize] = figures.next().unwrap_or(0);
    let status = fs::read_to_string(format!("{directory}/status")).unwrap_or_default();
    let count = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    };
    Some(ThreadTotals {
        since_ns: now_ns,
        state_ns,
        place_ns: [0; PLACES],
        yields: count("voluntary_ctxt_switches:"),
        preemptions: count("nonvoluntary_ctxt_switches:"),
        migrations: 0,
        waits: [WorstWait::default(); 2],
        blocks: [WorstBlock::default(); 2],
        pid,
        state: match letter {
            'R' => AGGREGATE_PREEMPTED,
            'S' | 'I' => AGGREGATE_SLEEPING,
            'D' => AGGREGATE_UNINTERRUPTIBLE,
            'T' | 't' => AGGREGATE_STOPPED,
            _ => AGGREGATE_UNKNOWN,
        },
        cpu,
        flags: AGGREGATE_TARGET,
        comm,
    })
}

/// Name, state and CPU of `/proc/…/stat`. The name may hold anything, parentheses too.
fn parse_stat(stat: &str) -> Option<(Comm, char, u32)> {
    let (open, close) = (stat.find('(')?, stat.rfind(')')?);
    let mut comm = Comm::default();
    let name = stat.get(open + 1..close)?.as_bytes();
    comm.iter_mut().zip(name).for_each(|(place, byte)| *place = *byte);
    let mut fields = stat.get(close + 1..)?.split_whitespace();
    let letter = fields.next()?.chars().next()?;
    // Field 39, of which the name was the second and the state the third.
    let cpu = fields.nth(35)?.parse().ok()?;
    Some((comm, letter, cpu))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_move_the_fields() {
        let rest = (0..35).map(|number| number.to_string()).collect::<Vec<_>>().join(" ");
        let (comm, letter, cpu) = parse_stat(&format!("7 (a) S (b)) D {rest} 3 0\n")).unwrap();
        assert_eq!((&comm[..8], letter, cpu), (&b"a) S (b)"[..], 'D', 3));
        assert_eq!(parse_stat("7 (x"), None);
    }

    #[test]
    fn this_thread_is_read() {
        let tid = std::process::id();
        let thread = read_thread(tid, tid, 5).unwrap();
        assert!(thread.state_ns[AGGREGATE_RUNNING as usize] > 0, "{thread:?}");
        assert_eq!(thread.pid, tid);
    }
}
