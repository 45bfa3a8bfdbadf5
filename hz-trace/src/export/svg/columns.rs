//! Level of detail: what happened in each column of pixels.
//!
//! A tile at least a column long is drawn as it is. Shorter ones would vanish; a column that has
//! one is **crowded** and shows the shares of everything in it instead.

use crate::model::{State, Tile};

/// Nanoseconds per [`State`], in the order of [`State::ALL`].
pub(super) type Mix = [u64; State::ALL.len()];

/// Place of a state in a [`Mix`].
pub(super) const fn place(state: State) -> usize {
    match state {
        State::Unknown => 0,
        State::New => 1,
        State::Running => 2,
        State::Woken => 3,
        State::Preempted => 4,
        State::Sleeping => 5,
        State::Uninterruptible => 6,
        State::Stopped => 7,
        // A state this picture does not know is drawn as not known.
        #[expect(unreachable_patterns, reason = "the enum may grow")]
        _ => 0,
    }
}

/// Columns of equal time, as equal as whole nanoseconds allow.
#[derive(Clone, Debug)]
pub(super) struct Grid {
    /// Start of each column and the end of the last, nanoseconds of `CLOCK_MONOTONIC`.
    bounds: Vec<u64>,
}

impl Grid {
    /// `columns` columns over `[from_ns, to_ns)`.
    pub(super) fn new(from_ns: u64, to_ns: u64, columns: usize) -> Self {
        let columns = columns.max(1) as u64;
        let span = u128::from(to_ns.saturating_sub(from_ns));
        let bound = |column: u64| {
            let since = span * u128::from(column) / u128::from(columns);
            from_ns + u64::try_from(since).unwrap_or(u64::MAX)
        };
        Self { bounds: (0..=columns).map(bound).collect() }
    }

    pub(super) fn len(&self) -> usize {
        self.bounds.len() - 1
    }

    /// Start of a column, and for `len()` the end of the last.
    pub(super) fn start_ns(&self, column: usize) -> u64 {
        self.bounds[column]
    }

    /// Length of a column in nanoseconds, rounded up.
    pub(super) fn column_ns(&self) -> u64 {
        (self.bounds[self.len()] - self.bounds[0]).div_ceil(self.len() as u64)
    }

    /// Splits intervals that come in the order of their starts.
    pub(super) const fn splitter(&self) -> Splitter<'_> {
        Splitter { bounds: self.bounds.as_slice(), column: 0 }
    }
}

/// Splits intervals at the bounds of columns, without a division per interval.
#[derive(Debug)]
pub(super) struct Splitter<'a> {
    bounds: &'a [u64],
    column: usize,
}

impl Splitter<'_> {
    /// Calls `each` with every column that `[start_ns, end_ns)` overlaps, and for how long. What
    /// is outside the grid is left out.
    #[inline]
    pub(super) fn split(&mut self, start_ns: u64, end_ns: u64, mut each: impl FnMut(usize, u64)) {
        let last = self.bounds.len() - 2;
        while self.column < last && self.bounds[self.column + 1] <= start_ns {
            self.column += 1;
        }
        let mut column = self.column;
        while column <= last && self.bounds[column] < end_ns {
            let from_ns = self.bounds[column].max(start_ns);
            let to_ns = self.bounds[column + 1].min(end_ns);
            if from_ns < to_ns {
                each(column, to_ns - from_ns);
            }
            column += 1;
        }
    }
}

/// A thread's life in columns.
#[derive(Clone, Debug)]
pub(super) struct ThreadColumns {
    /// What it did in each column.
    pub(super) mixes: Vec<Mix>,
    /// Whether a column has a tile shorter than itself.
    pub(super) is_crowded: Vec<bool>,
    /// Tiles at least a column long, in order.
    pub(super) long: Vec<Tile>,
    /// Columns in which it came to another CPU, in order, once each.
    pub(super) moved: Vec<usize>,
}

impl ThreadColumns {
    /// Sorts tiles, which come in order, into columns.
    pub(super) fn of(tiles: impl Iterator<Item = Tile>, grid: &Grid) -> Self {
        let mut columns = Self {
            mixes: vec![Mix::default(); grid.len()],
            is_crowded: vec![false; grid.len()],
            long: Vec::new(),
            moved: Vec::new(),
        };
        let mut splitter = grid.splitter();
        let column_ns = grid.column_ns();
        let mut cpu = None;
        for tile in tiles {
            columns.add(&tile, tile.duration_ns() >= column_ns, &mut splitter);
            if cpu.replace(tile.span.cpu).is_some_and(|before| before != tile.span.cpu) {
                columns.moved.push(splitter.column);
            }
        }
        columns.moved.dedup();
        columns
    }

    fn add(&mut self, tile: &Tile, is_long: bool, splitter: &mut Splitter<'_>) {
        let state = place(tile.span.state);
        splitter.split(tile.span.start_ns, tile.end_ns, |column, ns| {
            self.mixes[column][state] += ns;
            if !is_long {
                self.is_crowded[column] = true;
            }
        });
        if is_long {
            self.long.push(*tile);
        }
    }

    /// Adds another thread's columns to these.
    pub(super) fn add_mixes(&mut self, tiles: impl Iterator<Item = Tile>, grid: &Grid) {
        let mut splitter = grid.splitter();
        for tile in tiles {
            self.add(&tile, false, &mut splitter);
        }
    }
}

/// The part of `[start_ns, end_ns)` that is not in a crowded column. Only its first and its last
/// column can be: it fills those between.
pub(super) fn clear_part(
    grid: &Grid,
    is_crowded: &[bool],
    start_ns: u64,
    end_ns: u64,
) -> Option<(u64, u64)> {
    let first = grid.bounds.partition_point(|bound| *bound <= start_ns).saturating_sub(1);
    let last = grid.bounds.partition_point(|bound| *bound < end_ns).saturating_sub(1);
    let (first, last) = (first.min(grid.len() - 1), last.min(grid.len() - 1));
    let start_ns = if is_crowded[first] { grid.bounds[first + 1] } else { start_ns };
    let end_ns = if is_crowded[last] { grid.bounds[last] } else { end_ns };
    (start_ns < end_ns).then_some((start_ns, end_ns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Span, Waker};
    use proptest::prelude::*;

    fn tiles(lengths: &[(u64, usize)]) -> Vec<Tile> {
        let mut start_ns = 1_000;
        let tile = |(length_ns, state): &(u64, usize)| {
            let cpu = (*state % 3) as u16;
            let state = State::ALL[*state];
            let span = Span { start_ns, state, cpu, waker: Waker::Unknown };
            start_ns += length_ns;
            Tile { span, end_ns: start_ns }
        };
        lengths.iter().map(tile).collect()
    }

    #[test]
    fn every_state_has_its_place() {
        for (number, state) in State::ALL.iter().enumerate() {
            assert_eq!(place(*state), number);
        }
    }

    #[test]
    fn a_tile_shorter_than_a_column_crowds_it_and_longer_ones_keep_clear_of_it() {
        // Columns of 10: asleep 0 to 25, runnable 25 to 28, running 28 to 60.
        let grid = Grid::new(1_000, 1_060, 6);
        let columns = ThreadColumns::of(tiles(&[(25, 5), (3, 3), (32, 2)]).into_iter(), &grid);
        assert_eq!(columns.is_crowded, [false, false, true, false, false, false]);
        assert_eq!(columns.mixes[2], [0, 0, 2, 3, 0, 5, 0, 0]);
        let clear =
            |tile: &Tile| clear_part(&grid, &columns.is_crowded, tile.span.start_ns, tile.end_ns);
        let parts: Vec<_> = columns.long.iter().filter_map(clear).collect();
        assert_eq!(parts, [(1_000, 1_020), (1_030, 1_060)]);
    }

    proptest! {
        #[test]
        fn shares_of_a_column_sum_to_what_is_in_it_and_nothing_vanishes(
            lengths in proptest::collection::vec((1..400_u64, 0..8_usize), 1..60),
            count in 1..50_usize,
        ) {
            let tiles = tiles(&lengths);
            let end_ns = tiles[tiles.len() - 1].end_ns;
            let grid = Grid::new(1_000, end_ns, count);
            let columns = ThreadColumns::of(tiles.iter().copied(), &grid);
            for (column, mix) in columns.mixes.iter().enumerate() {
                let width = grid.start_ns(column + 1) - grid.start_ns(column);
                prop_assert_eq!(mix.iter().sum::<u64>(), width);
            }
            for state in State::ALL {
                let whole: u64 = tiles.iter().filter(|tile| tile.span.state == state)
                    .map(Tile::duration_ns).sum();
                let seen: u64 = columns.mixes.iter().map(|mix| mix[place(state)]).sum();
                prop_assert_eq!(seen, whole);
            }
            // Every nanosecond is drawn once: in a crowded column, or as part of a long tile.
            let clear: u64 = columns.long.iter()
                .filter_map(|tile| clear_part(&grid, &columns.is_crowded, tile.span.start_ns, tile.end_ns))
                .map(|(from, to)| to - from).sum();
            let crowded: u64 = (0..count).filter(|column| columns.is_crowded[*column])
                .map(|column| grid.start_ns(column + 1) - grid.start_ns(column)).sum();
            prop_assert_eq!(clear + crowded, end_ns - 1_000);
        }
    }
}
