//! A task: a future with its probe, its place in the registry and what its handle may ask of it.

use super::abort::Abort;
use super::registry::Shard;
use super::sync::thread_local;
use super::waker;
use crate::join::JoinError;
use crate::probe::{self, Cause, Spawn, TaskProbe, TaskRef, WakeNote};
use crate::scope::{Entrance, Member, Membership};
use crate::task::Priority;
use async_task::{Builder, FallibleTask, Runnable, ScheduleInfo, Task, WithInfo};
use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A task that is to be polled: who holds it owns the turn.
pub(crate) type Job = Runnable<Meta>;

/// What is known of a task beside its future.
#[derive(Debug)]
pub(crate) struct Meta {
    pub(crate) task: TaskRef,
    pub(crate) priority: Priority,
    pub(crate) number: u64,
    abort: Abort,
    /// Why it was woken in the poll it is in.
    pub(super) note: WakeNote,
    pub(super) inner: waker::Inner,
    pub(crate) shard: Arc<Shard>,
    scope: Option<Membership>,
}

impl Meta {
    /// Ends the task at its next poll, which is soon.
    pub(crate) fn abort(&self) {
        if let Some(place) = self.abort.ask() {
            probe::with_cause(Cause::Cancel, || self.shard.wake(place));
        }
    }
}

/// Polls a task.
pub(crate) fn run(job: Job) {
    let id = job.metadata().task.id();
    // What the task itself wakes has its own cause: `Body::poll` sees to that. What is left is who
    // awaits its end.
    probe::with_cause(Cause::Join(id), || job.run());
}

/// Says that a task goes into a queue that was woken, or spawned.
pub(super) fn woken(job: &Job) {
    job.metadata().task.scheduled();
}

/// Says that a task goes into a queue that was woken in the poll that is just over.
pub(super) fn woken_in_poll(job: &Job) {
    let meta = job.metadata();
    meta.task.woken_in_poll(&meta.note);
}

/// What its handle holds of a task. Dropped, it leaves the task running.
#[derive(Debug)]
pub(crate) struct Owned<T> {
    /// There until it is dropped.
    task: Option<FallibleTask<Outcome<T>, Meta>>,
    /// In the task's allocation, which lasts as long as `task`. (`FallibleTask` does not show it.)
    meta: NonNull<Meta>,
}

// SAFETY: `task` may be sent if `T` may; `meta` is `Sync` and only read.
unsafe impl<T: Send> Send for Owned<T> {}
// SAFETY: a shared `Owned` shows no `T`, and `meta` is `Sync`.
unsafe impl<T> Sync for Owned<T> {}

impl<T> Owned<T> {
    fn new(task: Task<Outcome<T>, Meta>) -> Self {
        let meta = NonNull::from(task.metadata());
        Self { task: Some(task.fallible()), meta }
    }

    pub(crate) const fn meta(&self) -> &Meta {
        // SAFETY: `task` keeps the allocation.
        unsafe { self.meta.as_ref() }
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.task.as_ref().is_none_or(FallibleTask::is_finished)
    }

    /// The task's result, `None` if it was cancelled.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, JoinError>>> {
        let Some(task) = &mut self.task else { return Poll::Ready(None) };
        Pin::new(task).poll(cx).map(|outcome| outcome.map(Outcome::into_result))
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.detach();
        }
    }
}

/// Makes a task, enters it in the registry and in its scope and hands it to `schedule`. If either is
/// closed, the future is dropped and the handle says that the task was cancelled.
///
/// `schedule` should have no size: then the task saves itself a reference count with each wake-up.
pub(crate) fn spawn<F, S>(future: F, made: Made<'_>, schedule: S) -> Owned<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
    S: Fn(Job, ScheduleInfo) + Send + Sync + 'static,
{
    let mut made = made;
    let entrance = made.entrance.take();
    let scope = entrance.as_ref().map(Membership::of);
    let (job, task) = make(future, made, scope, schedule);
    let meta = job.metadata();
    match meta.shard.insert(waker::owned(&job)) {
        Ok(place) => meta.abort.placed(place),
        Err(_closed) => return task,
    }
    if entrance.is_none_or(|entrance| enter(&job, entrance)) {
        job.schedule();
    }
    task
}

/// Takes a task into its scope; false if that takes none any more.
fn enter(job: &Job, entrance: Entrance) -> bool {
    let Entrance { node, is_graceful, name, location } = entrance;
    let (task, waker) = (job.metadata().task, waker::owned(job));
    node.enter(Member { task, waker, is_graceful, name, location }).is_ok()
}

/// What a task is made of, beside its future.
pub(crate) struct Made<'a> {
    pub(crate) spawn: &'a Spawn<'a>,
    pub(crate) priority: Priority,
    /// The scheduler's own number of it, if it numbers tasks.
    pub(crate) number: u64,
    pub(crate) shard: Arc<Shard>,
    pub(crate) entrance: Option<Entrance>,
}

/// Makes a task that no registry knows, nor its scope.
fn make<F, S>(
    future: F,
    made: Made<'_>,
    scope: Option<Membership>,
    schedule: S,
) -> (Job, Owned<F::Output>)
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
    S: Fn(Job, ScheduleInfo) + Send + Sync + 'static,
{
    let probe = TaskProbe::spawned(made.spawn);
    let meta = Meta {
        task: probe.task(),
        priority: made.priority,
        number: made.number,
        abort: Abort::new(),
        note: WakeNote::new(),
        inner: waker::Inner::none(),
        shard: made.shard,
        scope,
    };
    let body = |meta: &Meta| Body {
        meta: NonNull::from(meta),
        probe,
        is_placed: false,
        future: Some(future),
    };
    let builder = Builder::new().metadata(meta);
    // SAFETY: future and output are `Send + 'static` and `schedule` is `Send + Sync + 'static`;
    // the future keeps the metadata's address and not its borrow.
    let (job, task) = unsafe { builder.spawn_unchecked(body, WithInfo::from(schedule)) };
    job.metadata().inner.set(&job);
    (job, Owned::new(task))
}

thread_local! {
    static PANICS: Cell<u64> = const { Cell::new(0) };
}

/// Polls of tasks that have panicked on this thread.
pub(super) fn panics() -> u64 {
    PANICS.with(Cell::get)
}

/// A task's future.
struct Body<F: Future> {
    /// In the same allocation, which outlives this.
    meta: NonNull<Meta>,
    probe: TaskProbe,
    is_placed: bool,
    /// Pinned with this.
    future: Option<F>,
}

// SAFETY: `meta` is `Sync` and only read.
unsafe impl<F: Future + Send> Send for Body<F> {}

impl<F: Future> Future for Body<F> {
    type Output = Outcome<F::Output>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: `future` is not moved out of it.
        let this = unsafe { self.get_unchecked_mut() };
        this.meta().note.clear();
        // Asked here, where the task is known to run: whoever ends it says so before it wakes it, and
        // a wake-up from here on leads to another poll.
        if this.is_to_end() {
            let _ = this.drop_future();
            let cancelled = JoinError::cancelled(this.probe.id());
            return Poll::Ready(Outcome(ManuallyDrop::new(Err(cancelled))));
        }
        let Some(future) = &mut this.future else { return Poll::Pending };
        if !this.is_placed {
            this.is_placed = true;
            this.probe.future_at(std::ptr::from_mut(future).addr());
        }
        // SAFETY: it is pinned as long as `self` is, and dropped in its place.
        let future = unsafe { Pin::new_unchecked(future) };
        let waker = waker::borrowed(this.meta);
        let mut cx = Context::from_waker(&waker);
        let probe = &this.probe;
        let poll = || probe::with_cause(Cause::Running, || probe.poll(|| future.poll(&mut cx)));
        let ended = match catch_unwind(AssertUnwindSafe(poll)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(panic) => {
                PANICS.with(|panics| panics.set(panics.get() + 1));
                Err(JoinError::panicked(probe.id(), panic))
            }
        };
        let ended = match this.drop_future() {
            Err(panic) if ended.is_ok() => Err(JoinError::panicked(this.probe.id(), panic)),
            _ => ended,
        };
        Poll::Ready(Outcome(ManuallyDrop::new(ended)))
    }
}

impl<F: Future> Body<F> {
    const fn meta(&self) -> &Meta {
        // SAFETY: the metadata is in the allocation that this is in.
        unsafe { self.meta.as_ref() }
    }

    fn is_to_end(&self) -> bool {
        let meta = self.meta();
        meta.abort.is_asked()
            || meta.shard.is_closed()
            || meta.scope.as_ref().is_some_and(Membership::is_over)
    }

    /// Drops the future. A panic in that would take the process along: it is returned instead.
    fn drop_future(&mut self) -> std::thread::Result<()> {
        catch_unwind(AssertUnwindSafe(|| self.future = None))
    }
}

impl<F: Future> Drop for Body<F> {
    fn drop(&mut self) {
        // The panic's message has been printed; there is nobody left to tell.
        let _ = self.drop_future();
        let meta = self.meta();
        if let Some(place) = meta.abort.leave() {
            meta.shard.remove(place);
        }
        if let Some(scope) = &meta.scope {
            scope.leave(self.probe.id());
        }
    }
}

/// A task's result. If nobody fetches it, a panic in its destructor ends here: where it is dropped,
/// it would else end the process.
#[derive(Debug)]
pub(crate) struct Outcome<T>(ManuallyDrop<Result<T, JoinError>>);

impl<T> Outcome<T> {
    pub(crate) fn into_result(self) -> Result<T, JoinError> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is neither used nor dropped any more.
        unsafe { ManuallyDrop::take(&mut this.0) }
    }
}

impl<T> Drop for Outcome<T> {
    fn drop(&mut self) {
        let drop_result = || {
            // SAFETY: it is dropped only here, `into_result` forgets `self`.
            unsafe { ManuallyDrop::drop(&mut self.0) }
        };
        let _ = catch_unwind(AssertUnwindSafe(drop_result));
    }
}
