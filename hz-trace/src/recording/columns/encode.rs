//! Records to columns.

use super::{
    Batch, LEAVES_OUT, Layout,
    transpose::{WORD, push_columns, word_at},
};
use crate::recording::writer::time_of;
use zerocopy::IntoBytes as _;

/// Kinds are small numbers: where the layout of each was found last.
const PLACES: usize = 256;

/// Writes batches as columns; kept for its memory.
#[derive(Debug)]
pub(in crate::recording) struct Encoder {
    /// Of this batch the first `used`; of batches before it the rest.
    groups: Vec<Group>,
    used: usize,
    places: [u8; PLACES],
    sequence: Vec<u8>,
    payload: Vec<u8>,
}

/// The records of one layout.
#[derive(Debug, Default)]
struct Group {
    layout: Layout,
    /// Where each begins in the batch.
    starts: Vec<u32>,
    /// Distance of each in time from the record before it in the batch, nanoseconds.
    distances_ns: Vec<u64>,
    /// By word: the bits in which the records differ.
    differs: Vec<u64>,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            groups: Vec::new(),
            used: 0,
            places: [0; PLACES],
            sequence: Vec::new(),
            payload: Vec::new(),
        }
    }
}

impl Encoder {
    /// Writes a batch as columns, times relative to `first_ns`.
    pub(in crate::recording) fn encode(&mut self, batch: &Batch, first_ns: u64) -> &[u8] {
        self.used = 0;
        self.sequence.clear();
        let (mut start, mut previous_ns) = (0, first_ns);
        for record in batch.records() {
            let kind = u16::from_le_bytes([record[8], record[9]]);
            let record_bytes = u16::try_from(record.len()).unwrap_or(u16::MAX);
            let place = self.place_of(kind, record_bytes);
            let time_ns = time_of(record);
            let group = &mut self.groups[place];
            group.starts.push(start);
            group.distances_ns.push(time_ns.wrapping_sub(previous_ns));
            self.sequence.push(u8::try_from(place).unwrap_or(u8::MAX));
            previous_ns = time_ns;
            start += u32::from(record_bytes);
        }
        self.write(batch)
    }

    /// Where the group of a layout is.
    #[inline]
    fn place_of(&mut self, kind: u16, record_bytes: u16) -> usize {
        let hint = &mut self.places[usize::from(kind) % PLACES];
        let is_it =
            |group: &Group| group.layout.kind == kind && group.layout.record_bytes == record_bytes;
        let used = &self.groups[..self.used];
        if used.get(usize::from(*hint)).is_some_and(is_it) {
            return usize::from(*hint);
        }
        let place = used.iter().position(is_it).unwrap_or(self.used);
        *hint = u8::try_from(place).unwrap_or(u8::MAX);
        if place == self.used {
            self.begin_group(Layout { kind, record_bytes, count: 0 });
        }
        place
    }

    fn begin_group(&mut self, layout: Layout) {
        if self.used == self.groups.len() {
            self.groups.push(Group::default());
        }
        let group = &mut self.groups[self.used];
        group.layout = layout;
        group.starts.clear();
        group.distances_ns.clear();
        self.used += 1;
    }

    fn write(&mut self, batch: &Batch) -> &[u8] {
        let Self { groups, used, sequence, payload, .. } = self;
        let groups = &mut groups[..*used];
        payload.clear();
        let count = u32::try_from(groups.len()).unwrap_or(u32::MAX) | LEAVES_OUT;
        payload.extend_from_slice(&count.to_le_bytes());
        for group in &mut *groups {
            group.layout.count = u32::try_from(group.starts.len()).unwrap_or(u32::MAX);
            payload.extend_from_slice(group.layout.as_bytes());
        }
        payload.extend_from_slice(sequence);
        groups.iter_mut().for_each(|group| group.write(&batch.bytes, payload));
        payload
    }
}

impl Group {
    /// Appends what differs, the first record, and the columns that differ.
    fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.compare(bytes);
        let masks = self.differs.iter().map(|bits| mask_of(*bits));
        out.extend(masks.clone());
        let first = self.starts.first().map_or(0, |start| *start as usize);
        let first_ns = self.distances_ns.first().copied().unwrap_or(0);
        out.extend_from_slice(&first_ns.to_le_bytes());
        out.extend_from_slice(&bytes[first + WORD..first + usize::from(self.layout.record_bytes)]);
        for (word, mask) in masks.enumerate().filter(|(_, mask)| *mask != 0) {
            let (starts, count) = (&self.starts, self.starts.len());
            if word == 0 {
                push_columns(|row| self.distances_ns[row], count, mask, out);
            } else {
                let at = |row: usize| word_at(bytes, starts[row] as usize + word * WORD);
                push_columns(at, count, mask, out);
            }
        }
    }

    fn compare(&mut self, bytes: &[u8]) {
        let width = usize::from(self.layout.record_bytes);
        let Self { starts, distances_ns, differs, .. } = self;
        differs.clear();
        differs.resize(width / WORD, 0);
        let words = |start: &u32| bytes[*start as usize..][..width].as_chunks::<WORD>().0;
        let Some(first) = starts.first().map(words) else { return };
        for start in &*starts {
            for ((bits, word), first) in differs.iter_mut().zip(words(start)).zip(first) {
                *bits |= u64::from_le_bytes(*word) ^ u64::from_le_bytes(*first);
            }
        }
        // Not the time itself.
        let first_ns = distances_ns[0];
        differs[0] = distances_ns.iter().fold(0, |bits, distance| bits | distance ^ first_ns);
    }
}

/// A bit for each byte that is not 0.
fn mask_of(bits: u64) -> u8 {
    let bytes = bits.to_le_bytes().into_iter().enumerate();
    bytes.fold(0, |mask, (place, byte)| mask | u8::from(byte != 0) << place)
}
