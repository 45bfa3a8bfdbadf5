//! What a program sees of the executor.

use hz_runtime::{Handle, JoinHandle, Priority, Runtime, TaskMeta, spawn, yield_now};
use std::collections::HashMap;
use std::future::{pending, poll_fn};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().worker_threads(workers).build().expect("a runtime")
}

/// Waits up to 10 s for a condition.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "not after 10 s: {what}");
        std::thread::yield_now();
    }
}

/// Counts its own drops.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_task_gives_its_result() {
    let runtime = runtime(2);
    let sum = runtime.block_on(async {
        let tasks: Vec<_> = (0..1000_u64).map(|n| spawn(async move { n })).collect();
        let mut sum = 0;
        for task in tasks {
            sum += task.await.expect("no task ends early");
        }
        sum
    });
    assert_eq!(sum, 499_500);
}

#[test]
fn a_panic_reaches_the_handle_and_nothing_else() {
    let runtime = runtime(1);
    runtime.block_on(async {
        let error = spawn(async { panic!("as asked") }).await.expect_err("it panicked");
        assert!(error.is_panic() && !error.is_cancelled(), "{error}");
        assert!(error.to_string().ends_with("panicked: as asked"), "{error}");
        let payload = error.into_panic().expect("it is a panic");
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"as asked"));
        assert_eq!(spawn(async { 7 }).await.expect("the worker goes on"), 7);
    });
}

#[test]
fn a_panic_in_a_destructor_stays_in_its_task() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in drop");
        }
    }
    let runtime = runtime(1);
    runtime.block_on(async {
        let bomb = Bomb;
        let in_future = spawn(poll_fn(move |_| {
            let _kept = &bomb;
            Poll::Ready(())
        }));
        assert!(in_future.await.expect_err("its future panicked").is_panic());
        let aborted = spawn(async {
            let _bomb = Bomb;
            pending::<()>().await;
        });
        yield_now().await;
        aborted.abort();
        aborted.await.expect_err("it was aborted");
        // Its output is dropped by nobody but the runtime.
        drop(spawn(async { Bomb }));
        assert_eq!(spawn(async { 7 }).await.expect("the worker goes on"), 7);
    });
}

#[test]
fn an_aborted_task_is_dropped_and_says_so() {
    let runtime = runtime(2);
    let drops = Arc::new(AtomicUsize::new(0));
    let counted = Counted(Arc::clone(&drops));
    runtime.block_on(async {
        let task = spawn(async move {
            let _counted = counted;
            pending::<()>().await;
        });
        yield_now().await;
        assert!(!task.is_finished());
        task.abort();
        let error = task.await.expect_err("it was aborted");
        assert!(error.is_cancelled() && !error.is_panic(), "{error}");
    });
    assert_eq!(drops.load(Ordering::SeqCst), 1);
    assert_eq!(runtime.handle().live_tasks(), 0);
}

#[test]
fn a_finished_task_keeps_its_result_when_aborted() {
    let runtime = runtime(1);
    let task = runtime.spawn(async { 5 });
    eventually("the task ends", || task.is_finished());
    task.abort();
    assert_eq!(runtime.block_on(task).expect("it had ended"), 5);
}

#[test]
fn dropping_the_runtime_cancels_and_waits_for_every_task() {
    const TASKS: usize = 1000;
    let drops = Arc::new(AtomicUsize::new(0));
    let runtime = runtime(2);
    let tasks: Vec<_> = (0..TASKS)
        .map(|n| {
            let counted = Counted(Arc::clone(&drops));
            runtime.spawn(async move {
                let _counted = counted;
                if n % 2 == 0 {
                    pending::<()>().await;
                }
                loop {
                    yield_now().await;
                }
            })
        })
        .collect();
    let handle = runtime.handle().clone();
    drop(runtime);
    assert_eq!(drops.load(Ordering::SeqCst), TASKS);
    assert_eq!(handle.live_tasks(), 0);
    assert!(tasks.iter().all(JoinHandle::is_finished));
    let late = handle.spawn(async move { Counted(drops) });
    assert!(late.is_finished(), "what is spawned after the end is cancelled");
}

#[test]
fn a_task_may_spawn_and_wake_in_its_destructor_at_the_end() {
    struct Spawns(Handle, Arc<AtomicUsize>);
    impl Drop for Spawns {
        fn drop(&mut self) {
            drop(self.0.spawn(pending::<()>()));
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }
    let runtime = runtime(2);
    let drops = Arc::new(AtomicUsize::new(0));
    for _ in 0..100 {
        let spawns = Spawns(runtime.handle().clone(), Arc::clone(&drops));
        drop(runtime.spawn(async move {
            let _spawns = spawns;
            pending::<()>().await;
        }));
    }
    drop(runtime);
    assert_eq!(drops.load(Ordering::SeqCst), 100);
}

#[test]
fn the_runtime_may_be_dropped_by_its_own_task() {
    let runtime = runtime(2);
    let handle = runtime.handle().clone();
    drop(handle.spawn(async move { drop(runtime) }));
    eventually("all tasks are gone", || handle.live_tasks() == 0);
}

#[test]
fn tasks_run_on_several_workers_at_once() {
    let runtime = runtime(2);
    let (meet, met) = channel();
    let first = runtime.spawn(async move { met.recv_timeout(Duration::from_secs(10)) });
    let second = runtime.spawn(async move { meet.send(()) });
    runtime.block_on(async {
        second.await.expect("it ends").expect("the other waits");
        first.await.expect("it ends").expect("the other ran beside it");
    });
}

/// Keeps the only worker busy until all tasks are queued, then gives the order in which they ran.
fn order_of(levels: &[(Priority, usize)]) -> Vec<Priority> {
    let runtime = runtime(1);
    let order = Arc::new(Mutex::new(Vec::new()));
    let (open, opened) = channel::<()>();
    let (arrive, arrived) = channel();
    let gate = runtime.spawn(async move {
        arrive.send(()).expect("the test waits");
        opened.recv().expect_err("nothing is sent");
    });
    arrived.recv().expect("the gate is polled");
    let mut tasks = Vec::new();
    for (priority, count) in levels {
        for _ in 0..*count {
            let (order, priority) = (Arc::clone(&order), *priority);
            let meta = TaskMeta::default().priority(priority);
            tasks.push(runtime.spawn_with(meta, async move {
                order.lock().expect("no task panics").push(priority);
            }));
        }
    }
    drop(open);
    runtime.block_on(async {
        gate.await.expect("it ends");
        for task in tasks {
            task.await.expect("it ends");
        }
    });
    let order = order.lock().expect("no task panics");
    order.clone()
}

#[test]
fn higher_priorities_come_first() {
    let order = order_of(&[(Priority::Background, 100), (Priority::Critical, 100)]);
    let critical = order[..100].iter().filter(|level| **level == Priority::Critical).count();
    assert!(critical >= 90, "{critical} of the first 100 were critical");
}

#[test]
fn no_priority_starves() {
    use Priority::{Background, Critical, High, Normal};
    let order = order_of(&[(Critical, 500), (High, 100), (Normal, 100), (Background, 100)]);
    for window in order[..500].windows(32) {
        for (level, at_least) in [(High, 4), (Normal, 2), (Background, 1)] {
            let had = window.iter().filter(|had| **had == level).count();
            assert!(had >= at_least, "{level:?} had {had} of 32: {window:?}");
        }
    }
}

/// Tasks of all levels that always want to run, on several workers: each level has its share of any 32
/// polls of each worker that has tasks of it.
#[test]
fn no_priority_starves_on_several_workers() {
    const POLLS: usize = 20_000;
    let runtime = runtime(3);
    let levels = [Priority::Critical, Priority::High, Priority::Normal, Priority::Background];
    let total = Arc::new(AtomicUsize::new(0));
    let logs: Arc<Mutex<HashMap<ThreadId, Vec<Priority>>>> = Arc::default();
    let tasks: Vec<_> = (0..48)
        .map(|n| {
            let (logs, total, level) = (Arc::clone(&logs), Arc::clone(&total), levels[n % 4]);
            runtime.spawn_with(TaskMeta::default().priority(level), async move {
                while total.fetch_add(1, Ordering::Relaxed) < POLLS {
                    let thread = std::thread::current().id();
                    logs.lock().expect("no panic").entry(thread).or_default().push(level);
                    yield_now().await;
                }
            })
        })
        .collect();
    tasks.into_iter().for_each(|task| runtime.block_on(task).expect("no panic"));
    let logs = logs.lock().expect("no panic");
    // Spread over the workers at first, the tasks stay where they are: a busy worker steals nothing.
    let settled = logs.values().map(|log| &log[log.len() / 2..]).filter(|log| log.len() >= 320);
    let mut checked = 0;
    for log in settled {
        for (level, at_least) in [(levels[1], 4), (levels[2], 2), (levels[3], 1)] {
            if !log.contains(&level) {
                continue;
            }
            checked += 1;
            for window in log.windows(32) {
                let had = window.iter().filter(|had| **had == level).count();
                assert!(had >= at_least, "{level:?} had {had} of 32: {window:?}");
            }
        }
    }
    assert!(checked >= 3, "no worker had much to do: {:?}", logs.values().map(Vec::len));
}

#[test]
fn two_tasks_that_wake_each_other_do_not_keep_others_waiting() {
    let runtime = runtime(1);
    let finished = Arc::new(AtomicUsize::new(0));
    let rounds = Arc::new(AtomicUsize::new(0));
    let (ping, pong) = (async_channel::bounded(1), async_channel::bounded(1));
    let talk = |from: async_channel::Receiver<()>, to: async_channel::Sender<()>| {
        let (finished, rounds) = (Arc::clone(&finished), Arc::clone(&rounds));
        async move {
            while finished.load(Ordering::SeqCst) == 0 {
                rounds.fetch_add(1, Ordering::SeqCst);
                if to.send(()).await.is_err() || from.recv().await.is_err() {
                    return;
                }
            }
        }
    };
    let first = runtime.spawn(talk(ping.1, pong.0));
    let second = runtime.spawn(talk(pong.1, ping.0));
    eventually("they talk", || rounds.load(Ordering::SeqCst) > 100);
    let third = runtime.spawn(async move { finished.store(1, Ordering::SeqCst) });
    eventually("the third runs", || third.is_finished());
    runtime.block_on(async {
        first.await.expect("it ends");
        second.await.expect("it ends");
    });
}

#[test]
fn a_handle_is_current_where_it_should_be() {
    assert!(Handle::try_current().is_none());
    let (outer, inner) = (runtime(1), runtime(1));
    let entered = outer.enter();
    {
        let _inner = inner.enter();
        drop(spawn(pending::<()>()));
        assert_eq!((outer.handle().live_tasks(), inner.handle().live_tasks()), (0, 1));
    }
    drop(spawn(pending::<()>()));
    assert_eq!((outer.handle().live_tasks(), inner.handle().live_tasks()), (1, 1));
    drop(entered);
    assert!(Handle::try_current().is_none());
    let task = outer.spawn(async { Handle::current().live_tasks() });
    assert_eq!(outer.block_on(task).expect("it ends"), 2);
}

#[test]
fn many_threads_wake_many_tasks_and_none_is_forgotten() {
    let runtime = runtime(2);
    let handle = runtime.handle();
    let count = Arc::new(AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let count = &count;
            scope.spawn(move || {
                for _ in 0..500 {
                    let (send, receive) = async_channel::bounded(1);
                    let count = Arc::clone(count);
                    let task = handle.spawn(async move {
                        yield_now().await;
                        receive.recv().await.expect("it is sent");
                        count.fetch_add(1, Ordering::SeqCst);
                    });
                    send.send_blocking(()).expect("the task waits");
                    drop(task);
                }
            });
        }
    });
    eventually("all have run", || count.load(Ordering::SeqCst) == 2000);
    eventually("all are gone", || handle.live_tasks() == 0);
}

/// CPUs that the threads named `NAME-0`, `NAME-1`, … of this process may use.
fn affinities(name: &str) -> Vec<Vec<usize>> {
    use rustix::thread::{CpuSet, Pid, sched_getaffinity};
    let threads = std::fs::read_dir("/proc/self/task").expect("/proc is there");
    let mut named: Vec<(String, Vec<usize>)> = threads
        .filter_map(|thread| {
            let thread = thread.ok()?;
            let comm = std::fs::read_to_string(thread.path().join("comm")).ok()?;
            let tid = thread.file_name().to_str()?.parse().ok()?;
            let allowed = sched_getaffinity(Pid::from_raw(tid)).ok()?;
            let cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
            comm.starts_with(name).then(|| (comm.trim().to_owned(), cpus))
        })
        .collect();
    named.sort();
    named.into_iter().map(|(_, cpus)| cpus).collect()
}

#[test]
fn pinned_workers_stay_each_on_a_cpu_of_its_own() {
    let build = |name: &str, pin| {
        let builder = Runtime::builder().name(name).worker_threads(3).pin_workers(pin);
        builder.build().expect("a runtime")
    };
    let allowed = std::thread::available_parallelism().expect("known").get();
    let pinned = build("pinned", true);
    eventually("three workers are pinned", || {
        let cpus = affinities("pinned-");
        cpus.len() == 3 && cpus.iter().all(|cpus| cpus.len() == 1)
    });
    let cpus = affinities("pinned-");
    let distinct: std::collections::BTreeSet<_> = cpus.iter().flatten().collect();
    assert_eq!(distinct.len(), allowed.min(3), "{cpus:?}");
    // Under load as well: a worker is seen on one CPU only, however many tasks it has.
    let seen = Arc::new(Mutex::new(std::collections::BTreeMap::new()));
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let seen = Arc::clone(&seen);
            pinned.spawn(async move {
                for _ in 0..500 {
                    let thread = std::thread::current().id();
                    let cpu = rustix::thread::sched_getcpu();
                    seen.lock().expect("no panic").insert((format!("{thread:?}"), cpu), ());
                    yield_now().await;
                }
            })
        })
        .collect();
    tasks.into_iter().for_each(|task| pinned.block_on(task).expect("no panic"));
    let seen = seen.lock().expect("no panic");
    let threads: std::collections::BTreeSet<_> = seen.keys().map(|(thread, _)| thread).collect();
    assert_eq!(threads.len(), seen.len(), "{seen:?}");
    let free = build("unpinned", false);
    eventually("the others are there", || affinities("unpinned-").len() == 3);
    assert!(affinities("unpinned-").iter().all(|cpus| cpus.len() == allowed));
    drop(free);
}

#[test]
#[should_panic(expected = "block_on in a task")]
fn block_on_in_a_task_is_refused() {
    let outer = runtime(1);
    let task = outer.spawn(async { runtime(1).block_on(async {}) });
    let error = outer.block_on(task).expect_err("it panicked");
    std::panic::resume_unwind(error.into_panic().expect("it is a panic"));
}

/// The task that a poll wakes last is its worker's next: without help it would wait for the poll's end.
#[test]
fn a_task_woken_by_a_poll_that_goes_on_is_polled_elsewhere() {
    for workers in [2, 4] {
        let runtime = runtime(workers);
        let waited = runtime.block_on(runtime.spawn(async {
            let (sender, receiver) = channel();
            let woken = spawn(async move { sender.send(()) });
            let begin = Instant::now();
            let ran = receiver.recv_timeout(Duration::from_secs(5));
            assert!(ran.is_ok() && woken.await.is_ok(), "it waits for the end of this poll");
            begin.elapsed()
        }));
        let waited = waited.expect("no panic");
        // About 2 ms; the rest is for a busy machine.
        assert!(waited < Duration::from_secs(1), "{workers} workers: {waited:?}");
    }
}

/// As above, while the other worker is never idle.
#[test]
fn a_busy_sibling_takes_what_waits_behind_a_poll_that_goes_on() {
    let runtime = runtime(2);
    let stop = Arc::new(AtomicUsize::new(0));
    let busy: Vec<_> = (0..4)
        .map(|_| {
            let stop = Arc::clone(&stop);
            runtime.spawn(async move {
                while stop.load(Ordering::SeqCst) == 0 {
                    yield_now().await;
                }
            })
        })
        .collect();
    let ran = runtime.block_on(runtime.spawn(async {
        let (sender, receiver) = channel();
        drop(spawn(async move { sender.send(()) }));
        receiver.recv_timeout(Duration::from_secs(5))
    }));
    stop.store(1, Ordering::SeqCst);
    assert!(ran.expect("no panic").is_ok(), "it waits for the end of this poll");
    busy.into_iter().for_each(|task| runtime.block_on(task).expect("no panic"));
}
