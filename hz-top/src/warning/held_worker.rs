use super::{Finding, Recent, Warning};
use hz_trace::{
    model::window::{LongPoll, Window},
    text,
};

/// A poll as long as this keeps others waiting.
const LONG_NS: u64 = 10_000_000;

/// A task does not give its worker back.
pub(super) struct HeldWorker;

impl Warning for HeldWorker {
    fn name(&self) -> &'static str {
        "held-worker"
    }

    fn about(&self) -> &'static str {
        "a task holds its worker with one long poll"
    }

    fn check(&self, recent: &Recent<'_>) -> Vec<Finding> {
        let polls = recent.window.groups.iter().filter_map(|group| {
            let poll = group.longest_poll.as_ref().filter(|poll| poll.poll_ns >= LONG_NS)?;
            let holds = if poll.is_over { "held" } else { "holds" };
            let window = recent.window;
            let cause = cause(window, poll).or_else(|| like_sleep(window, poll));
            let sentence = format!(
                "task {}#{} {holds} worker-{} for {}{}",
                poll.name,
                poll.task,
                poll.worker,
                text::duration(poll.poll_ns),
                cause.unwrap_or_default(),
            );
            let evidence = vec![
                format!("{} polls of {} in this window", text::count(group.polls), group.name),
                format!("spawned at {}", group.spawned_at),
            ];
            Some(Finding { warning: self.name(), weight: poll.poll_ns, sentence, evidence })
        });
        polls.collect()
    }
}

/// What the kernel knows of the worker's thread inside the poll.
fn cause(window: &Window, poll: &LongPoll) -> Option<String> {
    let thread = window.thread(poll.tid)?;
    let inside = |end_ns: u64, long_ns: u64| {
        end_ns <= poll.end_ns && end_ns.saturating_sub(long_ns) >= poll.begin_ns
    };
    if let Some(block) = &thread.block
        && inside(block.end_ns, block.block_ns)
        && block.block_ns >= poll.poll_ns / 4
    {
        return Some(format!(": blocked {} in {}", text::duration(block.block_ns), block.call));
    }
    let wait = thread.wait.as_ref()?;
    if inside(wait.end_ns, wait.wait_ns) && wait.wait_ns >= poll.poll_ns / 4 {
        let waited = text::duration(wait.wait_ns);
        return Some(format!(
            ": {waited} waiting for a CPU behind {} (pid {})",
            wait.by, wait.by_pid
        ));
    }
    None
}

/// Of each thread only the longest sleep is known, which may have been inside another poll. If it was about
/// as long as this poll, it tells what the thread does. Workers without work sleep in `futex`, too.
fn like_sleep(window: &Window, poll: &LongPoll) -> Option<String> {
    let block = window.thread(poll.tid)?.block.as_ref()?;
    let is_like = (poll.poll_ns / 2..=poll.poll_ns + poll.poll_ns / 4).contains(&block.block_ns);
    (is_like && block.call != "futex").then(|| {
        let slept = text::duration(block.block_ns);
        format!(" (at another time it slept {slept} in {})", block.call)
    })
}
