//! The shared memory's parts as atomics: what `hz_probes_ebpf::runtime_ring` lays out, word by word.

use super::atomic::{AtomicU32, AtomicU64, Futex};

/// As `RingPage`.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Page {
    pub(super) magic: AtomicU64,
    pub(super) version: AtomicU32,
    pub(super) pid: AtomicU32,
    pub(super) bytes: AtomicU64,
    pub(super) start_ns: AtomicU64,
    pub(super) clock: AtomicU32,
    pub(super) workers: AtomicU32,
    pub(super) rings: AtomicU32,
    pub(super) ring_slots: AtomicU32,
    pub(super) leases_offset: AtomicU64,
    pub(super) pairs_offset: AtomicU64,
    pub(super) rings_offset: AtomicU64,
    pub(super) ring_stride: AtomicU64,
    pub(super) directory_offset: AtomicU64,
    pub(super) directory_slots: AtomicU32,
    pub(super) directory_used: AtomicU32,
    pub(super) texts_offset: AtomicU64,
    pub(super) texts_slots: AtomicU32,
    pub(super) texts_used: AtomicU32,
    pub(super) sites_offset: AtomicU64,
    pub(super) sites_slots: AtomicU32,
    pub(super) sites_used: AtomicU32,
    pub(super) stacks_offset: AtomicU64,
    pub(super) stacks_slots: AtomicU32,
    pub(super) stacks_used: AtomicU32,
    pub(super) kinds: AtomicU64,
    pub(super) flight_kinds: AtomicU64,
    pub(super) offered_kinds: AtomicU64,
    pub(super) alloc_mean_bytes: AtomicU64,
    pub(super) clock_error_ns: AtomicU64,
    pub(super) directory_overflow: AtomicU64,
    pub(super) ringless_events: AtomicU64,
    pub(super) table_overflow: AtomicU64,
    pub(super) leases_changed: Futex,
    pub(super) pairs_written: AtomicU32,
}

/// As `Lease`.
#[repr(C)]
#[derive(Debug)]
pub(super) struct LeaseWords {
    pub(super) pid: AtomicU32,
    pub(super) reader: AtomicU32,
    pub(super) start_ticks: AtomicU64,
    pub(super) kinds: AtomicU64,
    pub(super) deadline_ns: AtomicU64,
    pub(super) unused: [AtomicU64; 4],
}

/// As `ClockPair`.
#[repr(C)]
#[derive(Debug)]
pub(super) struct PairWords {
    pub(super) stamp: AtomicU64,
    pub(super) monotonic_ns: AtomicU64,
}

/// As `RingHeader`.
#[repr(C)]
#[derive(Debug)]
pub(super) struct HeaderWords {
    pub(super) head: AtomicU64,
    pub(super) pad: [AtomicU64; 7],
    pub(super) owner_tid: AtomicU32,
    pub(super) worker: AtomicU32,
    pub(super) owner_from: AtomicU64,
    pub(super) reserved: [AtomicU64; 6],
}

/// As `RingSlot`: `stamp`, `kind | aux << 16 | arg << 32`, `task`, `value`.
#[repr(C)]
#[derive(Debug)]
pub(super) struct RecordWords(pub(super) [AtomicU64; 4]);

/// As `DirectorySlot`.
#[repr(C)]
#[derive(Debug)]
pub(super) struct TaskWords {
    pub(super) seq: AtomicU32,
    pub(super) site: AtomicU32,
    pub(super) task: AtomicU64,
    pub(super) parent: AtomicU64,
    pub(super) spawned: AtomicU64,
    pub(super) future: AtomicU64,
    pub(super) priority: AtomicU32,
    pub(super) name: AtomicU32,
    pub(super) unused: [AtomicU64; 2],
    pub(super) state: AtomicU64,
    pub(super) polls: AtomicU64,
    pub(super) last_poll: AtomicU64,
    pub(super) wait: AtomicU64,
    pub(super) wait_value: AtomicU64,
    pub(super) woken: AtomicU64,
    pub(super) idle: [AtomicU64; 2],
}

/// As `TextSlot`.
#[repr(C)]
#[derive(Debug)]
pub(super) struct TextWords {
    pub(super) bytes: AtomicU32,
    pub(super) text: [AtomicU32; 31],
}

/// As `SiteSlot`.
#[repr(C)]
#[derive(Debug)]
pub(super) struct SiteWords {
    pub(super) name: AtomicU32,
    pub(super) file: AtomicU32,
    pub(super) line: AtomicU32,
    pub(super) column: AtomicU32,
    pub(super) future: AtomicU32,
    pub(super) future_bytes: AtomicU32,
    pub(super) reserved: AtomicU64,
}

/// As `StackSlot`.
#[repr(C)]
#[derive(Debug)]
pub(super) struct StackWords {
    pub(super) frames: AtomicU32,
    pub(super) is_cut: AtomicU32,
    pub(super) addresses: [AtomicU64; 30],
    pub(super) hash: AtomicU64,
}

/// Says to the compiler that the two have the same fields at the same places.
#[cfg(not(hz_loom))]
macro_rules! same_layout {
    ($words:ident, $contract:ident: $($field:ident)*) => {
        const _: () = {
            use hz_probes_ebpf::runtime_ring::$contract;
            use std::mem::offset_of;
            assert!(size_of::<$words>() <= size_of::<$contract>());
            assert!(align_of::<$words>() == align_of::<$contract>());
            $(assert!(offset_of!($words, $field) == offset_of!($contract, $field));)*
        };
    };
}

#[cfg(not(hz_loom))]
mod checks {
    use super::*;

    same_layout!(Page, RingPage: magic version pid bytes start_ns clock workers rings ring_slots
        leases_offset pairs_offset rings_offset ring_stride directory_offset directory_slots
        directory_used texts_offset texts_slots texts_used sites_offset sites_slots sites_used
        stacks_offset stacks_slots stacks_used kinds flight_kinds offered_kinds alloc_mean_bytes
        clock_error_ns directory_overflow ringless_events table_overflow leases_changed
        pairs_written);
    same_layout!(LeaseWords, Lease: pid reader start_ticks kinds deadline_ns unused);
    same_layout!(PairWords, ClockPair: stamp monotonic_ns);
    same_layout!(HeaderWords, RingHeader: head pad owner_tid worker owner_from reserved);
    same_layout!(TaskWords, DirectorySlot: seq site task parent spawned future priority name unused
        state polls last_poll wait wait_value woken idle);
    same_layout!(TextWords, TextSlot: bytes text);
    same_layout!(SiteWords, SiteSlot: name file line column future future_bytes reserved);
    same_layout!(StackWords, StackSlot: frames is_cut addresses hash);

    const _: () = {
        use hz_probes_ebpf::runtime_ring::{
            ClockPair, DirectorySlot, Lease, RingHeader, RingSlot, SiteSlot, StackSlot, TextSlot,
        };
        assert!(size_of::<RecordWords>() == size_of::<RingSlot>());
        assert!(size_of::<LeaseWords>() == size_of::<Lease>());
        assert!(size_of::<PairWords>() == size_of::<ClockPair>());
        assert!(size_of::<HeaderWords>() == size_of::<RingHeader>());
        assert!(size_of::<TaskWords>() == size_of::<DirectorySlot>());
        assert!(size_of::<TextWords>() == size_of::<TextSlot>());
        assert!(size_of::<SiteWords>() == size_of::<SiteSlot>());
        assert!(size_of::<StackWords>() == size_of::<StackSlot>());
    };
}
