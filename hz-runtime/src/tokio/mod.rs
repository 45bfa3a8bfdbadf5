//! Probes for programs that run on Tokio: their tasks are told of as those of hz's own runtime.
//!
//! [`spawn`], [`spawn_named`] and [`instrument`] wrap a task's future. The wrapper tells of the task's
//! spawn, its wake-ups, polls and end; Tokio runs it, and the `JoinHandle` is Tokio's.
//!
//! A program with tasks of both runtimes is fine.
//!
//! # Blind spots
//!
//! Of tasks that are not wrapped nothing is known. Nor does Tokio tell what a task waits for,
//! who steals from whom, how long queues are and when a timer fires; programs may say the first with
//! [`waiting`](crate::probe::waiting).

#![forbid(unsafe_code)]

mod instrumented;
mod waker;
mod worker;

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
    ::tokio::spawn(instrumented(None, future, Location::caller()))
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
    ::tokio::spawn(instrumented(Some(name), future, Location::caller()))
}

/// Wraps a future that is spawned in another way: on a `JoinSet`, a `LocalSet`, a `Handle`.
///
/// Wrap it where it is spawned: from here on the task is there, and ready to run.
#[track_caller]
pub fn instrument<F: Future>(future: F) -> Instrumented<F> {
    instrumented(None, future, Location::caller())
}

/// As [`instrument`], with a name for the task.
#[track_caller]
pub fn instrument_named<F: Future>(name: &str, future: F) -> Instrumented<F> {
    instrumented(Some(name), future, Location::caller())
}

fn instrumented<F: Future>(
    name: Option<&str>,
    future: F,
    location: &'static Location<'static>,
) -> Instrumented<F> {
    let spawn = Spawn {
        name,
        location,
        future: type_name::<F>(),
        future_bytes: size_of::<F>(),
        priority: PRIORITY,
    };
    Instrumented::new(future, &spawn)
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
