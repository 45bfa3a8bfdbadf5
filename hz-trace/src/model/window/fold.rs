//! A recording's events, folded into windows: what the kernel's programs sum up live, here.

use super::{Differ, NetworkFolder, TaskFolder, Totals, Window};
use crate::{decode::Event, model::display_comm};
use hz_probes_ebpf::{
    Comm, Header, Interrupts, Loss, Migrate, SWITCH_PREEMPTED, Switch, THREAD_FOREIGN,
    THREAD_KERNEL, THREAD_LAST, THREAD_ON_CPU, Thread, Wakeup,
    aggregate::{
        AGGREGATE_ENDED, AGGREGATE_KERNEL, AGGREGATE_PREEMPTED, AGGREGATE_RUNNING,
        AGGREGATE_SLEEPING, AGGREGATE_STATES, AGGREGATE_STOPPED, AGGREGATE_TARGET,
        AGGREGATE_UNINTERRUPTIBLE, AGGREGATE_UNKNOWN, AGGREGATE_WOKEN, BUCKETS, CpuTotals, PLACES,
        TURNS, ThreadTotals, Turn, WorstBlock, WorstWait, bucket_of,
    },
};
use rustc_hash::FxHashMap;

/// Folds events, in the order of their time, into windows. Its memory does not grow with time.
#[derive(Debug)]
pub struct WindowFolder {
    totals: Totals,
    differ: Differ,
    tasks: TaskFolder,
    network: NetworkFolder,
    steal_ns: FxHashMap<u32, u64>,
    realtime_ahead_ns: u64,
}

impl WindowFolder {
    /// Starts with a window that begins at `start_ns` (`CLOCK_MONOTONIC`), which was
    /// `start_realtime_ns` since 1970, on a host of `cpus` CPUs.
    #[must_use]
    pub fn new(start_ns: u64, start_realtime_ns: u64, cpus: u32) -> Self {
        let place_cpus = cpus.div_ceil(PLACES as u32).max(1);
        let totals = Totals {
            epoch: 1,
            place_cpus,
            cpus: vec![no_cpu(); cpus as usize],
            moves: vec![0; PLACES * PLACES],
            ..Totals::default()
        };
        Self {
            totals,
            differ: Differ::new(start_ns),
            tasks: TaskFolder::new(start_ns),
            network: NetworkFolder::default(),
            steal_ns: FxHashMap::default(),
            realtime_ahead_ns: start_realtime_ns.saturating_sub(start_ns),
        }
    }

    /// Folds one event.
    pub fn fold(&mut self, event: &Event) {
        match event {
            Event::Switch(switch) => self.switch(switch),
            Event::Wakeup(wakeup) | Event::WakeupNew(wakeup) => self.wakeup(wakeup),
            Event::Migrate(migrate) => self.migrate(migrate),
            Event::Fork(fork) => {
                let thread = self.thread(&fork.header);
                thread.comm = fork.comm;
            }
            Event::Exec(exec) => self.name(&exec.header, exec.comm),
            Event::Rename(rename) => self.name(&rename.header, rename.comm),
            Event::Thread(thread) => self.snapshot(thread),
            Event::Interrupts(Interrupts { header, steal_ns, .. }) => {
                *self.steal_ns.entry(header.cpu.into()).or_default() += steal_ns;
            }
            _ => {
                self.tasks.fold(event);
                self.network.fold(event);
            }
        }
    }

    /// Closes the window at `end_ns` and begins the next.
    pub fn close(&mut self, end_ns: u64) -> Window {
        self.totals.now_ns = end_ns;
        let mut window = self.differ.window(&self.totals, &mut |_, _, _| String::new());
        "recording".clone_into(&mut window.origin);
        window.end_realtime_ns = end_ns.saturating_add(self.realtime_ahead_ns);
        for (cpu, steal_ns) in self.steal_ns.drain() {
            if let Some(row) = window.cpus.get_mut(cpu as usize) {
                row.steal_ns = steal_ns;
            }
        }
        self.totals.threads.retain(|_, thread| thread.state != AGGREGATE_ENDED);
        self.totals.epoch += 1;
        for runtime in window.threads.iter().filter(|thread| thread.tid == thread.pid) {
            self.tasks.name_known_process(runtime.pid, &runtime.process);
        }
        self.tasks.close(end_ns, &mut window);
        let threads = &self.totals.threads;
        let name = |pid| threads.get(&pid).map(|thread| display_comm(&thread.comm));
        self.network.close(&mut window, &mut |pid| name(pid).unwrap_or_default());
        window
    }

    /// The thread that a record is about, which is then of the target.
    fn thread(&mut self, header: &Header) -> &mut ThreadTotals {
        let thread = self.known(header.tid, header.pid, header.time_ns);
        if thread.state == AGGREGATE_ENDED {
            *thread = no_thread(header.pid, header.time_ns);
        }
        thread.flags |= AGGREGATE_TARGET;
        thread
    }

    fn known(&mut self, tid: u32, pid: u32, now_ns: u64) -> &mut ThreadTotals {
        self.totals.threads.entry(tid).or_insert_with(|| no_thread(pid, now_ns))
    }

    fn name(&mut self, header: &Header, comm: Comm) {
        self.thread(header).comm = comm;
    }

    fn cpu(&mut self, cpu: u16) -> &mut CpuTotals {
        let cpu = usize::from(cpu);
        if cpu >= self.totals.cpus.len() {
            self.totals.cpus.resize(cpu + 1, no_cpu());
        }
        &mut self.totals.cpus[cpu]
    }

    fn switch(&mut self, switch: &Switch) {
        let header = &switch.header;
        let (now_ns, place_cpus) = (header.time_ns, self.totals.place_cpus);
        let cpu = self.cpu(header.cpu);
        switch_cpu(cpu, (header.tid, header.pid), (header.arg, switch.next_pid), now_ns);
        if header.tid != 0 {
            let thread = self.known(header.tid, header.pid, now_ns);
            leave(thread, switch, place_cpus);
        }
        if header.arg != 0 {
            self.come(switch);
        }
    }

    fn come(&mut self, switch: &Switch) {
        let header = &switch.header;
        let (now_ns, epoch) = (header.time_ns, self.totals.epoch);
        let turns = self.cpu(header.cpu).turns;
        let thread = self.known(header.arg, switch.next_pid, now_ns);
        let was_waiting = matches!(thread.state, AGGREGATE_WOKEN | AGGREGATE_PREEMPTED);
        let wait_ns = now_ns.saturating_sub(thread.since_ns);
        let is_counted = was_waiting && thread.flags & AGGREGATE_TARGET != 0;
        if is_counted {
            let worst = &mut thread.waits[(epoch & 1) as usize];
            if worst.epoch != epoch || worst.wait_ns < wait_ns {
                let (by_tid, by_pid) = culprit(&turns, thread.since_ns);
                let cpu = header.cpu.into();
                *worst = WorstWait { wait_ns, end_ns: now_ns, epoch, by_tid, by_pid, cpu };
            }
        }
        become_state(thread, AGGREGATE_RUNNING, now_ns);
        thread.cpu = header.cpu.into();
        if is_counted {
            self.cpu(header.cpu).waits[bucket_of(wait_ns)] += 1;
        }
    }

    fn wakeup(&mut self, wakeup: &Wakeup) {
        let thread = self.thread(&wakeup.header);
        if matches!(thread.state, AGGREGATE_RUNNING | AGGREGATE_WOKEN | AGGREGATE_PREEMPTED) {
            return;
        }
        become_state(thread, AGGREGATE_WOKEN, wakeup.header.time_ns);
    }

    fn migrate(&mut self, migrate: &Migrate) {
        let place_cpus = self.totals.place_cpus;
        self.thread(&migrate.header).migrations += 1;
        let from = place_of(migrate.from_cpu, place_cpus);
        let to = place_of(migrate.header.arg, place_cpus);
        if let Some(count) = self.totals.moves.get_mut(from * PLACES + to) {
            *count += 1;
        }
    }

    fn snapshot(&mut self, record: &Thread) {
        let header = &record.header;
        if record.flags & THREAD_LAST != 0 {
            return;
        }
        let is_foreign = record.flags & THREAD_FOREIGN != 0;
        let thread = self.known(header.tid, header.pid, header.time_ns);
        thread.comm = record.comm;
        if record.flags & THREAD_KERNEL != 0 {
            thread.flags |= AGGREGATE_KERNEL;
        }
        if is_foreign {
            return;
        }
        thread.flags |= AGGREGATE_TARGET;
        if thread.state == AGGREGATE_UNKNOWN
            && record.flags & THREAD_ON_CPU == 0
            && record.state != 0
        {
            thread.state = state_after(record.state);
            thread.since_ns = header.time_ns;
            thread.cpu = header.cpu.into();
        }
    }

    /// The name that a thread has, for what tells processes apart.
    #[must_use]
    pub fn name_of(&self, tid: u32) -> Option<String> {
        self.totals.threads.get(&tid).map(|thread| display_comm(&thread.comm))
    }
}

const fn no_cpu() -> CpuTotals {
    CpuTotals {
        since_ns: 0,
        idle_ns: 0,
        busy_ns: 0,
        unknown_ns: 0,
        switches: 0,
        waits: [0; BUCKETS],
        ledger: [Loss { seen: 0, submitted: 0, filtered: 0, ring_full: 0, read_failed: 0 }; 5],
        turns: [Turn { start_ns: 0, end_ns: 0, tid: 0, pid: 0 }; TURNS],
        turn: 0,
        tid: 0,
        pid: 0,
    }
}

/// Who had a CPU longest since a moment, thread and process: nobody if it was idle, or nobody knows, for
/// longest.
fn culprit(turns: &[Turn], since_ns: u64) -> (u32, u32) {
    let longest = turns
        .iter()
        .map(|turn| (turn.end_ns.saturating_sub(turn.start_ns.max(since_ns)), turn))
        .filter(|(overlap_ns, _)| *overlap_ns > 0)
        // Of two as long, the first, as in the kernel.
        .rev()
        .max_by_key(|(overlap_ns, _)| *overlap_ns);
    let of_thread = longest.filter(|(_, turn)| turn.tid != 0);
    of_thread.map_or((0, 0), |(_, turn)| (turn.tid, turn.pid))
}

fn no_thread(pid: u32, now_ns: u64) -> ThreadTotals {
    ThreadTotals {
        since_ns: now_ns,
        state_ns: [0; AGGREGATE_STATES],
        place_ns: [0; PLACES],
        yields: 0,
        preemptions: 0,
        migrations: 0,
        waits: [WorstWait::default(); 2],
        blocks: [WorstBlock::default(); 2],
        pid,
        state: AGGREGATE_UNKNOWN,
        cpu: 0,
        flags: 0,
        comm: Comm::default(),
    }
}

fn place_of(cpu: u32, place_cpus: u32) -> usize {
    ((cpu / place_cpus.max(1)) as usize).min(PLACES - 1)
}

fn become_state(thread: &mut ThreadTotals, state: u32, now_ns: u64) {
    let spent_ns = now_ns.saturating_sub(thread.since_ns);
    if let Some(sum) = thread.state_ns.get_mut(thread.state as usize) {
        *sum += spent_ns;
    }
    thread.since_ns = now_ns;
    thread.state = state;
}

fn leave(thread: &mut ThreadTotals, switch: &Switch, place_cpus: u32) {
    let now_ns = switch.header.time_ns;
    if thread.state == AGGREGATE_RUNNING {
        let place = place_of(thread.cpu, place_cpus);
        thread.place_ns[place] += now_ns.saturating_sub(thread.since_ns);
    } else {
        thread.state = AGGREGATE_UNKNOWN;
    }
    let is_preempted = switch.flags & SWITCH_PREEMPTED != 0;
    let state = if is_preempted { 0 } else { switch.prev_state };
    if state == 0 {
        thread.preemptions += 1;
    } else {
        thread.yields += 1;
    }
    become_state(thread, state_after(state), now_ns);
}

fn switch_cpu(
    cpu: &mut CpuTotals,
    (prev, prev_pid): (u32, u32),
    (next, next_pid): (u32, u32),
    now_ns: u64,
) {
    let spent_ns = now_ns.saturating_sub(cpu.since_ns);
    // A filtered recording has every switch of a CPU from when somebody waits for it, but not how who had it
    // then had come: it is known when that one leaves, and `culprit` asks for no time before the wait.
    let turn = Turn { start_ns: cpu.since_ns, end_ns: now_ns, tid: prev, pid: prev_pid };
    cpu.turns[cpu.turn as usize % TURNS] = turn;
    cpu.turn += 1;
    cpu.switches += 1;
    if cpu.since_ns > 0 {
        let sum = match cpu.tid {
            tid if tid != prev => &mut cpu.unknown_ns,
            0 => &mut cpu.idle_ns,
            _ => &mut cpu.busy_ns,
        };
        *sum += spent_ns;
    }
    (cpu.since_ns, cpu.tid, cpu.pid) = (now_ns, next, next_pid);
}

/// The kernel's state of a thread that left its CPU, as in `include/linux/sched.h`.
const fn state_after(state: u16) -> u32 {
    match state {
        0 => AGGREGATE_PREEMPTED,
        state if state & 0x90 != 0 => AGGREGATE_ENDED,
        state if state & 0x0c != 0 => AGGREGATE_STOPPED,
        state if state & 0x02 != 0 => AGGREGATE_UNINTERRUPTIBLE,
        _ => AGGREGATE_SLEEPING,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Thread 7 had the CPU since nobody knows when; somebody waits from 100 on, and has it at 400.
    #[test]
    fn who_had_the_cpu_before_the_recording_saw_it_is_known_when_it_leaves() {
        let mut cpu = no_cpu();
        switch_cpu(&mut cpu, (3, 3), (0, 0), 20);
        switch_cpu(&mut cpu, (7, 6), (8, 8), 390);
        switch_cpu(&mut cpu, (8, 8), (9, 9), 400);
        assert_eq!(culprit(&cpu.turns, 100), (7, 6));
        assert_eq!(culprit(&cpu.turns, 390), (8, 8));
        assert_eq!(culprit(&cpu.turns, 400), (0, 0));
        assert_eq!((cpu.unknown_ns, cpu.busy_ns), (370, 10), "how long is not known");
    }

    #[test]
    fn a_cpu_that_was_idle_for_longest_was_nobody_s() {
        let mut cpu = no_cpu();
        switch_cpu(&mut cpu, (3, 3), (0, 0), 101);
        switch_cpu(&mut cpu, (0, 0), (9, 9), 400);
        assert_eq!(culprit(&cpu.turns, 100), (0, 0));
    }
}
