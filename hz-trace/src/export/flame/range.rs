//! What a script needs to draw a flame graph of a part of the time: every stack once, as a tree in the order
//! of drawing, and what was taken when.
//!
//! `range.js` reads what this file writes. Where the parts are too many, those that are shorter than a slot
//! of time are added up by slot; what a slot took is spread evenly over it then.

use super::{colour, showable, word};
use crate::{
    analyze::{Flame, Timed, TimedPart},
    export::{Subject, safe_json},
    model::{TaskIndex, ThreadIndex},
};
use inferno::flamegraph::color::Color;
use rustc_hash::FxHashMap;
use serde::Serialize;
use std::io;

/// Parts that are embedded, some 20 bytes each.
const PARTS: usize = 60_000;

const SCRIPT: &str = concat!(
    "(function () {\n'use strict';\n",
    include_str!("../quantity.js"),
    include_str!("range.js"),
    "})();\n"
);

/// Thread id, process id, task id, and the names of thread and task. The task's id is text, since a script's
/// numbers are not as long.
type Who = (u32, u32, Option<String>, String, Option<String>);

#[derive(Debug, Serialize)]
struct Embedded<'a> {
    unit: &'static str,
    /// Names and colours.
    frames: Vec<(String, String)>,
    /// Parent and frame of each, a parent before its children, these by name. The first one, which stands for all, has
    /// neither.
    nodes: Vec<u32>,
    who: Vec<Who>,
    /// Of each part: nanoseconds since the start of the one before, length in nanoseconds, node, who, CPU and 1 or
    /// 0 for none, weight, number of samples.
    parts: Vec<u64>,
    /// Length of a slot in nanoseconds; 0: every part is as it was recorded.
    slot_ns: u64,
    /// What the script says if there is nothing.
    title: &'a str,
}

/// A part, ready to be written.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Part {
    start_ns: u64,
    length_ns: u64,
    node: u32,
    who: u32,
    /// 0: none, else one more than its number.
    cpu: u32,
    weight: f64,
    samples: u64,
}

/// The elements to be embedded.
pub(super) fn embedded(subject: &Subject<'_>, flame: &Flame, timed: &Timed) -> io::Result<String> {
    let origin_ns = subject.model.start_ns;
    let tree = Tree::of(flame, timed);
    let mut people = People { subject, known: FxHashMap::default(), who: Vec::new() };
    let parts = timed.parts.iter().map(|part| Part {
        start_ns: part.start_ns.saturating_sub(origin_ns),
        length_ns: part.length_ns,
        node: tree.leaves[part.stack as usize],
        who: people.number(part),
        cpu: part.cpu.map_or(0, |cpu| u32::from(cpu) + 1),
        weight: part.weight,
        samples: 1,
    });
    let (parts, slot_ns) = thinned(parts.collect(), PARTS);
    let data = Embedded {
        unit: word(flame.unit),
        frames: tree.frames,
        nodes: tree.nodes,
        who: people.who,
        parts: numbers(&parts),
        slot_ns,
        title: flame.kind.title(),
    };
    let json = safe_json(&serde_json::to_string(&data)?);
    Ok(format!(
        "<script type=\"application/json\" class=\"hz-parts\"><![CDATA[{json}]]></script>\
         <script><![CDATA[{SCRIPT}]]></script>"
    ))
}

fn numbers(parts: &[Part]) -> Vec<u64> {
    let mut before_ns = 0;
    let mut numbers = Vec::with_capacity(parts.len() * 7);
    for part in parts {
        let Part { start_ns, length_ns, node, who, cpu, weight, samples } = *part;
        let [node, who, cpu] = [node, who, cpu].map(u64::from);
        let weight = weight.round() as u64;
        numbers.extend([start_ns - before_ns, length_ns, node, who, cpu, weight, samples]);
        before_ns = start_ns;
    }
    numbers
}

/// At most `most` parts if that can be, by start, and the length of the slots they were gathered in.
fn thinned(parts: Vec<Part>, most: usize) -> (Vec<Part>, u64) {
    let end_ns = parts.iter().map(|part| part.start_ns + part.length_ns).max().unwrap_or(0);
    let mut slot_ns = 1_000;
    if parts.len() <= most {
        return (parts, 0);
    }
    loop {
        let gathered = gathered(&parts, slot_ns);
        if gathered.len() <= most || slot_ns > end_ns {
            return (gathered, slot_ns);
        }
        slot_ns *= 2;
    }
}

fn gathered(parts: &[Part], slot_ns: u64) -> Vec<Part> {
    let mut slots: FxHashMap<_, Part> = FxHashMap::default();
    let (long, short): (Vec<&Part>, Vec<&Part>) =
        parts.iter().partition(|part| part.length_ns >= slot_ns);
    for part in short {
        // A part that reaches into the next slot is counted where it has its middle.
        let slot = (part.start_ns + part.length_ns / 2) / slot_ns;
        let key = (slot, part.node, part.who, part.cpu);
        let empty =
            Part { start_ns: slot * slot_ns, length_ns: slot_ns, weight: 0.0, samples: 0, ..*part };
        let sum = slots.entry(key).or_insert(empty);
        sum.weight += part.weight;
        sum.samples += part.samples;
    }
    let mut all: Vec<Part> = long.into_iter().copied().chain(slots.into_values()).collect();
    all.sort_by_key(|part| (part.start_ns, part.node, part.who, part.cpu, part.length_ns));
    all
}

/// All stacks as one tree.
struct Tree {
    frames: Vec<(String, String)>,
    nodes: Vec<u32>,
    /// The node that each stack ends in.
    leaves: Vec<u32>,
}

impl Tree {
    fn of(flame: &Flame, timed: &Timed) -> Self {
        let mut by_name: Vec<usize> = (0..flame.frames.iter().count()).collect();
        let all: Vec<_> = flame.frames.iter().collect();
        by_name.sort_by_key(|place| (&all[*place].name, all[*place].kind));
        let mut ranks = vec![0; all.len()];
        for (rank, place) in by_name.iter().enumerate() {
            ranks[*place] = rank as u32;
        }
        let frames = by_name.iter().map(|place| {
            let Color { r, g, b } = colour(all[*place].kind);
            (showable(&all[*place].name), format!("rgb({r},{g},{b})"))
        });
        let ranked = timed.stacks.iter().enumerate().map(|(place, stack)| {
            (stack.iter().map(|frame| ranks[frame.0 as usize]).collect::<Vec<u32>>(), place)
        });
        let mut ranked: Vec<_> = ranked.collect();
        ranked.sort_unstable();
        let mut tree = Self {
            frames: frames.collect(),
            nodes: Vec::new(),
            leaves: vec![0; timed.stacks.len()],
        };
        tree.grow(&ranked);
        tree
    }

    /// Neighbours in the order of their names share what they begin with.
    fn grow(&mut self, ranked: &[(Vec<u32>, usize)]) {
        let mut open: Vec<(u32, u32)> = Vec::new();
        for (stack, place) in ranked {
            let same = open.iter().zip(stack).take_while(|((rank, _), own)| rank == *own).count();
            open.truncate(same);
            for rank in &stack[same..] {
                let parent = open.last().map_or(0, |(_, node)| *node);
                self.nodes.extend([parent, *rank]);
                open.push((*rank, (self.nodes.len() / 2) as u32));
            }
            self.leaves[*place] = open.last().map_or(0, |(_, node)| *node);
        }
    }
}

/// Threads with the tasks they polled, each pair once.
struct People<'a> {
    subject: &'a Subject<'a>,
    known: FxHashMap<(ThreadIndex, Option<TaskIndex>), u32>,
    who: Vec<Who>,
}

impl People<'_> {
    fn number(&mut self, part: &TimedPart) -> u32 {
        let next = self.who.len() as u32;
        let number = *self.known.entry((part.thread, part.task)).or_insert(next);
        if number == next {
            let model = self.subject.model;
            let thread = model.thread(part.thread);
            let id = part.task.map(|task| model.task(task).id.to_string());
            let name = part.task.map(|task| showable(&model.task_name(task)));
            self.who.push((thread.tid, thread.pid, id, showable(&thread.name()), name));
        }
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn part()(
            start_ns in 0..5_000_000_u64, length_ns in 0..20_000_u64, node in 0..4_u32, weight in 1..9_u32
        ) -> Part {
            let weight = f64::from(weight);
            Part { start_ns, length_ns, node, who: node / 2, cpu: 1, weight, samples: 1 }
        }
    }

    proptest! {
        #[test]
        fn what_is_gathered_keeps_its_weight_and_almost_its_time(
            mut parts in proptest::collection::vec(part(), 0..300), most in 8..200_usize
        ) {
            parts.sort_by_key(|part| part.start_ns);
            let (thin, slot_ns) = thinned(parts.clone(), most);
            prop_assert!(thin.len() <= most.max(parts.len().min(4)), "{}", thin.len());
            prop_assert!(thin.is_sorted_by_key(|part| part.start_ns));
            for node in 0..4 {
                let sum = |parts: &[Part]| -> (f64, u64) {
                    let own = parts.iter().filter(|part| part.node == node);
                    own.fold((0.0, 0), |sum, part| (sum.0 + part.weight, sum.1 + part.samples))
                };
                prop_assert_eq!(sum(&thin), sum(&parts));
                // Until any moment as much was taken as before, but for what is within a slot of it.
                for until in [1_000_000_u64, 2_500_000] {
                    let taken = |parts: &[Part], until: u64| -> f64 {
                        let own = parts.iter().filter(|part| part.node == node);
                        own.map(|part| if part.start_ns + part.length_ns <= until { part.weight } else { 0.0 }).sum()
                    };
                    prop_assert!(taken(&thin, until) >= taken(&parts, until.saturating_sub(2 * slot_ns)));
                    prop_assert!(taken(&thin, until) <= taken(&parts, until + 2 * slot_ns));
                }
            }
        }
    }
}
