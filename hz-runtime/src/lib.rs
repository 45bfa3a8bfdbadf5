//! The instrumented async runtime of hz: every task can be followed onto its CPU.
//!
//! | to | there is |
//! |---|---|
//! | run tasks | `Runtime`, `spawn`, `spawn_with` a name and a priority, `spawn_blocking`, `JoinHandle` |
//! | end tasks together | `Scope`: a tree of cancellations, which waits for the clean-up and says who was late |
//! | wait | `net`, `time`, `sync`; with the feature `hyper` its traits for sockets and timers |
//! | hold memory | `pool`, buffers that are not copied; [`alloc`], an allocator that samples |
//! | tell what happens | [`probe`]: the runtime tells of itself, a program adds requests, spans and marks |
//! | follow a program on Tokio | the feature `tokio` |
//! | test every order of a program's tasks | `Builder::deterministic`, or `HZ_SCHEDULER_MODE=deterministic` |
//!
//! What needs the runtime is behind the feature `executor`, which is on by default. The modules
//! below the surface: `scheduler` decides who is polled next, `reactor` waits for files and timers
//! on the workers' own threads, and each of them passes the sites in `probe`, which cost a load and a
//! branch while nobody reads.

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
mod prefetch;
pub mod probe;
#[cfg(feature = "executor")]
mod reactor;
#[cfg(feature = "executor")]
mod runtime;
#[cfg(feature = "executor")]
mod scheduler;
#[cfg(feature = "executor")]
mod scope;
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
    scope::{Cancelled, Finished, Scope, ScopeHandle, Unfinished, UnfinishedTask},
    task::{Priority, TaskMeta, spawn, spawn_blocking, spawn_with, yield_now},
};
