//! What a pool says of itself.

use super::mapping::Backing;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::ops::Range;

/// Counts of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// By size class, the smallest first.
    pub classes: Vec<ClassStats>,
    /// Buffers out, in parts or whole.
    pub in_use: u64,
    /// Bytes of their classes.
    pub in_use_bytes: u64,
    /// Free blocks that the threads' caches hold, bytes.
    pub cached_bytes: u64,
    /// Buffers ever taken.
    pub taken: u64,
    /// Wishes in the queue.
    pub waiting: usize,
    /// Wishes that ever had to queue.
    pub waits: u64,
    /// Chunks with memory behind them.
    pub chunks: usize,
    /// Of them, huge pages of the machine's reserve.
    pub chunks_hugetlb: usize,
    /// Of them, such that the kernel was asked to make one huge page of.
    pub chunks_transparent: usize,
    /// Of them, of small pages.
    pub chunks_small: usize,
    /// Chunks that there may be.
    pub chunks_max: usize,
    /// Times that the kernel had no memory for a chunk.
    pub refused_chunks: u64,
    /// Bytes that are in huge pages now, of either kind, by `/proc/self/smaps`; `None`: it cannot
    /// be read.
    pub huge_bytes: Option<u64>,
}

/// Counts of one size class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClassStats {
    /// Bytes of a block.
    pub bytes: usize,
    /// Buffers out.
    pub in_use: u64,
    /// Free blocks in caches.
    pub cached: u64,
}

/// How many of `backings` are `backing`.
pub(super) fn count(backings: &[Backing], backing: Backing) -> usize {
    backings.iter().filter(|each| **each == backing).count()
}

/// Bytes in huge pages within `addresses`, which no foreign mapping overlaps.
pub(super) fn huge_bytes(addresses: &Range<usize>) -> io::Result<u64> {
    sum_of_huge(BufReader::new(File::open("/proc/self/smaps")?), addresses)
}

fn sum_of_huge(smaps: impl BufRead, addresses: &Range<usize>) -> io::Result<u64> {
    let mut kib = 0;
    let mut is_ours = false;
    for line in smaps.lines() {
        let line = line?;
        if let Some(start) = mapping_start(&line) {
            is_ours = addresses.contains(&start);
        } else if is_ours && let Some(value) = huge_kib(&line) {
            kib += value;
        }
    }
    Ok(kib << 10)
}

/// Of `7f2c4a400000-7f2c4a600000 rw-p 00000000 00:00 0`, the first.
fn mapping_start(line: &str) -> Option<usize> {
    let (start, rest) = line.split_once('-')?;
    if rest.is_empty() { None } else { usize::from_str_radix(start, 16).ok() }
}

/// Of `AnonHugePages:      2048 kB`, the number.
fn huge_kib(line: &str) -> Option<u64> {
    let value =
        line.strip_prefix("AnonHugePages:").or_else(|| line.strip_prefix("Private_Hugetlb:"))?;
    value.trim().strip_suffix("kB")?.trim_end().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_huge_pages_of_the_pool_are_counted() {
        let smaps = "\
7f0000000000-7f0000200000 rw-p 00000000 00:00 0\n\
AnonHugePages:      2048 kB\n\
7f0000400000-7f0000600000 rw-p 00000000 00:00 0\n\
Size:               2048 kB\n\
AnonHugePages:      2048 kB\n\
VmFlags: rd wr mr mw me nr hg\n\
7f0000600000-7f0000800000 rw-p 00000000 00:10 7 /anon_hugepage (deleted)\n\
Private_Hugetlb:    2048 kB\n\
7f0000800000-7f0000a00000 rw-p 00000000 00:00 0\n\
AnonHugePages:      2048 kB\n";
        let addresses = 0x7f00_0040_0000..0x7f00_0080_0000;
        assert_eq!(sum_of_huge(smaps.as_bytes(), &addresses).unwrap(), 4 << 20);
    }
}
