//! Why tasks are woken, as a reader of the ring is told.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

#[expect(dead_code, reason = "each test needs a part of it")]
mod support;

use hz_probes_ebpf::Kind;
use hz_probes_ebpf::runtime::{WAKE_CANCEL, WAKE_CHANNEL, WAKE_TASK, WAKE_TIMER, WAKE_YIELD};
use hz_probes_ebpf::runtime_ring::RingSlot;
use hz_runtime::time::sleep;
use hz_runtime::{JoinHandle, Runtime, Scope, spawn, sync, yield_now};
use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::mpsc::channel;
use std::task::Poll;
use std::time::Duration;
use support::{Reader, wait_until};

/// Why the task that `make` spawns is woken after its spawn, to its end.
fn wakes(make: impl FnOnce() -> u64) -> Vec<(u32, u64)> {
    let runtime = Runtime::builder().worker_threads(2).build().unwrap();
    hz_runtime::probe::start(2).unwrap();
    let mut reader = Reader::of(std::process::id()).unwrap();
    reader.lease(&[Kind::TaskWake, Kind::TaskEnd]);
    let entered = runtime.enter();
    let id = make();
    drop(entered);
    let mut told: Vec<RingSlot> = Vec::new();
    wait_until("the task's end is told", || {
        told.extend(reader.read().into_iter().flatten().filter(|slot| slot.task == id));
        told.iter().any(|slot| slot.kind == Kind::TaskEnd as u16)
    });
    told.sort_by_key(|slot| slot.stamp);
    let wakes = told.iter().filter(|slot| slot.kind == Kind::TaskWake as u16).skip(1);
    wakes.map(|slot| (u32::from(slot.aux), slot.value)).collect()
}

fn causes(make: impl FnOnce() -> u64) -> Vec<u32> {
    wakes(make).into_iter().map(|(cause, _)| cause).collect()
}

/// A task whose first poll pends in `wait` and then lasts until `meanwhile` has ended on another
/// thread.
fn woken_in_its_poll<F>(wait: F, meanwhile: impl FnOnce() + Send + 'static) -> JoinHandle<()>
where
    F: Future + Send + 'static,
{
    let mut meanwhile = Some(meanwhile);
    spawn(async move {
        let mut wait = pin!(wait);
        poll_fn(|context| {
            let poll = wait.as_mut().poll(context).map(drop);
            if let Some(meanwhile) = meanwhile.take() {
                assert!(poll.is_pending());
                std::thread::spawn(meanwhile).join().unwrap();
            }
            poll
        })
        .await;
    })
}

#[test]
fn a_message_that_comes_during_a_poll_is_the_cause() {
    let (sender, receiver) = sync::bounded(1);
    let wait = async move { receiver.recv().await };
    let send = move || sender.try_send(7).unwrap();
    assert_eq!(causes(|| woken_in_its_poll(wait, send).id()), [WAKE_CHANNEL]);
}

#[test]
fn a_timer_that_fires_during_a_poll_is_the_cause() {
    // The other worker turns for the one that is stuck.
    let pause = || std::thread::sleep(Duration::from_millis(100));
    let wait = async { sleep(Duration::from_millis(5)).await };
    assert_eq!(causes(|| woken_in_its_poll(wait, pause).id()), [WAKE_TIMER]);
}

#[test]
fn a_cancellation_during_a_poll_is_the_cause() {
    let runtime = Runtime::builder().worker_threads(1).build().unwrap();
    let scope = runtime.block_on(async { Scope::new("scope") });
    let cancelled = scope.cancelled();
    let task = move || woken_in_its_poll(cancelled, move || scope.cancel()).id();
    assert_eq!(causes(task), [WAKE_CANCEL]);
}

#[test]
fn an_abort_during_a_poll_is_the_cause() {
    let (send, receive) = channel::<JoinHandle<()>>();
    let abort = move || receive.recv().unwrap().abort();
    let spawn_it = || {
        let task = woken_in_its_poll(pending::<()>(), abort);
        let id = task.id();
        send.send(task).unwrap();
        id
    };
    assert_eq!(causes(spawn_it), [WAKE_CANCEL]);
}

#[test]
fn a_task_that_wakes_itself_is_its_own_cause() {
    let task = || {
        let mut polls = 0;
        let wakes_itself = poll_fn(move |context| {
            polls += 1;
            if polls == 3 {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        });
        spawn(wakes_itself).id()
    };
    let mut id = 0;
    let wakes = wakes(|| {
        id = task();
        id
    });
    assert_eq!(wakes, [(WAKE_TASK, id), (WAKE_TASK, id)]);
}

#[test]
fn a_task_that_yields_says_so() {
    assert_eq!(causes(|| spawn(yield_now()).id()), [WAKE_YIELD]);
}
