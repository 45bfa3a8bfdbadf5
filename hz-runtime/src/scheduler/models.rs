//! Every order of the scheduler's atomics, by loom:
//! `RUSTFLAGS="--cfg hz_loom" cargo test -p hz-runtime --release --lib scheduler::models`.

use super::abort::Abort;
use super::idle::Idle;
use super::registry::Shard;
use super::signal::Signal;
use loom::sync::Arc;
use loom::sync::atomic::Ordering::{AcqRel, Relaxed, SeqCst};
use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, fence};
use loom::thread;
use std::sync::{Arc as StdArc, Weak};
use std::task::{Wake, Waker};

/// A worker looks for a task and finds none; meanwhile another thread makes one visible. Either the
/// worker sees it before it sleeps, or the other thread picks the worker.
#[test]
fn no_task_is_left_to_a_sleeping_worker() {
    loom::model(|| {
        let idle = Arc::new(Idle::new(1));
        let task = Arc::new(AtomicBool::new(false));
        let spawner = {
            let (idle, task) = (Arc::clone(&idle), Arc::clone(&task));
            thread::spawn(move || {
                task.store(true, SeqCst);
                idle.pick()
            })
        };
        let is_searching = idle.start_searching();
        assert!(is_searching, "nobody else searches");
        let must_look = idle.park(0, is_searching);
        assert!(must_look, "it was the only one that searched");
        fence(SeqCst);
        let sees = task.load(SeqCst);
        let picked = spawner.join().expect("it does not panic");
        assert!(sees || picked == Some(0), "the worker sleeps beside a task");
    });
}

/// Two workers look for a task and find none; meanwhile another thread makes one visible.
#[test]
fn of_two_workers_one_is_awake_for_the_task() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let idle = Arc::new(Idle::new(2));
        let task = Arc::new(AtomicBool::new(false));
        let workers: Vec<_> = (0..2)
            .map(|worker| {
                let (idle, task) = (Arc::clone(&idle), Arc::clone(&task));
                thread::spawn(move || {
                    let is_searching = idle.start_searching();
                    if is_searching && task.load(SeqCst) {
                        return true;
                    }
                    let must_look = idle.park(worker, is_searching);
                    fence(SeqCst);
                    must_look && task.load(SeqCst)
                })
            })
            .collect();
        task.store(true, SeqCst);
        let picked = idle.pick();
        let seen = workers.into_iter().filter_map(|worker| worker.join().unwrap().then_some(()));
        assert!(seen.count() > 0 || picked.is_some(), "both sleep beside a task");
    });
}

/// A worker takes a task and stays in its poll for long, meanwhile another one finds nothing and goes to
/// sleep: what comes in between must not be left to the two.
#[test]
fn no_task_waits_behind_a_long_poll_while_a_worker_sleeps() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let idle = Arc::new(Idle::new(2));
        let tasks = Arc::new(AtomicUsize::new(0));
        let workers: Vec<_> = (0..2)
            .map(|worker| {
                let (idle, tasks) = (Arc::clone(&idle), Arc::clone(&tasks));
                thread::spawn(move || looks_for_one_task(worker, &idle, &tasks))
            })
            .collect();
        let mut is_somebody_awake = false;
        for _ in 0..2 {
            tasks.fetch_add(1, SeqCst);
            is_somebody_awake |= idle.pick().is_some();
        }
        for worker in workers {
            is_somebody_awake |= worker.join().unwrap();
        }
        let left = tasks.load(SeqCst);
        assert!(left == 0 || is_somebody_awake, "{left} wait");
    });
}

/// A worker that goes into a long poll with the first task that it finds, or to sleep. True: it had
/// one woken that will look again.
fn looks_for_one_task(worker: usize, idle: &Idle, tasks: &AtomicUsize) -> bool {
    let take = || tasks.fetch_update(SeqCst, SeqCst, |tasks| tasks.checked_sub(1)).is_ok();
    let mut is_searching = false;
    let mut has_task = take();
    if !has_task {
        is_searching = idle.start_searching();
        has_task = is_searching && take();
    }
    if has_task {
        return is_searching && idle.stop_searching() && idle.pick().is_some();
    }
    let must_look = idle.park(worker, is_searching);
    fence(SeqCst);
    must_look && tasks.load(SeqCst) > 0 && idle.pick().is_some()
}

struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: StdArc<Self>) {
        self.0.store(true, SeqCst);
    }
}

/// The runtime is closed while a task is spawned: its future must be dropped, by whoever.
#[test]
fn a_task_is_refused_by_a_closed_runtime_or_woken_to_end() {
    loom::model(|| {
        let shard = Arc::new(Shard::new(Weak::new()));
        let closer = thread::spawn({
            let shard = Arc::clone(&shard);
            move || {
                shard.close().into_iter().for_each(Waker::wake);
                shard.is_over()
            }
        });
        let bell = StdArc::new(Bell(AtomicBool::new(false)));
        let place = shard.insert(Waker::from(StdArc::clone(&bell)));
        let was_over = closer.join().unwrap();
        assert!(shard.is_closed());
        let Ok(place) = place else {
            assert!(was_over, "what was refused is not waited for");
            return;
        };
        assert!(bell.0.load(SeqCst), "it lives on in a closed runtime");
        assert!(!was_over, "its end is waited for");
        shard.remove(place);
        assert!(shard.is_over());
    });
}

/// A closed shard's last two tasks, which are in different parts of it, end at once: one of the two must see that all
/// are gone, and tell the workers.
#[test]
fn whoever_ends_last_sees_that_all_tasks_are_gone() {
    loom::model(|| {
        let shard = Arc::new(Shard::new(Weak::new()));
        let places = [0, 1].map(|_| shard.insert(Waker::noop().clone()).expect("it is open"));
        assert_eq!(shard.close().len(), 2);
        let end = |shard: &Shard, place| {
            shard.remove(place);
            shard.is_over()
        };
        let other = thread::spawn({
            let shard = Arc::clone(&shard);
            move || end(&shard, places[1])
        });
        let sees = end(&shard, places[0]);
        assert!(other.join().unwrap() | sees, "nobody sees it");
    });
}

/// A thread in `block_on` is woken while it goes to sleep.
#[test]
fn a_thread_that_blocks_on_a_future_hears_of_a_wake_up_that_comes_before_its_sleep() {
    loom::model(|| {
        let signal = StdArc::new(Signal::of_this_thread());
        let is_ready = Arc::new(AtomicBool::new(false));
        let waker = thread::spawn({
            let (waker, is_ready) = (Waker::from(StdArc::clone(&signal)), Arc::clone(&is_ready));
            move || {
                is_ready.store(true, Relaxed);
                waker.wake();
            }
        });
        // One that nobody wakes is a deadlock, which loom finds.
        signal.wait();
        assert!(is_ready.load(Relaxed), "it was woken before there was anything to see");
        waker.join().unwrap();
    });
}

/// A task as async-task has it: woken while it waits it is queued, woken in its poll it is polled again.
struct Task {
    abort: Abort,
    state: AtomicU32,
}

impl Task {
    const SCHEDULED: u32 = 1;
    const RUNNING: u32 = 2;

    /// True: it waited, and is the caller's to poll.
    fn wake(&self) -> bool {
        self.state.fetch_or(Self::SCHEDULED, AcqRel) == 0
    }

    /// Polls it as often as it is woken in that; true: it has ended.
    fn run(&self) -> bool {
        loop {
            self.state.fetch_xor(Self::SCHEDULED | Self::RUNNING, AcqRel);
            if self.abort.is_asked() {
                assert_eq!(self.abort.leave(), Some(3), "it ends once");
                return true;
            }
            if self.state.fetch_and(!Self::RUNNING, AcqRel) & Self::SCHEDULED == 0 {
                return false;
            }
        }
    }
}

/// Its handle asks while it is woken for something else and polled.
#[test]
fn a_task_that_is_asked_to_end_does_so_in_this_poll_or_in_one_that_comes() {
    loom::model(|| {
        let task = Task { abort: Abort::new(), state: AtomicU32::new(0) };
        task.abort.placed(3);
        let task = Arc::new(task);
        let worker = thread::spawn({
            let task = Arc::clone(&task);
            move || task.wake() && task.run()
        });
        let has_ended = match task.abort.ask() {
            Some(place) => {
                assert_eq!(place, 3);
                task.wake() && task.run()
            }
            None => false,
        };
        assert!(worker.join().unwrap() | has_ended, "it lives on");
        assert_eq!(task.abort.ask(), None, "it is woken after its end");
    });
}
