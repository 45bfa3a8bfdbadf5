//! What Tokio's hooks tell: `RUSTFLAGS="--cfg tokio_unstable" cargo test --features tokio --test
//! tokio_hooks`. Without the flag, when its workers sleep.

#[expect(dead_code, reason = "a reader for several tests")]
mod support;

use hz_probes_ebpf::Kind;
use hz_runtime::probe;
use support::{Reader, wait_until};
use tokio::runtime::{Builder, Runtime};

fn runtime() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    hz_runtime::tokio::hooks(&mut builder).worker_threads(2).build().expect("threads")
}

fn reader(kinds: &[Kind]) -> Reader {
    probe::start(4).expect("memory");
    let mut reader = Reader::of(std::process::id()).expect("a reader");
    reader.lease(kinds);
    reader
}

#[test]
fn workers_tell_when_they_sleep() {
    let mut reader = reader(&[Kind::Park, Kind::Unpark]);
    let runtime = runtime();
    let mut parked = 0_u32;
    let mut unparked = 0_u32;
    wait_until("both workers have slept and been woken", || {
        runtime.block_on(async { drop(tokio::spawn(async {}).await) });
        for record in reader.read().into_iter().flatten() {
            match record.kind {
                kind if kind == Kind::Park as u16 => parked |= 1 << record.arg,
                kind if kind == Kind::Unpark as u16 => unparked |= 1 << record.arg,
                _ => {}
            }
        }
        (parked, unparked) == (3, 3)
    });
    let offered = reader.page().offered_kinds;
    assert_ne!(offered & Kind::Park.runtime_bit(), 0);
    assert_eq!(offered & Kind::Steal.runtime_bit(), 0, "Tokio does not tell of steals");
}

#[cfg(tokio_unstable)]
mod tasks {
    use super::*;
    use hz_probes_ebpf::runtime::{END_UNKNOWN, POLL_OVER, POLL_PENDING, TASK_IDLE};
    use hz_probes_ebpf::runtime_ring::{DirectorySlot, RingSlot, STATE_MASK};
    use std::future;
    use tokio::sync::oneshot;
    use tokio::task::JoinSet;

    const TASK_KINDS: &[Kind] =
        &[Kind::TaskSpawn, Kind::TaskWake, Kind::PollBegin, Kind::PollEnd, Kind::TaskEnd];

    /// A runtime with one thread, this one: its records are all in one ring.
    fn one_thread() -> Runtime {
        let mut builder = Builder::new_current_thread();
        hz_runtime::tokio::hooks(&mut builder).build().expect("a runtime")
    }

    fn records_of(reader: &mut Reader, task: u64) -> Vec<(u16, u32, u64)> {
        let records = reader.read().into_iter().flatten();
        records
            .filter(|record| record.task == task && record.kind >= 16)
            .map(|record: RingSlot| (record.kind, u32::from(record.aux), record.value))
            .collect()
    }

    fn entry(reader: &Reader, task: u64) -> Option<DirectorySlot> {
        reader.tasks().into_iter().find(|slot| slot.task == task)
    }

    #[test]
    fn a_task_that_is_not_wrapped_is_told_of_but_for_its_wake_ups() {
        let mut reader = reader(TASK_KINDS);
        let line = line!() + 2;
        let task = one_thread().block_on(async {
            let task = tokio::spawn(async {
                tokio::task::yield_now().await;
                probe::current_task()
            });
            task.await.expect("no panic")
        });
        let records: Vec<_> = reader.read().into_iter().flatten().collect();
        let life: Vec<_> = records.iter().filter(|record| record.task == task).collect();
        let kinds: Vec<_> =
            life.iter().map(|record| (record.kind, u32::from(record.aux), record.value)).collect();
        assert_eq!(
            kinds,
            [
                (Kind::TaskSpawn as u16, 2, 0),
                (Kind::PollBegin as u16, 2, 0),
                (Kind::PollEnd as u16, POLL_PENDING, 0),
                (Kind::PollBegin as u16, 2, 0),
                (Kind::PollEnd as u16, POLL_OVER, 0),
                (Kind::TaskEnd as u16, END_UNKNOWN, 2),
            ]
        );
        let site = reader.site(life[0].arg);
        assert!(reader.text(site.file).ends_with("tokio_hooks.rs"), "{}", reader.text(site.file));
        assert_eq!((site.line, site.name, site.future, site.future_bytes), (line, 0, 0, 0));
        assert!(entry(&reader, task).is_none(), "the task is over, its entry is there");
    }

    #[test]
    fn a_wrapped_task_is_told_of_once() {
        let mut reader = reader(TASK_KINDS);
        let (told, instrumented) = one_thread().block_on(async {
            let told = hz_runtime::tokio::spawn_named("told", async { probe::current_task() });
            let mut tasks = JoinSet::new();
            tasks.spawn(hz_runtime::tokio::instrument(async {
                tokio::task::yield_now().await;
                probe::current_task()
            }));
            (told.await.expect("no panic"), tasks.join_all().await[0])
        });
        let records: Vec<_> = reader.read().into_iter().flatten().collect();
        let spawned: Vec<u64> = records
            .iter()
            .filter(|record| record.kind == Kind::TaskSpawn as u16)
            .map(|record| record.task)
            .collect();
        // Other tests' tasks are there as well: each is spawned once, and none is known by two ids.
        for task in [told, instrumented] {
            assert_eq!(spawned.iter().filter(|spawned| **spawned == task).count(), 1);
        }
        let polls = |task| {
            let of_task = records.iter().filter(move |record| record.task == task);
            of_task.filter(|record| record.kind == Kind::PollBegin as u16).count()
        };
        assert_eq!((polls(told), polls(instrumented)), (1, 2));
        let is_woken = |task| {
            records.iter().any(|record| record.task == task && record.kind == Kind::TaskWake as u16)
        };
        assert!(is_woken(instrumented), "the wrapper adds what the hooks don't tell");
    }

    #[test]
    fn a_wrapped_task_tells_of_itself_on_a_runtime_without_hooks() {
        let hooked = one_thread();
        let mut reader = reader(TASK_KINDS);
        let task = Builder::new_current_thread().build().expect("a runtime").block_on(async {
            let task =
                hz_runtime::tokio::instrument_named("alone", async { probe::current_task() });
            tokio::spawn(task).await.expect("no panic")
        });
        drop(hooked);
        let life = records_of(&mut reader, task);
        assert_eq!(life.first().map(|first| first.0), Some(Kind::TaskSpawn as u16), "{life:?}");
        assert_eq!(life.last().map(|last| last.0), Some(Kind::TaskEnd as u16), "{life:?}");
    }

    #[test]
    fn a_task_that_its_runtime_drops_leaves_the_directory() {
        let reader = reader(TASK_KINDS);
        let runtime = runtime();
        let (sender, task) = oneshot::channel();
        runtime.spawn(async {
            sender.send(probe::current_task()).expect("a receiver");
            future::pending::<()>().await;
        });
        let task = task.blocking_recv().expect("sent");
        wait_until("the task is idle", || {
            entry(&reader, task).is_some_and(|slot| slot.state & STATE_MASK == TASK_IDLE.into())
        });
        let slot = entry(&reader, task).expect("an entry");
        assert_eq!(slot.polls, 1);
        assert!((slot.state >> 32) < 2, "worker {}", slot.state >> 32);
        drop(runtime);
        assert!(entry(&reader, task).is_none());
    }

    #[test]
    fn a_task_that_blocks_on_another_runtime_is_the_current_one_again() {
        let (outer, inner, after) = runtime().block_on(async {
            let task = tokio::spawn(async {
                let outer = probe::current_task();
                let inner = tokio::task::block_in_place(|| {
                    one_thread().block_on(async {
                        tokio::spawn(async { probe::current_task() }).await.expect("no panic")
                    })
                });
                (outer, inner, probe::current_task())
            });
            task.await.expect("no panic")
        });
        assert_eq!(outer, after);
        assert!(inner != outer && inner != 0, "{inner} in {outer}");
    }
}
