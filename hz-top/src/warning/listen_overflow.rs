use super::{Finding, Recent, Warning};
use hz_trace::{model::window::Listener, text};

/// A listener turns connections away, or is about to.
pub(super) struct ListenOverflow;

impl Warning for ListenOverflow {
    fn name(&self) -> &'static str {
        "listen-overflow"
    }

    fn about(&self) -> &'static str {
        "a listener's accept queue is full"
    }

    fn check(&self, recent: &Recent<'_>) -> Vec<Finding> {
        let Some(network) = &recent.window.network else { return Vec::new() };
        let overflows = network.counts.listen_overflows;
        let is_wrong = |row: &&Listener| {
            row.dropped > 0 || row.limit > 0 && row.queue > 0 && row.queue * 10 >= row.limit * 9
        };
        let listeners = network.listeners.iter().filter(is_wrong);
        let mut found: Vec<Finding> =
            listeners.map(|row| self.finding(row, overflows, recent)).collect();
        if found.is_empty() && overflows > 0 {
            found.push(Finding {
                warning: self.name(),
                weight: overflows,
                sentence: format!(
                    "{} turned away by full accept queues",
                    was_or_were(overflows, "connection")
                ),
                evidence: vec!["none of the target's listeners; others of the host".to_owned()],
            });
        }
        found
    }
}

impl ListenOverflow {
    fn finding(&self, row: &Listener, overflows: u64, recent: &Recent<'_>) -> Finding {
        let by = if row.task.is_empty() { row.owner.clone() } else { row.task.clone() };
        let lost = if row.dropped > 0 {
            format!(", {} dropped", was_or_were(row.dropped, "connection"))
        } else {
            String::new()
        };
        let (queue, limit) = (text::count(row.queue), text::count(row.limit));
        let mut evidence = vec![
            format!("process {} (pid {})", row.owner, row.pid),
            format!("{} overflows of all listeners", text::count(overflows)),
        ];
        evidence.extend(why(row, recent));
        Finding {
            warning: self.name(),
            weight: row.dropped * 1_000 + row.queue,
            sentence: format!(
                "listener {} accept queue {queue} of {limit}{lost}: {by} does not accept fast enough",
                row.local
            ),
            evidence,
        }
    }
}

/// What the one who should accept does instead.
fn why(row: &Listener, recent: &Recent<'_>) -> Option<String> {
    let name = row.task.split('#').next().filter(|name| !name.is_empty())?;
    let groups = recent.window.groups.iter();
    let group = groups.filter(|group| group.pid == row.pid).find(|group| group.name == name)?;
    let ready = group.longest_ready.as_ref()?;
    let waited = text::duration(ready.ready_ns);
    let blame = ready.blame.as_ref().map_or_else(String::new, |poll| {
        let took = text::duration(poll.poll_ns);
        format!(": worker-{} was inside a {took} poll of {}#{}", poll.worker, poll.name, poll.task)
    });
    Some(format!("{} was ready for {waited}{blame}", row.task))
}

fn was_or_were(count: u64, noun: &str) -> String {
    format!("{} {}", text::plural(count, noun), if count == 1 { "was" } else { "were" })
}
