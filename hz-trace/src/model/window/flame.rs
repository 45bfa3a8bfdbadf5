//! Stacks in a window: what a live flame graph shows.

use serde::{Deserialize, Serialize};

/// Time by stack, of the last seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FlameGraph {
    /// `on-cpu` or `off-cpu`.
    pub kind: String,
    /// Of how long it is, nanoseconds: several windows, so that there is something to see.
    pub length_ns: u64,
    /// What all stacks took, nanoseconds.
    pub total_ns: u64,
    /// Samples, or times off a CPU, that were added up.
    pub samples: u64,
    /// Of how many times each that was recorded stands for: 1, all were.
    pub one_in: u32,
    /// Of stacks that could not be kept, nanoseconds.
    pub without_stack_ns: u64,
    /// Frames, each behind the one that called it and what that called before.
    pub nodes: Vec<FlameNode>,
}

/// A frame below another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FlameNode {
    /// How many frames are below it; those of 0 are tasks and threads.
    pub depth: u16,
    /// Its function, or the task or thread that the stacks are of.
    pub name: String,
    /// Whether it is the kernel's code.
    pub is_kernel: bool,
    /// What it took with all that it called, nanoseconds.
    pub total_ns: u64,
}

impl FlameGraph {
    /// Leaves out what took less than one part in `parts` of all.
    pub(super) fn prune(&mut self, parts: u64) {
        let least_ns = self.total_ns / parts.max(1);
        // What a frame calls takes no longer than it does itself, so no frame loses the one below it.
        self.nodes.retain(|node| node.total_ns >= least_ns);
    }

    /// The frames that stand on the root `name`, with their depths from it; empty: there is none.
    #[must_use]
    pub fn below(&self, name: &str) -> &[FlameNode] {
        let is_root = |node: &FlameNode| node.depth == 0 && node.name == name;
        let Some(from) = self.nodes.iter().position(is_root) else { return &[] };
        let rest = &self.nodes[from..];
        let end = rest[1..].iter().position(|node| node.depth == 0);
        &rest[..end.map_or(rest.len(), |end| end + 1)]
    }
}
