use super::{Finding, Recent, Warning};
use hz_trace::text;

/// Tasks wait for a buffer.
pub(super) struct PoolExhausted;

impl Warning for PoolExhausted {
    fn name(&self) -> &'static str {
        "pool-exhausted"
    }

    fn about(&self) -> &'static str {
        "tasks wait for a buffer of a pool"
    }

    fn check(&self, recent: &Recent<'_>) -> Vec<Finding> {
        let groups = recent.window.groups.iter().filter(|group| group.waits_for_buffer > 0);
        let found = groups.map(|group| {
            let waiting = text::plural(group.waits_for_buffer, "task");
            Finding {
                warning: self.name(),
                weight: group.waits_for_buffer,
                sentence: format!(
                    "the pool is exhausted: {waiting} {} wait for a buffer",
                    group.name
                ),
                evidence: vec![format!("process {} (pid {})", group.process, group.pid)],
            }
        });
        found.collect()
    }
}
