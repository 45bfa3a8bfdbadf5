//! The future that a wrapped task is.

use super::teller::Teller;
use super::waker::Wakers;
use super::worker;
use crate::probe::Spawn;
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
        teller: Teller,
        wakers: Wakers,
    }
}

impl<F: Future> Instrumented<F> {
    /// Tells of the task from here on, whatever Tokio's hooks tell.
    pub(super) fn told(future: F, spawn: &Spawn<'_>) -> Self {
        Self { future, teller: Teller::wrapper(spawn), wakers: Wakers::default() }
    }

    /// Tells of the task unless Tokio's hooks do.
    pub(super) fn new(future: F, spawn: &Spawn<'_>) -> Self {
        Self { future, teller: Teller::new(spawn), wakers: Wakers::default() }
    }
}

impl<F: Future> Future for Instrumented<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        worker::before_poll();
        this.teller.decide();
        let Some(task) = this.teller.task() else { return this.future.poll(context) };
        if this.wakers.is_unused() {
            this.teller.future_at(ptr::from_ref::<F>(&this.future).addr());
        }
        let mut context = Context::from_waker(this.wakers.telling(task, context.waker()));
        this.teller.poll(|| this.future.poll(&mut context))
    }
}
