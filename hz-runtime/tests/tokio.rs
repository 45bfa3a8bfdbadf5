//! Tasks of Tokio behind the wrapper: what their program sees of it, and what readers find.

#[expect(dead_code, reason = "a reader for several tests")]
mod support;

use hz_probes_ebpf::Kind;
use hz_probes_ebpf::runtime::{
    END_CANCELLED, END_COMPLETED, END_PANICKED, POLL_PENDING, POLL_READY, TASK_IDLE, WAKE_SPAWN,
    WAKE_TASK, WAKE_THREAD,
};
use hz_probes_ebpf::runtime_ring::{DirectorySlot, RingSlot, STATE_MASK};
use hz_runtime::probe;
use std::collections::HashSet;
use std::future;
use support::{Reader, wait_until};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

const TASK_KINDS: &[Kind] =
    &[Kind::TaskSpawn, Kind::TaskWake, Kind::PollBegin, Kind::PollEnd, Kind::TaskEnd];

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads")
}

/// A runtime with one thread, this one: its records are all in one ring.
fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn reader() -> Reader {
    probe::start(4).expect("memory");
    let mut reader = Reader::of(std::process::id()).expect("a reader");
    reader.lease(TASK_KINDS);
    reader
}

/// What is new of `task`, in the order of each ring.
fn records_of(reader: &mut Reader, task: u64) -> Vec<RingSlot> {
    let records = reader.read().into_iter().flatten();
    records.filter(|record| record.task == task && record.kind >= 16).collect()
}

fn entry(reader: &Reader, task: u64) -> Option<DirectorySlot> {
    reader.tasks().into_iter().find(|slot| slot.task == task)
}

fn ends_of(records: &[RingSlot]) -> Vec<u32> {
    let ends = records.iter().filter(|record| record.kind == Kind::TaskEnd as u16);
    ends.map(|record| u32::from(record.aux)).collect()
}

#[test]
fn a_wrapped_task_gives_its_result() {
    let sum = runtime().block_on(async {
        let mut tasks = JoinSet::new();
        for number in 0..100_u64 {
            tasks.spawn(hz_runtime::tokio::instrument(async move {
                tokio::task::yield_now().await;
                number
            }));
        }
        tasks.join_all().await.into_iter().sum::<u64>()
    });
    assert_eq!(sum, 4950);
}

#[test]
fn a_task_s_life_is_in_the_ring() {
    let mut reader = reader();
    let task = one_thread().block_on(async {
        let (sender, receiver) = oneshot::channel();
        let task = hz_runtime::tokio::spawn_named("echo", async {
            receiver.await.expect("sent");
            probe::current_task()
        });
        tokio::task::yield_now().await;
        sender.send(()).expect("a receiver");
        task.await.expect("no panic")
    });
    let life = records_of(&mut reader, task);
    let kinds: Vec<_> =
        life.iter().map(|record| (record.kind, u32::from(record.aux), record.value)).collect();
    assert_eq!(
        kinds,
        [
            (Kind::TaskSpawn as u16, 2, 0),
            (Kind::TaskWake as u16, WAKE_SPAWN, 0),
            (Kind::PollBegin as u16, 2, 0),
            (Kind::PollEnd as u16, POLL_PENDING, 0),
            (Kind::TaskWake as u16, WAKE_THREAD, 0),
            (Kind::PollBegin as u16, 2, 0),
            (Kind::PollEnd as u16, POLL_READY, 0),
            (Kind::TaskEnd as u16, END_COMPLETED, 2),
        ]
    );
    assert!(life[2..4].iter().all(|record| record.arg == 0), "worker 0: {life:?}");
    let site = reader.site(life[0].arg);
    assert_eq!(reader.text(site.name), "echo");
    assert!(reader.text(site.file).ends_with("tests/tokio.rs"), "{}", reader.text(site.file));
    assert!(reader.text(site.future).contains("a_task_s_life"), "{}", reader.text(site.future));
    assert!(entry(&reader, task).is_none(), "the task is over, its entry is there");
}

#[test]
fn a_task_that_wakes_another_is_its_cause_and_one_that_spawns_its_parent() {
    let mut reader = reader();
    let (parent, child) = one_thread().block_on(async {
        let parent = hz_runtime::tokio::spawn(async {
            let (sender, receiver) = oneshot::channel();
            let child = hz_runtime::tokio::spawn(async {
                receiver.await.expect("sent");
                probe::current_task()
            });
            tokio::task::yield_now().await;
            sender.send(()).expect("a receiver");
            (probe::current_task(), child.await.expect("no panic"))
        });
        parent.await.expect("no panic")
    });
    let life = records_of(&mut reader, child);
    let told = |kind: Kind, aux: u32| {
        life.iter().any(|record| {
            (record.kind, u32::from(record.aux), record.value) == (kind as u16, aux, parent)
        })
    };
    assert!(told(Kind::TaskSpawn, 2), "the parent is {parent}: {life:?}");
    assert!(told(Kind::TaskWake, WAKE_TASK), "the waker is {parent}: {life:?}");
}

#[test]
fn a_panic_reaches_the_join_handle_alone() {
    let mut reader = reader();
    let (panicked, other) = runtime().block_on(async {
        let (sender, task) = oneshot::channel();
        let panicking = hz_runtime::tokio::spawn(async {
            sender.send(probe::current_task()).expect("a receiver");
            panic!("on purpose")
        });
        let other = hz_runtime::tokio::spawn(async { probe::current_task() });
        assert!(panicking.await.unwrap_err().is_panic());
        (task.await.expect("sent"), other.await.expect("no panic"))
    });
    let records: Vec<_> = reader.read().into_iter().flatten().collect();
    let end_of = |task| {
        let records = records.iter().filter(|record| record.task == task).copied();
        ends_of(&records.collect::<Vec<_>>())
    };
    assert_eq!(end_of(panicked), [END_PANICKED]);
    assert_eq!(end_of(other), [END_COMPLETED]);
}

#[test]
fn an_idle_task_is_in_the_directory_until_it_is_aborted() {
    let mut reader = reader();
    runtime().block_on(async {
        let (sender, task) = oneshot::channel();
        let endless = hz_runtime::tokio::spawn_named("endless", async {
            sender.send(probe::current_task()).expect("a receiver");
            future::pending::<()>().await;
        });
        let task = task.await.expect("sent");
        wait_until("the task is idle", || {
            entry(&reader, task).is_some_and(|slot| slot.state & STATE_MASK == TASK_IDLE.into())
        });
        let slot = entry(&reader, task).expect("an entry");
        assert_eq!(reader.text(slot.name), "endless");
        assert_eq!(slot.polls, 1);
        assert!(slot.last_poll >= slot.spawned, "{} < {}", slot.last_poll, slot.spawned);
        assert_ne!(slot.future, 0);
        assert!((slot.state >> 32) < 2, "worker {}", slot.state >> 32);
        endless.abort();
        assert!(endless.await.unwrap_err().is_cancelled());
        assert_eq!(ends_of(&records_of(&mut reader, task)), [END_CANCELLED]);
        assert!(entry(&reader, task).is_none());
    });
}

#[test]
fn a_task_is_the_current_one_while_it_is_polled_and_no_longer() {
    runtime().block_on(async {
        let mut tasks = JoinSet::new();
        for _ in 0..10 {
            tasks.spawn(hz_runtime::tokio::instrument_named("walker", async {
                let before = probe::current_task();
                tokio::task::yield_now().await;
                (before, probe::current_task())
            }));
        }
        let seen = tasks.join_all().await;
        assert!(seen.iter().all(|(before, after)| before == after && *before != 0), "{seen:?}");
        assert_eq!(seen.iter().collect::<HashSet<_>>().len(), 10, "{seen:?}");
        assert_eq!(probe::current_task(), 0);
    });
}
