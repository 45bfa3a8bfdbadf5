//! Awaiting a task's end.

use crate::blocking::Call;
use crate::probe::{self, Wait};
use crate::scheduler::budget;
use crate::scheduler::cell::Owned;
use std::any::Any;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

/// A task's result to come, and the means to end it before.
///
/// Dropped, it leaves the task running.
pub struct JoinHandle<T> {
    joined: Joined<T>,
}

enum Joined<T> {
    Task(Owned<T>),
    Call(Arc<Call<T>>),
}

impl<T> JoinHandle<T> {
    pub(crate) const fn new(task: Owned<T>) -> Self {
        Self { joined: Joined::Task(task) }
    }

    pub(crate) const fn of_call(call: Arc<Call<T>>) -> Self {
        Self { joined: Joined::Call(call) }
    }

    /// The task's id: from 1, unique in the process. Blocking calls have numbers of their own.
    #[must_use]
    pub fn id(&self) -> u64 {
        match &self.joined {
            Joined::Task(task) => task.meta().task.id(),
            Joined::Call(call) => call.id,
        }
    }

    /// Cancels the task: its future is dropped, where it waits or at the end of the poll it is in.
    /// Awaiting this then says so, unless the task had ended before. A blocking call that has begun
    /// cannot be cancelled.
    pub fn abort(&self) {
        match &self.joined {
            Joined::Task(task) => task.meta().abort(),
            Joined::Call(call) => call.abort(),
        }
    }

    /// Whether the task has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        match &self.joined {
            Joined::Task(task) => task.is_finished(),
            Joined::Call(call) => call.is_finished(),
        }
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        ready!(budget::consume(cx));
        let id = self.id();
        let task = match &mut self.joined {
            Joined::Task(task) => task,
            Joined::Call(call) => return call.poll(cx),
        };
        match task.poll(cx) {
            Poll::Ready(ended) => Poll::Ready(ended.unwrap_or(Err(JoinError::cancelled(id)))),
            Poll::Pending => {
                probe::waiting(Wait::Join(id));
                Poll::Pending
            }
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("id", &self.id()).finish_non_exhaustive()
    }
}

/// Why a task has no result.
#[derive(thiserror::Error)]
#[error("task {task} {}", self.what())]
pub struct JoinError {
    task: u64,
    /// The lock makes the payload `Sync`.
    panic: Option<Mutex<Box<dyn Any + Send>>>,
}

impl JoinError {
    pub(crate) const fn cancelled(task: u64) -> Self {
        Self { task, panic: None }
    }

    pub(crate) fn panicked(task: u64, panic: Box<dyn Any + Send>) -> Self {
        Self { task, panic: Some(Mutex::new(panic)) }
    }

    /// The task's id.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.task
    }

    /// Whether it was cancelled.
    #[must_use]
    pub const fn is_cancelled(&self) -> bool {
        self.panic.is_none()
    }

    /// Whether it panicked.
    #[must_use]
    pub const fn is_panic(&self) -> bool {
        self.panic.is_some()
    }

    /// What it panicked with, for [`resume_unwind`](std::panic::resume_unwind).
    ///
    /// # Errors
    ///
    /// This error again if the task did not panic.
    pub fn into_panic(self) -> Result<Box<dyn Any + Send>, Self> {
        let Self { task, panic } = self;
        let panic = panic.ok_or(Self { task, panic: None })?;
        Ok(panic.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn what(&self) -> String {
        let Some(panic) = &self.panic else { return "was cancelled".into() };
        let panic = panic.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let text = panic.downcast_ref::<&str>().copied();
        match text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)) {
            Some(text) => format!("panicked: {text}"),
            None => "panicked".into(),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinError({self})")
    }
}
