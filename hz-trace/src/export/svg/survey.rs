//! One pass over everything: what each thread did in all, and the worst waits.

use super::columns::{Mix, place};
use crate::analyze::{Culprits, culprits};
use crate::model::{Model, State, Thread, ThreadIndex, Tile, Waker};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

/// The worst waits that are kept.
const WORST_KEPT: usize = 300;

/// One wait for a CPU, from runnable to running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) thread: ThreadIndex,
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
    /// The CPU it waited for last; it can be moved while it waits.
    pub(super) cpu: u16,
    pub(super) is_preempted: bool,
    pub(super) waker: Waker,
}

impl Wait {
    pub(super) const fn duration_ns(&self) -> u64 {
        self.end_ns - self.start_ns
    }

    /// Who had the CPUs it waited for.
    pub(super) fn culprits(&self, model: &Model) -> Culprits {
        let mut found = Culprits::default();
        for tile in tiles_between(model.thread(self.thread), self.start_ns..self.end_ns) {
            let span = tile.span;
            found.add(&culprits(model, span.cpu, span.start_ns, tile.end_ns));
        }
        found
    }
}

/// What a thread did in all.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Life {
    /// Nanoseconds per state.
    pub(super) mix: Mix,
    pub(super) longest_wait_ns: u64,
    pub(super) waits: u64,
    /// Tiles.
    pub(super) tiles: u64,
}

impl Life {
    pub(super) const fn running_ns(&self) -> u64 {
        self.mix[place(State::Running)]
    }

    pub(super) const fn waiting_ns(&self) -> u64 {
        self.mix[place(State::Woken)] + self.mix[place(State::Preempted)]
    }

    pub(super) fn total_ns(&self) -> u64 {
        self.mix.iter().sum()
    }
}

/// What was found.
#[derive(Clone, Debug)]
pub(super) struct Survey {
    /// By [`ThreadIndex`].
    pub(super) lives: Vec<Life>,
    /// The longest waits, the longest first.
    pub(super) worst: Vec<Wait>,
    /// Which states there are.
    pub(super) total: Mix,
}

impl Survey {
    pub(super) fn life(&self, thread: ThreadIndex) -> &Life {
        &self.lives[thread.0 as usize]
    }
}

/// The tiles of a thread's life that overlap `time`, cut to it.
pub(super) fn tiles_between(thread: &Thread, time: Range<u64>) -> impl Iterator<Item = Tile> + '_ {
    let first = thread.spans.partition_point(|span| span.start_ns <= time.start).saturating_sub(1);
    (first..thread.spans.len())
        .map(|index| thread.tile(index))
        .take_while(move |tile| tile.span.start_ns < time.end)
        .map(move |mut tile| {
            tile.span.start_ns = tile.span.start_ns.max(time.start);
            tile.end_ns = tile.end_ns.min(time.end);
            tile
        })
        .filter(|tile| tile.span.start_ns < tile.end_ns)
}

/// Looks at every tile in `time` once.
pub(super) fn survey(model: &Model, time: &Range<u64>) -> Survey {
    let mut worst = Worst::default();
    let lives = (0..model.threads.len())
        .map(|index| {
            let index = ThreadIndex(u32::try_from(index).unwrap_or(u32::MAX));
            life(model, index, time.clone(), &mut worst)
        })
        .collect::<Vec<_>>();
    let mut total = Mix::default();
    for life in &lives {
        for (sum, ns) in total.iter_mut().zip(life.mix) {
            *sum += ns;
        }
    }
    Survey { lives, worst: worst.sorted(), total }
}

fn life(model: &Model, index: ThreadIndex, time: Range<u64>, worst: &mut Worst) -> Life {
    let mut life = Life::default();
    let mut open: Option<Wait> = None;
    for tile in tiles_between(model.thread(index), time) {
        let span = tile.span;
        life.mix[place(span.state)] += tile.duration_ns();
        life.tiles += 1;
        if let Some(wait) = &mut open
            && span.state.is_waiting()
        {
            (wait.end_ns, wait.cpu) = (tile.end_ns, span.cpu);
            continue;
        }
        if let Some(wait) = open.take() {
            life.close(&wait, worst);
        }
        open = span.state.is_waiting().then(|| Wait {
            thread: index,
            start_ns: span.start_ns,
            end_ns: tile.end_ns,
            cpu: span.cpu,
            is_preempted: span.state == State::Preempted,
            waker: span.waker,
        });
    }
    if let Some(wait) = open {
        life.close(&wait, worst);
    }
    life
}

impl Life {
    fn close(&mut self, wait: &Wait, worst: &mut Worst) {
        self.waits += 1;
        self.longest_wait_ns = self.longest_wait_ns.max(wait.duration_ns());
        worst.offer(wait);
    }
}

/// The longest waits so far.
#[derive(Debug, Default)]
struct Worst {
    /// By length, the shortest on top.
    order: BinaryHeap<Reverse<(u64, usize)>>,
    kept: Vec<Wait>,
}

impl Worst {
    fn offer(&mut self, wait: &Wait) {
        let length_ns = wait.duration_ns();
        if self.kept.len() < WORST_KEPT {
            self.order.push(Reverse((length_ns, self.kept.len())));
            self.kept.push(*wait);
            return;
        }
        let Some(mut shortest) = self.order.peek_mut() else { return };
        let Reverse((shortest_ns, slot)) = *shortest;
        if length_ns > shortest_ns {
            self.kept[slot] = *wait;
            *shortest = Reverse((length_ns, slot));
        }
    }

    fn sorted(mut self) -> Vec<Wait> {
        self.kept.sort_by_key(|wait| (Reverse(wait.duration_ns()), wait.start_ns, wait.thread));
        self.kept
    }
}
