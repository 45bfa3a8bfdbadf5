//! One seed, one schedule.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use hz_runtime::time::{self, sleep};
use hz_runtime::{Runtime, Schedule, spawn, yield_now};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn runtime(seed: u64) -> Runtime {
    Runtime::builder().deterministic(seed).build().unwrap()
}

/// Four tasks that yield thrice each, and the order in which they ended.
fn race(seed: u64) -> (Vec<u32>, Schedule) {
    let runtime = runtime(seed);
    let ended = Arc::new(Mutex::new(Vec::new()));
    runtime.block_on(async {
        let tasks: Vec<_> = (0..4)
            .map(|task| {
                let ended = Arc::clone(&ended);
                spawn(async move {
                    for _ in 0..3 {
                        yield_now().await;
                    }
                    ended.lock().unwrap().push(task);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    let order = ended.lock().unwrap().clone();
    (order, runtime.schedule().unwrap())
}

#[test]
fn one_seed_gives_one_schedule() {
    for seed in 0..50 {
        assert_eq!(race(seed), race(seed), "seed {seed}");
    }
}

#[test]
fn different_seeds_explore_every_order() {
    let orders: BTreeSet<_> = (0..2000).map(|seed| race(seed).0).collect();
    assert_eq!(orders.len(), 24, "of the 24 orders in which four tasks can end");
}

#[test]
fn the_hash_tells_schedules_apart() {
    let hashes: BTreeSet<_> = (0..200).map(|seed| race(seed).1.hash).collect();
    assert!(hashes.len() > 190, "{} of 200", hashes.len());
    assert_eq!(race(3).1.foreign_wakes, 0);
}

#[test]
fn an_hour_passes_at_once_and_in_order() {
    let woken = |seed| {
        let runtime = runtime(seed);
        let woken = Arc::new(Mutex::new(Vec::new()));
        let begin = Instant::now();
        runtime.block_on(async {
            let tasks: Vec<_> = [3600, 1, 60, 1800]
                .map(|seconds| {
                    let woken = Arc::clone(&woken);
                    spawn(async move {
                        sleep(Duration::from_secs(seconds)).await;
                        woken.lock().unwrap().push(seconds);
                    })
                })
                .into();
            for task in tasks {
                task.await.unwrap();
            }
        });
        assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
        let woken = woken.lock().unwrap().clone();
        (woken, runtime.schedule().unwrap())
    };
    assert_eq!(woken(1).0, [1, 60, 1800, 3600]);
    assert_eq!(woken(2), woken(2));
}

/// Deadlines as instants, beside work that takes real time.
#[test]
fn instants_of_virtual_time_are_exact() {
    let run = |seed| {
        let runtime = runtime(seed);
        let ticks = runtime.block_on(async {
            let begin = time::now();
            let (near, far) = (begin + Duration::from_secs(5), begin + Duration::from_secs(5000));
            let sleeper = spawn(async move {
                std::thread::sleep(Duration::from_millis(2));
                time::sleep_until(near).await;
                time::now().duration_since(begin)
            });
            let limited = time::timeout_at(far, std::future::pending::<()>()).await;
            assert!(limited.is_err());
            assert_eq!(time::now(), far);
            let mut interval = time::interval(Duration::from_millis(7));
            let first = interval.tick().await;
            std::thread::sleep(Duration::from_millis(2));
            let second = interval.tick().await;
            let mut passed = sleep(Duration::from_secs(9));
            passed.reset(begin);
            passed.await;
            [sleeper.await.unwrap(), first.duration_since(far), second.duration_since(first)]
        });
        (ticks, runtime.schedule().unwrap())
    };
    let expected = [Duration::from_secs(5), Duration::ZERO, Duration::from_millis(7)];
    assert_eq!(run(1).0, expected);
    (0..20).for_each(|seed| assert_eq!(run(seed), run(seed), "seed {seed}"));
}

#[test]
fn a_deadlock_is_said_and_does_not_hang() {
    let runtime = runtime(1);
    let wait = runtime.spawn(std::future::pending::<()>());
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(wait)));
    let said = *ended.unwrap_err().downcast::<String>().unwrap();
    assert!(said.starts_with("deadlock: block_on and 1 tasks"), "{said}");
}

#[test]
fn wake_ups_by_other_threads_are_counted() {
    let runtime = runtime(1);
    let (sender, receiver) = async_channel::bounded(1);
    let thread = std::thread::spawn(move || sender.send_blocking(7));
    assert_eq!(runtime.block_on(receiver.recv()), Ok(7));
    thread.join().unwrap().unwrap();
    // It may have been there before anybody waited.
    assert!(runtime.schedule().unwrap().foreign_wakes <= 1);
}

#[test]
fn dropping_the_runtime_drops_every_task() {
    let token = Arc::new(());
    let runtime = runtime(9);
    for _ in 0..10 {
        let token = Arc::clone(&token);
        drop(runtime.spawn(async move {
            std::future::pending::<()>().await;
            drop(token);
        }));
    }
    runtime.block_on(yield_now());
    drop(runtime);
    assert_eq!(Arc::strong_count(&token), 1);
}

/// Set for the process in which [`has_a_bug_that_some_orders_show`] does something.
const CHILD: &str = "HZ_TEST_CHILD";

/// Does nothing but in a child of the test below.
#[test]
fn has_a_bug_that_some_orders_show() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let first = Arc::new(Mutex::new(None));
    Runtime::new().unwrap().block_on(async {
        let tasks: Vec<_> = (0..8)
            .map(|task| {
                let first = Arc::clone(&first);
                spawn(async move { *first.lock().unwrap().get_or_insert(task) })
            })
            .collect();
        for task in tasks {
            assert_ne!(task.await.unwrap(), 5, "the bug");
        }
    });
}

/// The seed that a run tells of, if it fails.
fn failing_seed(seed: Option<&str>) -> Option<String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["has_a_bug_that_some_orders_show", "--exact", "--nocapture"]);
    command.env(CHILD, "1").env("HZ_SCHEDULER_MODE", "deterministic").env_remove("HZ_SEED");
    command.envs(seed.map(|seed| ("HZ_SEED", seed)));
    let said = String::from_utf8(command.output().unwrap().stderr).unwrap();
    let (_, rest) = said.split_once("HZ_SCHEDULER_MODE=deterministic HZ_SEED=")?;
    Some(rest.split_once(" replays it").unwrap().0.to_owned())
}

#[test]
fn a_failing_seed_is_printed_and_replays() {
    // One order in eight shows it.
    let seed = (0..200).find_map(|_| failing_seed(None)).unwrap();
    for _ in 0..3 {
        assert_eq!(failing_seed(Some(&seed)).as_ref(), Some(&seed));
    }
}
