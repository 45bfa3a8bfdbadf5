//! Probes for programs that run on Tokio: their tasks are told of as those of hz's own runtime.
//!
//! - **Any Tokio**: [`spawn`], [`spawn_named`] and [`instrument`] wrap a task's future. The wrapper tells
//!   of the task's spawn, its wake-ups, polls and end; Tokio runs it, and the `JoinHandle` is Tokio's.
//!   It is one allocation a task, for the waker.
//! - **Any Tokio**: [`hooks`] has a runtime tell when its workers sleep.
//! - **`RUSTFLAGS="--cfg tokio_unstable"`**: [`hooks`] has it tell of every task, wrapped or not. What
//!   Tokio doesn't call back for is not collected: wake-ups before all. A wrapped task still tells of
//!   them, and no task is told of twice.
//!
//! A program may have tasks of Tokio and of hz's own runtime. Workers are numbered by each runtime,
//! from 0.
//!
//! # Blind spots
//!
//! Tokio does not tell what a task waits for, who steals from whom, how long queues are and when a
//! timer fires. A program may say what it waits for, with [`waiting`](crate::probe::waiting).

#![forbid(unsafe_code)]

mod hooks;
mod instrumented;
mod kinds;
#[cfg(tokio_unstable)]
mod tasks;
mod teller;
mod waker;
mod worker;

pub use hooks::hooks;
pub use instrumented::Instrumented;

use crate::probe::Spawn;
use ::tokio::task::JoinHandle;
use std::any::type_name;
use std::panic::Location;

/// Priority of every task: Tokio has one level.
const PRIORITY: u8 = 2;

/// Spawns a task with Tokio and tells of it.
///
/// # Panics
///
/// As `tokio::spawn` does: outside of a Tokio runtime.
#[track_caller]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    spawn_told(Instrumented::told(future, &described::<F>(None, Location::caller())))
}

/// Spawns a task with Tokio and tells of it under `name`.
///
/// # Panics
///
/// As `tokio::spawn` does: outside of a Tokio runtime.
#[track_caller]
pub fn spawn_named<F>(name: &str, future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    spawn_told(Instrumented::told(future, &described::<F>(Some(name), Location::caller())))
}

/// Wraps a future that is spawned in another way: on a `JoinSet`, a `LocalSet`, a `Handle`.
///
/// Wrap it where it is spawned: from here on the task is there, and ready to run. If Tokio's hooks
/// tell of the task, the wrapper adds its wake-ups only, and no name.
#[track_caller]
pub fn instrument<F: Future>(future: F) -> Instrumented<F> {
    Instrumented::new(future, &described::<F>(None, Location::caller()))
}

/// As [`instrument`], with a name for the task.
#[track_caller]
pub fn instrument_named<F: Future>(name: &str, future: F) -> Instrumented<F> {
    Instrumented::new(future, &described::<F>(Some(name), Location::caller()))
}

fn described<'a, F>(name: Option<&'a str>, location: &'static Location<'static>) -> Spawn<'a> {
    Spawn {
        name,
        location,
        future: type_name::<F>(),
        future_bytes: size_of::<F>(),
        priority: PRIORITY,
    }
}

/// Spawns a task that tells of itself.
#[track_caller]
fn spawn_told<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    #[cfg(tokio_unstable)]
    let _hooks = tasks::pass_over();
    ::tokio::spawn(future)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    pub(super) fn spawn_here() -> Spawn<'static> {
        Spawn {
            name: None,
            location: Location::caller(),
            future: "test",
            future_bytes: 0,
            priority: PRIORITY,
        }
    }
}
