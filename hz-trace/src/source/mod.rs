//! Where raw records come from. Nothing here knows what a record means.

mod aggregates;
mod bpf;
mod command;
mod namespace_names;
mod net;
mod net_setup;
mod net_sojourn;
pub mod netlink;
mod network_namespaces;
mod own_usdt;
mod process_memory;
mod processes;
mod runtime_ring;
mod sched;
mod sched_setup;
mod stacks;
mod uprobe_error;
mod uprobe_multi;
mod uprobes;
mod usdt;

pub use aggregates::Aggregates;
pub use command::{HeldCommand, RunningCommand};
pub use namespace_names::namespace_name;
pub use net::Net;
pub use network_namespaces::{NetworkNamespace, add_namespaces, processes_by_namespace};
pub use own_usdt::pass_own_probe;
pub use process_memory::{ProcessMemory, executable};
pub use processes::{descendants, every_process, processes_of};
pub use runtime_ring::{
    AttachError, RuntimeMemory, RuntimeReader, Tasks, every_kind, runtimes, try_to_share,
};
pub use sched::{Drain, Sched, SchedSettings};
pub use stacks::{SampleBy, StackSettings, Stacks};
pub use uprobe_error::UprobeError;
pub use uprobes::{UprobeLedger, Uprobes};
pub use usdt::{Usdt, UsdtError, UsdtLedger};

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

impl Scope {
    /// Whether only one process gets the breakpoints of user probes. Programs filter in any case: a
    /// `vfork`ed child runs in its parent's memory, breakpoints included.
    fn only_process(&self, follow_children: bool) -> Option<u32> {
        match self {
            Self::Processes(pids) if !follow_children && pids.len() == 1 => Some(pids[0]),
            _ => None,
        }
    }
}
