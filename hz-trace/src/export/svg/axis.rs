//! Time as a coordinate: where a moment is drawn, and which moments the axis names.

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged};
use std::ops::Range;

/// The horizontal axis: `CLOCK_MONOTONIC`, named relative to the start of the recording.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimeAxis {
    /// Left end, nanoseconds of `CLOCK_MONOTONIC`.
    pub(super) from_ns: u64,
    /// Right end.
    pub(super) to_ns: u64,
    /// What is called 0.
    pub(super) origin_ns: u64,
}

impl TimeAxis {
    /// Length in nanoseconds, at least one.
    pub(super) fn span_ns(&self) -> u64 {
        self.to_ns.saturating_sub(self.from_ns).max(1)
    }

    /// Nanoseconds between two ticks, of which at most `most` fit: 1, 2 or 5 of a power of ten.
    pub(super) fn step_ns(&self, most: usize) -> u64 {
        let least = self.span_ns().div_ceil(most.max(1) as u64).max(1);
        let mut power = 1_u64;
        loop {
            for step in [power, power.saturating_mul(2), power.saturating_mul(5)] {
                if step >= least {
                    return step;
                }
            }
            power = power.saturating_mul(10);
        }
    }
}

impl Ranged for TimeAxis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = u64;

    fn map(&self, time_ns: &u64, limit: (i32, i32)) -> i32 {
        let since_ns = time_ns.clamp(&self.from_ns, &self.to_ns) - self.from_ns;
        let length = f64::from(limit.1 - limit.0);
        limit.0 + (since_ns as f64 / self.span_ns() as f64 * length).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<u64> {
        let step_ns = self.step_ns(hint.max_num_points());
        let first = (self.from_ns.saturating_sub(self.origin_ns)).div_ceil(step_ns);
        (first..)
            .map(|number| self.origin_ns.saturating_add(number.saturating_mul(step_ns)))
            .take_while(|time_ns| *time_ns <= self.to_ns)
            .take(hint.max_num_points() + 1)
            .collect()
    }

    fn range(&self) -> Range<u64> {
        self.from_ns..self.to_ns
    }
}

/// A moment since the start of the recording, for a tick of an axis with `step_ns` between ticks:
/// all ticks have one unit and as many digits as tell them apart.
pub(super) fn tick_label(since_ns: u64, step_ns: u64) -> String {
    if since_ns == 0 {
        return "0".to_owned();
    }
    let (unit_ns, unit) = match step_ns {
        0..1_000 => (1, "ns"),
        1_000..1_000_000 => (1_000, "µs"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    // Far from the start, 1 200 000 µs reads worse than 1.2 s.
    let (unit_ns, unit) = match (since_ns / unit_ns, unit) {
        (10_000.., "ns") => (1_000, "µs"),
        (10_000.., "µs") => (1_000_000, "ms"),
        (10_000.., "ms") => (1_000_000_000, "s"),
        _ => (unit_ns, unit),
    };
    let mut digits = 0;
    let mut left_ns: u64 = unit_ns;
    while left_ns > 1 && !step_ns.is_multiple_of(left_ns) {
        left_ns /= 10;
        digits += 1;
    }
    format!("{:.digits$} {unit}", since_ns as f64 / unit_ns as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_relative_to_the_start() {
        let axis = TimeAxis { from_ns: 1_007, to_ns: 41_001_007, origin_ns: 1_007 };
        let ticks: Vec<u64> = axis.key_points(10).iter().map(|tick| tick - 1_007).collect();
        assert_eq!(ticks, (0..=8).map(|each| each * 5_000_000).collect::<Vec<_>>());
        assert_eq!(tick_label(15_000_000, 5_000_000), "15 ms");
    }

    #[test]
    fn labels_keep_what_tells_ticks_apart() {
        assert_eq!(tick_label(0, 5), "0");
        assert_eq!(tick_label(2_500_000_000, 500_000_000), "2500 ms");
        assert_eq!(tick_label(12_500_000_000, 500_000_000), "12.5 s");
        assert_eq!(tick_label(12_345_678, 2), "12345.678 µs");
        assert_eq!(tick_label(20_000_000_000, 5_000_000_000), "20 s");
    }

    #[test]
    fn an_empty_recording_has_an_axis() {
        let axis = TimeAxis { from_ns: 5, to_ns: 5, origin_ns: 5 };
        assert_eq!(axis.map(&5, (10, 20)), 10);
        assert!(!axis.key_points(8).is_empty());
    }
}
