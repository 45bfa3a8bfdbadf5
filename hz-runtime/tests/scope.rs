//! Scopes: who is cancelled with whom, who is waited for, and who is told of.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

#[expect(dead_code, reason = "each test needs a part of it")]
mod support;

use hz_probes_ebpf::Kind;
use hz_probes_ebpf::runtime::{END_CANCELLED, WAKE_CANCEL};
use hz_probes_ebpf::runtime_ring::RingSlot;
use hz_runtime::probe::{Activity, Wait};
use hz_runtime::time::{sleep, timeout};
use hz_runtime::{Runtime, Scope, TaskMeta, spawn, yield_now};
use std::future::pending;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::{Reader, wait_until};

const LONG: Duration = Duration::from_secs(20);

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().worker_threads(workers).build().unwrap()
}

/// Counts its own drops.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// A future that never ends and counts its drop.
fn wait_for_ever(drops: &Arc<AtomicUsize>) -> impl Future<Output = ()> + Send + 'static {
    let counted = Counted(Arc::clone(drops));
    async move {
        pending::<()>().await;
        drop(counted);
    }
}

#[test]
fn shutdown_ends_every_task_of_the_tree_and_waits_for_their_destructors() {
    let runtime = runtime(2);
    let drops = Arc::new(AtomicUsize::new(0));
    runtime.block_on(async {
        let root = Scope::new("root");
        let scopes: Vec<_> = (0..4).map(|n| root.child(format!("child {n}"))).collect();
        let deep: Vec<_> = scopes.iter().map(|scope| scope.child("grandchild")).collect();
        let all = || scopes.iter().chain(&deep).chain([&root]);
        let tasks: Vec<_> =
            (0..10).flat_map(|_| all().map(|s| s.spawn(wait_for_ever(&drops)))).collect();
        assert_eq!(drops.load(SeqCst), 0);
        root.shutdown(LONG).await.unwrap();
        assert_eq!(drops.load(SeqCst), 90, "before shutdown returns");
        assert!(all().all(|scope| scope.is_cancelled()));
        for task in tasks {
            assert!(task.await.unwrap_err().is_cancelled());
        }
    });
    assert_eq!(runtime.handle().live_tasks(), 0);
}

#[test]
fn a_child_ends_alone_and_its_parent_goes_on() {
    runtime(2).block_on(async {
        let parent = Scope::new("parent");
        let (child, sibling) = (parent.child("child"), parent.child("sibling"));
        let inner = child.spawn(pending::<()>());
        let (aside, above) = (sibling.spawn(yield_now()), parent.spawn(yield_now()));
        child.cancel();
        assert!(inner.await.unwrap_err().is_cancelled());
        aside.await.unwrap();
        above.await.unwrap();
        assert!(!parent.is_cancelled() && !sibling.is_cancelled());
        assert_eq!(parent.spawn(async { 7 }).await.unwrap(), 7);
    });
}

#[test]
fn dropping_a_parent_cancels_children_whose_owners_keep_them() {
    let runtime = runtime(2);
    let drops = Arc::new(AtomicUsize::new(0));
    let (child, task) = runtime.block_on(async {
        let parent = Scope::new("parent");
        let child = parent.child("child");
        let task = child.spawn(wait_for_ever(&drops));
        drop(parent);
        (child, task)
    });
    assert!(runtime.block_on(task).unwrap_err().is_cancelled());
    assert!(child.is_cancelled());
    assert_eq!(drops.load(SeqCst), 1);
    wait_until("the task that tends the dropped scope ends", || runtime.handle().live_tasks() == 0);
}

#[test]
fn a_cancelled_scope_takes_nothing_any_more() {
    runtime(1).block_on(async {
        let scope = Scope::new("closed");
        scope.cancel();
        let drops = Arc::new(AtomicUsize::new(0));
        assert!(scope.spawn(wait_for_ever(&drops)).await.unwrap_err().is_cancelled());
        let child = scope.child("born late");
        assert!(child.is_cancelled());
        let graceful = child.spawn_graceful(TaskMeta::default(), |_| wait_for_ever(&drops));
        assert!(graceful.await.unwrap_err().is_cancelled());
        assert_eq!(drops.load(SeqCst), 2);
        scope.shutdown(Duration::ZERO).await.unwrap();
    });
}

#[test]
fn a_graceful_task_cleans_up_asynchronously_before_shutdown_returns() {
    runtime(2).block_on(async {
        let scope = Scope::new("server");
        let log = Arc::new(Mutex::new(Vec::new()));
        let says = Arc::clone(&log);
        let task = scope.spawn_graceful(TaskMeta::named("writer"), |cancelled| async move {
            cancelled.await;
            says.lock().unwrap().push("told");
            sleep(Duration::from_millis(20)).await;
            says.lock().unwrap().push("flushed");
            42
        });
        yield_now().await;
        scope.shutdown(LONG).await.unwrap();
        assert_eq!(*log.lock().unwrap(), ["told", "flushed"]);
        assert_eq!(task.await.unwrap(), 42, "it is no cancelled task: it ended");
    });
}

#[test]
fn who_does_not_finish_is_told_by_name_place_and_wait_and_then_dropped() {
    let runtime = runtime(2);
    runtime.block_on(async {
        let scope = Scope::new("server");
        let child = scope.child("connection");
        let drops = Arc::new(AtomicUsize::new(0));
        let counted = Counted(Arc::clone(&drops));
        let line = line!() + 1;
        let late = child.spawn_graceful(TaskMeta::named("late"), |_| async move {
            sleep(Duration::from_secs(3600)).await;
            drop(counted);
        });
        let (_sender, receiver) = hz_runtime::sync::bounded::<()>(1);
        let stuck = scope.spawn_graceful(TaskMeta::default(), |_| async move {
            let _ = receiver.recv().await;
        });
        let quick = scope.spawn(pending::<()>());
        sleep(Duration::from_millis(20)).await;
        let error = scope.shutdown(Duration::from_millis(50)).await.unwrap_err();
        assert_eq!((error.scope.as_str(), error.tasks.len()), ("server", 2), "{error}");
        let told = |id| error.tasks.iter().find(|task| task.task == id).unwrap();
        let first = told(late.id());
        assert_eq!(
            (first.name.as_deref(), first.scope.as_str()),
            (Some("late"), "server/connection")
        );
        assert_eq!((first.location.file(), first.location.line()), (file!(), line));
        assert!(matches!(first.activity, Activity::Idle(Some(Wait::Timer(_)))), "{first}");
        let second = told(stuck.id());
        assert!(matches!(second.activity, Activity::Idle(Some(Wait::Channel(_)))), "{second}");
        let text = error.to_string();
        assert!(
            text.starts_with("2 tasks of scope `server` did not finish within 50ms: "),
            "{text}"
        );
        assert!(
            text.contains(&format!("`late` ({}) in `server/connection`, spawned at ", late.id())),
            "{text}"
        );
        assert!(text.contains(&format!("{}:{line}:", file!())), "{text}");
        assert!(quick.is_finished());
        // They are dropped where they wait.
        assert!(late.await.unwrap_err().is_cancelled() && stuck.await.unwrap_err().is_cancelled());
        assert_eq!(drops.load(SeqCst), 1);
        scope.shutdown(LONG).await.unwrap();
    });
}

#[test]
fn a_task_in_a_poll_that_does_not_end_is_told_to_be_polled() {
    runtime(2).block_on(async {
        let scope = Scope::new("scope");
        let (release, wait) = channel::<()>();
        let (began, begun) = channel();
        let task = scope.spawn_with(TaskMeta::named("blocks"), async move {
            began.send(()).unwrap();
            wait.recv().unwrap();
        });
        begun.recv().unwrap();
        let error = scope.shutdown(Duration::from_millis(20)).await.unwrap_err();
        assert!(matches!(error.tasks[0].activity, Activity::Polling(Some(_))), "{error}");
        release.send(()).unwrap();
        task.await.unwrap();
        scope.shutdown(LONG).await.unwrap();
    });
}

#[test]
fn finished_waits_for_the_tree_without_ending_it() {
    runtime(2).block_on(async {
        let scope = Scope::new("scope");
        timeout(LONG, scope.finished()).await.expect("nothing is there yet");
        let child = scope.child("child");
        let (sender, receiver) = hz_runtime::sync::bounded::<()>(1);
        let task = child.spawn(async move { receiver.recv().await.is_ok() });
        assert!(
            timeout(Duration::from_millis(20), scope.finished()).await.is_err(),
            "it has a task"
        );
        sender.send(()).await.unwrap();
        timeout(LONG, scope.finished()).await.expect("its task has ended");
        assert!(task.await.unwrap());
        assert!(!scope.is_cancelled());
    });
}

#[test]
fn a_panic_ends_its_task_alone() {
    runtime(2).block_on(async {
        let scope = Scope::new("scope");
        let other = scope.spawn(async {
            yield_now().await;
            7
        });
        let error = scope.spawn(async { panic!("as asked") }).await.unwrap_err();
        assert!(error.is_panic());
        assert_eq!(other.await.unwrap(), 7);
        timeout(LONG, scope.finished()).await.expect("a panicked task is gone");
        scope.shutdown(LONG).await.unwrap();
    });
}

#[test]
fn tasks_spawn_into_their_own_scope_and_cancel_it() {
    runtime(2).block_on(async {
        let scope = Scope::new("scope");
        let handle = scope.handle().clone();
        let outer = scope.spawn(async move {
            let inner = handle.spawn(pending::<()>());
            handle.cancel();
            inner.await.unwrap_err().is_cancelled()
        });
        // It was polled when it cancelled itself: that poll goes on, and then it is dropped.
        assert!(outer.await.unwrap_err().is_cancelled());
        scope.shutdown(LONG).await.unwrap();
    });
}

#[test]
fn everybody_who_waits_is_woken_and_who_gave_up_is_forgotten() {
    runtime(2).block_on(async {
        let scope = Scope::new("scope");
        let waiters: Vec<_> = (0..100).map(|_| spawn(scope.child("child").cancelled())).collect();
        // Their owners are gone: the children were cancelled, each by its own drop.
        for waiter in waiters {
            waiter.await.unwrap();
        }
        let child = scope.child("kept");
        let waiters: Vec<_> = (0..100).map(|_| spawn(child.cancelled())).collect();
        let gives_up = timeout(Duration::from_millis(5), child.cancelled()).await;
        assert!(gives_up.is_err());
        scope.cancel();
        for waiter in waiters {
            waiter.await.unwrap();
        }
        assert!(child.cancelled().is_cancelled());
    });
}

#[test]
fn spawns_and_cancellations_that_race_leave_nobody_behind() {
    let runtime = runtime(4);
    let drops = Arc::new(AtomicUsize::new(0));
    let mut spawned = 0;
    for _ in 0..200 {
        let scope = runtime.block_on(async { Scope::new("scope") });
        let spawner = std::thread::spawn({
            let (handle, drops) = (scope.handle().clone(), Arc::clone(&drops));
            move || {
                for _ in 0..20 {
                    drop(handle.child("child").spawn(wait_for_ever(&drops)));
                    drop(handle.spawn(wait_for_ever(&drops)));
                }
            }
        });
        spawned += 40;
        runtime.block_on(scope.shutdown(LONG)).unwrap();
        spawner.join().unwrap();
    }
    wait_until("every future is dropped", || drops.load(SeqCst) == spawned);
    wait_until("no task is left", || runtime.handle().live_tasks() == 0);
}

#[test]
fn the_end_of_the_runtime_ends_a_scope_too() {
    let runtime = runtime(2);
    let drops = Arc::new(AtomicUsize::new(0));
    let scope = runtime.block_on(async { Scope::new("scope") });
    let task = scope.spawn_graceful(TaskMeta::default(), |_| wait_for_ever(&drops));
    drop(runtime);
    assert_eq!(drops.load(SeqCst), 1);
    assert!(task.is_finished());
    drop(scope);
}

/// Whoever reads the ring sees a cancellation as the cause of the wake-up and of the end.
#[test]
fn the_probes_tell_a_cancellation() {
    let runtime = runtime(2);
    let scope = runtime.block_on(async { Scope::new("scope") });
    let mut reader = Reader::of(std::process::id()).unwrap();
    reader.lease(&[Kind::TaskWake, Kind::PollEnd, Kind::TaskEnd]);
    let task = scope.spawn(pending::<()>());
    let id = task.id();
    // One that has not been polled yet is in a queue: nobody has to wake it.
    wait_until("the task's first poll is over", || {
        let polled = |slot: &RingSlot| slot.task == id && slot.kind == Kind::PollEnd as u16;
        reader.read().into_iter().flatten().any(|slot| polled(&slot))
    });
    scope.cancel();
    assert!(runtime.block_on(task).unwrap_err().is_cancelled());
    let mut told = Vec::new();
    wait_until("the task's end is told", || {
        told.extend(reader.read().into_iter().flatten().filter(|slot| slot.task == id));
        told.iter().any(|slot| slot.kind == Kind::TaskEnd as u16)
    });
    let of = |kind| told.iter().find(|slot| slot.kind == kind as u16).unwrap();
    assert_eq!(u32::from(of(Kind::TaskWake).aux), WAKE_CANCEL);
    assert_eq!(u32::from(of(Kind::TaskEnd).aux), END_CANCELLED);
}

/// A small service in virtual time: who ended how, and the schedule's hash.
fn deterministic(seed: u64) -> (Vec<String>, u64) {
    let runtime = Runtime::builder().deterministic(seed).build().unwrap();
    let log = Arc::new(Mutex::new(Vec::new()));
    let begin = Instant::now();
    runtime.block_on(async {
        let server = Scope::new("server");
        for n in 0..6_u64 {
            let connection = server.child("connection");
            let (says, log) = (Arc::clone(&log), Arc::clone(&log));
            drop(connection.spawn(wait_for_ever(&Arc::new(AtomicUsize::new(0)))));
            drop(server.spawn_graceful(TaskMeta::default(), move |cancelled| async move {
                let _kept = connection;
                cancelled.await;
                sleep(Duration::from_secs(n)).await;
                says.lock().unwrap().push(format!("flushed {n}"));
            }));
            drop(log);
        }
        sleep(Duration::from_secs(1)).await;
        let error = server.shutdown(Duration::from_millis(3500)).await.unwrap_err();
        log.lock().unwrap().push(format!("{} late", error.tasks.len()));
    });
    assert!(begin.elapsed() < LONG, "virtual time passes at once: {:?}", begin.elapsed());
    let log = log.lock().unwrap().clone();
    (log, runtime.schedule().unwrap().hash)
}

#[test]
fn one_seed_gives_one_cancellation() {
    for seed in 0..30 {
        let (log, hash) = deterministic(seed);
        let expected = ["flushed 0", "flushed 1", "flushed 2", "flushed 3", "2 late"];
        assert_eq!(log, expected, "seed {seed}");
        assert_eq!((log, hash), deterministic(seed), "seed {seed}");
    }
}

/// Set for the process in which [`drops_a_scope_with_a_stubborn_task`] does something.
const CHILD: &str = "HZ_TEST_CHILD";

/// Does nothing but in a child of the test below.
#[test]
fn drops_a_scope_with_a_stubborn_task() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let runtime = runtime(1);
    let scope = runtime.block_on(async { Scope::new("dropped") }).grace(Duration::from_millis(30));
    let task = scope.spawn_graceful(TaskMeta::named("stubborn"), |_| pending::<()>());
    drop(scope);
    assert!(runtime.block_on(task).unwrap_err().is_cancelled());
}

#[test]
fn a_dropped_scope_gives_its_tasks_the_grace_and_tells_who_needed_more() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["drops_a_scope_with_a_stubborn_task", "--exact", "--nocapture"]).env(CHILD, "1");
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let expected = "hz-runtime: 1 task of scope `dropped` did not finish within 30ms: `stubborn` (";
    assert!(output.status.success() && said.contains(expected), "{said}");
}
