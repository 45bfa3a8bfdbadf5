//! Invents recordings: a small scheduler runs threads of given habits on a few CPUs.
//!
//! The parent module says where hz is: `use hz_trace as hz;` or `use crate as hz;`.

use super::hz::model::{
    Call, Cpu, InterruptTime, LostInterval, Model, Run, Span, State, Thread, ThreadIndex, Waker,
    Who,
};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// What a thread does over and over: it runs, then sleeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habit {
    /// Shown name; at most 15 bytes.
    pub(crate) name: &'static [u8],
    /// Process and thread id.
    pub(crate) ids: (u32, u32),
    /// Mean nanoseconds of a burst on a CPU.
    pub(crate) run_ns: u64,
    /// Mean nanoseconds of a sleep.
    pub(crate) sleep_ns: u64,
    /// Nanoseconds since the start of its first wake-up.
    pub(crate) first_ns: u64,
    /// Bursts after which it ends; 0 for never.
    pub(crate) bursts: u64,
    /// How it sleeps.
    pub(crate) sleeps: State,
    /// Longest time on a CPU while others wait.
    pub(crate) slice_ns: u64,
    /// CPU it prefers.
    pub(crate) cpu: u16,
}

impl Habit {
    /// A thread of process 4711 that runs and sleeps.
    pub(crate) const fn new(name: &'static [u8], tid: u32, run_ns: u64, sleep_ns: u64) -> Self {
        Self {
            name,
            ids: (4711, tid),
            run_ns,
            sleep_ns,
            first_ns: 0,
            bursts: 0,
            sleeps: State::Sleeping,
            slice_ns: 3_000_000,
            cpu: (tid % 2) as u16,
        }
    }
}

#[derive(Debug)]
struct Worker {
    habit: Habit,
    left_ns: u64,
    cpu: u16,
    bursts: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Wake(usize),
    Dispatch(usize),
    Leave(usize),
}

/// The scheduler.
#[derive(Debug)]
pub(crate) struct Simulation {
    model: Model,
    workers: Vec<Worker>,
    queues: Vec<VecDeque<usize>>,
    on_cpu: Vec<Option<usize>>,
    is_coming: Vec<bool>,
    steps: BinaryHeap<Reverse<(u64, u64, Step)>>,
    order: u64,
    random: u64,
}

const START_NS: u64 = 5_000_000_000;

/// Runs `habits` on `cpus` CPUs for `duration_ns`.
pub(crate) fn simulate(cpus: u16, duration_ns: u64, habits: &[Habit]) -> Model {
    let mut simulation = Simulation::new(cpus, habits);
    let end_ns = START_NS + duration_ns;
    while let Some(Reverse((time_ns, _, step))) = simulation.steps.pop() {
        if time_ns >= end_ns {
            break;
        }
        match step {
            Step::Wake(worker) => simulation.wake(worker, time_ns),
            Step::Dispatch(cpu) => simulation.dispatch(cpu, time_ns),
            Step::Leave(cpu) => simulation.leave(cpu, time_ns),
        }
    }
    simulation.finish(end_ns)
}

impl Simulation {
    fn new(cpus: u16, habits: &[Habit]) -> Self {
        let count = usize::from(cpus);
        let idle = Run { start_ns: START_NS, who: Who::Idle };
        let lane = |id| Cpu { id, runs: vec![idle], ..Cpu::default() };
        let mut new = Self {
            model: Model {
                start_ns: START_NS,
                end_ns: START_NS,
                cpus: (0..cpus).map(lane).collect(),
                ..Model::default()
            },
            workers: Vec::new(),
            queues: vec![VecDeque::new(); count],
            on_cpu: vec![None; count],
            is_coming: vec![false; count],
            steps: BinaryHeap::new(),
            order: 0,
            random: 42,
        };
        for habit in habits {
            new.add(*habit, cpus);
        }
        new
    }

    fn add(&mut self, habit: Habit, cpus: u16) {
        let mut comm = [0; 16];
        comm[..habit.name.len()].copy_from_slice(habit.name);
        let cpu = habit.cpu % cpus;
        let span = Span { start_ns: START_NS, state: habit.sleeps, cpu, waker: Waker::Unknown };
        self.model.threads.push(Thread {
            tid: habit.ids.1,
            pid: habit.ids.0,
            comm,
            is_kernel: false,
            is_target: true,
            parent: None,
            start_ns: START_NS,
            end_ns: START_NS,
            has_exited: false,
            spans: vec![span],
            migrations: 0,
            switches: 0,
            kernel_first: None,
            kernel_last: None,
        });
        let worker = self.workers.len();
        self.workers.push(Worker { habit, left_ns: 0, cpu, bursts: 0 });
        self.at(START_NS + habit.first_ns + 1, Step::Wake(worker));
    }

    fn at(&mut self, time_ns: u64, step: Step) {
        self.order += 1;
        self.steps.push(Reverse((time_ns, self.order, step)));
    }

    /// About `mean`: between a third and three times of it.
    fn about(&mut self, mean: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let share = (self.random >> 33) % 1000;
        (mean / 3 + mean * share * share / 375_000).max(200)
    }

    fn span(&mut self, worker: usize, time_ns: u64, state: State, waker: Waker) {
        let cpu = self.workers[worker].cpu;
        let thread = &mut self.model.threads[worker];
        thread.end_ns = time_ns;
        thread.migrations += u64::from(thread.spans.last().is_some_and(|last| last.cpu != cpu));
        thread.spans.push(Span { start_ns: time_ns, state, cpu, waker });
        self.model.records += 1;
    }

    fn run(&mut self, cpu: usize, time_ns: u64, who: Who) {
        self.model.switches += 1;
        self.model.records += 1;
        self.model.cpus[cpu].runs.push(Run { start_ns: time_ns, who });
    }

    fn wake(&mut self, worker: usize, time_ns: u64) {
        let own = usize::from(self.workers[worker].cpu);
        let is_free = |cpu: &usize| {
            self.on_cpu[*cpu].is_none() && !self.is_coming[*cpu] && self.queues[*cpu].is_empty()
        };
        let free = std::iter::once(own).chain(0..self.queues.len()).find(is_free);
        let cpu = free.unwrap_or(own);
        self.workers[worker].cpu = cpu as u16;
        let mean_ns = self.workers[worker].habit.run_ns;
        self.workers[worker].left_ns = self.about(mean_ns);
        let waker = match self.on_cpu.iter().flatten().next() {
            Some(other) if !self.random.is_multiple_of(3) => {
                Waker::Thread(ThreadIndex(*other as u32))
            }
            _ => Waker::HardIrq,
        };
        self.span(worker, time_ns, State::Woken, waker);
        self.queues[cpu].push_back(worker);
        if free.is_some() {
            self.is_coming[cpu] = true;
            let latency_ns = self.about(4_000);
            self.at(time_ns + latency_ns, Step::Dispatch(cpu));
        }
    }

    fn dispatch(&mut self, cpu: usize, time_ns: u64) {
        self.is_coming[cpu] = false;
        let Some(worker) = self.queues[cpu].pop_front() else {
            self.on_cpu[cpu] = None;
            return self.run(cpu, time_ns, Who::Idle);
        };
        self.on_cpu[cpu] = Some(worker);
        self.span(worker, time_ns, State::Running, Waker::Unknown);
        self.run(cpu, time_ns, Who::Thread(ThreadIndex(worker as u32)));
        let stay_ns = self.workers[worker].left_ns.min(self.workers[worker].habit.slice_ns);
        self.at(time_ns + stay_ns, Step::Leave(cpu));
    }

    fn leave(&mut self, cpu: usize, time_ns: u64) {
        let Some(worker) = self.on_cpu[cpu] else { return };
        let habit = self.workers[worker].habit;
        self.workers[worker].left_ns = self.workers[worker].left_ns.saturating_sub(habit.slice_ns);
        if self.workers[worker].left_ns > 0 {
            if self.queues[cpu].is_empty() {
                let stay_ns = self.workers[worker].left_ns.min(habit.slice_ns);
                return self.at(time_ns + stay_ns, Step::Leave(cpu));
            }
            self.span(worker, time_ns, State::Preempted, Waker::Unknown);
            self.queues[cpu].push_back(worker);
            return self.dispatch(cpu, time_ns);
        }
        self.workers[worker].bursts += 1;
        self.model.threads[worker].switches += 1;
        if self.workers[worker].bursts == habit.bursts {
            self.model.threads[worker].end_ns = time_ns;
            self.model.threads[worker].has_exited = true;
        } else {
            self.span(worker, time_ns, habit.sleeps, Waker::Unknown);
            let sleep_ns = self.about(habit.sleep_ns);
            self.at(time_ns + sleep_ns, Step::Wake(worker));
        }
        self.dispatch(cpu, time_ns);
    }

    fn finish(mut self, end_ns: u64) -> Model {
        self.model.end_ns = end_ns;
        for thread in self.model.threads.iter_mut().filter(|thread| !thread.has_exited) {
            thread.end_ns = end_ns;
        }
        self.model
    }
}

/// 40 ms of a small service whose worker loses its CPU to a compiler: the one in the README.
pub(crate) fn service() -> Model {
    let foreign = |name, pid, first_ns, run_ns| Habit {
        ids: (pid, pid),
        first_ns,
        bursts: 1,
        slice_ns: 30_000_000,
        ..Habit::new(name, pid, run_ns, 0)
    };
    let habits = [
        Habit::new(b"accept", 4711, 60_000, 900_000),
        Habit::new(b"worker-0", 4712, 420_000, 500_000),
        Habit::new(b"worker-1", 4713, 480_000, 450_000),
        Habit {
            sleeps: State::Uninterruptible,
            ..Habit::new(b"wal-writer", 4714, 90_000, 2_600_000)
        },
        Habit { ids: (612, 612), ..Habit::new(b"sshd", 612, 40_000, 6_000_000) },
        foreign(b"rustc", 991, 12_900_000, 11_000_000),
        Habit { cpu: 0, ..foreign(b"cc1plus", 992, 19_000_000, 4_000_000) },
    ];
    let mut model = simulate(2, 40_000_000, &habits);
    forget_foreign(&mut model);
    decorate(&mut model);
    model
}

/// Leaves of other processes what a recording of process 4711 has: that they ran, while a thread
/// of it waited there.
fn forget_foreign(model: &mut Model) {
    for thread in model.threads.iter_mut().filter(|thread| thread.pid != 4711) {
        thread.is_target = false;
        thread.spans.clear();
    }
    let threads = &model.threads;
    for run in model.cpus.iter_mut().flat_map(|cpu| &mut cpu.runs) {
        if let Who::Thread(thread) = run.who
            && threads[thread.0 as usize].pid == 612
        {
            run.who = Who::Unknown;
        }
    }
}

/// Adds calls, interrupts and a loss.
fn decorate(model: &mut Model) {
    let thread = ThreadIndex(1);
    for number in 0..28_u64 {
        let start_ns = model.start_ns + 600_000 + number * 1_370_000;
        let end_ns = (number % 5 != 0).then_some(start_ns + 70_000 + number % 7 * 90_000);
        let probe = u32::from(number % 5 == 0);
        model.calls.push(Call { probe, thread, start_ns, end_ns });
    }
    for number in 0..10_u64 {
        let start_ns = model.start_ns + number * 4_000_000;
        let time = InterruptTime {
            start_ns,
            end_ns: start_ns + 4_000_000,
            hard_ns: 60_000,
            soft_ns: 110_000,
            steal_ns: 0,
        };
        model.cpus.iter_mut().for_each(|cpu| cpu.interrupts.push(time));
    }
    let start_ns = model.start_ns + 33_000_000;
    model.cpus[0].lost.push(LostInterval { start_ns, end_ns: start_ns + 250_000, count: 1_204 });
}

/// 10 s of a cache under load, in which a backup takes a CPU for a while.
pub(crate) fn incident() -> Model {
    let worker = |number: u32| Habit {
        slice_ns: 4_000_000,
        ..Habit::new(b"worker", 4_712 + number, 150_000, 420_000)
    };
    let backup = Habit {
        ids: (880, 880),
        first_ns: 4_100_000_000,
        bursts: 6,
        slice_ns: 60_000_000,
        ..Habit::new(b"backup", 880, 90_000_000, 30_000_000)
    };
    let slow =
        |name, tid, run_ns, sleep_ns| Habit { cpu: 1, ..Habit::new(name, tid, run_ns, sleep_ns) };
    let mut habits: Vec<Habit> = (0..4).map(worker).collect();
    habits.extend([
        slow(b"memcached", 4_711, 30_000, 50_000_000),
        slow(b"logger", 4_720, 400_000, 200_000_000),
        Habit { sleeps: State::Uninterruptible, ..slow(b"flusher", 4_721, 2_000_000, 500_000_000) },
        backup,
    ]);
    simulate(2, 10_000_000_000, &habits)
}

/// A busy machine: many threads of many processes, `duration_ns` long.
pub(crate) fn busy_machine(cpus: u16, duration_ns: u64, threads: u32) -> Model {
    const NAMES: [&[u8]; 9] = [
        b"postgres",
        b"nginx",
        b"redis-server",
        b"java",
        b"node",
        b"rustc",
        b"kworker/0:1",
        b"envoy",
        b"sshd",
    ];
    let habits: Vec<Habit> = (0..threads)
        .map(|number| {
            let kind = number as usize % NAMES.len();
            let pid = 1_000 + kind as u32 * 100;
            Habit {
                ids: (pid, pid + number / NAMES.len() as u32),
                cpu: (number % u32::from(cpus)) as u16,
                ..Habit::new(
                    NAMES[kind],
                    0,
                    20_000 + 7_000 * u64::from(number % 13),
                    300_000 + 90_000 * u64::from(number),
                )
            }
        })
        .collect();
    simulate(cpus, duration_ns, &habits)
}

/// The hardest case for size: two threads that wake each other all the time, as in
/// `perf bench sched pipe`, and a few more on each CPU; about 200 000 switches a second.
pub(crate) fn storm(duration_ns: u64) -> Model {
    let mut habits: Vec<Habit> = (0..16)
        .map(|number| Habit {
            cpu: number as u16,
            ..Habit::new(b"pipe", 5_000 + number, 8_000, 60_000)
        })
        .collect();
    habits.push(Habit::new(b"burner", 6_000, 900_000_000, 1_000));
    habits.push(Habit::new(b"watcher", 6_001, 1_000_000, 90_000_000));
    simulate(4, duration_ns, &habits)
}
