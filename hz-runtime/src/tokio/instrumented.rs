//! The future that a wrapped task is.

use super::waker::Wakers;
use super::worker;
use crate::probe::{Spawn, TaskProbe};
use pin_project_lite::pin_project;
use std::pin::Pin;
use std::ptr;
use std::task::{Context, Poll};

pin_project! {
    /// A future that tells of itself as a task. Its output is that of the future it wraps.
    ///
    /// Dropped before it was ready, it says that the task was cancelled, after it has dropped the
    /// future: a task's clean-up is still the task.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless spawned"]
    pub struct Instrumented<F> {
        // Dropped in this order.
        #[pin]
        future: F,
        probe: TaskProbe,
        wakers: Wakers,
    }
}

impl<F: Future> Instrumented<F> {
    pub(super) fn new(future: F, spawn: &Spawn<'_>) -> Self {
        let probe = TaskProbe::spawned(spawn);
        probe.task().woken();
        Self { future, probe, wakers: Wakers::default() }
    }
}

impl<F: Future> Future for Instrumented<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        worker::before_poll();
        if this.wakers.is_unused() {
            this.probe.future_at(ptr::from_ref::<F>(&this.future).addr());
        }
        let task = this.probe.task();
        let mut context = Context::from_waker(this.wakers.telling(task, context.waker()));
        this.probe.poll(|| this.future.poll(&mut context))
    }
}
