//! Folds events, in the order of their time, into a [`Model`].

mod lives;
mod net;
mod net_host;
mod program;
mod runtimes;
mod stacks;
mod task_loss;
mod tasks;
mod tiles;

use super::{
    Call, InterruptTime, LostInterval, Model, Span, State, Thread, ThreadIndex, Waker, Who,
};
use crate::decode::Event;
use hz_probes_ebpf::{
    Comm, Header, Interrupts, Lost, Migrate, SWITCH_PREEMPTED, Switch, UPROBE_RETURN, UprobeHit,
    UsdtHit, WAKING_HARDIRQ, WAKING_SOFTIRQ, Wakeup, Waking,
};
use rustc_hash::FxHashMap;

/// What the fold knows of a CPU beside its tiles.
#[derive(Clone, Copy, Debug, Default)]
struct CpuNow {
    /// Threads of the target that wait there. While there are none, a filtered recording does not
    /// say who has the CPU.
    waiting: u32,
}

/// What the fold knows of a thread beside its tiles.
#[derive(Clone, Copy, Debug)]
struct ThreadNow {
    /// Who asked it to wake, until it is queued.
    pending_waker: Waker,
    /// Whether its switches are still compared with the kernel's counts.
    is_counting: bool,
}

/// Builds a [`Model`] from events.
#[derive(Debug)]
pub struct Folder {
    model: Model,
    is_filtered: bool,
    has_switches: bool,
    by_tid: FxHashMap<u32, ThreadIndex>,
    threads: Vec<ThreadNow>,
    cpus: Vec<CpuNow>,
    open_calls: FxHashMap<(ThreadIndex, u32), Vec<usize>>,
    runtimes: runtimes::RuntimesNow,
    net: net::NetNow,
    stacks: stacks::StacksNow,
    /// Time of the kernel's last record. Those of runtimes do not move it: theirs is another clock,
    /// read in a process that may lie.
    now_ns: u64,
    first_usdt: u32,
}

impl Folder {
    /// Starts a model of a recording that began at `start_ns` (`CLOCK_MONOTONIC`).
    ///
    /// `is_filtered` says that the recording was of a target, not of the whole system.
    #[must_use]
    pub fn new(start_ns: u64, is_filtered: bool) -> Self {
        Self {
            model: Model { start_ns, end_ns: start_ns, ..Model::default() },
            is_filtered,
            has_switches: true,
            by_tid: FxHashMap::default(),
            threads: Vec::new(),
            cpus: Vec::new(),
            open_calls: FxHashMap::default(),
            runtimes: runtimes::RuntimesNow::default(),
            net: net::NetNow::default(),
            stacks: stacks::StacksNow::default(),
            now_ns: start_ns,
            first_usdt: 0,
        }
    }

    /// Numbers USDT probes behind `uprobes` functions, in [`Call::probe`].
    pub fn number_usdts_behind(&mut self, uprobes: usize) {
        self.first_usdt = u32::try_from(uprobes).unwrap_or(u32::MAX);
    }

    /// Says that switches are not in the recording: what threads do is unknown, and nothing is
    /// compared with the kernel's counts.
    pub const fn expect_no_switches(&mut self) {
        self.has_switches = false;
    }

    /// Counts bytes that were no record of a known kind.
    pub const fn count_undecoded(&mut self) {
        self.model.undecoded += 1;
    }

    /// Folds one event. Events should come in the order of their time; one that comes late is
    /// taken as happening when the one before it did.
    pub fn fold(&mut self, event: &Event) {
        self.model.records += 1;
        if self.fold_runtime(event)
            || self.fold_net(event)
            || self.fold_stacks(event)
            || self.fold_net_host(event)
        {
            return;
        }
        let time_ns = event.header().time_ns;
        if time_ns >= self.now_ns {
            self.now_ns = time_ns;
            self.model.end_ns = time_ns;
            self.apply(event);
        } else if time_ns >= self.model.start_ns || !is_of_a_state(event) {
            let mut late = *event;
            late.header_mut().time_ns = match late {
                // A call's time orders nothing but calls, and those are sorted in the end.
                Event::Uprobe(_) | Event::Usdt(_) => time_ns.max(self.model.start_ns),
                _ => self.now_ns,
            };
            self.apply(&late);
        }
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Switch(switch) => self.switch(switch),
            Event::Waking(waking) => self.waking(waking),
            Event::Wakeup(wakeup) | Event::WakeupNew(wakeup) => self.wakeup(wakeup),
            Event::Migrate(migrate) => self.migrate(migrate),
            Event::Fork(fork) => self.fork(fork),
            Event::Exec(exec) => self.exec(exec),
            Event::Exit(exit) => self.exit(exit),
            Event::Rename(rename) => {
                let index = self.target(&rename.header);
                self.thread(index).comm = rename.comm;
            }
            Event::Thread(thread) => self.snapshot(thread),
            Event::Interrupts(interrupts) => self.interrupts(interrupts),
            Event::Lost(lost) => self.lost(lost),
            Event::Uprobe(hit) => self.uprobe(hit),
            Event::Usdt(hit) => self.usdt(hit),
            // Those of runtimes and stacks, which are folded on their own.
            _ => {}
        }
    }

    /// Ends the model at `end_ns` (`CLOCK_MONOTONIC`) or at the last event, if that is later.
    #[must_use]
    pub fn finish(mut self, end_ns: u64) -> Model {
        self.model.end_ns = self.model.end_ns.max(end_ns);
        let end_ns = self.model.end_ns;
        for thread in self.model.threads.iter_mut().filter(|thread| !thread.has_exited) {
            thread.end_ns = end_ns;
        }
        self.model.cpus.retain(|cpu| !cpu.runs.is_empty());
        self.model.calls.sort_by_key(|call| call.start_ns);
        self.finish_tasks();
        self.finish_stacks();
        self.model
    }

    fn switch(&mut self, switch: &Switch) {
        self.model.switches += 1;
        let header = &switch.header;
        let (time_ns, cpu) = (header.time_ns, header.cpu);
        let prev = self.who(header.tid, header.pid, time_ns);
        self.check_leaving(cpu, prev, time_ns);
        if let Who::Thread(index) = prev {
            self.leave(index, switch);
        }
        // Only now: the thread that left may have ended, and its id may be another's.
        let next = self.who(header.arg, switch.next_pid, time_ns);
        if let Who::Thread(index) = next {
            self.check_place(index, cpu, time_ns);
            self.transition(
                index,
                Span { start_ns: time_ns, state: State::Running, cpu, waker: Waker::Unknown },
            );
        }
        self.set_cpu(cpu, time_ns, next);
        self.forget_unwatched(cpu, time_ns);
    }

    fn leave(&mut self, index: ThreadIndex, switch: &Switch) {
        let is_counting = self.threads[index.0 as usize].is_counting;
        let thread = self.thread(index);
        thread.switches += u64::from(is_counting);
        let (time_ns, cpu) = (switch.header.time_ns, switch.header.cpu);
        self.check_place(index, cpu, time_ns);
        self.check_came(index, time_ns);
        if is_dead(switch.prev_state) {
            self.end(index, time_ns);
            return;
        }
        let is_preempted = switch.flags & SWITCH_PREEMPTED != 0;
        let state = if is_preempted { State::Preempted } else { state_after(switch.prev_state) };
        self.transition(index, Span { start_ns: time_ns, state, cpu, waker: Waker::Unknown });
    }

    fn waking(&mut self, waking: &Waking) {
        let index = self.target(&waking.header);
        let waker = if waking.flags & WAKING_HARDIRQ != 0 {
            Waker::HardIrq
        } else if waking.flags & WAKING_SOFTIRQ != 0 {
            Waker::SoftIrq
        } else {
            match self.who(waking.header.arg, waking.waker_pid, waking.header.time_ns) {
                Who::Thread(waker) => Waker::Thread(waker),
                _ => Waker::HardIrq,
            }
        };
        self.threads[index.0 as usize].pending_waker = waker;
    }

    fn wakeup(&mut self, wakeup: &Wakeup) {
        let header = &wakeup.header;
        let index = self.target(header);
        let cpu = cpu_number(header.arg);
        let now = &mut self.threads[index.0 as usize];
        let waker = std::mem::replace(&mut now.pending_waker, Waker::Unknown);
        let state = self.state_of(index);
        // Woken before it had gone to sleep: it never left the run queue.
        if matches!(state, State::Running | State::Woken | State::Preempted) {
            return;
        }
        let waker = match self.model.thread(index).parent {
            // Nobody is asked to wake a new thread: who made it puts it on a run queue.
            Some(parent) if state == State::New && waker == Waker::Unknown => Waker::Thread(parent),
            _ => waker,
        };
        self.transition(index, Span { start_ns: header.time_ns, state: State::Woken, cpu, waker });
        self.occupied(cpu, header.time_ns, wakeup.occupant_tid, wakeup.occupant_pid);
    }

    fn migrate(&mut self, migrate: &Migrate) {
        let header = &migrate.header;
        let index = self.target(header);
        let cpu = cpu_number(header.arg);
        let thread = self.thread(index);
        thread.migrations += 1;
        let Some(last) = thread.spans.last().copied() else { return };
        if last.state.is_waiting() {
            self.transition(
                index,
                Span { start_ns: header.time_ns, state: last.state, cpu, waker: last.waker },
            );
            self.occupied(cpu, header.time_ns, migrate.occupant_tid, 0);
        }
    }

    fn interrupts(&mut self, record: &Interrupts) {
        let cpu = self.cpu(record.header.cpu);
        cpu.interrupts.push(InterruptTime {
            start_ns: record.since_ns.min(record.header.time_ns),
            end_ns: record.header.time_ns,
            hard_ns: record.hard_ns,
            soft_ns: record.soft_ns,
            steal_ns: record.steal_ns,
        });
    }

    /// From the first lost record on, who has the CPU is not known.
    fn lost(&mut self, lost: &Lost) {
        let until_ns = lost.header.time_ns;
        let since_ns = lost.since_ns.clamp(self.model.start_ns, until_ns);
        let cpu = self.cpu(lost.header.cpu);
        cpu.lost.push(LostInterval { start_ns: since_ns, end_ns: until_ns, count: lost.count });
        let current = self.current(lost.header.cpu);
        // What was recorded there cannot have come after the first that was lost.
        let known_ns = self.known_ns(lost.header.cpu);
        if let Who::Thread(index) = current {
            self.doubt(index, lost.header.cpu, since_ns.max(known_ns));
        }
        self.set_cpu(lost.header.cpu, since_ns.max(known_ns), Who::Unknown);
        self.doubt_waiters(lost.header.cpu, since_ns);
    }

    fn uprobe(&mut self, hit: &UprobeHit) {
        let header = &hit.header;
        let thread = self.index(header.tid, header.pid, header.time_ns);
        let open = self.open_calls.entry((thread, header.arg)).or_default();
        if hit.flags & UPROBE_RETURN == 0 {
            open.push(self.model.calls.len());
            let call = Call { probe: header.arg, thread, start_ns: header.time_ns, end_ns: None };
            self.model.calls.push(call);
        } else if let Some(call) = open.pop() {
            let call = &mut self.model.calls[call];
            call.end_ns = Some(header.time_ns.max(call.start_ns));
        }
    }

    fn usdt(&mut self, hit: &UsdtHit) {
        let header = &hit.header;
        let thread = self.index(header.tid, header.pid, header.time_ns);
        let probe = self.first_usdt.saturating_add(header.arg);
        let call = Call { probe, thread, start_ns: header.time_ns, end_ns: None };
        self.model.calls.push(call);
    }

    fn who(&mut self, tid: u32, pid: u32, time_ns: u64) -> Who {
        if tid == 0 { Who::Idle } else { Who::Thread(self.index(tid, pid, time_ns)) }
    }

    /// The thread a record of the target is about.
    fn target(&mut self, header: &Header) -> ThreadIndex {
        let index = self.index(header.tid, header.pid, header.time_ns);
        let thread = self.thread(index);
        if !thread.is_target {
            thread.is_target = true;
            thread.start_ns = header.time_ns;
        }
        index
    }

    fn index(&mut self, tid: u32, pid: u32, time_ns: u64) -> ThreadIndex {
        if let Some(index) = self.by_tid.get(&tid) {
            return *index;
        }
        let index = ThreadIndex(u32::try_from(self.model.threads.len()).unwrap_or(u32::MAX));
        self.model.threads.push(Thread {
            tid,
            pid,
            comm: Comm::default(),
            is_kernel: false,
            is_target: !self.is_filtered,
            parent: None,
            start_ns: time_ns,
            end_ns: time_ns,
            has_exited: false,
            spans: Vec::new(),
            migrations: 0,
            switches: 0,
            kernel_first: None,
            kernel_last: None,
        });
        self.threads.push(ThreadNow { pending_waker: Waker::Unknown, is_counting: true });
        self.by_tid.insert(tid, index);
        index
    }

    fn thread(&mut self, index: ThreadIndex) -> &mut Thread {
        &mut self.model.threads[index.0 as usize]
    }
}

/// Whether an event is about a state: those that came while hz was still attaching tell half. The
/// snapshot, which comes after, tells all.
const fn is_of_a_state(event: &Event) -> bool {
    matches!(
        event,
        Event::Switch(_)
            | Event::Waking(_)
            | Event::Wakeup(_)
            | Event::WakeupNew(_)
            | Event::Migrate(_)
            | Event::Fork(_)
            | Event::Exit(_)
    )
}

fn cpu_number(arg: u32) -> u16 {
    u16::try_from(arg).unwrap_or(0)
}

/// The kernel's `TASK_DEAD`.
const fn is_dead(state: u16) -> bool {
    state & 0x80 != 0
}

/// What a thread that left its CPU in the kernel's state `state` does from then on.
///
/// The bits are those of `include/linux/sched.h`; 0x400 is `TASK_NOLOAD`, which marks the idle
/// sleep of kernel threads, 0x1000 `TASK_RTLOCK_WAIT`.
const fn state_after(state: u16) -> State {
    match state {
        0 => State::Preempted,
        bits if bits & 0xc != 0 => State::Stopped,
        bits if bits & 0x400 != 0 => State::Sleeping,
        bits if bits & 0x1002 != 0 => State::Uninterruptible,
        _ => State::Sleeping,
    }
}

#[cfg(test)]
mod tests;
