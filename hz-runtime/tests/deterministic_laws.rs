//! What holds for every program and every seed: random trees of tasks that spawn, yield, sleep, send,
//! receive, abort and cancel.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use hz_runtime::sync::{Receiver, Sender, bounded};
use hz_runtime::time::{self, sleep, timeout};
use hz_runtime::{
    JoinError, JoinHandle, Priority, Runtime, Schedule, Scope, TaskMeta, spawn_with, yield_now,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const CHANNELS: usize = 2;

const LEVELS: [Priority; 4] =
    [Priority::Critical, Priority::High, Priority::Normal, Priority::Background];

/// A step of a program.
#[derive(Clone, Debug)]
enum Step {
    Yield,
    Sleep(Duration),
    /// Sends, or gives up after a while.
    Send(usize, Duration),
    Receive(usize, Duration),
    Spawn(Child),
    /// Runs these in a scope that is cancelled after a while, if it is.
    Scope(Vec<Child>, Option<Duration>),
}

/// A task that a program spawns.
#[derive(Clone, Debug)]
struct Child {
    program: Vec<Step>,
    priority: Priority,
    after: After,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Joined,
    Aborted,
    /// Ends by itself, or with the runtime.
    Detached,
}

fn priority() -> impl Strategy<Value = Priority> {
    proptest::sample::select(&LEVELS[..])
}

fn duration() -> impl Strategy<Value = Duration> {
    // Some at the same time, some far away.
    prop_oneof![
        (0..5_u64).prop_map(Duration::from_millis),
        (1..9_u64).prop_map(Duration::from_secs)
    ]
}

fn program() -> impl Strategy<Value = Vec<Step>> {
    let leaf = prop_oneof![
        Just(Step::Yield),
        duration().prop_map(Step::Sleep),
        (0..CHANNELS, duration()).prop_map(|(which, limit)| Step::Send(which, limit)),
        (0..CHANNELS, duration()).prop_map(|(which, limit)| Step::Receive(which, limit)),
    ];
    let leaves = proptest::collection::vec(leaf.clone(), 0..6);
    leaves.prop_recursive(4, 40, 6, move |inner| {
        let after = proptest::sample::select(&[After::Joined, After::Aborted, After::Detached][..]);
        let child = (inner, priority(), after)
            .prop_map(|(program, priority, after)| Child { program, priority, after })
            .boxed();
        let children = proptest::collection::vec(child.clone(), 0..4);
        let step = prop_oneof![
            3 => leaf.clone(),
            3 => child.prop_map(Step::Spawn),
            1 => (children, proptest::option::of(duration())).prop_map(|(all, ends)| Step::Scope(all, ends)),
        ];
        proptest::collection::vec(step, 1..6)
    })
}

/// What all tasks of a run share.
struct World {
    channels: Vec<(Sender<u64>, Receiver<u64>)>,
    begin: Instant,
    last: Mutex<Duration>,
    /// What happened, in order.
    log: Mutex<Vec<(u64, Duration, &'static str)>>,
    tasks: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    /// Tasks by what became of them.
    ended: Mutex<BTreeMap<&'static str, u64>>,
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            channels: (0..CHANNELS).map(|capacity| bounded(1 + capacity)).collect(),
            begin: time::now(),
            last: Mutex::default(),
            log: Mutex::default(),
            tasks: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            ended: Mutex::default(),
        })
    }

    /// Now, which is never before what was seen before.
    fn now(&self) -> Duration {
        let now = time::now().duration_since(self.begin);
        let mut last = self.last.lock().unwrap();
        assert!(now >= *last, "the time goes back from {last:?} to {now:?}");
        *last = now;
        now
    }

    fn note(&self, task: u64, what: &'static str) {
        let now = self.now();
        self.log.lock().unwrap().push((task, now, what));
    }
}

/// A task's end, whichever it is: dropped with its future.
struct End {
    world: Arc<World>,
    is_completed: AtomicBool,
}

impl Drop for End {
    fn drop(&mut self) {
        let how = if self.is_completed.load(SeqCst) { "completed" } else { "dropped" };
        *self.world.ended.lock().unwrap().entry(how).or_default() += 1;
    }
}

type Boxed = Pin<Box<dyn Future<Output = u64> + Send>>;

/// A task that runs a program; counted as one from now on.
fn task(program: Vec<Step>, world: &Arc<World>) -> Boxed {
    let number = world.tasks.fetch_add(1, SeqCst);
    let end = End { world: Arc::clone(world), is_completed: AtomicBool::new(false) };
    Box::pin(async move {
        end.world.note(number, "begins");
        for step in program {
            take(step, number, &end.world).await;
        }
        end.world.note(number, "ends");
        end.is_completed.store(true, SeqCst);
        number
    })
}

async fn take(step: Step, number: u64, world: &Arc<World>) {
    match step {
        Step::Yield => yield_now().await,
        Step::Sleep(duration) => {
            let before = world.now();
            sleep(duration).await;
            assert_eq!(world.now() - before, duration, "virtual time is exact");
        }
        Step::Send(which, limit) => {
            if timeout(limit, world.channels[which].0.send(number)).await.is_ok() {
                world.sent.fetch_add(1, SeqCst);
            }
        }
        Step::Receive(which, limit) => {
            if timeout(limit, world.channels[which].1.recv()).await.is_ok() {
                world.received.fetch_add(1, SeqCst);
            }
        }
        Step::Spawn(child) => {
            let meta = TaskMeta::default().priority(child.priority);
            let handle = spawn_with(meta, task(child.program, world));
            finish(handle, child.after).await;
        }
        Step::Scope(children, ends_after) => in_scope(children, ends_after, world).await,
    }
    world.note(number, "goes on");
}

async fn finish(handle: JoinHandle<u64>, after: After) {
    match after {
        After::Joined => drop(handle.await.expect("nobody ended it")),
        After::Aborted => {
            handle.abort();
            assert_is_cancelled_or_done(handle.await);
        }
        After::Detached => {}
    }
}

fn assert_is_cancelled_or_done(joined: Result<u64, JoinError>) {
    if let Err(error) = joined {
        assert!(error.is_cancelled(), "{error}");
    }
}

async fn in_scope(children: Vec<Child>, ends_after: Option<Duration>, world: &Arc<World>) {
    let scope = Scope::new("scope");
    let spawn = |child: Child| {
        let meta = TaskMeta::default().priority(child.priority);
        (scope.spawn_with(meta, task(child.program, world)), child.after)
    };
    let handles: Vec<_> = children.into_iter().map(spawn).collect();
    for (handle, after) in &handles {
        if *after == After::Aborted {
            handle.abort();
        }
    }
    if let Some(duration) = ends_after {
        sleep(duration).await;
        scope.shutdown(Duration::from_secs(1)).await.expect("no task of these is graceful");
    } else {
        scope.finished().await;
    }
    for (handle, after) in handles {
        assert!(handle.is_finished(), "the scope said that it is over");
        let joined = handle.await;
        let may_end_early = ends_after.is_some() || after == After::Aborted;
        assert!(may_end_early || joined.is_ok(), "nobody ended it");
        assert_is_cancelled_or_done(joined);
    }
}

/// What a run leaves behind.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    schedule: Schedule,
    log: Vec<(u64, Duration, &'static str)>,
    ended: BTreeMap<&'static str, u64>,
    messages: (u64, u64),
}

fn run(program: &[Step], seed: u64) -> Outcome {
    let runtime = Runtime::builder().deterministic(seed).build().unwrap();
    let handle = runtime.handle().clone();
    let world = runtime.block_on(async {
        let world = World::new();
        let root = spawn_with(TaskMeta::named("root"), task(program.to_vec(), &world));
        root.await.expect("nobody ended it");
        world
    });
    let schedule = runtime.schedule().unwrap();
    assert_eq!(schedule.foreign_wakes, 0);
    // No task is lost: those that have not ended live. (So do those of the runtime that look after a scope
    // which was dropped with tasks in it.)
    let ended: u64 = world.ended.lock().unwrap().values().sum();
    let tasks = world.tasks.load(SeqCst);
    let live = handle.live_tasks() as u64;
    assert!(ended + live >= tasks, "{ended} of {tasks} tasks ended, {live} live");
    drop(runtime);
    assert_eq!(handle.live_tasks(), 0);
    let ended = world.ended.lock().unwrap().clone();
    assert_eq!(ended.values().sum::<u64>(), tasks, "tasks outlive their runtime");
    let log = std::mem::take(&mut *world.log.lock().unwrap());
    let left: usize = world.channels.iter().map(|(sender, _)| sender.len()).sum();
    let messages = (world.sent.load(SeqCst), world.received.load(SeqCst));
    // A task may be dropped between a message and its note of it.
    let dropped = ended.get("dropped").copied().unwrap_or(0);
    assert!(messages.0.abs_diff(messages.1 + left as u64) <= dropped, "{messages:?}, {left} left");
    Outcome { schedule, log, ended, messages }
}

proptest! {
    #[test]
    fn one_seed_gives_one_run_and_no_task_is_lost(program in program(), seed: u64) {
        let first = run(&program, seed);
        prop_assert_eq!(&first, &run(&program, seed));
    }

    #[test]
    fn another_seed_gives_the_same_tasks_if_none_is_ended_early(program in program(), seeds: [u64; 2]) {
        let outcomes = seeds.map(|seed| run(&program, seed));
        let is_whole = |outcome: &Outcome| !outcome.ended.contains_key("dropped");
        if outcomes.iter().all(is_whole) {
            prop_assert_eq!(&outcomes[0].ended, &outcomes[1].ended);
        }
    }
}

/// Tasks that are always ready, so many a level, and the levels in the order of their polls on one
/// worker.
fn polls_of(always_ready: [usize; 4], polls: usize) -> Vec<usize> {
    let runtime = Runtime::builder().worker_threads(1).build().unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let gate = Arc::new(AtomicBool::new(false));
    let keeps_on = |level: usize| {
        let (order, gate) = (Arc::clone(&order), Arc::clone(&gate));
        async move {
            loop {
                if gate.load(SeqCst) {
                    let mut order = order.lock().unwrap();
                    if order.len() == polls {
                        return;
                    }
                    order.push(level);
                }
                yield_now().await;
            }
        }
    };
    let tasks: Vec<_> = LEVELS
        .into_iter()
        .zip(always_ready)
        .enumerate()
        .flat_map(|(level, (priority, count))| (0..count).map(move |_| (level, priority)))
        .map(|(level, priority)| {
            runtime.handle().spawn_with(TaskMeta::default().priority(priority), keeps_on(level))
        })
        .collect();
    // From here on all of them are in the worker's queues.
    runtime.block_on(sleep(Duration::from_millis(2)));
    gate.store(true, SeqCst);
    for task in tasks {
        runtime.block_on(task).unwrap();
    }
    std::mem::take(&mut *order.lock().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// What `Priority` promises: of any 32 polls in a row, so many for each level that has a task.
    #[test]
    fn no_level_starves(always_ready in proptest::array::uniform4(0..4_usize)) {
        const LEAST: [usize; 4] = [0, 4, 2, 1];
        prop_assume!(always_ready != [0; 4]);
        let order = polls_of(always_ready, 320);
        for window in order.windows(32) {
            for (level, least) in LEAST.into_iter().enumerate().filter(|(level, _)| always_ready[*level] > 0) {
                let polls = window.iter().filter(|polled| **polled == level).count();
                prop_assert!(polls >= least, "level {}: {} of 32 in {:?}", level, polls, window);
            }
        }
    }
}
