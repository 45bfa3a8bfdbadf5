//! How many bytes lie between two samples, and what a sample stands for.

use std::cell::Cell;

/// Bytes up to the next sampled one: geometric, with the mean `mean`, as if each byte were drawn
/// for itself. So whatever came before says nothing of what comes, and a fresh gap may begin after
/// any allocation.
pub(super) fn gap(random: &Cell<u64>, mean: u64) -> i64 {
    // Of the 53 bits that a double holds exactly, and never 0.
    let uniform = ((next(random) >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    (-uniform.ln() * mean as f64) as i64
}

/// Bytes for which a sampled allocation stands: an allocation of `bytes` is sampled with a chance
/// of `1 − exp(−bytes / mean)`, so that the sum of all weights is in the mean what was allocated.
pub(super) fn weight(bytes: usize, mean: u64) -> f64 {
    let bytes = bytes as f64;
    if bytes == 0.0 { 0.0 } else { bytes / -(-bytes / mean as f64).exp_m1() }
}

/// `SplitMix64`: every seed is as good as any other, and the state is one word.
fn next(random: &Cell<u64>) -> u64 {
    let state = random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    random.set(state);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_weights_is_what_was_allocated_whatever_the_sizes() {
        const MEAN: u64 = 512 << 10;
        for sizes in [&[2048][..], &[512 << 10], &[8 << 20], &[24, 4096, 100, 1 << 20, 48, 65_536]]
        {
            let random = Cell::new(42);
            let mut left = gap(&random, MEAN);
            let (mut truth, mut estimate, mut samples) = (0.0, 0.0, 0);
            while samples < 20_000 {
                for &size in sizes {
                    truth += size as f64;
                    left -= size as i64;
                    if left < 0 {
                        estimate += weight(size, MEAN);
                        samples += 1;
                        left = gap(&random, MEAN);
                    }
                }
            }
            let error = (estimate - truth) / truth;
            assert!(error.abs() < 0.02, "{sizes:?}: {error} after {samples} samples");
        }
    }

    #[test]
    fn a_small_allocation_stands_for_the_mean_and_a_large_one_for_itself() {
        assert!((weight(1, 512 << 10) / f64::from(512 << 10) - 1.0).abs() < 1e-3);
        assert!((weight(64 << 20, 512 << 10) / f64::from(64 << 20) - 1.0).abs() < 1e-3);
    }
}
