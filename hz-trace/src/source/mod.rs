//! Where raw records come from.

mod processes;
mod uprobe_error;
mod uprobe_multi;
mod uprobes;

pub use processes::descendants;
pub use uprobe_error::UprobeError;
pub use uprobes::{UprobeLedger, Uprobes};

/// Whose events are recorded. Everything else is filtered in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The whole system.
    All,
    /// Processes with all their threads, by number in the initial pid namespace.
    Processes(Vec<u32>),
    /// A control group of version 2 and all below it.
    Cgroup {
        /// Its id: the inode number of its directory.
        id: u64,
        /// Its depth: 0 is the root of the hierarchy.
        level: u32,
    },
}
