//! What one says of a task when one spawns it, and the functions that spawn it.

use crate::handle::Handle;
use crate::join::JoinHandle;
use crate::probe::{self, Cause};
use std::borrow::Cow;
use std::panic::Location;
use std::task::Poll;

/// How urgent a task is.
///
/// A worker polls the tasks of a higher level first. No level starves: of any 32 tasks in a row that
/// a worker polls, at least four are `high`, two `normal` and one `background`, where there are any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Before everything else.
    Critical = 0,
    /// Before the normal.
    High = 1,
    /// What [`spawn`](crate::spawn) gives.
    #[default]
    Normal = 2,
    /// When there is nothing else to do.
    Background = 3,
}

impl Priority {
    /// How many there are.
    pub(crate) const LEVELS: usize = 4;
}

/// What is known of a task when it is spawned.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TaskMeta {
    /// Its name, for whoever observes it.
    pub name: Option<Cow<'static, str>>,
    /// How urgent it is.
    pub priority: Priority,
}

impl TaskMeta {
    /// A normal task of this name.
    #[must_use]
    pub fn named(name: impl Into<Cow<'static, str>>) -> Self {
        Self { name: Some(name.into()), priority: Priority::default() }
    }

    /// With this priority.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }
}

/// Spawns a task on this thread's runtime.
///
/// # Panics
///
/// If no runtime is entered on this thread; see [`Handle::enter`].
#[track_caller]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    spawn_with(TaskMeta::default(), future)
}

/// Spawns a task of a name or priority on this thread's runtime.
///
/// # Panics
///
/// If no runtime is entered on this thread; see [`Handle::enter`].
#[track_caller]
pub fn spawn_with<F>(meta: TaskMeta, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let location = Location::caller();
    Handle::with_current(|handle| handle.spawn_at(location, meta, future))
}

/// Makes a call that may block, on a thread that is no worker. Aborting it helps only while it is
/// queued.
///
/// # Panics
///
/// If no runtime is entered on this thread; see [`Handle::enter`].
#[track_caller]
pub fn spawn_blocking<F, T>(function: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    Handle::with_current(|handle| handle.spawn_blocking(function))
}

/// Lets the other tasks of this worker run before this one goes on.
pub async fn yield_now() {
    let mut has_yielded = false;
    std::future::poll_fn(|cx| {
        if has_yielded {
            return Poll::Ready(());
        }
        has_yielded = true;
        probe::with_cause(Cause::Yield, || cx.waker().wake_by_ref());
        Poll::Pending
    })
    .await;
}
