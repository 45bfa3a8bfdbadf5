//! A small scheduler that writes the records the kernel would, and knows what really happened.
//!
//! It has threads of the target and others, sleeps, preemption, wake-ups by threads and
//! interrupts, migrations, forks and exits. Filtered, it leaves out what the kernel's filter
//! would. What it does is chosen by numbers, so that a property test can choose and shrink.

use hz_probes_ebpf::{
    Comm, Exit, Fork, Header, Interrupts, Kind, Migrate, NOT_ASKED, SWITCH_PREEMPTED, Switch,
    THREAD_FOREIGN, THREAD_LAST, THREAD_ON_CPU, Thread, WAKING_HARDIRQ, WAKING_SOFTIRQ, Wakeup,
    Waking,
};
use hz_trace::model::State;
use zerocopy::{Immutable, IntoBytes};

/// Start of every simulation, nanoseconds.
pub(crate) const START_NS: u64 = 1_000_000_000;

/// The process the simulation is about.
pub(crate) const TARGET_PID: u32 = 4711;

/// Switches that every thread had before the simulation began.
const EARLIER: u64 = 100;

/// Who woke a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Nobody,
    HardIrq,
    SoftIrq,
    Thread(u32),
}

/// A tile of a thread's life, as it really was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Was {
    pub(crate) start_ns: u64,
    pub(crate) state: State,
    pub(crate) cpu: u16,
    pub(crate) by: By,
}

/// Who had a CPU: a thread by its id, nobody, or somebody that a recording cannot know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Had {
    Unknown,
    Idle,
    Thread(u32),
}

/// A thread of the simulation.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) tid: u32,
    pub(crate) is_target: bool,
    pub(crate) parent: Option<u32>,
    pub(crate) life: Vec<Was>,
    pub(crate) end_ns: Option<u64>,
    pub(crate) migrations: u64,
    pub(crate) switches: u64,
    pid: u32,
    comm: Comm,
    is_known: bool,
}

impl Task {
    fn state(&self) -> State {
        self.life.last().map_or(State::Unknown, |was| was.state)
    }

    /// Switches in its life, those before the simulation included.
    fn all_switches(&self) -> u64 {
        self.switches + if self.parent.is_some() { 0 } else { EARLIER }
    }

    fn cpu(&self) -> u16 {
        self.life.last().map_or(0, |was| was.cpu)
    }
}

/// The scheduler, its records and its memory.
#[derive(Debug)]
pub(crate) struct Scheduler {
    /// Every record with the CPU it was written on, in the order of time.
    pub(crate) records: Vec<(u16, Vec<u8>)>,
    pub(crate) tasks: Vec<Task>,
    /// Who really had each CPU, from when on.
    pub(crate) history: Vec<Vec<(u64, Had)>>,
    /// The same as far as the records tell.
    pub(crate) told: Vec<Vec<(u64, Had)>>,
    pub(crate) now_ns: u64,
    /// The thread that each CPU runs.
    pub(crate) current: Vec<Option<usize>>,
    is_filtered: bool,
}

/// How a thread leaves its CPU: what the record says, and what the thread is then; `None`: dead.
#[derive(Clone, Copy, Debug)]
struct Leaves {
    bits: u16,
    flags: u8,
    after: Option<State>,
}

fn comm(name: &str) -> Comm {
    let mut comm = [0; 16];
    comm[..name.len()].copy_from_slice(name.as_bytes());
    comm
}

impl Scheduler {
    /// Two threads of the target and two others sleep; each CPU runs a thread, on CPU 0 one of the
    /// target.
    pub(crate) fn new(cpus: u16, is_filtered: bool) -> Self {
        let lanes = usize::from(cpus);
        let mut new = Self {
            records: Vec::new(),
            tasks: Vec::new(),
            history: vec![Vec::new(); lanes],
            told: vec![Vec::new(); lanes],
            now_ns: START_NS,
            current: vec![None; lanes],
            is_filtered,
        };
        let sleepers = [(true, "worker-1"), (true, "worker-2"), (false, "sshd"), (false, "cc1")];
        for (number, (is_target, name)) in sleepers.into_iter().enumerate() {
            new.add(is_target, name, (number % lanes) as u16, State::Sleeping);
        }
        for cpu in 0..cpus {
            let task =
                new.add(cpu == 0, if cpu == 0 { "api" } else { "rustc" }, cpu, State::Running);
            new.current[usize::from(cpu)] = Some(task);
        }
        for cpu in 0..lanes {
            let had = new.had(cpu);
            new.history[cpu].push((START_NS, had));
            let told = if is_filtered { Had::Unknown } else { had };
            new.told[cpu].push((START_NS, told));
        }
        for task in 0..new.tasks.len() {
            if !is_filtered || new.tasks[task].is_target {
                new.snapshot(task, 0);
                new.tasks[task].life[0].start_ns = new.now_ns;
                new.remember();
            }
        }
        new
    }

    fn add(&mut self, is_target: bool, name: &str, cpu: u16, state: State) -> usize {
        let place = self.tasks.len() as u32;
        let (pid, tid) =
            if is_target { (TARGET_PID, 4712 + place) } else { (900 + place, 900 + place) };
        let first = Was { start_ns: START_NS, state, cpu, by: By::Nobody };
        self.tasks.push(Task {
            tid,
            pid,
            is_target,
            parent: None,
            comm: comm(name),
            life: vec![first],
            end_ns: None,
            migrations: 0,
            switches: 0,
            is_known: false,
        });
        self.tasks.len() - 1
    }

    /// Does one thing, which `choice` chooses; nothing if that cannot be.
    pub(crate) fn step(&mut self, choice: u32) {
        let cpu = choice as usize % self.current.len();
        let pick = (choice >> 12) as usize;
        let pause_ns = 200 + u64::from(choice >> 16) * 3;
        self.now_ns += pause_ns;
        match (choice >> 4) % 16 {
            0..4 => self.switch(cpu, pick),
            4..8 => self.wake(cpu, pick),
            8 => self.preempt(cpu, 0, SWITCH_PREEMPTED),
            // Preempted on its way to sleep: it goes on to wait for a CPU.
            9 => self.preempt(cpu, 1, SWITCH_PREEMPTED),
            10 => self.preempt(cpu, 0, 0),
            11 | 12 => self.move_waiting(cpu, pick),
            13 => self.fork(cpu, pick),
            14 => self.exit(cpu, pick),
            _ => self.interrupts(cpu),
        }
        self.remember();
    }

    /// Takes the last snapshot.
    pub(crate) fn finish(&mut self) {
        for task in 0..self.tasks.len() {
            let is_told = self.tasks[task].is_target || !self.is_filtered;
            if is_told && self.tasks[task].end_ns.is_none() {
                self.snapshot(task, THREAD_LAST);
            }
        }
    }

    fn tick(&mut self) -> u64 {
        self.now_ns += 150;
        self.now_ns
    }

    fn had(&self, cpu: usize) -> Had {
        self.current[cpu].map_or(Had::Idle, |task| Had::Thread(self.tasks[task].tid))
    }

    /// Notes who has every CPU, and what of it a recording has.
    fn remember(&mut self) {
        for cpu in 0..self.current.len() {
            let had = self.had(cpu);
            let is_own = self.current[cpu]
                .is_some_and(|task| self.tasks[task].is_target && self.tasks[task].is_known);
            let is_told = !self.is_filtered || is_own || self.waits_at(cpu);
            let told = if is_told { had } else { Had::Unknown };
            for (lane, had) in [(&mut self.history[cpu], had), (&mut self.told[cpu], told)] {
                if lane.last().is_none_or(|(_, last)| *last != had) {
                    lane.push((self.now_ns, had));
                }
            }
        }
    }

    /// Whether a thread of the target waits for `cpu`.
    fn waits_at(&self, cpu: usize) -> bool {
        let here = |task: &&Task| task.is_target && usize::from(task.cpu()) == cpu;
        let mut here = self.tasks.iter().filter(|task| task.end_ns.is_none()).filter(here);
        here.any(|task| task.state().is_waiting())
    }

    /// The task number `pick` of those that `wanted` says.
    fn find(&self, pick: usize, wanted: impl Fn(&Task) -> bool) -> Option<usize> {
        let alive = |task: &Task| task.end_ns.is_none() && wanted(task);
        let found: Vec<usize> =
            (0..self.tasks.len()).filter(|task| alive(&self.tasks[*task])).collect();
        (!found.is_empty()).then(|| found[pick % found.len()])
    }

    fn emit(&mut self, cpu: usize, record: &(impl IntoBytes + Immutable)) {
        self.records.push((cpu as u16, record.as_bytes().to_vec()));
    }

    fn header(&self, kind: Kind, cpu: usize, task: Option<usize>, arg: u32) -> Header {
        let (tid, pid) = task.map_or((0, 0), |task| (self.tasks[task].tid, self.tasks[task].pid));
        Header { time_ns: self.now_ns, kind: kind as u16, cpu: cpu as u16, tid, pid, arg }
    }

    fn ids(&self, task: Option<usize>) -> (u32, u32) {
        task.map_or((0, 0), |task| (self.tasks[task].tid, self.tasks[task].pid))
    }

    fn snapshot(&mut self, task: usize, flags: u16) {
        self.tick();
        let cpu = usize::from(self.tasks[task].cpu());
        let header = self.header(Kind::Thread, cpu, Some(task), 1);
        let on_cpu = if self.current[cpu] == Some(task) { THREAD_ON_CPU } else { 0 };
        let comm = self.tasks[task].comm;
        let state = u16::from(on_cpu == 0);
        let nvcsw = self.tasks[task].all_switches();
        self.tasks[task].is_known = true;
        self.emit(
            cpu,
            &Thread {
                header,
                nvcsw,
                state,
                flags: flags | on_cpu,
                prio: 120,
                comm,
                ..Thread::default()
            },
        );
    }

    /// Names a thread that is not of the target, once.
    fn name(&mut self, cpu: usize, task: Option<usize>) {
        let Some(task) = task else { return };
        if !self.is_filtered || self.tasks[task].is_target || self.tasks[task].is_known {
            return;
        }
        self.tasks[task].is_known = true;
        let header = self.header(Kind::Thread, cpu, Some(task), 1);
        let comm = self.tasks[task].comm;
        self.emit(cpu, &Thread { header, flags: THREAD_FOREIGN, comm, ..Thread::default() });
    }

    fn become_(&mut self, task: usize, state: State, cpu: usize, by: By) {
        let start_ns = self.now_ns;
        self.tasks[task].life.push(Was { start_ns, state, cpu: cpu as u16, by });
    }

    /// Puts the thread to sleep that has the CPU, in one of the ways there are.
    fn switch(&mut self, cpu: usize, pick: usize) {
        let ways = [
            (1, State::Sleeping),
            (2, State::Uninterruptible),
            (0x402, State::Sleeping),
            (4, State::Stopped),
        ];
        let (bits, state) = ways[pick % ways.len()];
        self.switch_to(cpu, pick, Leaves { bits, flags: 0, after: Some(state) });
    }

    fn preempt(&mut self, cpu: usize, bits: u16, flags: u8) {
        let is_wanted = |task: &Task| task.state().is_waiting() && usize::from(task.cpu()) == cpu;
        if self.current[cpu].is_some() && self.find(0, is_wanted).is_some() {
            let after = Some(State::Preempted);
            self.switch_to(cpu, 0, Leaves { bits, flags, after });
        }
    }

    /// A thread that waits for `cpu` gets it, or nobody.
    fn switch_to(&mut self, cpu: usize, pick: usize, leaves: Leaves) {
        let Leaves { bits, flags, after } = leaves;
        let is_wanted = |task: &Task| task.state().is_waiting() && usize::from(task.cpu()) == cpu;
        let (prev, next) = (self.current[cpu], self.find(pick, is_wanted));
        if prev.is_none() && next.is_none() {
            return;
        }
        let is_target = |task: Option<usize>| task.is_some_and(|task| self.tasks[task].is_target);
        let is_told = !self.is_filtered || is_target(prev) || is_target(next) || self.waits_at(cpu);
        if is_told {
            self.name(cpu, prev);
            self.name(cpu, next);
            let (next_tid, next_pid) = self.ids(next);
            let header = self.header(Kind::Switch, cpu, prev, next_tid);
            let prev_state = if prev.is_some() { bits } else { 0 };
            self.emit(cpu, &Switch { header, next_pid, prev_state, flags, next_prio: 120 });
        }
        if let Some(prev) = prev {
            self.tasks[prev].switches += 1;
            match after {
                Some(after) => self.become_(prev, after, cpu, By::Nobody),
                None => self.tasks[prev].end_ns = Some(self.now_ns),
            }
        }
        if let Some(next) = next {
            self.become_(next, State::Running, cpu, By::Nobody);
        }
        self.current[cpu] = next;
    }

    /// What runs on `cpu`, or an interrupt there, wakes a thread; sometimes one that still runs.
    fn wake(&mut self, cpu: usize, pick: usize) {
        let is_asleep =
            |task: &Task| !matches!(task.state(), State::Woken | State::Preempted | State::New);
        let Some(task) = self.find(pick, is_asleep) else { return };
        let is_told = !self.is_filtered || self.tasks[task].is_target;
        let (flags, by) = match (pick >> 3) % 4 {
            0 => (WAKING_HARDIRQ, By::HardIrq),
            1 => (WAKING_SOFTIRQ, By::SoftIrq),
            _ => match self.current[cpu] {
                Some(waker) => (0, By::Thread(self.tasks[waker].tid)),
                None => (0, By::HardIrq),
            },
        };
        if is_told {
            if flags == 0 {
                self.name(cpu, self.current[cpu]);
            }
            let (waker, waker_pid) = self.ids(self.current[cpu]);
            let header = self.header(Kind::Waking, cpu, Some(task), waker);
            self.emit(cpu, &Waking { header, waker_pid, flags });
        }
        self.tick();
        let is_running = self.tasks[task].state() == State::Running;
        let mut to = usize::from(self.tasks[task].cpu());
        if !is_running && pick.is_multiple_of(5) {
            to = (to + 1) % self.current.len();
            self.migrate(cpu, task, to);
        }
        self.tick();
        self.wakeup(Kind::Wakeup, cpu, task, to);
        if !is_running {
            self.become_(task, State::Woken, to, by);
        }
    }

    fn wakeup(&mut self, kind: Kind, cpu: usize, task: usize, to: usize) {
        if self.is_filtered && !self.tasks[task].is_target {
            return;
        }
        let mut occupant = (NOT_ASKED, 0);
        if self.is_filtered {
            self.name(cpu, self.current[to]);
            occupant = self.ids(self.current[to]);
        }
        let header = self.header(kind, cpu, Some(task), to as u32);
        self.emit(cpu, &Wakeup { header, occupant_tid: occupant.0, occupant_pid: occupant.1 });
    }

    fn migrate(&mut self, cpu: usize, task: usize, to: usize) {
        let from = usize::from(self.tasks[task].cpu());
        self.tasks[task].migrations += u64::from(from != to);
        if from == to || (self.is_filtered && !self.tasks[task].is_target) {
            return;
        }
        let mut occupant_tid = NOT_ASKED;
        if self.is_filtered && self.tasks[task].state().is_waiting() {
            self.name(cpu, self.current[to]);
            occupant_tid = self.ids(self.current[to]).0;
        }
        let header = self.header(Kind::Migrate, cpu, Some(task), to as u32);
        self.emit(cpu, &Migrate { header, from_cpu: from as u32, occupant_tid });
    }

    /// `cpu` pulls a thread that waits for another.
    fn move_waiting(&mut self, cpu: usize, pick: usize) {
        let is_wanted = |task: &Task| task.state().is_waiting() && usize::from(task.cpu()) != cpu;
        let Some(task) = self.find(pick, is_wanted) else { return };
        let Some(last) = self.tasks[task].life.last().copied() else { return };
        self.migrate(cpu, task, cpu);
        self.become_(task, last.state, cpu, last.by);
    }

    fn fork(&mut self, cpu: usize, pick: usize) {
        let Some(parent) = self.current[cpu].filter(|_| self.tasks.len() < 24) else { return };
        let is_target = self.tasks[parent].is_target;
        let child =
            self.add(is_target, if is_target { "request" } else { "make" }, cpu as u16, State::New);
        self.tasks[child].parent = Some(self.tasks[parent].tid);
        self.tasks[child].life[0].start_ns = self.now_ns;
        let is_told = !self.is_filtered || is_target;
        if is_told {
            self.tasks[child].is_known = true;
            let (parent_tid, parent_pid) = self.ids(Some(parent));
            let header = self.header(Kind::Fork, cpu, Some(child), parent_tid);
            let comm = self.tasks[child].comm;
            self.emit(cpu, &Fork { header, parent_pid, reserved: 0, comm });
        }
        self.tick();
        let to = pick % self.current.len();
        self.wakeup(Kind::WakeupNew, cpu, child, to);
        let by = By::Thread(self.tasks[parent].tid);
        self.become_(child, State::Woken, to, by);
    }

    fn exit(&mut self, cpu: usize, pick: usize) {
        let Some(task) = self.current[cpu].filter(|_| self.tasks.len() > 6) else { return };
        if !self.is_filtered || self.tasks[task].is_target {
            let header = self.header(Kind::Exit, cpu, Some(task), 0);
            let nvcsw = self.tasks[task].all_switches();
            self.emit(cpu, &Exit { header, nvcsw, nivcsw: 0, run_delay_ns: 0 });
        }
        self.tick();
        self.switch_to(cpu, pick, Leaves { bits: 0x80, flags: 0, after: None });
    }

    fn interrupts(&mut self, cpu: usize) {
        let header = self.header(Kind::Interrupts, cpu, self.current[cpu], 2);
        let since_ns = self.now_ns.saturating_sub(200);
        self.emit(cpu, &Interrupts { header, since_ns, hard_ns: 90, soft_ns: 40, steal_ns: 0 });
    }
}
