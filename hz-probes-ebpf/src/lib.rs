//! What hz observes: the event vocabulary, shared by the BPF programs and everything that reads
//! what they write.
//!
//! Every record is a `#[repr(C)]` struct whose derives reject padding. BPF programs written in
//! Rust (`src/bin`) use the structs; those written in C (`co-re`) include a header generated from
//! them when `hz-trace` is built.
#![no_std]
#![forbid(unsafe_code)]

mod config;
mod event;
mod loss;
pub mod runtime_ring;

pub use config::{
    FILTER_ALL, FILTER_CGROUP, FILTER_PIDS, MAX_CPUS, MAX_RINGS, SchedConfig, UsdtConfig,
};
pub use event::{
    COMM_BYTES, Comm, Exec, Exit, Fork, Header, Interrupts, Kind, Lost, Migrate, NOT_ASKED, Rename,
    SWITCH_PREEMPTED, Switch, THREAD_FOREIGN, THREAD_KERNEL, THREAD_LAST, THREAD_ON_CPU,
    THREAD_QUEUED, Thread, UPROBE_RETURN, USDT_ARGS, UprobeHit, UprobeSite, UsdtHit, UsdtSite,
    WAKING_HARDIRQ, WAKING_SOFTIRQ, Wakeup, Waking, runtime,
};
pub use loss::{Loss, Site};
