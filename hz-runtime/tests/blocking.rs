//! Calls on the threads for what blocks.

use hz_runtime::{Handle, Runtime, spawn_blocking};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

fn runtime(blocking: usize) -> Runtime {
    let builder = Runtime::builder().worker_threads(1).blocking_threads(blocking);
    builder.build().expect("a runtime")
}

#[test]
fn a_blocking_call_gives_its_result_to_the_task() {
    let runtime = runtime(4);
    let task = runtime.spawn(async {
        let worker = thread::current().id();
        let other = spawn_blocking(|| (thread::current().id(), Handle::current().live_tasks()));
        let (other, tasks) = other.await.expect("it does not panic");
        assert_ne!(worker, other);
        tasks
    });
    assert_eq!(runtime.block_on(task).expect("it does not panic"), 1);
}

#[test]
fn as_many_calls_as_threads_block_at_once() {
    let runtime = runtime(8);
    let barrier = Arc::new(Barrier::new(8));
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let barrier = Arc::clone(&barrier);
            runtime.spawn_blocking(move || barrier.wait().is_leader())
        })
        .collect();
    let leaders = runtime.block_on(async {
        let mut leaders = 0;
        for call in calls {
            leaders += usize::from(call.await.expect("it does not panic"));
        }
        leaders
    });
    assert_eq!(leaders, 1);
}

#[test]
fn no_more_threads_than_allowed_make_calls() {
    let runtime = runtime(2);
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            runtime.spawn_blocking(move || {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                thread::yield_now();
                now.fetch_sub(1, Ordering::SeqCst);
            })
        })
        .collect();
    runtime.block_on(async {
        for call in calls {
            call.await.expect("it does not panic");
        }
    });
    let most = most.load(Ordering::SeqCst);
    assert!((1..=2).contains(&most), "{most} at once");
}

#[test]
fn a_panic_in_a_call_reaches_its_handle_and_the_thread_goes_on() {
    let runtime = runtime(1);
    let panicking = runtime.spawn_blocking(|| panic!("as asked"));
    let next = runtime.spawn_blocking(|| 7);
    runtime.block_on(async {
        let error = panicking.await.expect_err("it panicked");
        assert!(error.to_string().ends_with("panicked: as asked"), "{error}");
        assert_eq!(next.await.expect("the thread goes on"), 7);
    });
}

#[test]
fn a_queued_call_can_be_aborted() {
    let runtime = runtime(1);
    let (open, opened) = channel::<()>();
    let first = runtime.spawn_blocking(move || opened.recv().is_err());
    let second = runtime.spawn_blocking(|| ());
    second.abort();
    drop(open);
    runtime.block_on(async {
        assert!(first.await.expect("it does not panic"));
        assert!(second.await.expect_err("it was aborted").is_cancelled());
    });
}

#[test]
fn dropping_the_runtime_waits_for_the_call_that_runs_and_cancels_the_rest() {
    let runtime = runtime(1);
    let handle = runtime.handle().clone();
    let (begin, begun) = channel();
    let made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&made);
    let running = runtime.spawn_blocking(move || {
        begin.send(()).expect("the test waits");
        thread::sleep(Duration::from_millis(20));
        count.fetch_add(1, Ordering::SeqCst);
    });
    let queued = runtime.spawn_blocking(|| unreachable!("it is cancelled"));
    begun.recv().expect("the call begins");
    drop(runtime);
    assert_eq!(made.load(Ordering::SeqCst), 1);
    assert!(running.is_finished() && queued.is_finished());
    assert!(handle.spawn_blocking(|| ()).is_finished(), "there is no pool any more");
}
