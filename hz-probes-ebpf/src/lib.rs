//! What hz observes: the event vocabulary, shared by the BPF programs and everything that reads
//! what they write.
//!
//! Every record is a `#[repr(C)]` struct whose derives reject padding. BPF programs written in
//! Rust (`src/bin`) use the structs; those written in C (`co-re`) include a header generated from
//! them when `hz-trace` is built.
#![no_std]
#![forbid(unsafe_code)]

pub mod aggregate;
mod config;
mod event;
mod heap;
mod loss;
pub mod runtime_ring;
mod unwind;

pub use config::{
    FILTER_ALL, FILTER_CGROUP, FILTER_PIDS, MAX_CPUS, MAX_RINGS, NetConfig, SchedConfig, UsdtConfig,
};
pub use event::{
    COMM_BYTES, Comm, CpuSample, Exec, Exit, Fork, HEAP_UNTRACKED, Header, HeapAlloc, HeapFree,
    HeapSite, Interrupts, Kind, Lost, MAPPING_FOUND, MappedFile, Mapping, Migrate, NOT_ASKED,
    OFF_LOCK, OFF_PREEMPTED, OFF_RETURN_UNSEEN, OFF_SYSCALL, OFF_UNFINISHED, OFF_WOKEN,
    OFF_WOKEN_BY_INTERRUPT, OffCpu, PATH_PART, Rename, SAMPLE_CPU_CLOCK, SAMPLE_CYCLES,
    STACK_ADDRESSES, STACK_PART, SWITCH_PREEMPTED, StackEnd, StackSite, StackTrace, Switch,
    THREAD_FOREIGN, THREAD_KERNEL, THREAD_LAST, THREAD_ON_CPU, THREAD_QUEUED, Thread,
    UPROBE_RETURN, USDT_ARGS, UprobeHit, UprobeSite, UsdtHit, UsdtSite, WAKING_HARDIRQ,
    WAKING_SOFTIRQ, Wakeup, Waking, net, net_host, runtime,
};
pub use heap::{HEAP_MEAN_MAX, HeapFunction, HeapKey, heap_chance};
pub use loss::{Loss, Site};
pub use unwind::{
    Cfa, Fp, NO_TABLE, PLACES_MAX, Place, Places, ROWS_MAX, Row, Rule, SEARCH_STEPS, StackConfig,
    TABLES_MAX,
};
