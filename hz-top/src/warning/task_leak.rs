use super::{Finding, Recent, Warning};
use hz_trace::text;

/// Looks that a growth takes to be one: half a minute.
const LOOKS_MIN: usize = 30;

/// Fewer tasks more are no leak.
const GROWTH_MIN: u64 = 20;

/// A group of tasks only grows.
pub(super) struct TaskLeak;

impl Warning for TaskLeak {
    fn name(&self) -> &'static str {
        "task-leak"
    }

    fn about(&self) -> &'static str {
        "a group of tasks only grows"
    }

    fn check(&self, recent: &Recent<'_>) -> Vec<Finding> {
        let looks = &recent.groups;
        let (Some((first_ns, _)), Some((last_ns, last))) = (looks.first(), looks.last()) else {
            return Vec::new();
        };
        if looks.len() < LOOKS_MIN {
            return Vec::new();
        }
        let seconds = last_ns.saturating_sub(*first_ns) as f64 / 1e9;
        let found = last.iter().filter_map(|(name, now)| {
            let counts: Vec<u64> = looks.iter().map(|(_, look)| count(look, name)).collect();
            let (before, since) = counts.split_at(counts.len() / 2);
            let (first, highest, lowest) =
                (*counts.first()?, *before.iter().max()?, *since.iter().min()?);
            // What comes and goes was once as low as it was before.
            let grown =
                now.checked_sub(first).filter(|grown| *grown >= GROWTH_MIN && lowest > highest)?;
            Some(Finding {
                warning: self.name(),
                weight: grown,
                sentence: format!(
                    "tasks {name} grow by {:.1} a second: {} now, {} {seconds:.0} s ago",
                    grown as f64 / seconds.max(1.0),
                    text::count(*now),
                    text::count(first),
                ),
                evidence: vec![
                    "there were never as few in the second half of that time as ever in the first"
                        .to_owned(),
                ],
            })
        });
        found.collect()
    }
}

fn count(look: &[(String, u64)], name: &str) -> u64 {
    look.iter().filter(|(each, _)| each == name).map(|(_, count)| count).sum()
}
