//! A runtime as one passes it around.

use crate::join::JoinHandle;
use crate::probe::Spawn;
use crate::scheduler::Core;
use crate::scheduler::sync::thread_local;
use crate::scope::Entrance;
use crate::task::TaskMeta;
use std::cell::RefCell;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;

thread_local! {
    static ENTERED: RefCell<Option<Handle>> = const { RefCell::new(None) };
}

/// A runtime, shared: spawns tasks from any thread. It does not keep the runtime alive: what is
/// spawned after its end is cancelled at once.
#[derive(Clone, Debug)]
pub struct Handle {
    core: Arc<Core>,
}

/// While it lives, a runtime is this thread's current one.
#[derive(Debug)]
#[must_use = "the runtime is left when this is dropped"]
pub struct EnterGuard<'a> {
    previous: Option<Handle>,
    /// It belongs to this thread.
    handle: PhantomData<(&'a Handle, *const ())>,
}

impl Handle {
    pub(crate) const fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    pub(crate) const fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// This thread's runtime: of a worker its own, else the one that was entered last.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[must_use]
    #[track_caller]
    pub fn current() -> Self {
        Self::with_current(Self::clone)
    }

    /// This thread's runtime, if it has one.
    #[must_use]
    pub fn try_current() -> Option<Self> {
        ENTERED.with(|entered| entered.borrow().clone())
    }

    /// Calls `f` with this thread's runtime.
    #[track_caller]
    pub(crate) fn with_current<R>(f: impl FnOnce(&Self) -> R) -> R {
        let caller = Location::caller();
        ENTERED
            .with(|entered| {
                let entered = entered.borrow();
                assert!(entered.is_some(), "no runtime is entered on this thread, at {caller}");
                entered.as_ref().map(f)
            })
            .expect("it was asserted that it is there")
    }

    /// Makes this runtime the thread's current one until the guard is dropped.
    pub fn enter(&self) -> EnterGuard<'_> {
        let previous = ENTERED.with(|entered| entered.replace(Some(self.clone())));
        EnterGuard { previous, handle: PhantomData }
    }

    /// Spawns a task.
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.spawn_with(TaskMeta::default(), future)
    }

    /// Spawns a task of a name or priority.
    #[track_caller]
    pub fn spawn_with<F>(&self, meta: TaskMeta, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.spawn_at(Location::caller(), meta, future)
    }

    /// Spawns a task for who called from `location`, which a closure does not pass on by itself.
    pub(crate) fn spawn_at<F>(
        &self,
        location: &'static Location<'static>,
        meta: TaskMeta,
        future: F,
    ) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.spawn_in(None, location, meta, future)
    }

    /// As [`Handle::spawn_at`], into a scope.
    #[expect(clippy::needless_pass_by_value, reason = "callers make it where they pass it")]
    pub(crate) fn spawn_in<F>(
        &self,
        entrance: Option<Entrance>,
        location: &'static Location<'static>,
        meta: TaskMeta,
        future: F,
    ) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let spawn = Spawn {
            name: meta.name.as_deref(),
            location,
            future: std::any::type_name::<F>(),
            future_bytes: size_of::<F>(),
            priority: meta.priority as u8,
        };
        JoinHandle::new(self.core.spawn(future, &spawn, meta.priority, entrance))
    }

    /// Makes a call that may block, on a thread that is no worker.
    pub fn spawn_blocking<F, T>(&self, function: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        if self.core.is_deterministic() {
            // On a thread of its own, it would end when it likes.
            return self.spawn(async { function() });
        }
        JoinHandle::of_call(self.core.blocking.call(self, function))
    }

    /// The runtime's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// Tasks that are alive: spawned, and their future not dropped.
    #[must_use]
    pub fn live_tasks(&self) -> usize {
        self.core.live_tasks()
    }
}

impl Drop for EnterGuard<'_> {
    fn drop(&mut self) {
        let left = ENTERED.with(|entered| entered.replace(self.previous.take()));
        drop(left);
    }
}
