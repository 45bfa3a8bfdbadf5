//! The locks and atomics of the pool: the standard library's, or loom's when its models run.

#[cfg(hz_loom)]
pub(super) use loom::sync::{Mutex, MutexGuard, atomic::AtomicUsize};
#[cfg(not(hz_loom))]
pub(super) use std::sync::{Mutex, MutexGuard, atomic::AtomicUsize};

use std::sync::PoisonError;

/// Locks. What the pool's locks guard is whole whenever a panic could leave them.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
