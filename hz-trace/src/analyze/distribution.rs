//! How long something took, many times.

use serde::Serialize;

/// How long something took, many times.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Distribution {
    /// How many times.
    pub count: u64,
    /// All together.
    pub total_ns: u64,
    /// The median.
    pub p50_ns: u64,
    /// Longer than this was one in a hundred.
    pub p99_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

pub(super) fn distribution(mut durations_ns: Vec<u64>) -> Distribution {
    durations_ns.sort_unstable();
    let at = |share: f64| {
        let place = (share * durations_ns.len() as f64).ceil() as usize;
        durations_ns.get(place.saturating_sub(1)).copied().unwrap_or(0)
    };
    Distribution {
        count: durations_ns.len() as u64,
        // What a process says of itself may be any number.
        total_ns: durations_ns.iter().fold(0, |sum, each| sum.saturating_add(*each)),
        p50_ns: at(0.5),
        p99_ns: at(0.99),
        max_ns: durations_ns.last().copied().unwrap_or(0),
    }
}
