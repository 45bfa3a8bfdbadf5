//! What was taken when: for whoever picks a part of a flame graph later.

use super::FrameIndex;
use crate::model::{TaskIndex, ThreadIndex};
use rustc_hash::FxHashMap;

/// One thing that took something, with its time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimedPart {
    /// Start, nanoseconds of `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// Length in nanoseconds; 0: it was at a moment.
    pub length_ns: u64,
    /// What it took, in the flame graph's unit; in proportion of any part of its length.
    pub weight: f64,
    /// Whose it was.
    pub thread: ThreadIndex,
    /// The task that was polled.
    pub task: Option<TaskIndex>,
    /// On which CPU.
    pub cpu: Option<u16>,
    /// Its stack, by the place in [`Timed::stacks`].
    pub stack: u32,
}

/// Everything that a flame graph adds up.
#[derive(Clone, Debug, Default)]
pub struct Timed {
    /// Every stack once, root first.
    pub stacks: Vec<Vec<FrameIndex>>,
    /// By start.
    pub parts: Vec<TimedPart>,
}

/// Such parts while they are collected.
#[derive(Clone, Debug, Default)]
pub(super) struct Taking {
    by_stack: FxHashMap<Vec<FrameIndex>, u32>,
    parts: Vec<TimedPart>,
}

impl Taking {
    pub(super) fn add(&mut self, path: &[FrameIndex], part: TimedPart) {
        let stack = match self.by_stack.get(path) {
            Some(stack) => *stack,
            None => {
                let next = u32::try_from(self.by_stack.len()).unwrap_or(u32::MAX);
                self.by_stack.insert(path.to_vec(), next);
                next
            }
        };
        self.parts.push(TimedPart { stack, ..part });
    }

    pub(super) fn finish(self) -> Timed {
        let Self { by_stack, mut parts } = self;
        let mut stacks = vec![Vec::new(); by_stack.len()];
        for (stack, place) in by_stack {
            stacks[place as usize] = stack;
        }
        parts.sort_by_key(|part| part.start_ns);
        Timed { stacks, parts }
    }
}
