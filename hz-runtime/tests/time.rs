//! Sleeps, intervals and timeouts on a runtime.

#![cfg(feature = "executor")]

use hz_runtime::time::{MissedTick, interval, sleep, sleep_until, timeout};
use hz_runtime::{Runtime, spawn};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(20);

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = Runtime::builder().worker_threads(2).build().expect("a runtime");
    runtime.block_on(timeout(LIMIT, test)).expect("within the test's limit")
}

#[test]
fn ten_thousand_sleeps_end_in_time_and_none_early() {
    let early = run(async {
        let early = Arc::new(Mutex::new(Vec::new()));
        let start = Instant::now();
        let sleepers: Vec<_> = (0..10_000_u64)
            .map(|n| {
                let (early, due) =
                    (Arc::clone(&early), start + Duration::from_micros(n * 7 % 9_973));
                spawn(async move {
                    sleep_until(due).await;
                    if Instant::now() < due {
                        early.lock().unwrap().push(n);
                    }
                })
            })
            .collect();
        for sleeper in sleepers {
            sleeper.await.unwrap();
        }
        early.lock().unwrap().clone()
    });
    assert!(early.is_empty(), "early: {early:?}");
}

#[test]
fn what_takes_too_long_is_dropped_and_what_does_not_is_returned() {
    run(async {
        assert!(timeout(Duration::from_millis(1), std::future::pending::<()>()).await.is_err());
        assert_eq!(timeout(LIMIT, async { 7 }).await, Ok(7));
    });
}

#[test]
fn a_future_that_is_always_woken_has_its_limit_too() {
    run(async {
        let busy = async {
            loop {
                sleep(Duration::ZERO).await;
                hz_runtime::yield_now().await;
            }
        };
        let limited: Result<(), _> = timeout(Duration::from_millis(5), busy).await;
        assert!(limited.is_err());
    });
}

#[test]
fn an_interval_ticks_at_multiples_of_its_period() {
    run(async {
        let period = Duration::from_millis(2);
        let mut interval = interval(period);
        interval.set_missed_tick(MissedTick::Skip);
        let first = interval.tick().await;
        let mut last = first;
        for _ in 0..5 {
            let tick = interval.tick().await;
            assert!(tick > last, "ticks go forward");
            last = tick;
        }
        assert!(last >= first + period * 4, "{:?}", last - first);
    });
}

#[test]
fn a_sleep_can_be_moved() {
    run(async {
        let mut sleep = Box::pin(sleep(LIMIT * 100));
        assert!(timeout(Duration::from_millis(1), &mut sleep).await.is_err());
        sleep.as_mut().get_mut().reset(Instant::now());
        sleep.await;
    });
}
