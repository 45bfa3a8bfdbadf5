//! Records of a ring that were not read: what they could have told is not known.

use super::{Folder, tasks::TaskNow};
use crate::model::{
    RuntimeLoss, TaskIndex, TaskSpan, TaskState, ThreadIndex, Why,
    tasks::{Reason, Task},
};
use hz_probes_ebpf::runtime::RuntimeLost;

impl Folder {
    /// From the first lost record on, any task may have been woken, polled or ended by that thread;
    /// only what others polled meanwhile is known.
    pub(super) fn runtime_lost(&mut self, runtime: u32, lost: &RuntimeLost) {
        let end_ns = self.clamp(lost.header.time_ns);
        let start_ns = self.clamp(lost.since_ns).min(end_ns);
        let header = &lost.header;
        let thread = (header.tid != 0).then(|| self.runtime_thread(header));
        let loss = RuntimeLoss { thread, start_ns, end_ns, count: lost.count };
        self.model.runtimes[runtime as usize].lost.push(loss);
        for place in 0..self.model.tasks.len() {
            let task = &mut self.model.tasks[place];
            let was_over = task
                .spans
                .last()
                .is_none_or(|last| last.state == TaskState::Done && last.start_ns <= start_ns);
            if task.runtime == runtime && !was_over {
                doubt(task, thread, start_ns);
                let is_polled =
                    task.spans.last().map(|last| last.state) == Some(TaskState::Polling);
                let index = TaskIndex(u32::try_from(place).unwrap_or(u32::MAX));
                let now = self.task_now(index);
                // What was said during a poll whose end was lost is of no other poll.
                let said = if is_polled { *now } else { TaskNow::default() };
                *now = said.after_loss();
            }
        }
    }
}

/// Makes what `task` did from `start_ns` on unknown, but for its end and for polls of other threads
/// than `thread`.
fn doubt(task: &mut Task, thread: Option<ThreadIndex>, start_ns: u64) {
    let first = task.spans.partition_point(|span| span.start_ns <= start_ns).saturating_sub(1);
    let is_certain = |span: &TaskSpan| {
        let polls = span.state == TaskState::Polling;
        span.state == TaskState::Done || polls && thread.is_some() && span.thread() != thread
    };
    let tail = task.spans.split_off(first);
    for span in tail {
        let unknown = TaskSpan::new(span.start_ns.max(start_ns), TaskState::Unknown, {
            Reason::only(Why::Unknown)
        });
        if is_certain(&span) || span.state == TaskState::Unknown {
            task.spans.push(span);
            continue;
        }
        if span.start_ns < start_ns {
            task.spans.push(span);
        }
        if task.spans.last().is_none_or(|last| last.state != TaskState::Unknown) {
            task.spans.push(unknown);
        }
    }
}
