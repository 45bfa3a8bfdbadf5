use super::{Finding, Recent, Warning};
use hz_trace::text;

/// A wait as long as this is remarkable.
const LONG_NS: u64 = 10_000_000;

/// A task that could go on waits for a worker.
pub(super) struct ReadyTask;

impl Warning for ReadyTask {
    fn name(&self) -> &'static str {
        "ready-task"
    }

    fn about(&self) -> &'static str {
        "a task is ready and no worker polls it"
    }

    fn check(&self, recent: &Recent<'_>) -> Vec<Finding> {
        let waits = recent.window.groups.iter().filter_map(|group| {
            let ready = group.longest_ready.as_ref().filter(|ready| ready.ready_ns >= LONG_NS)?;
            let is_over = ready.end_ns > 0;
            let (has_been, is) = if is_over { ("was", "was") } else { ("has been", "is") };
            let why = match &ready.blame {
                Some(poll) => format!(
                    "worker-{} {is} inside a {} poll of {}#{}",
                    poll.worker,
                    text::duration(poll.poll_ns),
                    poll.name,
                    poll.task
                ),
                None => "no single poll was in its way".to_owned(),
            };
            let waited = text::duration(ready.ready_ns);
            let sentence =
                format!("task {}#{} {has_been} ready for {waited}: {why}", group.name, ready.task);
            let p99 = text::duration(group.ready.quantile_ns(0.99));
            let evidence = vec![
                format!(
                    "p99 of {} waits of {}: {p99}",
                    text::count(group.ready.count()),
                    group.name
                ),
                format!("{} of them are ready now", text::count(group.ready_now)),
            ];
            Some(Finding { warning: self.name(), weight: ready.ready_ns, sentence, evidence })
        });
        waits.collect()
    }
}
