//! Where everything is in the shared memory.

use hz_probes_ebpf::runtime_ring::{
    CLOCK_PAIRS, ClockPair, DirectorySlot, LEASES, Lease, RingHeader, RingPage, RingSlot, SiteSlot,
    StackSlot, TextSlot,
};

/// How many there are of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) rings: usize,
    pub(super) ring_slots: usize,
    pub(super) directory_slots: usize,
    pub(super) texts: usize,
    pub(super) sites: usize,
    pub(super) stacks: usize,
}

/// Rings beside those of the workers: for the threads of the blocking pool and the program's own.
const SPARE_RINGS: usize = 32;
/// Most rings that there are.
pub(super) const MAX_RINGS: usize = 4096;

impl Sizes {
    /// For `workers` threads, with slots as asked for or the defaults.
    pub(super) fn new(workers: usize, ring_slots: Option<usize>, directory: Option<usize>) -> Self {
        Self {
            rings: workers.saturating_add(SPARE_RINGS).min(MAX_RINGS),
            ring_slots: ring_slots.unwrap_or(1 << 16).clamp(1 << 6, 1 << 20).next_power_of_two(),
            directory_slots: directory.unwrap_or(1 << 16).clamp(1 << 6, 1 << 22),
            texts: 1 << 14,
            sites: 1 << 13,
            stacks: 1 << 14,
        }
    }
}

/// Offsets from the begin of the memory, bytes. Each is a multiple of the page's size, so that
/// untouched parts cost nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) sizes: Sizes,
    pub(super) leases: usize,
    pub(super) pairs: usize,
    pub(super) rings: usize,
    pub(super) ring_stride: usize,
    pub(super) directory: usize,
    pub(super) texts: usize,
    pub(super) sites: usize,
    pub(super) stacks: usize,
    pub(super) bytes: usize,
}

const PAGE_BYTES: usize = size_of::<RingPage>();

impl Layout {
    pub(super) fn new(sizes: Sizes) -> Self {
        let leases = PAGE_BYTES;
        let pairs = leases + LEASES * size_of::<Lease>();
        let rings = pages(pairs + CLOCK_PAIRS * size_of::<ClockPair>());
        let ring_stride = size_of::<RingHeader>() + sizes.ring_slots * size_of::<RingSlot>();
        let directory = pages(rings + sizes.rings * ring_stride);
        let texts = pages(directory + sizes.directory_slots * size_of::<DirectorySlot>());
        let site_table = pages(texts + sizes.texts * size_of::<TextSlot>());
        let stacks = pages(site_table + sizes.sites * size_of::<SiteSlot>());
        let bytes = pages(stacks + sizes.stacks * size_of::<StackSlot>());
        Self {
            sizes,
            leases,
            pairs,
            rings,
            ring_stride,
            directory,
            texts,
            sites: site_table,
            stacks,
            bytes,
        }
    }
}

const fn pages(bytes: usize) -> usize {
    bytes.next_multiple_of(PAGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_each_other_and_do_not_overlap() {
        let sizes = Sizes::new(2, None, None);
        let layout = Layout::new(sizes);
        let ends = [
            (layout.leases, LEASES * size_of::<Lease>(), layout.pairs),
            (layout.pairs, CLOCK_PAIRS * size_of::<ClockPair>(), layout.rings),
            (layout.rings, sizes.rings * layout.ring_stride, layout.directory),
            (layout.directory, sizes.directory_slots * size_of::<DirectorySlot>(), layout.texts),
            (layout.texts, sizes.texts * size_of::<TextSlot>(), layout.sites),
            (layout.sites, sizes.sites * size_of::<SiteSlot>(), layout.stacks),
            (layout.stacks, sizes.stacks * size_of::<StackSlot>(), layout.bytes),
        ];
        for (begin, bytes, next) in ends {
            assert!(begin + bytes <= next, "{begin} + {bytes} > {next}");
            assert_eq!(begin % 64, 0, "{begin} shares a cache line");
        }
    }

    #[test]
    fn sizes_are_rounded_and_bounded() {
        let sizes = Sizes::new(usize::MAX, Some(1000), Some(1));
        assert_eq!((sizes.rings, sizes.ring_slots, sizes.directory_slots), (MAX_RINGS, 1024, 64));
    }
}
