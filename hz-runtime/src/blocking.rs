//! Threads for calls that block, so that workers need not.

use crate::handle::Handle;
use crate::join::JoinError;
use crate::probe::{self, Cause, Wait};
use crate::scheduler::sync::{Condvar, Mutex, lock, thread};
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How long a thread waits for the next call before it ends.
const IDLE: Duration = Duration::from_secs(10);

/// A queue of calls, and the threads that make them: started on demand, ended when idle.
pub(crate) struct Pool {
    state: Mutex<State>,
    changed: Condvar,
    most_threads: usize,
    thread_name: String,
}

#[derive(Default)]
struct State {
    /// Dropped without being made, a call is cancelled.
    queue: VecDeque<Box<dyn FnOnce() + Send>>,
    /// Threads that wait, those included that were notified and have not woken yet.
    idle: usize,
    threads: Vec<thread::JoinHandle<()>>,
    is_closed: bool,
}

impl Pool {
    pub(crate) fn new(thread_name: &str, most_threads: usize) -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            most_threads: most_threads.max(1),
            thread_name: format!("{thread_name}-blocking"),
        }
    }

    /// Queues a call. It is cancelled if the pool is closed or the kernel gives it no thread at all.
    pub(crate) fn call<F, T>(&self, handle: &Handle, function: F) -> Arc<Call<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let call = Arc::new(Call { id: probe::blocking_queued(), stage: Mutex::default() });
        let pending = Pending(Arc::clone(&call));
        let task = probe::current_task();
        let make = move || {
            if pending.0.is_aborted() {
                return;
            }
            probe::blocking_begin(task, pending.0.id);
            let made = catch_unwind(AssertUnwindSafe(function));
            probe::blocking_end(task, pending.0.id);
            pending.0.end(made.map_err(|panic| JoinError::panicked(pending.0.id, panic)));
        };
        self.push(handle, Box::new(make));
        call
    }

    fn push(&self, handle: &Handle, call: Box<dyn FnOnce() + Send>) {
        let mut state = lock(&self.state);
        if state.is_closed {
            drop(state);
            drop(call);
            return;
        }
        state.queue.push_back(call);
        if state.idle >= state.queue.len() {
            self.changed.notify_one();
        } else if state.threads.len() < self.most_threads {
            self.start_thread(&mut state, handle);
        }
        // Without any thread, nobody would ever make it.
        let orphan = if state.threads.is_empty() { state.queue.pop_back() } else { None };
        drop(state);
        drop(orphan);
    }

    fn start_thread(&self, state: &mut State, handle: &Handle) {
        let handle = handle.clone();
        let run = move || {
            let _entered = handle.enter();
            handle.core().blocking.run();
        };
        // The others will make the call if the kernel gives no more threads.
        if let Ok(thread) = thread::Builder::new().name(self.thread_name.clone()).spawn(run) {
            state.threads.push(thread);
        }
    }

    /// Makes calls, until there is none for a while or the pool is closed.
    fn run(&self) {
        let mut state = lock(&self.state);
        let mut has_waited = false;
        loop {
            if let Some(call) = state.queue.pop_front() {
                drop(state);
                call();
                state = lock(&self.state);
                has_waited = false;
            } else if state.is_closed || has_waited {
                break;
            } else {
                state.idle += 1;
                let waited = self.changed.wait_timeout(state, IDLE);
                let timeout;
                (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
                has_waited = timeout.timed_out();
            }
        }
        // Whoever closed it joins the threads that it has taken away.
        let own = thread::current().id();
        let place = state.threads.iter().position(|thread| thread.thread().id() == own);
        let own = place.map(|place| state.threads.swap_remove(place));
        drop(state);
        drop(own);
    }

    /// Cancels the calls that are queued, and waits for those that are being made.
    pub(crate) fn close(&self) {
        let own = thread::current().id();
        for thread in self.stop().into_iter().filter(|thread| thread.thread().id() != own) {
            // A thread of the pool does not panic: what its calls do is caught.
            let _ = thread.join();
        }
    }

    /// Cancels the calls that are queued; the threads end by themselves.
    pub(crate) fn close_without_waiting(&self) {
        drop(self.stop());
    }

    fn stop(&self) -> Vec<thread::JoinHandle<()>> {
        let mut state = lock(&self.state);
        state.is_closed = true;
        let queue = std::mem::take(&mut state.queue);
        let threads = std::mem::take(&mut state.threads);
        drop(state);
        self.changed.notify_all();
        drop(queue);
        threads
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.state);
        let mut pool = f.debug_struct("Pool");
        pool.field("queued", &state.queue.len()).field("threads", &state.threads.len());
        pool.finish_non_exhaustive()
    }
}

/// A call as its handle and its thread share it.
pub(crate) struct Call<T> {
    pub(crate) id: u64,
    stage: Mutex<Stage<T>>,
}

enum Stage<T> {
    Pending { waker: Option<Waker>, is_aborted: bool },
    Ended(Result<T, JoinError>),
    Fetched,
}

impl<T> Default for Stage<T> {
    fn default() -> Self {
        Self::Pending { waker: None, is_aborted: false }
    }
}

impl<T> Call<T> {
    fn is_aborted(&self) -> bool {
        matches!(&*lock(&self.stage), Stage::Pending { is_aborted: true, .. })
    }

    /// Has it not made, if it is still queued.
    pub(crate) fn abort(&self) {
        if let Stage::Pending { is_aborted, .. } = &mut *lock(&self.stage) {
            *is_aborted = true;
        }
    }

    pub(crate) fn is_finished(&self) -> bool {
        !matches!(&*lock(&self.stage), Stage::Pending { .. })
    }

    fn end(&self, result: Result<T, JoinError>) {
        let mut stage = lock(&self.stage);
        if !matches!(&*stage, Stage::Pending { .. }) {
            return;
        }
        let before = std::mem::replace(&mut *stage, Stage::Ended(result));
        drop(stage);
        if let Stage::Pending { waker: Some(waker), .. } = before {
            probe::with_cause(Cause::Blocking, || waker.wake());
        }
    }

    /// Its result, once.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<Result<T, JoinError>> {
        let mut stage = lock(&self.stage);
        if let Stage::Pending { waker, .. } = &mut *stage {
            let old = waker.replace(cx.waker().clone());
            drop(stage);
            drop(old);
            probe::waiting(Wait::Blocking(self.id));
            return Poll::Pending;
        }
        match std::mem::replace(&mut *stage, Stage::Fetched) {
            Stage::Ended(result) => Poll::Ready(result),
            _ => Poll::Ready(Err(JoinError::cancelled(self.id))),
        }
    }
}

/// A call that has not ended; dropped, it is cancelled.
struct Pending<T>(Arc<Call<T>>);

impl<T> Drop for Pending<T> {
    fn drop(&mut self) {
        self.0.end(Err(JoinError::cancelled(self.0.id)));
    }
}
