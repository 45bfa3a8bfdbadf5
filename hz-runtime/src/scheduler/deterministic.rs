//! One seed, one schedule: every task on one thread, the next one chosen by a seeded generator, the
//! clock virtual.
//!
//! Tasks run while a thread is in `block_on`, on that thread. Of all that are ready, whatever their
//! priority, the generator takes one: every order of polls that the program's waits allow is some
//! seed's schedule. When nothing is ready, the clock jumps to the next timer.
//!
//! What comes from outside (files, other threads) is served, and is not part of the promise.

use super::cell::{self, Job};
use super::sync::{Mutex, lock};
use super::{Core, Scheduler, budget, virtual_time};
use crate::probe;
use async_task::ScheduleInfo;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

/// How long a run in which nothing can happen any more waits for another thread's wake-up.
const PATIENCE: Duration = Duration::from_secs(1);

/// The only worker.
const WORKER: usize = 0;

/// What schedules are made of.
#[derive(Clone, Copy, Debug)]
enum Step {
    Wake = 1,
    Poll = 2,
    Jump = 3,
}

/// A deterministic runtime's schedule so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Schedule {
    /// The seed it follows from.
    pub seed: u64,
    /// A hash over every wake-up, every poll and every jump of the clock to a timer, each with its
    /// task and the virtual time. Equal hashes are equal schedules.
    pub hash: u64,
    /// Polls, those of the future that `block_on` was given included.
    pub polls: u64,
    /// Wake-ups by other threads. The seed does not decide on those: with any, another run may differ.
    pub foreign_wakes: u64,
}

/// The scheduler of one thread.
#[derive(Debug)]
pub(crate) struct Deterministic {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ready: Vec<Job>,
    schedule: Schedule,
    random: u64,
    spawned: u64,
    now_ns: u64,
    runs_on: Option<ThreadId>,
}

/// What to poll next.
enum Next {
    Task(Job),
    Main,
    Nothing,
}

impl Deterministic {
    pub(super) fn new(seed: u64) -> Self {
        let schedule = Schedule { seed, hash: FNV_BASIS, polls: 0, foreign_wakes: 0 };
        let (ready, random) = (Vec::new(), seed);
        let now_ns = virtual_time::BEGIN_NS;
        let state = State { ready, schedule, random, spawned: 0, now_ns, runs_on: None };
        Self { state: Mutex::new(state) }
    }

    pub(crate) fn schedule(&self) -> Schedule {
        lock(&self.state).schedule
    }

    /// The number of a task that is being spawned: unlike its id, the same in each run.
    pub(super) fn number(&self) -> u64 {
        let mut state = lock(&self.state);
        state.spawned += 1;
        state.spawned
    }

    /// Adds a ready task; true if another thread than the one that runs tasks did it.
    fn push(&self, job: Job) -> bool {
        let mut state = lock(&self.state);
        let is_foreign = state.is_foreign();
        state.record(Step::Wake, job.metadata().number);
        state.ready.push(job);
        is_foreign
    }

    /// Takes any of those that are ready.
    fn next(&self, main: &Main) -> Next {
        let mut state = lock(&self.state);
        let is_main_ready = main.is_woken.load(Ordering::Acquire);
        let ready = state.ready.len();
        let choices = ready + usize::from(is_main_ready);
        if choices == 0 {
            return Next::Nothing;
        }
        let choice = state.choose(choices);
        state.schedule.polls += 1;
        if choice == ready {
            main.is_woken.store(false, Ordering::Release);
            state.record(Step::Poll, 0);
            return Next::Main;
        }
        let job = state.ready.swap_remove(choice);
        state.record(Step::Poll, job.metadata().number);
        Next::Task(job)
    }

    /// Lets something happen: a file, a timer, another thread's wake-up.
    ///
    /// # Panics
    ///
    /// If nothing ever will.
    fn wait(&self, core: &Core, main: &Main) {
        let has_happened =
            |timeout| core.reactor.turn(WORKER, timeout).is_ok_and(|woken| woken > 0);
        if has_happened(Some(Duration::ZERO)) {
            return;
        }
        if let Some(next_ns) = core.reactor.next_timer_ns() {
            let mut state = lock(&self.state);
            state.now_ns = state.now_ns.max(next_ns);
            virtual_time::set(state.now_ns);
            state.record(Step::Jump, 0);
            drop(state);
            has_happened(Some(Duration::ZERO));
            return;
        }
        if core.reactor.has_files() {
            has_happened(None);
            return;
        }
        let is_awake =
            || main.is_woken.load(Ordering::Acquire) || !lock(&self.state).ready.is_empty();
        let begin = Instant::now();
        while !is_awake() {
            let left = PATIENCE.saturating_sub(begin.elapsed());
            let tasks = core.live_tasks();
            assert!(!left.is_zero(), "deadlock: block_on and {tasks} tasks wait for each other");
            has_happened(Some(left));
        }
    }

    /// Drops what is woken until all tasks of the closed runtime are gone.
    pub(super) fn drain(&self, core: &Core) {
        while !core.is_over() {
            let ready = std::mem::take(&mut lock(&self.state).ready);
            if ready.is_empty() {
                // Another thread holds a task's last reference, to wake or to drop it.
                let _ = core.reactor.turn(WORKER, Some(Duration::from_millis(1)));
            }
            drop(ready);
        }
    }
}

impl State {
    fn is_foreign(&mut self) -> bool {
        let is_foreign = self.runs_on.is_some_and(|thread| thread != thread::current().id());
        self.schedule.foreign_wakes += u64::from(is_foreign);
        is_foreign
    }

    fn record(&mut self, step: Step, number: u64) {
        for word in [step as u64, number, self.now_ns] {
            self.schedule.hash = fnv(self.schedule.hash, word);
        }
    }

    /// One of `choices`, by splitmix64 (Steele, Lea and Flood, 2014).
    fn choose(&mut self, choices: usize) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.random;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) as usize % choices
    }
}

/// FNV-1a's start and prime, 64 bits.
const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

fn fnv(hash: u64, word: u64) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
    word.to_le_bytes().into_iter().fold(hash, step)
}

/// Puts a woken task among those that are ready.
pub(super) fn schedule(job: Job, info: ScheduleInfo) {
    if info.woken_while_running {
        cell::woken_in_poll(&job);
    } else {
        cell::woken(&job);
    }
    // Without a runtime there is nobody to poll it: dropping it cancels it.
    let Some(core) = job.metadata().shard.core().upgrade() else { return };
    if let Scheduler::Deterministic(scheduler) = &core.scheduler
        && scheduler.push(job)
    {
        core.reactor.notify(WORKER);
    }
}

/// Runs tasks on this thread until `future` is ready.
pub(super) fn block_on<F: Future>(
    core: &Arc<Core>,
    scheduler: &Deterministic,
    future: F,
) -> F::Output {
    let _run = Run::begin(scheduler);
    probe::worker_started(WORKER as u32);
    let main = Arc::new(Main { core: Arc::downgrade(core), is_woken: AtomicBool::new(true) });
    let waker = Waker::from(Arc::clone(&main));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match scheduler.next(&main) {
            Next::Main => {
                if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                    return output;
                }
            }
            Next::Task(job) => scheduler.dispatch(job),
            Next::Nothing => scheduler.wait(core, &main),
        }
    }
}

impl Deterministic {
    fn dispatch(&self, job: Job) {
        let panics = cell::panics();
        budget::refill();
        cell::run(job);
        budget::lift();
        if cell::panics() != panics {
            self.tell_seed("a task panicked");
        }
    }

    fn tell_seed(&self, what: &str) {
        let seed = self.schedule().seed;
        eprintln!("hz-runtime: {what}; HZ_SCHEDULER_MODE=deterministic HZ_SEED={seed} replays it");
    }
}

/// A thread in `block_on`.
struct Run<'a> {
    scheduler: &'a Deterministic,
    _virtual_time: virtual_time::Guard,
}

impl<'a> Run<'a> {
    fn begin(scheduler: &'a Deterministic) -> Self {
        let mut state = lock(&scheduler.state);
        assert!(
            state.runs_on.is_none(),
            "a deterministic runtime runs one block_on at a time, and none inside a task"
        );
        state.runs_on = Some(thread::current().id());
        let _virtual_time = virtual_time::Guard::enter(state.now_ns);
        Self { scheduler, _virtual_time }
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        lock(&self.scheduler.state).runs_on = None;
        if thread::panicking() {
            self.scheduler.tell_seed("block_on panicked");
        }
    }
}

/// The future that `block_on` was given, as those see it that wake it.
struct Main {
    core: Weak<Core>,
    is_woken: AtomicBool,
}

impl Wake for Main {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_woken.swap(true, Ordering::AcqRel) {
            return;
        }
        let Some(core) = self.core.upgrade() else { return };
        let Scheduler::Deterministic(scheduler) = &core.scheduler else { return };
        let mut state = lock(&scheduler.state);
        let is_foreign = state.is_foreign();
        state.record(Step::Wake, 0);
        drop(state);
        if is_foreign {
            core.reactor.notify(WORKER);
        }
    }
}
