//! Records by column: what is alike lies together, so that it compresses.
//!
//! A payload is: number of layouts (u32), with [`LEAVES_OUT`]; per layout kind (u16), record length
//! (u16) and number of records (u32); the layout of every record in order, a byte each; then every
//! layout's records. Before that, each record's time is replaced by its distance from the record
//! before it in the chunk, whatever its layout; the first one's distance is from the header's
//! `first_ns`.
//!
//! A layout's records are: a byte for each eight bytes of a record, whose bits say in which of them
//! the records differ; the first record; then those bytes of all records, the first of all of them, the second of all of
//! them, … Most bytes of a chunk are the same in all records of a layout: what is left out need not be compressed, which
//! took most of the recorder's time. (Without [`LEAVES_OUT`], as version 1 had it, all columns follow each other.)

mod encode;
mod transpose;

pub(super) use encode::Encoder;

use super::{Batch, PAYLOAD_MAX_BYTES};
use transpose::{WORD, pull_columns, word_at};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// In the number of layouts: columns that are the same in all records of a layout are left out.
const LEAVES_OUT: u32 = 1 << 31;

/// Records of one kind and length.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
struct Layout {
    kind: u16,
    record_bytes: u16,
    count: u32,
}

/// Every record begins with a header of this length; lengths are multiples of 8.
const HEADER_BYTES: usize = size_of::<hz_probes_ebpf::Header>();

/// Records of a chunk, in their order, times whole again.
#[derive(Debug, Default)]
pub(super) struct Rows {
    bytes: Vec<u8>,
    /// Start, length and time of every record, in the order of time.
    places: Vec<Place>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    time_ns: u64,
    start: u32,
    len: u32,
}

impl Rows {
    pub(super) const fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn time_ns(&self, index: usize) -> Option<u64> {
        self.places.get(index).map(|place| place.time_ns)
    }

    pub(super) fn record(&self, index: usize) -> &[u8] {
        let place = self.places[index];
        &self.bytes[place.start as usize..][..place.len as usize]
    }

    /// Of the records of all layouts, which `cursors` says where to find, those of `sequence`.
    fn in_sequence(
        bytes: Vec<u8>,
        sequence: &[u8],
        mut cursors: Vec<(usize, usize, usize)>,
        first_ns: u64,
    ) -> Option<Self> {
        let mut rows = Self { bytes, places: Vec::with_capacity(sequence.len()) };
        let mut time_ns = first_ns;
        for place in sequence {
            let (cursor, width, end) = cursors.get_mut(usize::from(*place))?;
            if cursor == end {
                return None;
            }
            let record = &mut rows.bytes[*cursor..*cursor + *width];
            time_ns = time_ns.wrapping_add(super::writer::time_of(record));
            record[..8].copy_from_slice(&time_ns.to_le_bytes());
            let (start, len) = (u32::try_from(*cursor).ok()?, u32::try_from(*width).ok()?);
            rows.places.push(Place { time_ns, start, len });
            *cursor += *width;
        }
        rows.sort();
        Some(rows)
    }

    /// Puts records in the order of their times. They nearly are: only a record that an interrupt
    /// wrote in the middle of another comes before it.
    fn sort(&mut self) {
        if !self.places.is_sorted_by_key(|place| place.time_ns) {
            self.places.sort_by_key(|place| place.time_ns);
        }
    }
}

/// Reads columns back. `None` if the payload is not what [`Encoder`] writes; never panics.
pub(super) fn decode(payload: &[u8], first_ns: u64) -> Option<Rows> {
    let (count, mut rest) = u32::read_from_prefix(payload).ok()?;
    let leaves_out = count & LEAVES_OUT != 0;
    let mut layouts = Vec::new();
    let (mut total, mut total_bytes) = (0_usize, 0_usize);
    for _ in 0..(count & !LEAVES_OUT).min(256) {
        let (layout, after) = Layout::read_from_prefix(rest).ok()?;
        let width = usize::from(layout.record_bytes);
        if width < HEADER_BYTES || width % WORD != 0 {
            return None;
        }
        total = total.checked_add(layout.count as usize)?;
        total_bytes = total_bytes.checked_add(width.checked_mul(layout.count as usize)?)?;
        layouts.push(layout);
        rest = after;
    }
    if total_bytes > PAYLOAD_MAX_BYTES {
        return None;
    }
    let (sequence, mut rest) = rest.split_at_checked(total)?;
    let mut bytes = Vec::with_capacity(total_bytes);
    let mut cursors = Vec::with_capacity(layouts.len());
    for layout in &layouts {
        let begin = bytes.len();
        rest = read_layout(*layout, leaves_out, rest, &mut bytes)?;
        cursors.push((begin, usize::from(layout.record_bytes), bytes.len()));
    }
    Rows::in_sequence(bytes, sequence, cursors, first_ns)
}

/// Appends the records of a layout, by row, and returns what follows their columns.
fn read_layout<'a>(
    layout: Layout,
    leaves_out: bool,
    rest: &'a [u8],
    out: &mut Vec<u8>,
) -> Option<&'a [u8]> {
    let (width, count) = (usize::from(layout.record_bytes), layout.count as usize);
    let start = out.len();
    let (masks, first, mut rest) = if leaves_out {
        let (masks, rest) = rest.split_at_checked(width / WORD)?;
        let (first, rest) = rest.split_at_checked(width)?;
        (Some(masks), first, rest)
    } else {
        (None, &[][..], rest)
    };
    match masks {
        Some(_) => (0..count).for_each(|_| out.extend_from_slice(first)),
        None => out.resize(start + width * count, 0),
    }
    for word in 0..width / WORD {
        let mask = masks.map_or(u8::MAX, |masks| masks[word]);
        if mask == 0 {
            continue;
        }
        let (columns, after) = rest.split_at_checked(mask.count_ones() as usize * count)?;
        rest = after;
        if count > 0 {
            let constant = masks.map_or(0, |_| word_at(first, word * WORD));
            let rows = &mut out[start + word * WORD..];
            pull_columns(columns, count, (mask, constant), rows, width);
        }
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Records of a few kinds and lengths, some of their words alike.
    fn records() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let word = prop_oneof![Just(0), Just(5), any::<u64>()];
        let record = (1..4_u16, 3_usize..8, proptest::collection::vec(word, 8), any::<u64>());
        let record = record.prop_map(|(kind, words, mut all, time_ns)| {
            all[0] = time_ns;
            all[1] = all[1] & !0xffff | u64::from(kind);
            all[..words].iter().flat_map(|word| word.to_le_bytes()).collect()
        });
        proptest::collection::vec(record, 0..60)
    }

    proptest! {
        #[test]
        fn columns_become_the_records_they_were(records in records(), first_ns in any::<u64>()) {
            let mut encoder = Encoder::default();
            // What the encoder keeps of a batch is not in the next.
            for records in [&records[..], &records[records.len() / 2..]] {
                let mut batch = Batch::new(0);
                prop_assert!(records.iter().all(|record| batch.push(record)));
                let rows = decode(encoder.encode(&batch, first_ns), first_ns).unwrap();
                let mut expected: Vec<&[u8]> = batch.records().collect();
                expected.sort_by_key(|record| super::super::writer::time_of(record));
                let read: Vec<&[u8]> = (0..rows.len()).map(|index| rows.record(index)).collect();
                prop_assert_eq!(read, expected);
            }
        }

        #[test]
        fn any_payload_decodes_or_is_refused(payload in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode(&payload, 0);
        }

        #[test]
        fn a_damaged_payload_decodes_or_is_refused(records in records(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut batch = Batch::new(0);
            records.iter().for_each(|record| assert!(batch.push(record)));
            let mut payload = Encoder::default().encode(&batch, 0).to_vec();
            let at = at.index(payload.len());
            payload[at] = byte;
            let _ = decode(&payload, 0);
            let _ = decode(&payload[..at], 0);
        }
    }

    #[test]
    fn a_payload_that_says_little_cannot_become_much() {
        let records = 1_u32 << 20;
        let layout = Layout { kind: 1, record_bytes: 65_528, count: records };
        let mut payload = (1 | LEAVES_OUT).to_le_bytes().to_vec();
        payload.extend_from_slice(layout.as_bytes());
        payload.resize(payload.len() + records as usize + 2 * 65_528, 0);
        assert!(decode(&payload, 0).is_none());
    }

    #[test]
    fn what_version_1_wrote_is_read() {
        let mut payload = 1_u32.to_le_bytes().to_vec();
        payload.extend_from_slice(Layout { kind: 1, record_bytes: 24, count: 2 }.as_bytes());
        payload.extend_from_slice(&[0, 0]);
        payload.extend((0..24).flat_map(|column: u8| [column + 1, column + 101]));
        let rows = decode(&payload, 0).unwrap();
        assert_eq!(rows.record(0)[8..], (9..=24).collect::<Vec<u8>>());
        assert_eq!(rows.record(1)[8..], (109..=124).collect::<Vec<u8>>());
    }
}
