//! Building a runtime, and its end.

use crate::blocking::Pool;
use crate::clock;
use crate::handle::{EnterGuard, Handle};
use crate::join::JoinHandle;
use crate::scheduler::sync::thread;
use crate::scheduler::{Core, Mode, ModeError, Schedule, Signal, current_worker};
use crate::task::TaskMeta;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread::available_parallelism;
use std::{fmt, io};

/// What a runtime is to be like.
#[derive(Clone, Debug)]
#[must_use = "a builder builds nothing until `build`"]
pub struct Builder {
    name: String,
    thread_name: Option<String>,
    worker_threads: Option<usize>,
    pin_workers: bool,
    blocking_threads: usize,
    mode: Option<Mode>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            name: "hz".into(),
            thread_name: None,
            worker_threads: None,
            pin_workers: false,
            blocking_threads: 512,
            mode: None,
        }
    }
}

impl Builder {
    /// The runtime's name, for whoever observes it.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// What its threads' names begin with, by default its own name.
    pub fn thread_name(mut self, name: impl Into<String>) -> Self {
        self.thread_name = Some(name.into());
        self
    }

    /// Worker threads, at least 1; by default one for each CPU that the process may use.
    pub const fn worker_threads(mut self, workers: usize) -> Self {
        self.worker_threads = Some(workers);
        self
    }

    /// Whether each worker stays on one CPU of those that the process may use.
    pub const fn pin_workers(mut self, pin: bool) -> Self {
        self.pin_workers = pin;
        self
    }

    /// The most threads for blocking calls at once, at least 1; 512 by default.
    pub const fn blocking_threads(mut self, threads: usize) -> Self {
        self.blocking_threads = threads;
        self
    }

    /// Runs everything on the thread that is in `block_on`, in an order that follows from the seed
    /// alone, with a clock that jumps from timer to timer: the same seed and the same input give the
    /// same [`Schedule`]. For tests; also to be had by `HZ_SCHEDULER_MODE=deterministic` and `HZ_SEED`.
    ///
    /// Files and other threads are served and are not decided by the seed. When nothing can happen
    /// any more, `block_on` panics. A failure prints its seed.
    pub const fn deterministic(mut self, seed: u64) -> Self {
        self.mode = Some(Mode::Deterministic { seed });
        self
    }

    /// Starts the runtime.
    ///
    /// # Errors
    ///
    /// What the kernel says if it gives no thread or no file descriptor; what the environment asks for
    /// and is not there.
    pub fn build(self) -> Result<Runtime, BuildError> {
        clock::check().map_err(|source| BuildError::Clock { source })?;
        let mode = self.mode.map_or_else(Mode::from_environment, Ok);
        match mode.map_err(BuildError::from)? {
            Mode::Threads => self.build_threads(),
            Mode::Deterministic { seed } => {
                let core = Core::deterministic(self.name, seed)
                    .map_err(|source| BuildError::Reactor { source })?;
                Ok(Runtime { handle: Handle::new(core), threads: Vec::new() })
            }
        }
    }

    fn build_threads(self) -> Result<Runtime, BuildError> {
        let workers = match self.worker_threads {
            Some(workers) => workers.max(1),
            None => available_parallelism().map_or(1, usize::from),
        };
        let thread_name = self.thread_name.as_ref().unwrap_or(&self.name);
        let blocking = Pool::new(thread_name, self.blocking_threads);
        let (core, seeds) = Core::threads(self.name.clone(), workers, blocking)
            .map_err(|source| BuildError::Reactor { source })?;
        let handle = Handle::new(core);
        let mut runtime = Runtime { handle, threads: Vec::with_capacity(workers) };
        for (index, seed) in seeds.into_iter().enumerate() {
            let handle = runtime.handle.clone();
            let cpu = self.pin_workers.then(|| nth_cpu(index)).flatten();
            let run = move || {
                if let Some(cpu) = cpu {
                    pin_to(cpu);
                }
                let _entered = handle.enter();
                seed.run(Arc::clone(handle.core()));
            };
            let spawned = thread::Builder::new().name(format!("{thread_name}-{index}")).spawn(run);
            runtime.threads.push(spawned.map_err(|source| BuildError::Thread { index, source })?);
        }
        Ok(runtime)
    }
}

/// The `n`th of the CPUs that the process may use, beginning again after the last.
fn nth_cpu(n: usize) -> Option<usize> {
    let allowed = sched_getaffinity(None).ok()?;
    let cpus: Vec<_> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
    cpus.get(n % cpus.len().max(1)).copied()
}

fn pin_to(cpu: usize) {
    let mut only = CpuSet::new();
    only.set(cpu);
    // The CPU may have been taken from the process since: then the worker runs where it may.
    let _ = sched_setaffinity(None, &only);
}

/// Why a runtime could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A variable of the environment says what no scheduler understands.
    #[error("{name}={value} is not {expected}")]
    Setting {
        /// The variable.
        name: &'static str,
        /// What it says.
        value: String,
        /// What it may say.
        expected: &'static str,
    },
    /// There is not the clock that `HZ_CLOCK` asks for.
    #[error("no clock")]
    Clock {
        /// Why not.
        source: clock::ClockError,
    },
    /// No reactor.
    #[error("cannot make the runtime's reactor; are there file descriptors left (ulimit -n)?")]
    Reactor {
        /// What the kernel said.
        source: io::Error,
    },
    /// No thread.
    #[error("cannot start worker {index}; are there threads left (ulimit -u)?")]
    Thread {
        /// Its number.
        index: usize,
        /// What the kernel said.
        source: io::Error,
    },
}

impl From<ModeError> for BuildError {
    fn from(error: ModeError) -> Self {
        let ModeError { name, value, expected } = error;
        Self::Setting { name, value, expected }
    }
}

/// An async runtime whose every task can be followed onto its CPU.
///
/// Dropped, it cancels all tasks and waits until their destructors have run and its threads have
/// ended, those of blocking calls included. (Dropped on one of its own threads, it cannot wait for that one,
/// nor for the others if it is a worker: they end by themselves.)
pub struct Runtime {
    handle: Handle,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Runtime {
    /// A runtime with a worker for each CPU.
    ///
    /// # Errors
    ///
    /// See [`Builder::build`].
    pub fn new() -> Result<Self, BuildError> {
        Self::builder().build()
    }

    /// A runtime to be.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The runtime as one passes it around.
    #[must_use]
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Makes it the thread's current runtime until the guard is dropped.
    pub fn enter(&self) -> EnterGuard<'_> {
        self.handle.enter()
    }

    /// Spawns a task.
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.handle.spawn(future)
    }

    /// Makes a call that may block, on a thread that is no worker.
    pub fn spawn_blocking<F, T>(&self, function: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.handle.spawn_blocking(function)
    }

    /// Spawns a task of a name or priority.
    #[track_caller]
    pub fn spawn_with<F>(&self, meta: TaskMeta, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.handle.spawn_with(meta, future)
    }

    /// The schedule so far, of a deterministic runtime.
    #[must_use]
    pub fn schedule(&self) -> Option<Schedule> {
        self.handle.core().schedule()
    }

    /// Polls `future` on this thread until it is ready. It is no task; what it spawns is.
    ///
    /// # Panics
    ///
    /// If this thread is a worker: its other tasks would wait. A deterministic runtime panics when
    /// nothing can happen any more.
    #[track_caller]
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        assert!(
            current_worker().is_none(),
            "block_on in a task would keep its worker's other tasks waiting"
        );
        let _entered = self.enter();
        let future = match self.handle.core().run_deterministically(future) {
            Ok(output) => return output,
            Err(future) => future,
        };
        let signal = Arc::new(Signal::of_this_thread());
        let waker = Waker::from(Arc::clone(&signal));
        let mut cx = Context::from_waker(&waker);
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                return output;
            }
            signal.wait();
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.handle.core().close();
        let own = thread::current().id();
        // It cannot wait for itself.
        if self.threads.iter().any(|worker| worker.thread().id() == own) {
            self.handle.core().blocking.close_without_waiting();
            return;
        }
        for worker in self.threads.drain(..) {
            // A worker does not panic: what its tasks do is caught.
            let _ = worker.join();
        }
        self.handle.core().blocking.close();
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("workers", &self.threads.len()).finish_non_exhaustive()
    }
}
