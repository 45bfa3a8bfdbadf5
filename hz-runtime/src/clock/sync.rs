//! The atomics of the clock: the standard library's, or loom's when its models run.

#[cfg(hz_loom)]
pub(super) use loom::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering, fence},
};
#[cfg(not(hz_loom))]
pub(super) use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering, fence},
};
