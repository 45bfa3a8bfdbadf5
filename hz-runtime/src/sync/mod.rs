//! Channels and locks for tasks (these are `async-lock`'s, wrapped), whose waits and wake-ups name the
//! channel or lock they are about, and which cost a task of its budget.
//!
//! They work on any runtime, and between runtimes.

mod channel;
mod lock;

pub use async_lock::{Barrier, BarrierWaitResult, OnceCell};
pub use channel::{
    Receiver, Receiving, RecvError, SendError, Sender, Sending, TryRecvError, TrySendError,
    bounded, unbounded,
};
pub use lock::{
    Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, Semaphore, SemaphoreGuard,
};

use crate::probe::{self, Cause, Wait};
use crate::scheduler::budget;
use std::pin::pin;
use std::task::ready;

/// Awaits a future that waits for `wait` and wakes others because of `cause`.
async fn named<F: Future>(future: F, wait: Wait, cause: Cause) -> F::Output {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| {
        ready!(budget::consume(cx));
        let polled = probe::with_cause(cause, || future.as_mut().poll(cx));
        if polled.is_pending() {
            probe::waiting(wait);
        }
        polled
    })
    .await
}
