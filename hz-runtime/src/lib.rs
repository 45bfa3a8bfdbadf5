//! The instrumented async runtime of hz: every task can be followed onto its CPU.

#[cfg(not(hz_loom))]
pub mod alloc;
#[cfg(all(test, hz_loom))]
#[path = "alloc/set.rs"]
mod alloc_set;
#[cfg(feature = "executor")]
mod blocking;
pub mod clock;
#[cfg(feature = "executor")]
mod handle;
#[cfg(feature = "hyper")]
pub mod hyper;
#[cfg(feature = "executor")]
mod join;
#[cfg(feature = "executor")]
pub mod net;
#[cfg(feature = "executor")]
pub mod pool;
pub mod probe;
#[cfg(feature = "executor")]
mod reactor;
#[cfg(feature = "executor")]
mod runtime;
#[cfg(feature = "executor")]
mod scheduler;
mod size;
#[cfg(feature = "executor")]
pub mod sync;
#[cfg(feature = "executor")]
mod task;
#[cfg(feature = "executor")]
pub mod time;
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
