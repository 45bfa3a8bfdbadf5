//! How often something took how long.

use hz_probes_ebpf::aggregate::{BUCKETS, bucket_floor_ns, bucket_of};
use serde::{Deserialize, Serialize};

/// How often something took how long, in buckets a quarter of a doubling wide.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Vec<(u16, u64)>", from = "Vec<(u16, u64)>")]
pub struct Histogram {
    /// By bucket; as long as need be.
    counts: Vec<u64>,
}

impl Histogram {
    /// Of counts by bucket.
    pub(crate) fn of(counts: &[u64]) -> Self {
        let used = counts.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        Self { counts: counts[..used.min(BUCKETS)].to_vec() }
    }

    /// Counts a time of `ns` nanoseconds.
    pub fn add(&mut self, ns: u64) {
        let bucket = bucket_of(ns);
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: &Self) {
        if other.counts.len() > self.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, each)| *sum += each);
    }

    /// Forgets everything, and keeps its memory.
    pub fn clear(&mut self) {
        self.counts.clear();
    }

    /// How many times were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The time that a share (0 to 1) of all is no longer than, nanoseconds: the end of its bucket,
    /// so at most a quarter too long. 0 if nothing was counted.
    #[must_use]
    pub fn quantile_ns(&self, share: f64) -> u64 {
        let total = self.count();
        let wanted = ((share * total as f64).ceil() as u64).clamp(1, total.max(1));
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return bucket_floor_ns(bucket + 1).saturating_sub(1);
            }
        }
        0
    }

    /// How many took from `from_ns` up to but not `to_ns`, as far as buckets tell.
    #[must_use]
    pub fn count_between(&self, from_ns: u64, to_ns: u64) -> u64 {
        let buckets = self.counts.iter().enumerate();
        let inside = buckets.filter(|(bucket, _)| {
            let floor_ns = bucket_floor_ns(*bucket);
            floor_ns >= from_ns && floor_ns < to_ns
        });
        inside.map(|(_, count)| count).sum()
    }

    /// Counts by bucket with their shortest times, nanoseconds; empty buckets are left out.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let buckets = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        buckets.map(|(bucket, count)| (bucket_floor_ns(bucket), *count))
    }
}

impl From<Histogram> for Vec<(u16, u64)> {
    fn from(histogram: Histogram) -> Self {
        let counts = (0..).zip(histogram.counts);
        counts.filter(|(_, count)| *count > 0).collect()
    }
}

impl From<Vec<(u16, u64)>> for Histogram {
    fn from(pairs: Vec<(u16, u64)>) -> Self {
        let mut counts = vec![0; BUCKETS];
        for (bucket, count) in pairs {
            if let Some(sum) = counts.get_mut(usize::from(bucket)) {
                *sum += count;
            }
        }
        Self::of(&counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn quantiles_are_at_most_a_quarter_too_long(mut times in proptest::collection::vec(0_u64..1 << 39, 1..200), share in 0.01_f64..1.0) {
            let mut histogram = Histogram::default();
            times.iter().for_each(|ns| histogram.add(*ns));
            times.sort_unstable();
            let place = (share * times.len() as f64).ceil() as usize;
            let true_ns = times[place.saturating_sub(1)];
            let told_ns = histogram.quantile_ns(share);
            prop_assert!(told_ns >= true_ns && told_ns <= true_ns + true_ns / 4 + 1, "{true_ns} {told_ns}");
            prop_assert_eq!(histogram.count(), times.len() as u64);
            prop_assert_eq!(histogram.count_between(0, u64::MAX), times.len() as u64);
        }

        #[test]
        fn it_survives_being_written_down(times in proptest::collection::vec(any::<u64>(), 0..50)) {
            let mut histogram = Histogram::default();
            times.iter().for_each(|ns| histogram.add(*ns));
            let text = serde_json::to_string(&histogram).unwrap();
            prop_assert_eq!(serde_json::from_str::<Histogram>(&text).unwrap(), histogram);
        }
    }

    #[test]
    fn nothing_has_no_quantile() {
        assert_eq!(Histogram::default().quantile_ns(0.99), 0);
    }
}
