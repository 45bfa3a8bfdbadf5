//! What a recording tells while it runs and when it ends.

use crate::recording::{Batch, Meta, State};
use std::{process::ExitStatus, time::Duration};

/// What a recording in progress tells.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Since recording began.
    pub elapsed: Duration,
    /// Records received.
    pub records: u64,
    /// Records lost so far.
    pub lost: u64,
}

/// Follows a recording and may end it.
pub trait Observer {
    /// Everything is attached; `hook` is what the programs got.
    fn recording(&mut self, meta: &Meta);
    /// Something the user should know, before recording begins.
    fn warn(&mut self, warning: &str);
    /// About once a second.
    fn progress(&mut self, progress: &Progress);
    /// Records of one stream, some 250 ms of them or a chunk full, before they are written.
    fn batch(&mut self, _batch: &Batch) {}
    /// Asked every few milliseconds: whether to end the recording now.
    fn wants_stop(&mut self) -> bool;
}

/// How a recording ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was recorded.
    pub meta: Meta,
    /// The final ledger and cost.
    pub state: State,
    /// How the command ended, if there was one and it has.
    pub command_status: Option<ExitStatus>,
    /// Length of the file in bytes.
    pub file_bytes: u64,
}
