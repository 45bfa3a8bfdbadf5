//! Scopes: tasks that end together.

#![forbid(unsafe_code)]

#[cfg(all(test, hz_loom))]
mod models;
mod node;
mod unfinished;
mod wait;

pub(crate) use node::{Member, Node, Stage};
pub use unfinished::{Unfinished, UnfinishedTask};
pub use wait::{Cancelled, Finished};

use crate::handle::Handle;
use crate::join::JoinHandle;
use crate::task::TaskMeta;
use crate::time::timeout;
use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

/// How long the tasks of a dropped scope have for their clean-up.
const GRACE: Duration = Duration::from_secs(5);

/// Tasks, and scopes below it, that end together: a tree of cancellations.
///
/// Cancelling or dropping a scope cancels all tasks in it and in the scopes below it. A task that was
/// [`spawn`](ScopeHandle::spawn)ed is dropped where it waits, or at the end of the poll it is in; one that
/// was spawned [gracefully](ScopeHandle::spawn_graceful) is told, and cleans up by itself. A scope
/// takes no task any more once it is cancelled: what is spawned then is cancelled at once.
///
/// [`shutdown`](Scope::shutdown) cancels, waits until all are gone, and says who was not in time.
/// Dropped instead, a scope has that done by a task, which tells on stderr who was not in time; see
/// [`Scope::grace`].
///
/// A scope is one's own; [`Scope::handle`] gives what can be passed around, as with a runtime.
///
/// ```
/// use hz_runtime::{Runtime, Scope, TaskMeta, time::sleep, yield_now};
/// use std::time::Duration;
///
/// let runtime = Runtime::builder().worker_threads(1).build()?;
/// runtime.block_on(async {
///     let server = Scope::new("server");
///     let connections = server.child("connections");
///     // Dropped where it waits.
///     let idle = connections.spawn(std::future::pending::<()>());
///     // Ends by itself when it is told to.
///     let writer = server.spawn_graceful(TaskMeta::named("writer"), |cancelled| async move {
///         cancelled.await;
///         yield_now().await; // flushes, says goodbye
///         "flushed"
///     });
///     server.shutdown(Duration::from_secs(5)).await?;
///     assert!(idle.await.unwrap_err().is_cancelled());
///     assert_eq!(writer.await?, "flushed");
///
///     let stubborn = Scope::new("stubborn");
///     stubborn.spawn_graceful(TaskMeta::named("sleeper"), |_| sleep(Duration::from_secs(3600)));
///     let error = stubborn.shutdown(Duration::from_millis(10)).await.unwrap_err();
///     assert_eq!(error.tasks[0].name.as_deref(), Some("sleeper"));
///     assert!(error.to_string().ends_with("waits for a timer"), "{error}");
///     Ok(())
/// })
/// # as Result<(), Box<dyn std::error::Error>>
/// # ;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a scope that is dropped cancels its tasks"]
pub struct Scope {
    handle: ScopeHandle,
    grace: Duration,
}

/// A scope as one passes it around: spawns into it and cancels it. It does not keep the scope from
/// being dropped, which cancels.
#[derive(Clone)]
pub struct ScopeHandle {
    node: Arc<Node>,
    runtime: Handle,
}

impl Scope {
    /// A scope of this thread's runtime, below none.
    ///
    /// # Panics
    ///
    /// If no runtime is entered on this thread; see [`Handle::enter`].
    #[track_caller]
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self::of(Node::root(name.into()), Handle::current())
    }

    const fn of(node: Arc<Node>, runtime: Handle) -> Self {
        Self { handle: ScopeHandle { node, runtime }, grace: GRACE }
    }

    /// How long its tasks have for their clean-up if it is dropped; 5 s by default. Those that are then
    /// still there are dropped where they wait, and told of on stderr.
    pub const fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// The scope as one passes it around.
    #[must_use]
    pub const fn handle(&self) -> &ScopeHandle {
        &self.handle
    }

    /// Cancels the scope, and waits until all its tasks and those of the scopes below it are gone:
    /// their futures dropped, their clean-up done.
    ///
    /// # Errors
    ///
    /// [`Unfinished`] says who is still there after `limit`. Those are then to be dropped, where they
    /// wait, whatever they clean up; who is in a poll that does not end is beyond reach.
    pub async fn shutdown(&self, limit: Duration) -> Result<(), Unfinished> {
        shut_down(&self.node, limit).await
    }
}

impl Deref for Scope {
    type Target = ScopeHandle;

    fn deref(&self) -> &ScopeHandle {
        &self.handle
    }
}

impl ScopeHandle {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.node.name
    }

    /// A scope below this one: cancelled with it, or before it.
    pub fn child(&self, name: impl Into<Cow<'static, str>>) -> Scope {
        Scope::of(self.node.child(name.into()), self.runtime.clone())
    }

    /// Spawns a task, which a cancellation drops: where it waits, or at the end of the poll it is in.
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.spawn_at(Location::caller(), TaskMeta::default(), future, false)
    }

    /// As [`ScopeHandle::spawn`], with a name or priority.
    #[track_caller]
    pub fn spawn_with<F>(&self, meta: TaskMeta, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.spawn_at(Location::caller(), meta, future, false)
    }

    /// Spawns a task that ends by itself when it is told to: `make` gets what tells it. It has until
    /// the limit of [`Scope::shutdown`], or the [`grace`](Scope::grace) of the scope that was dropped; then it is
    /// dropped like the others.
    #[track_caller]
    pub fn spawn_graceful<F>(
        &self,
        meta: TaskMeta,
        make: impl FnOnce(Cancelled) -> F,
    ) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.spawn_at(Location::caller(), meta, make(self.cancelled()), true)
    }

    fn spawn_at<F>(
        &self,
        location: &'static Location<'static>,
        meta: TaskMeta,
        future: F,
        is_graceful: bool,
    ) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let node = Arc::clone(&self.node);
        let entrance = Entrance { node, is_graceful, name: meta.name.clone(), location };
        self.runtime.spawn_in(Some(entrance), location, meta, future)
    }

    /// Cancels the scope and all below it. They end soon; [`ScopeHandle::finished`] waits for that.
    pub fn cancel(&self) {
        self.node.end(Stage::Cancelled);
    }

    /// Whether it is cancelled, by itself or with a scope above it.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.node.stage() != Stage::Open
    }

    /// Waits until it is cancelled, by itself or with a scope above it.
    pub fn cancelled(&self) -> Cancelled {
        Cancelled::of(Arc::clone(&self.node))
    }

    /// Waits until it has no live task, nor has any scope below it. It may be open, and get new ones.
    pub fn finished(&self) -> Finished {
        Finished::of(Arc::clone(&self.node))
    }
}

/// See [`Scope::shutdown`].
async fn shut_down(node: &Arc<Node>, limit: Duration) -> Result<(), Unfinished> {
    node.end(Stage::Cancelled);
    if timeout(limit, Finished::of(Arc::clone(node))).await.is_ok() {
        return Ok(());
    }
    let unfinished = Unfinished::of(node, limit);
    node.end(Stage::Over);
    unfinished.map_or(Ok(()), Err)
}

impl Drop for Scope {
    fn drop(&mut self) {
        self.cancel();
        let ScopeHandle { node, runtime } = &self.handle;
        if node.is_empty() || node.stage() == Stage::Over {
            return;
        }
        let (node, grace) = (Arc::clone(node), self.grace);
        let tend = async move {
            if let Err(unfinished) = shut_down(&node, grace).await {
                eprintln!("hz-runtime: {unfinished}");
            }
        };
        drop(runtime.spawn_with(TaskMeta::named("scope clean-up"), tend));
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("path", &self.node.path()).finish_non_exhaustive()
    }
}

impl fmt::Debug for ScopeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopeHandle").field("path", &self.node.path()).finish_non_exhaustive()
    }
}

/// A task's way into a scope.
#[derive(Debug)]
pub(crate) struct Entrance {
    pub(crate) node: Arc<Node>,
    pub(crate) is_graceful: bool,
    pub(crate) name: Option<Cow<'static, str>>,
    pub(crate) location: &'static Location<'static>,
}

/// A task's scope, as the task knows it.
#[derive(Debug)]
pub(crate) struct Membership {
    node: Arc<Node>,
    is_graceful: bool,
}

impl Membership {
    pub(crate) fn of(entrance: &Entrance) -> Self {
        Self { node: Arc::clone(&entrance.node), is_graceful: entrance.is_graceful }
    }

    /// Whether the task is to be dropped.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.node.stage() >= if self.is_graceful { Stage::Over } else { Stage::Cancelled }
    }

    /// The task's future has been dropped.
    pub(crate) fn leave(&self, task: u64) {
        self.node.leave(task);
    }
}
