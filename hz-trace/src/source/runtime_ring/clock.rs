//! From stamps to nanoseconds of `CLOCK_MONOTONIC`.
//!
//! Between two readings of both clocks time is a straight line. The page has such pairs from before
//! the reader came; since then the reader reads both clocks itself, once a drain, where it can read
//! the stamps' clock.

use super::{
    layout::{Layout, PAIRS_WRITTEN},
    map::Map,
};
use crate::host::clock::monotonic_ns;
use hz_probes_ebpf::runtime_ring::{CLOCK_MONOTONIC, CLOCK_PAIRS, CLOCK_TSC};
use std::sync::atomic::Ordering;

/// Own readings that are kept, one a drain: 2.5 s of them, for records that a writer was
/// interrupted in for so long.
const OWN_MAX: usize = 256;

/// Nanoseconds a tick where a single pair is known: wrong, but no worse than nothing.
const UNKNOWN_SLOPE: f64 = 1.0;

/// Two readings of one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    stamp: u64,
    ns: u64,
    /// Nanoseconds a tick from here to the next point.
    slope: f64,
}

/// Converts the stamps of one process.
#[derive(Debug)]
pub(super) struct Clock {
    /// Stamps are nanoseconds already.
    is_identity: bool,
    /// The reader reads the clock of the stamps itself.
    reads_itself: bool,
    /// In order of both times; those of the page first.
    points: Vec<Point>,
    from_page: usize,
    pairs_seen: u32,
    /// Nothing that was read can be later.
    now_ns: u64,
}

impl Clock {
    pub(super) fn new(map: &Map, layout: &Layout) -> Self {
        let mut clock = Self {
            is_identity: layout.clock == CLOCK_MONOTONIC,
            reads_itself: layout.clock == CLOCK_TSC && own_reading().is_some(),
            points: Vec::new(),
            from_page: 0,
            pairs_seen: 0,
            now_ns: 0,
        };
        clock.read_pairs(map, layout);
        clock.from_page = clock.points.len();
        clock.update(map, layout);
        clock
    }

    /// Looks at both clocks. Records that were there before the call have earlier stamps.
    pub(super) fn update(&mut self, map: &Map, layout: &Layout) {
        if self.reads_itself {
            if let Some((stamp, ns)) = own_reading() {
                self.add_own(stamp, ns);
            }
        } else if !self.is_identity {
            self.read_pairs(map, layout);
        }
        self.now_ns = monotonic_ns();
    }

    /// When the clocks were last looked at, nanoseconds of `CLOCK_MONOTONIC`.
    pub(super) const fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// A stamp's time, nanoseconds of `CLOCK_MONOTONIC`: never later than the last update, whatever
    /// the process wrote.
    #[inline]
    pub(super) fn ns(&self, stamp: u64) -> u64 {
        let ns = if self.is_identity { stamp } else { self.convert(stamp) };
        ns.min(self.now_ns)
    }

    #[inline]
    fn convert(&self, stamp: u64) -> u64 {
        // Almost every stamp is from between the last two readings.
        if let [.., before, last] = self.points[..]
            && before.stamp <= stamp
            && stamp <= last.stamp
        {
            return before.ns.saturating_add(along(stamp - before.stamp, before.slope));
        }
        self.convert_older(stamp)
    }

    fn convert_older(&self, stamp: u64) -> u64 {
        let Some((first, last)) = self.points.first().zip(self.points.last()) else { return 0 };
        let mean = slope(first, last).unwrap_or(UNKNOWN_SLOPE);
        if stamp < first.stamp {
            return first.ns.saturating_sub(along(first.stamp - stamp, mean));
        }
        if stamp > last.stamp {
            return last.ns.saturating_add(along(stamp - last.stamp, mean));
        }
        let after = self.points.partition_point(|point| point.stamp <= stamp);
        self.points
            .get(after.wrapping_sub(1))
            .map_or(0, |before| before.ns.saturating_add(along(stamp - before.stamp, before.slope)))
    }

    fn add_own(&mut self, stamp: u64, ns: u64) {
        // What the page says of a time that has not come is not so.
        while self.points.len() == self.from_page
            && self.points.last().is_some_and(|last| !is_after(last, stamp, ns))
        {
            self.points.pop();
            self.from_page -= 1;
        }
        if self.points.len() - self.from_page >= OWN_MAX {
            // The one that the page's line ends at stays.
            self.points.drain(self.from_page + 1..self.from_page + OWN_MAX / 2);
            self.set_slope(self.from_page);
        }
        self.add(stamp, ns);
    }

    /// Adds a point if it is after the others by both clocks.
    fn add(&mut self, stamp: u64, ns: u64) {
        if self.points.last().is_none_or(|last| is_after(last, stamp, ns)) {
            self.points.push(Point { stamp, ns, slope: UNKNOWN_SLOPE });
            self.set_slope(self.points.len().saturating_sub(2));
        }
    }

    fn set_slope(&mut self, place: usize) {
        if let [point, next, ..] = &mut self.points[place..] {
            point.slope = slope(point, next).unwrap_or(UNKNOWN_SLOPE);
        }
    }

    /// Takes over the pairs that were written since the last call.
    fn read_pairs(&mut self, map: &Map, layout: &Layout) {
        let written = map.half(PAIRS_WRITTEN).map_or(0, |half| half.load(Ordering::Acquire));
        let kept = CLOCK_PAIRS as u32;
        // A slot that is being written may be torn: the oldest one is left alone.
        let fresh = written.wrapping_sub(self.pairs_seen).min(written).min(kept - 1);
        for pair in written - fresh..written {
            if let Some(at) = layout.pairs.at(pair % kept) {
                self.add(map.load(at), map.load(at + 8));
            }
        }
        self.pairs_seen = written;
        if !self.reads_itself && self.points.len() > 2 * OWN_MAX {
            self.points.drain(1..OWN_MAX);
            self.set_slope(0);
        }
    }
}

const fn is_after(point: &Point, stamp: u64, ns: u64) -> bool {
    point.stamp < stamp && point.ns < ns
}

fn slope(from: &Point, to: &Point) -> Option<f64> {
    let (ticks, ns) = (to.stamp.checked_sub(from.stamp)?, to.ns.checked_sub(from.ns)?);
    (ticks > 0 && ns > 0).then(|| ns as f64 / ticks as f64)
}

/// Nanoseconds of `ticks`. Exact to less than one up to 2^53 of them, a month of the fastest TSC.
#[inline]
fn along(ticks: u64, slope: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast saturates, slopes are positive"
    )]
    let ns = (ticks as f64 * slope) as u64;
    ns
}

/// The time stamp counter and `CLOCK_MONOTONIC` at one moment: the closest of three tries, so that
/// an interrupt between the two does not count.
#[cfg(target_arch = "x86_64")]
fn own_reading() -> Option<(u64, u64)> {
    let reading = || {
        let before = time_stamp();
        let ns = monotonic_ns();
        let took = time_stamp().saturating_sub(before);
        (took, before + took / 2, ns)
    };
    (0..3).map(|_| reading()).min().map(|(_, stamp, ns)| (stamp, ns))
}

#[cfg(target_arch = "x86_64")]
fn time_stamp() -> u64 {
    // SAFETY: every x86-64 CPU has the instruction, and Linux lets programs use it.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// There is no time stamp counter to read.
#[cfg(not(target_arch = "x86_64"))]
const fn own_reading() -> Option<(u64, u64)> {
    None
}
