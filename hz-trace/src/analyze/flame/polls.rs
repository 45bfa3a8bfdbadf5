//! Which task a thread was polling at a moment.

use crate::model::{Model, TaskIndex, TaskState, ThreadIndex};
use rustc_hash::FxHashMap;

/// Polls by thread.
#[derive(Debug, Default)]
pub(super) struct Polls {
    /// Start, end and task, in the order of starts. Polls of a thread do not overlap.
    by_thread: FxHashMap<ThreadIndex, Vec<(u64, u64, TaskIndex)>>,
}

impl Polls {
    pub(super) fn of(model: &Model) -> Self {
        let mut by_thread: FxHashMap<_, Vec<_>> = FxHashMap::default();
        for (place, task) in model.tasks.iter().enumerate() {
            let index = TaskIndex(u32::try_from(place).unwrap_or(u32::MAX));
            for tile in task.tiles().filter(|tile| tile.span.state == TaskState::Polling) {
                let Some(thread) = tile.span.thread() else { continue };
                let poll = (tile.span.start_ns, tile.end_ns, index);
                by_thread.entry(thread).or_default().push(poll);
            }
        }
        by_thread.values_mut().for_each(|polls| polls.sort_unstable());
        Self { by_thread }
    }

    /// The task that `thread` polled at `time_ns`.
    pub(super) fn at(&self, thread: ThreadIndex, time_ns: u64) -> Option<TaskIndex> {
        let polls = self.by_thread.get(&thread)?;
        let behind = polls.partition_point(|(start_ns, ..)| *start_ns <= time_ns);
        let (_, end_ns, task) = polls[..behind].last()?;
        (time_ns < *end_ns).then_some(*task)
    }
}
