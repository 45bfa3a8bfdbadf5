//! The scheduler as a whole, in many orders of its threads' steps:
//! `RUSTFLAGS="--cfg hz_shuttle" cargo test -p hz-runtime --release --test shuttle`.
//!
//! Workers, queues, wake-ups, the reactor's turns, timers, channels, scopes, blocking calls and the
//! runtime's end run as they are; shuttle decides before each of their shared reads and writes who goes on.
//! A thread that nobody wakes any more is a deadlock, and found. A failure prints its schedule, which
//! `shuttle::replay` repeats. `HZ_ORDERS` (of each program) and `HZ_ORDERS_SECONDS` (at most, for each) try more
//! of them, `HZ_SEED` others.
//!
//! What is not in it: the orders that only a weaker memory shows, which are loom's; the inside of
//! crossbeam's deques and of async-task's cells, each of whose operations is one step here.
#![cfg(hz_shuttle)]
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use hz_runtime::net::UnixStream;
use hz_runtime::sync::{Receiver, Sender, bounded, unbounded};
use hz_runtime::time::{interval, sleep, timeout};
use hz_runtime::{
    JoinHandle, Priority, Runtime, Scope, TaskMeta, clock, spawn, spawn_blocking, spawn_with,
    yield_now,
};
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::sync::atomic::{AtomicBool, Ordering::SeqCst};
use shuttle::{Config, MaxSteps, Runner, thread};
use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Orders that are tried of each program, by either scheduler.
const ORDERS: usize = 1500;
/// Changes of priority with which the second scheduler looks for bugs.
const DEPTH: usize = 4;
/// A program that takes more steps than this goes round in circles.
const STEPS: usize = 400_000;
/// For one program and scheduler, on a machine that does much else.
const LONGEST: Duration = Duration::from_secs(5);

/// Runs `program`, on runtimes of two and three workers, in many orders.
fn explore(program: fn(Runtime, &Token)) {
    let number = |name, default| std::env::var(name).map_or(default, |n| n.parse().unwrap());
    let seed = number("HZ_SEED", 7);
    let orders = number("HZ_ORDERS", ORDERS as u64) as usize;
    let longest = Duration::from_secs(number("HZ_ORDERS_SECONDS", LONGEST.as_secs()));
    run(RandomScheduler::new_from_seed(seed, orders), longest, program);
    run(PctScheduler::new_from_seed(seed, DEPTH, orders), longest, program);
}

fn run(scheduler: impl Scheduler + 'static, longest: Duration, program: fn(Runtime, &Token)) {
    let mut config = Config::new();
    config.stack_size = 256 << 10;
    config.max_steps = MaxSteps::FailAfter(STEPS);
    config.max_time = Some(longest);
    config.silence_warnings = true;
    let runs = Runner::new(scheduler, config).run(move || {
        let token = Token::default();
        let workers = thread_rng().gen_range(2..=3);
        let runtime = Runtime::builder().worker_threads(workers).build().unwrap();
        let handle = runtime.handle().clone();
        program(runtime, &token);
        assert_eq!(handle.live_tasks(), 0, "tasks outlive their runtime");
        assert_eq!(Arc::strong_count(&token.0), 1, "futures outlive their runtime");
    });
    assert!(runs > 10, "only {runs} orders in {longest:?}");
}

/// Kept by every future of a program: tells whether all have been dropped.
#[derive(Clone, Default)]
struct Token(Arc<()>);

/// Some number below `end`, which the order decides on.
fn any(end: usize) -> usize {
    thread_rng().gen_range(0..end)
}

fn any_priority() -> Priority {
    [Priority::Critical, Priority::High, Priority::Normal, Priority::Background][any(4)]
}

fn any_meta() -> TaskMeta {
    TaskMeta::default().priority(any_priority())
}

/// Lets time pass without anything else.
fn pass(time: Duration) {
    let begin_ns = clock::now_ns();
    while u128::from(clock::now_ns() - begin_ns) < time.as_nanos() {}
}

/// Waits, as a task that blocks its worker does, until `flag` is set.
fn block_until(flag: &AtomicBool) {
    while !flag.load(SeqCst) {
        thread::yield_now();
        // Others see that this poll goes on for long.
        pass(Duration::from_micros(10));
    }
}

/// A tree of tasks that yield, each of which awaits those below it.
fn tree(depth: usize, token: Token) -> Pin<Box<dyn Future<Output = usize> + Send>> {
    Box::pin(async move {
        let below: Vec<_> = (0..if depth == 0 { 0 } else { 2 })
            .map(|_| spawn_with(any_meta(), tree(depth - 1, token.clone())))
            .collect();
        if any(3) > 0 {
            yield_now().await;
        }
        let mut sum = 1;
        for task in below {
            // Unless the runtime ends before.
            sum += task.await.unwrap_or(0);
        }
        sum
    })
}

#[test]
fn every_task_of_a_tree_is_joined() {
    explore(|runtime, token| {
        let sum = runtime.block_on(tree(2, token.clone()));
        assert_eq!(sum, 7);
    });
}

#[test]
fn threads_that_are_no_workers_spawn_and_are_woken() {
    explore(|runtime, token| {
        let others = [0, 1].map(|other| {
            let (handle, token) = (runtime.handle().clone(), token.clone());
            thread::spawn(move || {
                let task = handle.spawn_with(any_meta(), async move {
                    let _token = token;
                    yield_now().await;
                    other
                });
                block_on(task)
            })
        });
        let mine = runtime.spawn(async { 2 });
        assert_eq!(runtime.block_on(mine).unwrap(), 2);
        for (number, other) in others.into_iter().enumerate() {
            assert_eq!(other.join().unwrap().unwrap(), number);
        }
    });
}

/// Blocks on a future on a thread of shuttle's, without the runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread, AtomicBool);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.1.store(true, SeqCst);
            self.0.unpark();
        }
    }
    let bell = Arc::new(Unpark(thread::current(), AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&bell));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        while !bell.1.swap(false, SeqCst) {
            thread::park();
        }
    }
}

/// Sends its numbers.
async fn send(numbers: std::ops::Range<u32>, into: Sender<u32>, _token: Token) {
    for number in numbers {
        into.send(number).await.unwrap();
    }
}

async fn receive(from: Receiver<u32>, _token: Token) -> u32 {
    let mut sum = 0;
    while let Ok(number) = from.recv().await {
        sum += number;
    }
    sum
}

#[test]
fn every_message_of_many_senders_reaches_one_of_many_receivers() {
    explore(|runtime, token| {
        let (sender, receiver) = bounded(1 + any(2));
        let sum = runtime.block_on(async {
            let receivers =
                [(); 2].map(|()| spawn_with(any_meta(), receive(receiver.clone(), token.clone())));
            drop(receiver);
            for from in [0, 3] {
                drop(spawn_with(any_meta(), send(from..from + 3, sender.clone(), token.clone())));
            }
            drop(sender);
            let mut sum = 0;
            for receiver in receivers {
                sum += receiver.await.unwrap();
            }
            sum
        });
        assert_eq!(sum, 15);
    });
}

#[test]
fn two_tasks_converse_while_a_third_keeps_its_worker() {
    explore(|runtime, token| {
        let done = Arc::new(AtomicBool::new(false));
        let (ping, pinged) = bounded(1);
        let (pong, ponged) = bounded(1);
        let blocking = runtime.spawn({
            let done = Arc::clone(&done);
            async move { block_until(&done) }
        });
        let answering = runtime.spawn({
            let token = token.clone();
            async move {
                let _token = token;
                while let Ok(number) = pinged.recv().await {
                    pong.send(number).await.unwrap();
                }
            }
        });
        let asking = runtime.spawn(async move {
            for number in 0..3_u32 {
                ping.send(number).await.unwrap();
                assert_eq!(ponged.recv().await, Ok(number));
            }
        });
        runtime.block_on(asking).unwrap();
        done.store(true, SeqCst);
        runtime.block_on(blocking).unwrap();
        runtime.block_on(answering).unwrap();
    });
}

/// What a poll wakes goes into its worker's slot, where it would wait for the poll's end.
#[test]
fn a_task_in_the_slot_of_a_worker_that_blocks_is_taken_by_another() {
    explore(|runtime, token| {
        let token = token.clone();
        let task = runtime.spawn(async move {
            let _token = token.clone();
            let done = Arc::new(AtomicBool::new(false));
            let child = spawn({
                let (done, token) = (Arc::clone(&done), token);
                async move {
                    let _token = token;
                    done.store(true, SeqCst);
                }
            });
            block_until(&done);
            child.await.unwrap();
        });
        runtime.block_on(task).unwrap();
    });
}

#[test]
fn a_task_that_is_aborted_ends_one_way_or_the_other() {
    explore(|runtime, token| {
        let (sender, receiver) = bounded::<()>(1);
        let waits = |token: Token| {
            let receiver = receiver.clone();
            async move {
                let _token = token;
                yield_now().await;
                receiver.recv().await.is_err()
            }
        };
        let tasks = [(); 2].map(|()| runtime.spawn_with(any_meta(), waits(token.clone())));
        let aborting = [any(2), any(2)].map(|which| {
            let id = tasks[which].id();
            move |tasks: &[JoinHandle<bool>]| {
                tasks.iter().filter(|task| task.id() == id).for_each(JoinHandle::abort);
            }
        });
        let closing = thread::spawn(move || drop(sender));
        aborting.iter().for_each(|abort| abort(&tasks));
        for task in tasks {
            match runtime.block_on(task) {
                Ok(is_closed) => assert!(is_closed),
                Err(error) => assert!(error.is_cancelled(), "{error}"),
            }
        }
        closing.join().unwrap();
    });
}

#[test]
fn a_scope_ends_with_all_that_is_in_it_or_below() {
    explore(|runtime, token| {
        let token = token.clone();
        runtime.block_on(async move {
            let scope = Scope::new("outer");
            let inner = scope.child("inner");
            let mut tasks = vec![inner.spawn(wait_for_ever(token.clone()))];
            // Tasks that come while the scope ends.
            let late = spawn({
                let (handle, token) = (inner.handle().clone(), token.clone());
                async move {
                    yield_now().await;
                    handle.spawn(wait_for_ever(token))
                }
            });
            let graceful = scope.spawn_graceful(any_meta(), |cancelled| async move {
                let _token = token;
                cancelled.await;
                yield_now().await;
                7
            });
            if any(2) == 0 {
                yield_now().await;
            }
            // Without a limit that could pass: whoever is not told would be waited for for ever.
            scope.cancel();
            scope.finished().await;
            assert_eq!(graceful.await.unwrap(), 7);
            tasks.push(late.await.unwrap());
            for task in tasks {
                assert!(task.await.unwrap_err().is_cancelled());
            }
            drop(inner);
        });
    });
}

async fn wait_for_ever(_token: Token) {
    pending::<()>().await;
}

#[test]
fn timers_are_not_early_and_none_is_forgotten() {
    explore(|runtime, token| {
        let after = |ns: u64, token: Token| async move {
            let _token = token;
            let due_ns = clock::now_ns() + ns;
            sleep(Duration::from_nanos(ns)).await;
            assert!(clock::now_ns() >= due_ns, "early");
        };
        let tasks: Vec<_> = [5_000_000, 1_000, 40_000_000]
            .map(|ns| runtime.spawn_with(any_meta(), after(ns, token.clone())))
            .into();
        let limited = runtime.spawn(timeout(Duration::from_micros(50), pending::<()>()));
        // On a thread that is no worker: the timer is one of a worker that may sleep.
        runtime.block_on(async move {
            sleep(Duration::from_micros(1 + any(100) as u64)).await;
            let mut ticks = interval(Duration::from_micros(20));
            for _ in 0..3 {
                ticks.tick().await;
            }
            for task in tasks {
                task.await.unwrap();
            }
            limited.await.unwrap().unwrap_err();
        });
    });
}

/// Nobody watches over anybody any more, and a timer comes from a thread that is no worker.
#[test]
fn a_timer_wakes_a_worker_that_sleeps_without_limit() {
    explore(|runtime, _| {
        runtime.block_on(runtime.spawn(async {})).unwrap();
        for _ in 0..40 {
            pass(Duration::from_millis(2));
            thread::yield_now();
        }
        for _ in 0..2 {
            runtime.block_on(sleep(Duration::from_micros(10)));
        }
    });
}

#[test]
fn a_runtime_that_is_dropped_in_the_middle_ends_everything() {
    explore(|runtime, token| {
        let (sender, receiver) = unbounded();
        let handle = runtime.handle().clone();
        for _ in 0..2 {
            drop(runtime.spawn_with(any_meta(), receive(receiver.clone(), token.clone())));
        }
        drop(runtime.spawn(async { sleep(Duration::from_secs(3600)).await }));
        drop(runtime.spawn(tree(1, token.clone())));
        drop(runtime.spawn(scope_of_tasks(token.clone())));
        // Spawns before the runtime ends, while it does, or after.
        let late = thread::spawn({
            let token = token.clone();
            move || {
                let _ = sender.try_send(1);
                handle.spawn(receive(receiver, token))
            }
        });
        if any(2) == 0 {
            runtime.block_on(yield_now());
        }
        drop(runtime);
        let late = late.join().unwrap();
        let _ = block_on(late);
    });
}

async fn scope_of_tasks(token: Token) {
    let scope = Scope::new("scope");
    drop(scope.spawn(wait_for_ever(token)));
    yield_now().await;
}

#[test]
fn blocking_calls_end_or_are_cancelled() {
    explore(|runtime, token| {
        let calls: Vec<_> = (0..2_usize)
            .map(|number| {
                let token = token.clone();
                runtime.spawn_blocking(move || {
                    let _token = token;
                    number
                })
            })
            .collect();
        let inside = runtime.spawn(async { spawn_blocking(|| 2).await.unwrap() });
        if any(2) == 0 {
            calls[any(2)].abort();
        }
        for (number, call) in calls.into_iter().enumerate() {
            match runtime.block_on(call) {
                Ok(result) => assert_eq!(result, number),
                Err(error) => assert!(error.is_cancelled(), "{error}"),
            }
        }
        assert_eq!(runtime.block_on(inside).unwrap(), 2);
        // Nobody awaits this one: the runtime's end does.
        drop(runtime.spawn_blocking(|| ()));
    });
}

/// Files of workers that are in a long poll are looked at by the others.
#[test]
fn bytes_reach_a_task_whose_worker_blocks() {
    explore(|runtime, token| {
        let token = token.clone();
        runtime.block_on(async move {
            let done = Arc::new(AtomicBool::new(false));
            let blocking = spawn({
                let done = Arc::clone(&done);
                async move { block_until(&done) }
            });
            let (ours, theirs) = UnixStream::pair().unwrap();
            let echo = spawn(async move {
                let _token = token;
                let mut bytes = [0; 4];
                let count = theirs.read(&mut bytes).await.unwrap();
                theirs.write(&bytes[..count]).await.unwrap()
            });
            yield_now().await;
            ours.write(b"ping").await.unwrap();
            let mut bytes = [0; 4];
            assert_eq!(ours.read(&mut bytes).await.unwrap(), 4);
            assert_eq!(echo.await.unwrap(), 4);
            done.store(true, SeqCst);
            blocking.await.unwrap();
        });
    });
}

/// Who turns for a worker that is in a long poll takes what there is at that worker's files, and must not
/// take the bell that rings when that worker has gone to sleep meanwhile.
#[test]
fn a_worker_that_was_helped_still_hears_who_wakes_it() {
    explore(|runtime, token| {
        let _entered = runtime.enter();
        let files = [(); 3].map(|()| UnixStream::pair().unwrap());
        for number in 0..3 {
            let long = runtime.spawn(async { pass(Duration::from_micros(700)) });
            let token = token.clone();
            let short = runtime.spawn(async move {
                let _token = token;
                number
            });
            assert_eq!(runtime.block_on(short).unwrap(), number);
            runtime.block_on(long).unwrap();
        }
        drop(files);
    });
}

/// A future that is woken by whoever likes, more often than needed, also in its own poll.
#[test]
fn wake_ups_from_everywhere_lead_to_a_poll() {
    explore(|runtime, token| {
        let (flag, waker) =
            (Arc::new(AtomicBool::new(false)), Arc::new(shuttle::sync::Mutex::new(None::<Waker>)));
        let task = runtime.spawn({
            let (flag, waker, token) = (Arc::clone(&flag), Arc::clone(&waker), token.clone());
            async move {
                let _token = token;
                poll_fn(|cx| {
                    *waker.lock().unwrap() = Some(cx.waker().clone());
                    if flag.load(SeqCst) {
                        return Poll::Ready(());
                    }
                    if any(3) == 0 {
                        cx.waker().wake_by_ref();
                    }
                    Poll::Pending
                })
                .await;
            }
        });
        let wakers = [false, true].map(|sets| {
            let (flag, waker) = (Arc::clone(&flag), Arc::clone(&waker));
            thread::spawn(move || {
                if sets {
                    flag.store(true, SeqCst);
                }
                if let Some(waker) = &*waker.lock().unwrap() {
                    waker.wake_by_ref();
                }
            })
        });
        wakers.into_iter().for_each(|waker| waker.join().unwrap());
        runtime.block_on(task).unwrap();
    });
}
