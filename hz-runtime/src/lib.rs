//! The instrumented async runtime of hz: every task can be followed onto its CPU.

#[cfg(feature = "executor")]
mod blocking;
pub mod clock;
#[cfg(feature = "executor")]
mod handle;
#[cfg(feature = "executor")]
mod join;
#[cfg(feature = "executor")]
pub mod pool;
pub mod probe;
#[cfg(feature = "executor")]
#[expect(dead_code, reason = "sockets register with it")]
mod reactor;
#[cfg(feature = "executor")]
mod runtime;
#[cfg(feature = "executor")]
mod scheduler;
#[cfg(feature = "executor")]
pub mod sync;
#[cfg(feature = "executor")]
mod task;
#[cfg(feature = "tokio")]
pub mod tokio;

#[cfg(feature = "executor")]
pub use {
    handle::{EnterGuard, Handle},
    join::{JoinError, JoinHandle},
    runtime::{BuildError, Builder, Runtime},
    scheduler::Schedule,
    task::{Priority, TaskMeta, spawn, spawn_blocking, spawn_with, yield_now},
};
