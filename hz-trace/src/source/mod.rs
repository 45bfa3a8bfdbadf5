//! Where raw records come from. Nothing here knows what a record means.

mod bpf;
mod command;
mod sched;

pub use command::{HeldCommand, RunningCommand};
pub use sched::{Sched, SchedSettings};

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
