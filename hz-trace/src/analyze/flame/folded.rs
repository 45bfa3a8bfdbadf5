//! Folded stacks: a line each, `root;…;leaf weight`, as other tools read and write them.

use super::{Flame, FlameKind, FrameKind, Frames, Missing, Unit};
use crate::model::is_unshowable;
use std::{
    collections::BTreeMap,
    io::{self, Write},
};

/// Frames of a line that are believed.
const DEPTH: usize = 1_024;

/// Writes a flame graph's stacks, in the order of their names.
///
/// The kernel's frames end in `_[k]`, inlined ones in `_[i]`, those of runtimes in `_[w]` and of
/// allocators in `_[j]`, as other tools mark what is not plain.
///
/// # Errors
///
/// Those of `out`.
pub fn write_folded(flame: &Flame, out: &mut dyn Write) -> io::Result<()> {
    for line in folded_lines(flame) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// The lines, sorted.
pub(crate) fn folded_lines(flame: &Flame) -> Vec<String> {
    let lines = flame.stacks.iter().filter(|(_, weight)| **weight > 0);
    let mut lines: Vec<String> =
        lines.map(|(stack, weight)| format!("{} {weight}", folded(flame, stack))).collect();
    lines.sort_unstable();
    lines
}

/// A stack without its weight.
pub(super) fn folded(flame: &Flame, stack: &[super::FrameIndex]) -> String {
    let frames = stack.iter().map(|frame| annotated(flame.frames.get(*frame)));
    frames.collect::<Vec<_>>().join(";")
}

/// A frame's name with the mark of its kind, such that it can stand in a line.
pub(crate) fn annotated(frame: &super::Frame) -> String {
    let mark = match frame.kind {
        FrameKind::Kernel => "_[k]",
        FrameKind::Inlined => "_[i]",
        FrameKind::Runtime => "_[w]",
        FrameKind::Allocator => "_[j]",
        FrameKind::Root | FrameKind::User | FrameKind::Unknown => "",
    };
    let plain = |each: char| match each {
        // A Rust array's length stands behind a semicolon.
        ';' => ':',
        each if each.is_whitespace() => ' ',
        each if is_unshowable(each) => '\u{fffd}',
        each => each,
    };
    let mut name: String = frame.name.trim().chars().map(plain).collect();
    // A number at the end would be taken for the weight before a change.
    if let Some(space) = name.rfind(' ')
        && name[space + 1..].parse::<f64>().is_ok()
    {
        name.replace_range(space..=space, "\u{a0}");
    }
    if name.is_empty() {
        name.push('?');
    }
    name.push_str(mark);
    name
}

/// Reads folded stacks, and counts lines that are none.
#[must_use]
pub fn read_folded(text: &str) -> (Flame, u64) {
    let mut frames = Frames::default();
    let mut stacks: BTreeMap<Vec<_>, u64> = BTreeMap::new();
    let (mut total, mut samples, mut wrong) = (0_u64, 0, 0);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let parsed = line.rsplit_once(' ').and_then(|(stack, weight)| {
            let weight: f64 = weight.parse().ok().filter(|weight: &f64| *weight >= 0.0)?;
            Some((stack, weight as u64))
        });
        let Some((stack, weight)) = parsed else {
            // Some tools begin with a remark.
            wrong += u64::from(!line.starts_with('#'));
            continue;
        };
        let names = stack.split(';').take(DEPTH);
        let path = names.map(|name| {
            let (name, kind) = kind_of(name);
            frames.index(name.to_owned(), kind)
        });
        let sum = stacks.entry(path.collect()).or_default();
        *sum = sum.saturating_add(weight);
        total = total.saturating_add(weight);
        samples += 1;
    }
    let (kind, unit, missing) = (FlameKind::OnCpu, Unit::Samples, Missing::default());
    (Flame { kind, unit, frames, stacks, total, samples, missing }, wrong)
}

fn kind_of(name: &str) -> (&str, FrameKind) {
    let marks = [
        ("_[k]", FrameKind::Kernel),
        ("_[i]", FrameKind::Inlined),
        ("_[w]", FrameKind::Runtime),
        ("_[j]", FrameKind::Allocator),
    ];
    let marked = marks.iter().find_map(|(mark, kind)| Some((name.strip_suffix(mark)?, *kind)));
    marked.unwrap_or((name, FrameKind::User))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stacks_of_other_tools_are_read() {
        let (flame, wrong) =
            read_folded("# perf\nmain;f;g_[k] 3\n\nmain;f 2\nmain;f;g_[k] 1\nnonsense\n");
        assert_eq!((flame.total, flame.stacks.len(), wrong), (6, 2, 1));
        assert_eq!(folded_lines(&flame), ["main;f 2", "main;f;g_[k] 4"]);
    }

    #[test]
    fn a_name_cannot_be_taken_for_another_frame_or_a_weight() {
        let frame =
            |name: &str| super::super::Frame { name: name.to_owned(), kind: FrameKind::User };
        assert_eq!(annotated(&frame("f<[u8; 4]>")), "f<[u8: 4]>");
        assert_eq!(annotated(&frame("CPU 3")), "CPU\u{a0}3");
        assert_eq!(annotated(&frame("")), "?");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(
            stacks in proptest::collection::vec((proptest::collection::vec(".{0,12}", 1..5), 1..1_000_u64), 0..9),
        ) {
            let mut frames = Frames::default();
            let mut sums = BTreeMap::new();
            for (names, weight) in &stacks {
                let path: Vec<_> =
                    names.iter().map(|name| frames.index(name.clone(), FrameKind::Runtime)).collect();
                *sums.entry(path).or_insert(0) += weight;
            }
            let total: u64 = sums.values().sum();
            let missing = Missing::default();
            let flame = Flame { kind: FlameKind::OnCpu, unit: Unit::Samples, frames, stacks: sums, total, samples: 0, missing };
            let text = folded_lines(&flame).join("\n");
            let (copy, wrong) = read_folded(&text);
            prop_assert_eq!((copy.total, wrong), (total, 0), "{}", text);
        }
    }
}
