//! What else is in a window: memory, and hz itself.

use serde::{Deserialize, Serialize};

/// Something that is not collected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotCollected {
    /// What.
    pub what: String,
    /// Why, and what would help.
    pub why: String,
}

impl NotCollected {
    /// `what` is not collected because of `why`.
    pub fn new(what: &str, why: impl Into<String>) -> Self {
        Self { what: what.to_owned(), why: why.into() }
    }
}

/// What hz itself takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Own {
    /// CPU time of this process in the window.
    pub cpu_ns: u64,
    /// Resident memory now, bytes.
    pub memory_bytes: u64,
    /// Time that gathering this window took.
    pub gather_ns: u64,
    /// Windows that could not be shown because the screen was slower, since the start.
    pub dropped_windows: u64,
    /// Estimated CPU time of its programs in the kernel in the window.
    pub bpf_ns: u64,
}

/// One of hz's programs in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgramRow {
    /// Its name.
    pub program: String,
    /// Runs in the window, as far as they were measured.
    pub measured_runs: u64,
    /// Time these runs took together.
    pub measured_ns: u64,
    /// Runs that the kernel left out in the window.
    pub skipped: u64,
}

/// A place that allocates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Site {
    /// Process.
    pub pid: u32,
    /// Where: the innermost frames that are not the allocator's.
    pub place: String,
    /// Estimated bytes allocated in the window.
    pub bytes: u64,
    /// Estimated bytes that were allocated and not freed since hz looks.
    pub live_bytes: u64,
    /// Samples in the window.
    pub samples: u64,
}

/// A pool of buffers, by the size of its pages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PoolRow {
    /// Process.
    pub pid: u32,
    /// Size of a page, bytes.
    pub page_bytes: u64,
    /// Buffers taken in the window.
    pub taken: u64,
    /// Buffers given back in the window.
    pub returned: u64,
    /// Bytes of buffers that were taken and not given back, since hz looks.
    pub used_bytes: u64,
    /// Tasks that wait for a buffer.
    pub waiting: u64,
}
