//! One ring, and how far this reader is in it.

use super::{layout::Layout, map::Map};
use hz_probes_ebpf::{
    Loss,
    runtime_ring::{RingHeader, RingSlot},
};
use std::{
    mem::offset_of,
    sync::atomic::{AtomicU64, Ordering, fence},
};

/// Records that are copied at once: 16 KiB, which stays in the first cache.
pub(super) const CHUNK: usize = 512;

/// No ring has had more records; a head beyond is a lie.
const HEAD_MAX: u64 = 1 << 62;

/// A head that moves on by more between two looks is a lie: nobody writes 4 billion records in the
/// time.
const JUMP_MAX: u64 = 1 << 32;

/// A record's four words.
pub(super) type Record = [u64; size_of::<RingSlot>() / 8];

/// Who a ring says writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    /// In the process's own pid namespace.
    pub(super) tid: u32,
    pub(super) worker: u32,
    /// The first record that is its own.
    pub(super) from: u64,
}

/// What one look at a ring gave.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// Records that were overwritten before they were read.
    pub(super) lost: u64,
    /// Number of the first record that was copied.
    pub(super) first: u64,
}

/// A reader of one ring.
#[derive(Debug)]
pub(super) struct Ring {
    at: u64,
    slots_at: u64,
    slots: u64,
    cursor: u64,
    pub(super) loss: Loss,
}

impl Ring {
    /// Begins with the oldest record that the ring holds.
    pub(super) fn new(map: &Map, layout: &Layout, place: u32) -> Option<Self> {
        let at = layout.rings.at(place)?;
        let slots_at = at + size_of::<RingHeader>() as u64;
        let slots = u64::from(layout.ring_slots);
        let mut ring = Self { at, slots_at, slots, cursor: 0, loss: Loss::default() };
        ring.cursor = ring.oldest(ring.head(map));
        Some(ring)
    }

    /// Records written so far.
    #[inline]
    pub(super) fn head(&self, map: &Map) -> u64 {
        map.word(self.at).map_or(0, |head| head.load(Ordering::Acquire)).min(HEAD_MAX)
    }

    /// The oldest record that is whole when `head` records were written: the slot of the one before
    /// may be in use for the next.
    const fn oldest(&self, head: u64) -> u64 {
        (head + 1).saturating_sub(self.slots)
    }

    /// Number of the next record to be read.
    pub(super) const fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Who writes the ring; `None` if that changes just now, or nobody does.
    pub(super) fn owner(&self, map: &Map) -> Option<Owner> {
        let tid_at = map.half(self.at + offset_of!(RingHeader, owner_tid) as u64)?;
        let tid = tid_at.load(Ordering::Acquire);
        let worker = map.load_half(self.at + offset_of!(RingHeader, worker) as u64);
        let from = map.load(self.at + offset_of!(RingHeader, owner_from) as u64);
        fence(Ordering::Acquire);
        let is_sound = tid != 0 && tid_at.load(Ordering::Relaxed) == tid;
        is_sound.then_some(Owner { tid, worker, from })
    }

    /// Stamp of the oldest record that is still to be read.
    pub(super) fn next_stamp(&self, map: &Map) -> Option<u64> {
        let is_there = self.cursor < self.head(map);
        is_there.then(|| map.load(self.slot_at(self.cursor)))
    }

    const fn slot_at(&self, record: u64) -> u64 {
        self.slots_at + record % self.slots * size_of::<RingSlot>() as u64
    }

    /// Copies records up to number `until` into `chunk`, which is emptied first.
    ///
    /// `until` is after the cursor, and was the head before. Each call moves on by at least one
    /// record, or is the last one, `None`: a process cannot keep its reader here.
    pub(super) fn copy(&mut self, map: &Map, until: u64, chunk: &mut Vec<Record>) -> Option<Look> {
        chunk.clear();
        let head = self.head(map);
        if head <= self.cursor || head - self.cursor > JUMP_MAX {
            self.start_over(head);
            return None;
        }
        let from = self.cursor;
        let start = from.max(self.oldest(head));
        let end = until.min(head).min(start + CHUNK as u64).max(start);
        self.copy_slots(map, start, end, chunk);
        // What the copy was of is sound only as far as it has not been overwritten since.
        fence(Ordering::Acquire);
        let head = map.load(self.at).min(HEAD_MAX);
        if head < end || head - from > JUMP_MAX {
            chunk.clear();
            self.start_over(head);
            return None;
        }
        let first = start.max(self.oldest(head));
        let torn = usize::try_from(first - start).unwrap_or(CHUNK).min(chunk.len());
        chunk.drain(..torn);
        self.cursor = first + chunk.len() as u64;
        let lost = first - from;
        self.loss.seen += self.cursor - from;
        self.loss.ring_full += lost;
        Some(Look { lost, first })
    }

    fn copy_slots(&self, map: &Map, start: u64, end: u64, chunk: &mut Vec<Record>) {
        let place = start % self.slots;
        // The slots up to the ring's end, then those from its beginning.
        let before_end = (end - start).min(self.slots - place);
        copy_words(map, self.slot_at(start), before_end, chunk);
        copy_words(map, self.slots_at, end - start - before_end, chunk);
    }

    /// Goes to the end after a head that cannot be.
    fn start_over(&mut self, head: u64) {
        self.cursor = head;
        self.loss.seen += 1;
        self.loss.read_failed += 1;
    }
}

/// Appends `count` records that lie behind each other.
fn copy_words(map: &Map, at: u64, count: u64, chunk: &mut Vec<Record>) {
    let first = usize::try_from(at / 8).unwrap_or(usize::MAX);
    let words = usize::try_from(count).unwrap_or(0) * size_of::<Record>() / 8;
    let words = first.checked_add(words).and_then(|end| map.words().get(first..end));
    let (records, _) = words.unwrap_or_default().as_chunks::<4>();
    chunk.extend(records.iter().map(copy_record));
}

fn copy_record(words: &[AtomicU64; 4]) -> Record {
    words.each_ref().map(|word| word.load(Ordering::Relaxed))
}
