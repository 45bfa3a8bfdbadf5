//! Times of many requests.

use serde::Serialize;

/// Percentiles of times in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
}

impl Latency {
    /// Of times in nanoseconds, which it sorts.
    pub(crate) fn of(times_ns: &mut [u64]) -> Self {
        times_ns.sort_unstable();
        let last = times_ns.len().saturating_sub(1);
        let percentile = |share: f64| {
            let place = (times_ns.len() as f64 * share).ceil() as usize;
            times_ns.get(place.saturating_sub(1).min(last)).map_or(0.0, |ns| *ns as f64 / 1e3)
        };
        Self {
            p50_us: percentile(0.5),
            p90_us: percentile(0.9),
            p99_us: percentile(0.99),
            p999_us: percentile(0.999),
            max_us: percentile(1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_nearest_rank() {
        let mut times: Vec<u64> = (1..=100).rev().map(|us| us * 1000).collect();
        let latency = Latency::of(&mut times);
        assert_eq!((latency.p50_us, latency.p90_us, latency.p99_us), (50.0, 90.0, 99.0));
        assert_eq!((latency.p999_us, latency.max_us), (100.0, 100.0));
        assert_eq!(Latency::of(&mut []), Latency::default());
    }
}
