//! From sums since the beginning to what one window adds to them.

use super::{Block, CpuRow, Histogram, Move, ThreadRow, ThreadState, Wait, Window};
use crate::model::display_comm;
use hz_probes_ebpf::aggregate::{
    AGGREGATE_ENDED, AGGREGATE_KERNEL, AGGREGATE_PREEMPTED, AGGREGATE_RUNNING, AGGREGATE_SLEEPING,
    AGGREGATE_STATES, AGGREGATE_TARGET, AGGREGATE_UNINTERRUPTIBLE, AGGREGATE_WOKEN, BUCKETS,
    CpuTotals, PLACES, ThreadTotals,
};
use rustc_hash::FxHashMap;

/// Sums since the beginning, of all threads and CPUs, as they are at one moment.
#[derive(Debug, Default)]
pub struct Totals {
    /// The moment, nanoseconds of `CLOCK_MONOTONIC`.
    pub now_ns: u64,
    /// The epoch that this moment ends.
    pub epoch: u32,
    /// CPUs per place.
    pub place_cpus: u32,
    /// By CPU.
    pub cpus: Vec<CpuTotals>,
    /// By thread id.
    pub threads: FxHashMap<u32, ThreadTotals>,
    /// Moves so far by place, `from × PLACES + to`.
    pub moves: Vec<u64>,
}

/// Names a system call, with its first argument: `(pid, call, argument)`.
pub(crate) type NameCall<'a> = dyn FnMut(u32, i32, u64) -> String + 'a;

/// What a thread's sums were at the end of the last window.
#[derive(Clone, Copy, Debug, Default)]
struct Before {
    state_ns: [u64; AGGREGATE_STATES],
    place_ns: [u64; PLACES],
    yields: u64,
    preemptions: u64,
    migrations: u64,
}

/// Makes windows of sums.
#[derive(Debug, Default)]
pub struct Differ {
    last_ns: u64,
    threads: FxHashMap<u32, Before>,
    cpus: Vec<(u64, u64, u64)>,
    waits: Vec<u64>,
    moves: Vec<u64>,
}

impl Differ {
    /// Starts with a window that begins at `start_ns` (`CLOCK_MONOTONIC`).
    #[must_use]
    pub fn new(start_ns: u64) -> Self {
        Self { last_ns: start_ns, ..Self::default() }
    }

    /// The window from the last call until now, as far as threads and CPUs are concerned.
    pub(crate) fn window(&mut self, totals: &Totals, name_call: &mut NameCall<'_>) -> Window {
        let mut window =
            Window { start_ns: self.last_ns, end_ns: totals.now_ns, ..Window::default() };
        self.last_ns = totals.now_ns;
        self.add_cpus(totals, &mut window);
        self.add_moves(totals, &mut window);
        let mut before = std::mem::take(&mut self.threads);
        self.threads.reserve(totals.threads.len());
        for (tid, thread) in &totals.threads {
            let now = effective(thread, totals);
            let earlier = before.remove(tid).unwrap_or_default();
            let is_target = thread.flags & AGGREGATE_TARGET != 0;
            window.threads_alive += u64::from(is_target && thread.state != AGGREGATE_ENDED);
            window.threads.extend(Self::row((*tid, thread), (&earlier, &now), totals, name_call));
            if thread.state != AGGREGATE_ENDED {
                self.threads.insert(*tid, now);
            }
        }
        window.threads.sort_by_key(|thread| (thread.pid, thread.tid));
        window
    }

    fn add_cpus(&mut self, totals: &Totals, window: &mut Window) {
        self.cpus.resize(totals.cpus.len().max(self.cpus.len()), (0, 0, 0));
        let mut waits = vec![0; BUCKETS];
        for ((number, cpu), before) in (0..).zip(&totals.cpus).zip(&mut self.cpus) {
            let going_on_ns =
                if cpu.since_ns == 0 { 0 } else { totals.now_ns.saturating_sub(cpu.since_ns) };
            let (mut busy_ns, mut idle_ns) = (cpu.busy_ns, cpu.idle_ns);
            if cpu.tid == 0 {
                idle_ns += going_on_ns;
            } else {
                busy_ns += going_on_ns;
            }
            window.cpus.push(CpuRow {
                cpu: number,
                busy_ns: busy_ns.saturating_sub(before.0),
                idle_ns: idle_ns.saturating_sub(before.1),
                steal_ns: 0,
                switches: cpu.switches.saturating_sub(before.2),
            });
            *before = (busy_ns.max(before.0), idle_ns.max(before.1), cpu.switches);
            waits.iter_mut().zip(&cpu.waits).for_each(|(sum, count)| *sum += count);
        }
        self.waits.resize(BUCKETS, 0);
        let added = waits.iter().zip(&self.waits).map(|(now, then)| now.saturating_sub(*then));
        window.waits = Histogram::of(&added.collect::<Vec<u64>>());
        self.waits = waits;
    }

    fn add_moves(&mut self, totals: &Totals, window: &mut Window) {
        self.moves.resize(totals.moves.len().max(self.moves.len()), 0);
        for ((number, now), then) in (0..).zip(&totals.moves).zip(&mut self.moves) {
            let count = now.saturating_sub(*then);
            if count > 0 {
                let places = PLACES as u32;
                window.moves.push(Move { from: number / places, to: number % places, count });
            }
            *then = *now;
        }
    }

    /// What a thread did; `None` if it only slept.
    fn row(
        (tid, thread): (u32, &ThreadTotals),
        (before, now): (&Before, &Before),
        totals: &Totals,
        name_call: &mut NameCall<'_>,
    ) -> Option<ThreadRow> {
        let in_state = |state: u32| {
            let state = state as usize;
            now.state_ns[state].saturating_sub(before.state_ns[state])
        };
        let is_target = thread.flags & AGGREGATE_TARGET != 0;
        let (run_ns, woken_ns) = (in_state(AGGREGATE_RUNNING), in_state(AGGREGATE_WOKEN));
        let preempted_ns = in_state(AGGREGATE_PREEMPTED);
        let is_blocked = is_target && thread.state == AGGREGATE_UNINTERRUPTIBLE;
        if run_ns == 0 && !(is_target && woken_ns + preempted_ns > 0) && !is_blocked {
            return None;
        }
        let used = places_of(totals);
        let place_ns = now.place_ns.iter().zip(&before.place_ns);
        Some(ThreadRow {
            tid,
            pid: thread.pid,
            name: display_comm(&thread.comm),
            process: name_of(thread.pid, totals),
            is_target,
            is_kernel: thread.flags & AGGREGATE_KERNEL != 0,
            state: ThreadState::from_wire(thread.state),
            since_ns: thread.since_ns,
            cpu: thread.cpu,
            run_ns,
            woken_ns,
            preempted_ns,
            sleep_ns: in_state(AGGREGATE_SLEEPING),
            block_ns: in_state(AGGREGATE_UNINTERRUPTIBLE),
            yields: thread.yields.saturating_sub(before.yields),
            preemptions: thread.preemptions.saturating_sub(before.preemptions),
            migrations: thread.migrations.saturating_sub(before.migrations),
            place_ns: place_ns.map(|(now, then)| now.saturating_sub(*then)).take(used).collect(),
            wait: worst_wait(thread, totals),
            block: worst_block(thread, totals, name_call),
            instructions: None,
            cycles: None,
        })
    }
}

fn places_of(totals: &Totals) -> usize {
    totals.cpus.len().div_ceil(totals.place_cpus.max(1) as usize).clamp(1, PLACES)
}

/// The sums with what goes on now.
fn effective(thread: &ThreadTotals, totals: &Totals) -> Before {
    let mut now = Before {
        state_ns: thread.state_ns,
        place_ns: thread.place_ns,
        yields: thread.yields,
        preemptions: thread.preemptions,
        migrations: thread.migrations,
    };
    let going_on_ns = totals.now_ns.saturating_sub(thread.since_ns);
    if let Some(state_ns) = now.state_ns.get_mut(thread.state as usize) {
        *state_ns += going_on_ns;
    }
    if thread.state == AGGREGATE_RUNNING {
        let place = (thread.cpu / totals.place_cpus.max(1)) as usize;
        now.place_ns[place.min(PLACES - 1)] += going_on_ns;
    }
    now
}

/// A thread's name, by its id.
fn name_of(tid: u32, totals: &Totals) -> String {
    match totals.threads.get(&tid) {
        Some(thread) => display_comm(&thread.comm),
        None if tid == 0 => "idle".to_owned(),
        None => String::new(),
    }
}

fn worst_wait(thread: &ThreadTotals, totals: &Totals) -> Option<Wait> {
    let worst =
        thread.waits.iter().find(|worst| worst.epoch == totals.epoch && worst.wait_ns > 0)?;
    Some(Wait {
        wait_ns: worst.wait_ns,
        end_ns: worst.end_ns,
        cpu: worst.cpu,
        by_tid: worst.by_tid,
        by_pid: worst.by_pid,
        by: name_of(worst.by_tid, totals),
    })
}

fn worst_block(
    thread: &ThreadTotals,
    totals: &Totals,
    name_call: &mut NameCall<'_>,
) -> Option<Block> {
    let mut blocks = thread.blocks.iter();
    let worst = blocks.find(|worst| worst.epoch == totals.epoch && worst.block_ns > 0)?;
    Some(Block {
        block_ns: worst.block_ns,
        end_ns: worst.end_ns,
        call: name_call(thread.pid, worst.call, worst.argument),
    })
}
