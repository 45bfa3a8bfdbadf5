//! What threads share and wait with: the standard library's own; under `--cfg hz_loom` loom's, which
//! tries every order of a few operations; under `--cfg hz_shuttle` shuttle's, which tries many orders of whole
//! programs. What only one thread ever sees at a time stays the standard library's.

#[cfg(hz_loom)]
pub(crate) use loom::{
    sync::{
        Condvar, Mutex, MutexGuard,
        atomic::{
            AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
        },
    },
    thread,
};
#[cfg(hz_shuttle)]
pub(crate) use shuttle::{
    sync::{
        Condvar, Mutex, MutexGuard,
        atomic::{
            AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
        },
    },
    thread, thread_local,
};
#[cfg(not(hz_shuttle))]
pub(crate) use std::thread_local;
#[cfg(not(any(hz_loom, hz_shuttle)))]
pub(crate) use std::{
    sync::{
        Condvar, Mutex, MutexGuard,
        atomic::{
            AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
        },
    },
    thread,
};

/// Locks; a holder that panicked is no reason to stop, since nothing here is left half-done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
