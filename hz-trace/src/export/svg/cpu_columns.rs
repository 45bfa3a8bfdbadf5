//! A CPU's time in columns: who had it, by colour, and how many they were.

use super::colour::{Colours, PaintIndex};
use super::columns::Grid;
use crate::model::{Cpu, Model, Run, Who};
use std::ops::Range;

/// What a CPU did in a column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CpuColumn {
    /// Nanoseconds by colour, in the order of colours.
    pub(super) ran: Vec<(PaintIndex, u64)>,
    pub(super) idle_ns: u64,
    pub(super) unknown_ns: u64,
    /// How many different threads ran.
    pub(super) threads: u32,
    /// Whether it has a tile shorter than the column.
    pub(super) is_crowded: bool,
}

impl CpuColumn {
    pub(super) fn busy_ns(&self) -> u64 {
        self.ran.iter().map(|(_, ns)| ns).sum()
    }
}

/// A CPU's time in columns.
#[derive(Clone, Debug)]
pub(super) struct CpuColumns {
    pub(super) columns: Vec<CpuColumn>,
    /// Tiles at least a column long with their ends, in order.
    pub(super) long: Vec<(Run, u64)>,
}

/// A CPU's tiles that overlap `time`, cut to it, with their ends.
pub(super) fn runs_between<'a>(
    model: &'a Model,
    cpu: &'a Cpu,
    time: Range<u64>,
) -> impl Iterator<Item = (Run, u64)> + 'a {
    let first = cpu.runs.partition_point(|run| run.start_ns <= time.start).saturating_sub(1);
    (first..cpu.runs.len())
        .map(move |index| {
            let end_ns = cpu.runs.get(index + 1).map_or(model.end_ns, |next| next.start_ns);
            (cpu.runs[index], end_ns)
        })
        .take_while(move |(run, _)| run.start_ns < time.end)
        .map(move |(run, end_ns)| {
            (Run { start_ns: run.start_ns.max(time.start), ..run }, end_ns.min(time.end))
        })
        .filter(|(run, end_ns)| run.start_ns < *end_ns)
}

/// Sorts CPUs' tiles into columns; keeps what it needs from one CPU to the next.
#[derive(Debug)]
pub(super) struct Sorter<'a> {
    grid: &'a Grid,
    colours: &'a Colours,
    /// The last column (of all CPUs', counted through) in which a thread was seen.
    seen_in: Vec<u32>,
    counted: u32,
}

impl<'a> Sorter<'a> {
    pub(super) fn new(model: &Model, grid: &'a Grid, colours: &'a Colours) -> Self {
        let runners = model.threads.len() + model.tasks.len();
        Self { grid, colours, seen_in: vec![0; runners], counted: 0 }
    }

    /// Sorts one CPU's tiles, which come in order.
    pub(super) fn sort(&mut self, runs: impl Iterator<Item = (Run, u64)>) -> CpuColumns {
        let mut sorted =
            CpuColumns { columns: vec![CpuColumn::default(); self.grid.len()], long: Vec::new() };
        let mut splitter = self.grid.splitter();
        let column_ns = self.grid.column_ns();
        // Stamps of this CPU's columns begin after those of the one before.
        let base = self.counted + 1;
        self.counted += u32::try_from(self.grid.len()).unwrap_or(u32::MAX);
        for (run, end_ns) in runs {
            let is_long = end_ns - run.start_ns >= column_ns;
            splitter.split(run.start_ns, end_ns, |place, ns| {
                let column = &mut sorted.columns[place];
                column.is_crowded |= !is_long;
                let stamp = base + place as u32;
                self.add(column, run.who, (stamp, ns));
            });
            if is_long {
                sorted.long.push((run, end_ns));
            }
        }
        sorted
    }

    #[inline]
    fn add(&mut self, column: &mut CpuColumn, who: Who, (stamp, ns): (u32, u64)) {
        let thread = match who {
            Who::Thread(thread) => thread,
            Who::Idle => return column.idle_ns += ns,
            Who::Unknown => return column.unknown_ns += ns,
        };
        let seen_in = &mut self.seen_in[thread.0 as usize];
        column.threads += u32::from(*seen_in != stamp);
        *seen_in = stamp;
        let paint = self.colours.index(thread);
        match column.ran.binary_search_by_key(&paint, |(each, _)| *each) {
            Ok(place) => column.ran[place].1 += ns,
            Err(place) => column.ran.insert(place, (paint, ns)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::svg::survey::survey;
    use crate::export::svg::tasks::TaskLanes;
    use crate::model::{Thread, ThreadIndex};
    use hz_probes_ebpf::Comm;
    use proptest::prelude::*;

    fn thread(tid: u32) -> Thread {
        Thread {
            tid,
            pid: tid,
            comm: Comm::default(),
            is_kernel: false,
            is_target: true,
            parent: None,
            start_ns: 0,
            end_ns: 0,
            has_exited: false,
            spans: Vec::new(),
            migrations: 0,
            switches: 0,
            kernel_first: None,
            kernel_last: None,
        }
    }

    /// One CPU: 0 is unknown, 1 idle, from 2 on a thread.
    fn model(lengths: &[(u64, u32)]) -> Model {
        let mut end_ns = 500;
        let run = |(length_ns, who): &(u64, u32)| {
            let start_ns = end_ns;
            end_ns += length_ns;
            let who = match who {
                0 => Who::Unknown,
                1 => Who::Idle,
                thread => Who::Thread(ThreadIndex(thread - 2)),
            };
            Run { start_ns, who }
        };
        let runs = lengths.iter().map(run).collect();
        let threads = (1..6).map(thread).collect();
        let cpus = vec![Cpu { runs, ..Cpu::default() }];
        Model { start_ns: 500, end_ns, threads, cpus, ..Model::default() }
    }

    fn sorted(model: &Model, grid: &Grid) -> CpuColumns {
        let time = model.start_ns..model.end_ns;
        let colours = Colours::of(model, &survey(model, &time), &TaskLanes::default());
        let mut sorter = Sorter::new(model, grid, &colours);
        // A CPU before it must not confuse who was counted.
        sorter.sort(runs_between(model, &model.cpus[0], time.clone()));
        sorter.sort(runs_between(model, &model.cpus[0], time))
    }

    #[test]
    fn different_threads_of_a_column_are_counted_once() {
        let model = model(&[(5, 2), (5, 3), (5, 2), (5, 1), (20, 4)]);
        let columns = sorted(&model, &Grid::new(500, 540, 2)).columns;
        assert_eq!((columns[0].threads, columns[1].threads), (2, 1));
        assert_eq!((columns[0].busy_ns(), columns[0].idle_ns), (15, 5));
        assert_eq!((columns[0].is_crowded, columns[1].is_crowded), (true, false));
    }

    proptest! {
        #[test]
        fn parts_of_a_column_sum_to_it(
            lengths in proptest::collection::vec((1..300_u64, 0..7_u32), 1..60),
            count in 1..40_usize,
        ) {
            let model = model(&lengths);
            let grid = Grid::new(500, model.end_ns, count);
            for (place, column) in sorted(&model, &grid).columns.iter().enumerate() {
                let sum = column.busy_ns() + column.idle_ns + column.unknown_ns;
                prop_assert_eq!(sum, grid.start_ns(place + 1) - grid.start_ns(place));
                prop_assert_eq!(column.threads > 0, column.busy_ns() > 0);
            }
        }
    }
}
