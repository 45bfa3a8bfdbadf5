//! What changed between two flame graphs.

use super::{Flame, FrameIndex, FrameKind, folded::folded};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;
use std::collections::BTreeMap;

/// How a function's part of everything changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// What it took itself before, in percent of everything before.
    pub own_before_pct: f64,
    /// What it takes itself after, in percent of everything after.
    pub own_after_pct: f64,
    /// The same of it and all it calls.
    pub total_before_pct: f64,
    /// The same of it and all it calls.
    pub total_after_pct: f64,
}

impl Change {
    /// How many percent points its own part grew.
    #[must_use]
    pub fn own_points(&self) -> f64 {
        self.own_after_pct - self.own_before_pct
    }
}

/// Two flame graphs, the first scaled to the size of the second.
#[derive(Clone, Debug)]
pub struct Diff {
    /// Weights before, scaled, and after, by folded stack.
    pub stacks: BTreeMap<String, (u64, u64)>,
    /// Functions, those that changed most themselves first.
    pub changes: Vec<Change>,
}

/// Compares `after` with `before`: what each takes of everything, so that a longer recording is no
/// change.
#[must_use]
pub fn diff(before: &Flame, after: &Flame) -> Diff {
    let scale = after.total as f64 / before.total.max(1) as f64;
    let mut stacks: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for (stack, weight) in &before.stacks {
        stacks.entry(folded(before, stack)).or_default().0 +=
            (*weight as f64 * scale).round() as u64;
    }
    for (stack, weight) in &after.stacks {
        stacks.entry(folded(after, stack)).or_default().1 += weight;
    }
    stacks.retain(|_, (before, after)| *before > 0 || *after > 0);
    Diff { stacks, changes: changes(before, after) }
}

fn changes(before: &Flame, after: &Flame) -> Vec<Change> {
    let mut by_name: BTreeMap<String, Change> = BTreeMap::new();
    for (flame, is_after) in [(before, false), (after, true)] {
        let percent = |weight: u64| 100.0 * weight as f64 / flame.total.max(1) as f64;
        for (name, (own, total)) in parts(flame) {
            let empty = || Change {
                name: name.to_owned(),
                own_before_pct: 0.0,
                own_after_pct: 0.0,
                total_before_pct: 0.0,
                total_after_pct: 0.0,
            };
            let change = by_name.entry(name.to_owned()).or_insert_with(empty);
            if is_after {
                (change.own_after_pct, change.total_after_pct) = (percent(own), percent(total));
            } else {
                (change.own_before_pct, change.total_before_pct) = (percent(own), percent(total));
            }
        }
    }
    let mut changes: Vec<Change> = by_name.into_values().collect();
    changes.sort_by(|a, b| b.own_points().abs().total_cmp(&a.own_points().abs()));
    changes
}

/// What each function took, itself and in all.
fn parts(flame: &Flame) -> FxHashMap<&str, (u64, u64)> {
    let mut parts: FxHashMap<&str, (u64, u64)> = FxHashMap::default();
    let mut seen = FxHashSet::default();
    for (stack, weight) in &flame.stacks {
        let is_code = |frame: &FrameIndex| flame.frames.get(*frame).kind != FrameKind::Root;
        let name = |frame: &FrameIndex| flame.frames.get(*frame).name.as_str();
        if let Some(leaf) = stack.last().filter(|frame| is_code(frame)) {
            let own = &mut parts.entry(name(leaf)).or_default().0;
            *own = own.saturating_add(*weight);
        }
        seen.clear();
        for frame in stack.iter().filter(|frame| is_code(frame)).map(name) {
            if seen.insert(frame) {
                let total = &mut parts.entry(frame).or_default().1;
                *total = total.saturating_add(*weight);
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::{super::read_folded, *};

    #[test]
    fn a_longer_recording_is_no_change() {
        let (before, _) = read_folded("main;f 10\nmain;g 30\n");
        let (after, _) = read_folded("main;f 100\nmain;g 300\n");
        let diff = diff(&before, &after);
        assert!(diff.stacks.values().all(|(before, after)| before == after), "{diff:?}");
        assert!(diff.changes.iter().all(|change| change.own_points() == 0.0), "{diff:?}");
    }

    #[test]
    fn the_biggest_change_comes_first_and_new_functions_are_named() {
        let (before, _) = read_folded("main;f 50\nmain;g 50\n");
        let (after, _) = read_folded("main;f 20\nmain;g 45\nmain;h 35\n");
        let diff = diff(&before, &after);
        let names: Vec<_> = diff.changes.iter().map(|change| change.name.as_str()).collect();
        assert_eq!(names, ["h", "f", "g", "main"]);
        assert_eq!(diff.changes[0].own_points(), 35.0);
        assert_eq!(diff.stacks["main;h"], (0, 35));
    }
}
