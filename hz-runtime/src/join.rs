//! Awaiting a task's end.

use crate::probe::{self, Wait};
use crate::scheduler::budget;
use crate::scheduler::cell::Owned;
use std::any::Any;
use std::fmt;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll, ready};

/// A task's result to come, and the means to end it before.
///
/// Dropped, it leaves the task running.
pub struct JoinHandle<T> {
    task: Owned<T>,
}

impl<T> JoinHandle<T> {
    pub(crate) const fn new(task: Owned<T>) -> Self {
        Self { task }
    }

    /// The task's id: from 1, unique in the process.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.task.meta().task.id()
    }

    /// Cancels the task: its future is dropped, where it waits or at the end of the poll it is in.
    /// Awaiting this then says so, unless the task had ended before.
    pub fn abort(&self) {
        self.task.meta().abort();
    }

    /// Whether the task has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        ready!(budget::consume(cx));
        let id = self.id();
        match self.task.poll(cx) {
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
