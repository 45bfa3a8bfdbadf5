//! Where everything is in the shared memory, checked once and then no longer taken from it.

use super::{error::AttachError, map::Map};
use hz_probes_ebpf::runtime_ring::{
    CLOCK_PAIRS, ClockPair, DirectorySlot, LEASES, Lease, RING_MAGIC, RING_VERSION, RingHeader,
    RingPage, RingSlot, SiteSlot, StackSlot, TextSlot,
};
use std::{mem::offset_of, sync::atomic::Ordering};

/// More rings than any process has threads that emit.
const RINGS_MAX: u32 = 4096;
/// The largest ring that is read.
const RING_SLOTS_MAX: u32 = 1 << 24;
/// The largest directory or table that is read.
const SLOTS_MAX: u32 = 1 << 24;

/// Equal parts of the memory, one after the other, all within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Region {
    offset: u64,
    stride: u64,
    count: u32,
}

impl Region {
    /// Where part `index` begins.
    #[inline]
    pub(super) fn at(&self, index: u32) -> Option<u64> {
        (index < self.count).then(|| self.offset + u64::from(index) * self.stride)
    }

    pub(super) const fn count(&self) -> u32 {
        self.count
    }
}

/// A table that grows: how many of its parts are used is read anew each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Growing {
    region: Region,
    used_at: u64,
}

impl Growing {
    /// Parts that are used now.
    #[inline]
    pub(super) fn used(&self, map: &Map) -> u32 {
        let used = map.half(self.used_at).map_or(0, |half| half.load(Ordering::Acquire));
        used.min(self.region.count)
    }

    #[inline]
    pub(super) fn at(&self, index: u32) -> Option<u64> {
        self.region.at(index)
    }
}

/// What the first page says, checked against the length of the memory.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) pid: u32,
    pub(super) start_ns: u64,
    pub(super) clock: u32,
    pub(super) flight_kinds: u64,
    pub(super) offered_kinds: u64,
    pub(super) alloc_mean_bytes: u64,
    pub(super) leases: Region,
    pub(super) pairs: Region,
    pub(super) rings: Region,
    pub(super) ring_slots: u32,
    pub(super) directory: Growing,
    pub(super) texts: Growing,
    pub(super) sites: Growing,
    pub(super) stacks: Growing,
}

/// A field of the page, by name.
macro_rules! field {
    ($field:ident) => {
        offset_of!(RingPage, $field) as u64
    };
}

pub(super) const WORKERS: u64 = field!(workers);
pub(super) const LEASES_CHANGED: u64 = field!(leases_changed);
pub(super) const PAIRS_WRITTEN: u64 = field!(pairs_written);
pub(super) const CLOCK_ERROR: u64 = field!(clock_error_ns);
pub(super) const DIRECTORY_OVERFLOW: u64 = field!(directory_overflow);
pub(super) const RINGLESS_EVENTS: u64 = field!(ringless_events);
pub(super) const TABLE_OVERFLOW: u64 = field!(table_overflow);

impl Layout {
    /// Reads the page of process `pid`.
    pub(super) fn read(map: &Map, pid: u32) -> Result<Self, AttachError> {
        if map.bytes() < size_of::<RingPage>() as u64 {
            return Err(AttachError::Malformed { pid, what: "it is shorter than its first page" });
        }
        // Written last: behind it, everything below is there.
        let magic = map.word(field!(magic)).map_or(0, |word| word.load(Ordering::Acquire));
        match magic {
            RING_MAGIC => {}
            0 => return Err(AttachError::NotReady { pid }),
            _ => {
                return Err(AttachError::Malformed {
                    pid,
                    what: "it does not begin with hz-ring1",
                });
            }
        }
        let version = map.load_half(field!(version));
        if version != RING_VERSION {
            return Err(AttachError::Version { pid, version });
        }
        Self::read_places(map).map_err(|what| AttachError::Malformed { pid, what })
    }

    fn read_places(map: &Map) -> Result<Self, &'static str> {
        let at = |field| map.load(field);
        let ring_slots = map.load_half(field!(ring_slots));
        if !ring_slots.is_power_of_two() || ring_slots > RING_SLOTS_MAX {
            return Err("its rings' length is no power of two up to 16,777,216");
        }
        if at(field!(bytes)) > map.bytes() {
            return Err("it says to be longer than it is");
        }
        let ring_bytes =
            size_of::<RingHeader>() as u64 + u64::from(ring_slots) * size_of::<RingSlot>() as u64;
        let (rings, stride) = (map.load_half(field!(rings)), at(field!(ring_stride)));
        if rings > RINGS_MAX || stride < ring_bytes {
            return Err("its rings are too many, or lie in each other");
        }
        let growing = |place: [u64; 3], slot_bytes| growing(map, place, slot_bytes);
        Ok(Self {
            pid: map.load_half(field!(pid)),
            start_ns: at(field!(start_ns)),
            clock: map.load_half(field!(clock)),
            flight_kinds: at(field!(flight_kinds)),
            offered_kinds: at(field!(offered_kinds)),
            alloc_mean_bytes: at(field!(alloc_mean_bytes)),
            leases: region(
                map,
                at(field!(leases_offset)),
                size_of::<Lease>() as u64,
                LEASES as u32,
            )?,
            pairs: region(
                map,
                at(field!(pairs_offset)),
                size_of::<ClockPair>() as u64,
                CLOCK_PAIRS as u32,
            )?,
            rings: region(map, at(field!(rings_offset)), stride, rings)?,
            ring_slots,
            directory: growing(
                [field!(directory_offset), field!(directory_slots), field!(directory_used)],
                size_of::<DirectorySlot>(),
            )?,
            texts: growing(
                [field!(texts_offset), field!(texts_slots), field!(texts_used)],
                size_of::<TextSlot>(),
            )?,
            sites: growing(
                [field!(sites_offset), field!(sites_slots), field!(sites_used)],
                size_of::<SiteSlot>(),
            )?,
            stacks: growing(
                [field!(stacks_offset), field!(stacks_slots), field!(stacks_used)],
                size_of::<StackSlot>(),
            )?,
        })
    }
}

/// `count` parts of `stride` bytes from `offset` on, if they are within the memory.
fn region(map: &Map, offset: u64, stride: u64, count: u32) -> Result<Region, &'static str> {
    let end = u64::from(count).checked_mul(stride).and_then(|bytes| bytes.checked_add(offset));
    if end.is_none_or(|end| end > map.bytes()) {
        return Err("a part of it lies behind its end");
    }
    if !offset.is_multiple_of(8) || !stride.is_multiple_of(8) {
        return Err("a part of it is not aligned");
    }
    Ok(Region { offset, stride, count })
}

/// The table whose offset, length and use are in these fields.
fn growing(map: &Map, place: [u64; 3], slot_bytes: usize) -> Result<Growing, &'static str> {
    let [offset_at, slots_at, used_at] = place;
    let count = map.load_half(slots_at);
    if count > SLOTS_MAX {
        return Err("a table has more than 16,777,216 slots");
    }
    let region = region(map, map.load(offset_at), slot_bytes as u64, count)?;
    Ok(Growing { region, used_at })
}
