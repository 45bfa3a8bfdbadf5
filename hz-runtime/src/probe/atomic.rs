//! The atomics of whatever loom explores: its own under `--cfg hz_loom`.
//!
//! Not `--cfg loom`, which would also change the crates that we depend on.

#[cfg(not(hz_loom))]
pub(super) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(hz_loom)]
pub(super) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// What the kernel waits at: loom has none.
pub(super) use std::sync::atomic::AtomicU32 as Futex;
