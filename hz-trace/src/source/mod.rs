//! Where raw records come from. Nothing here knows what a record means.

mod bpf;
mod command;
mod processes;
mod runtime_ring;
mod sched;
mod sched_setup;
mod uprobe_error;
mod uprobe_multi;
mod uprobes;

pub use command::{HeldCommand, RunningCommand};
pub use processes::descendants;
pub use runtime_ring::{AttachError, RuntimeMemory, RuntimeReader, Tasks, every_kind};
pub use sched::{Drain, Sched, SchedSettings};
pub use uprobe_error::UprobeError;
pub use uprobes::{UprobeLedger, Uprobes};

/// Which threads the kernel records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All.
    All,
    /// Those of these processes, by id in the initial pid namespace.
    Processes(Vec<u32>),
    /// Those of a control group and all below it.
    Cgroup {
        /// Inode of its directory.
        id: u64,
        /// Depth below the root of the hierarchy.
        level: u32,
    },
}
