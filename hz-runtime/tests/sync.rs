//! Channels and locks between tasks.

use hz_runtime::sync::{Mutex, RwLock, Semaphore, bounded, unbounded};
use hz_runtime::{Runtime, spawn, yield_now};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().worker_threads(workers).build().expect("a runtime")
}

#[test]
fn every_message_is_received_once() {
    let (send, receive) = bounded(4);
    let sum = runtime(2).block_on(async move {
        for part in 0..10_u64 {
            let send = send.clone();
            drop(spawn(async move {
                for n in 0..100 {
                    send.send(part * 100 + n).await.expect("somebody receives");
                }
            }));
        }
        drop(send);
        let receiver = || {
            let receive = receive.clone();
            spawn(async move {
                let mut sum = 0;
                while let Ok(n) = receive.recv().await {
                    sum += n;
                }
                sum
            })
        };
        let receivers = [receiver(), receiver()];
        let mut sum = 0;
        for receiver in receivers {
            sum += receiver.await.expect("it ends");
        }
        sum
    });
    assert_eq!(sum, 499_500);
}

#[test]
fn a_channel_closes_with_its_last_end() {
    let (send, receive) = unbounded();
    let second = send.clone();
    drop(send);
    second.try_send(1).expect("one sender is left");
    drop(second);
    assert_eq!(receive.try_recv(), Ok(1));
    assert!(runtime(1).block_on(receive.recv()).is_err());
    let (send, receive) = bounded(1);
    drop(receive);
    assert!(runtime(1).block_on(send.send(1)).is_err());
}

#[test]
fn a_task_that_always_finds_messages_lets_others_run() {
    let (send, receive) = unbounded();
    let is_over = Arc::new(AtomicBool::new(false));
    let (sees, over) = (Arc::clone(&is_over), is_over);
    runtime(1).block_on(async move {
        let endless = spawn(async move {
            while !sees.load(Ordering::SeqCst) {
                send.send(()).await.expect("it is open");
                receive.recv().await.expect("there is one");
            }
        });
        spawn(async move { over.store(true, Ordering::SeqCst) }).await.expect("it ends");
        endless.await.expect("it ends");
    });
}

#[test]
fn locks_are_exclusive_across_await() {
    let (lock, wide) = (Arc::new(Mutex::new(0)), Arc::new(RwLock::new(0)));
    let (permits, inside) = (Arc::new(Semaphore::new(2)), Arc::new(AtomicUsize::new(0)));
    runtime(2).block_on(async {
        let task = || {
            let (lock, wide) = (Arc::clone(&lock), Arc::clone(&wide));
            let (permits, inside) = (Arc::clone(&permits), Arc::clone(&inside));
            spawn(async move {
                for _ in 0..50 {
                    let mut guard = lock.lock().await;
                    let before = *guard;
                    yield_now().await;
                    *guard = before + 1;
                    drop(guard);
                    *wide.write().await += 1;
                    let _permit = permits.acquire().await;
                    let others = inside.fetch_add(1, Ordering::SeqCst);
                    yield_now().await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                    assert!(others < 2, "{others} others hold a permit of two");
                }
            })
        };
        let tasks: Vec<_> = (0..8).map(|_| task()).collect();
        for task in tasks {
            task.await.expect("it ends");
        }
        assert_eq!((*lock.lock().await, *wide.read().await), (400, 400));
    });
}
