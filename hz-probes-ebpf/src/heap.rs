//! What the programs of the probe `alloc` and their loader share: what allocators' functions take, and
//! the chance that an allocation is sampled.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What a function of an allocator does with its arguments. It travels as the cookie of a user probe.
///
/// Arguments are numbered from 1, up to 3; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HeapFunction {
    /// The argument that is how many bytes are wanted; none: it allocates nothing.
    pub bytes: u8,
    /// The argument that this is to be multiplied by.
    pub count: u8,
    /// The argument that is memory to be given back.
    pub freed: u8,
    /// The argument that says where to write the address; none: it is returned.
    pub out: u8,
    /// Whether another function that has a probe does the work when there is nothing to give back.
    pub is_other_without_freed: bool,
}

impl HeapFunction {
    /// As it travels.
    #[must_use]
    pub const fn pack(self) -> u64 {
        self.bytes as u64
            | (self.count as u64) << 4
            | (self.freed as u64) << 8
            | (self.out as u64) << 12
            | (self.is_other_without_freed as u64) << 16
    }

    /// The argument that is how many bytes are wanted.
    #[must_use]
    #[inline(always)]
    pub const fn bytes_of(packed: u64) -> u64 {
        packed & 15
    }

    /// The argument that this is to be multiplied by.
    #[must_use]
    #[inline(always)]
    pub const fn count_of(packed: u64) -> u64 {
        packed >> 4 & 15
    }

    /// The argument that is memory to be given back.
    #[must_use]
    #[inline(always)]
    pub const fn freed_of(packed: u64) -> u64 {
        packed >> 8 & 15
    }

    /// The argument that says where to write the address.
    #[must_use]
    #[inline(always)]
    pub const fn out_of(packed: u64) -> u64 {
        packed >> 12 & 15
    }

    /// Whether another function does the work when there is nothing to give back.
    #[must_use]
    #[inline(always)]
    pub const fn is_other_without_freed_of(packed: u64) -> bool {
        packed >> 16 & 1 != 0
    }
}

/// Memory of a sampled allocation, while it is not given back.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct HeapKey {
    /// Where it is.
    pub address: u64,
    /// In which process.
    pub pid: u32,
    /// Always 0.
    pub reserved: u32,
}
const _: () = assert!(size_of::<HeapKey>() == 16);

/// Bytes between two samples at the most, in the mean.
pub const HEAP_MEAN_MAX: u64 = 64 << 20;

/// Parts of the mean that [`DECAY`] is told for, and how many means it goes to.
const PARTS: u64 = 16;
const MEANS: u64 = 16;

/// exp(−place / 16), in units of 2⁻³².
static DECAY: [u64; (PARTS * MEANS) as usize] = decay();

const fn decay() -> [u64; (PARTS * MEANS) as usize] {
    /// exp(−1/16), in units of 2⁻⁶⁴.
    const STEP: u128 = 0xf07d_5fde_3815_1e72;
    let mut table = [0; (PARTS * MEANS) as usize];
    let mut value: u128 = 1 << 64;
    let mut place = 0;
    while place < table.len() {
        table[place] = (value >> 32) as u64;
        value = (value * STEP) >> 64;
        place += 1;
    }
    table
}

/// The chance that an allocation of `bytes` is sampled, in units of 2⁻³²: 1 − exp(−`bytes` /
/// `mean_bytes`), as if each byte were drawn on its own. `mean_bytes` is at least 1 and at most
/// [`HEAP_MEAN_MAX`].
///
/// Without state: whoever allocates in between, on whatever CPU, changes nothing.
#[must_use]
#[inline(always)]
pub fn heap_chance(bytes: u64, mean_bytes: u64) -> u64 {
    const ONE: u64 = 1 << 32;
    if bytes >= mean_bytes * MEANS {
        return ONE;
    }
    // At most 2^30 bytes are shifted, so that none is lost.
    let Some(means) = (bytes << 32).checked_div(mean_bytes) else { return ONE };
    let place = (means >> 28) & (PARTS * MEANS - 1);
    let rest = means & ((ONE >> 4) - 1);
    // exp(−rest) by its series: what is left out is below 2⁻²⁰ of the chance.
    let square = (rest * rest) >> 32;
    let cube = (square * rest) >> 32;
    let near = ONE - rest + square / 2 - cube / 6;
    let left = if place == 0 { near } else { (DECAY[place as usize] * near) >> 32 };
    ONE - left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exp(x: f64) -> f64 {
        // `core` has none: the series, of a part small enough for it to end.
        let small = x / 1024.0;
        let mut term = 1.0;
        let mut sum = 1.0;
        for place in 1..20 {
            term *= small / f64::from(place);
            sum += term;
        }
        let mut result = sum;
        for _ in 0..10 {
            result *= result;
        }
        result
    }

    #[test]
    fn the_chance_is_that_of_bytes_drawn_one_by_one() {
        for mean in [1, 64, 4096, 512 << 10, HEAP_MEAN_MAX] {
            for sixteenth in 1..400_u64 {
                for bytes in [sixteenth, mean * sixteenth / 16, mean * sixteenth / 16 + 3] {
                    let expected = 1.0 - exp(-(bytes as f64) / mean as f64);
                    let chance = heap_chance(bytes, mean) as f64 / (1_u64 << 32) as f64;
                    let slack = 2e-5 * expected + 2.0 / (1_u64 << 32) as f64;
                    assert!(
                        (chance - expected).abs() <= slack,
                        "{bytes} of {mean}: {chance} for {expected}"
                    );
                }
            }
        }
        assert_eq!(heap_chance(u64::MAX, 4096), 1 << 32);
        assert_eq!(heap_chance(0, 4096), 0);
    }

    #[test]
    fn a_function_comes_back_as_it_went() {
        let function =
            HeapFunction { bytes: 2, count: 1, freed: 1, out: 3, is_other_without_freed: true };
        let packed = function.pack();
        assert_eq!(HeapFunction::bytes_of(packed), 2);
        assert_eq!(HeapFunction::count_of(packed), 1);
        assert_eq!(HeapFunction::freed_of(packed), 1);
        assert_eq!(HeapFunction::out_of(packed), 3);
        assert!(HeapFunction::is_other_without_freed_of(packed));
        assert_eq!(HeapFunction::bytes_of(HeapFunction::default().pack()), 0);
    }
}
