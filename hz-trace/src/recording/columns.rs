//! Records by column: what is alike lies together, so that it compresses.
//!
//! A payload is: number of layouts (u32); per layout kind (u16), record length (u16) and number
//! of records (u32); the layout of every record in order, a byte each; then every layout's
//! records transposed, the first byte of all of them, the second byte of all of them, … Before
//! that, each record's time is replaced by its distance from the record before it in the chunk,
//! whatever its layout; the first one's distance is from the header's `first_ns`.

use super::{Batch, PAYLOAD_MAX_BYTES};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Records of one kind and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Layout {
    kind: u16,
    record_bytes: u16,
    count: u32,
}

/// Every record begins with a header of this length; lengths are multiples of 8.
const HEADER_BYTES: usize = size_of::<hz_probes_ebpf::Header>();

/// Writes a batch as columns, times relative to `first_ns`.
pub(super) fn encode(batch: &Batch, first_ns: u64) -> Vec<u8> {
    let mut layouts: Vec<(Layout, Vec<u8>)> = Vec::new();
    let mut sequence = Vec::with_capacity(batch.len());
    let mut previous_ns = first_ns;
    for record in batch.records() {
        let kind = u16::from_le_bytes([record[8], record[9]]);
        let record_bytes = u16::try_from(record.len()).unwrap_or(u16::MAX);
        let place = layouts
            .iter()
            .position(|(each, _)| each.kind == kind && each.record_bytes == record_bytes)
            .unwrap_or_else(|| {
                layouts.push((Layout { kind, record_bytes, count: 0 }, Vec::new()));
                layouts.len() - 1
            });
        let (layout, rows) = &mut layouts[place];
        layout.count += 1;
        sequence.push(u8::try_from(place).unwrap_or(u8::MAX));
        let time_ns = super::writer::time_of(record);
        rows.extend_from_slice(&time_ns.wrapping_sub(previous_ns).to_le_bytes());
        rows.extend_from_slice(&record[8..]);
        previous_ns = time_ns;
    }
    let mut payload = Vec::with_capacity(batch.bytes() + sequence.len() + 64);
    payload.extend_from_slice(&u32::try_from(layouts.len()).unwrap_or(u32::MAX).to_le_bytes());
    for (layout, _) in &layouts {
        payload.extend_from_slice(layout.as_bytes());
    }
    payload.extend_from_slice(&sequence);
    for (layout, rows) in &layouts {
        transpose(rows, usize::from(layout.record_bytes), &mut payload);
    }
    payload
}

/// Appends `rows` to `out`, by column, eight by eight bytes at a time: four times as fast as byte by
/// byte.
fn transpose(rows: &[u8], width: usize, out: &mut Vec<u8>) {
    let start = out.len();
    let count = rows.len() / width;
    out.resize(start + rows.len(), 0);
    let columns = &mut out[start..];
    let whole = count / 8 * 8;
    for column in (0..width).step_by(8) {
        for row in (0..whole).step_by(8) {
            let mut block = [0_u64; 8];
            for (offset, word) in block.iter_mut().enumerate() {
                *word = word_at(rows, (row + offset) * width + column);
            }
            for (offset, word) in transpose_block(block).iter().enumerate() {
                let at = (column + offset) * count + row;
                columns[at..at + 8].copy_from_slice(&word.to_le_bytes());
            }
        }
    }
    for row in whole..count {
        for column in 0..width {
            columns[column * count + row] = rows[row * width + column];
        }
    }
}

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

    /// Puts records in the order of their times. They nearly are: only a record that an interrupt
    /// wrote in the middle of another comes before it.
    fn sort(&mut self) {
        if !self.places.is_sorted_by_key(|place| place.time_ns) {
            self.places.sort_by_key(|place| place.time_ns);
        }
    }
}

/// Reads columns back. `None` if the payload is not what [`encode`] writes; never panics.
pub(super) fn decode(payload: &[u8], first_ns: u64) -> Option<Rows> {
    let (count, mut rest) = u32::read_from_prefix(payload).ok()?;
    let mut layouts = Vec::new();
    let mut total = 0_usize;
    for _ in 0..count.min(256) {
        let (layout, after) = Layout::read_from_prefix(rest).ok()?;
        let width = usize::from(layout.record_bytes);
        if width < HEADER_BYTES || width % 8 != 0 {
            return None;
        }
        total = total.checked_add(layout.count as usize)?;
        layouts.push(layout);
        rest = after;
    }
    let (sequence, mut rest) = rest.split_at_checked(total)?;
    let mut bytes = Vec::new();
    let mut cursors = Vec::with_capacity(layouts.len());
    for layout in &layouts {
        let width = usize::from(layout.record_bytes);
        let length = width.checked_mul(layout.count as usize)?;
        let (columns, after) = rest.split_at_checked(length)?;
        cursors.push((bytes.len(), width, bytes.len() + length));
        untranspose(columns, width, &mut bytes);
        rest = after;
    }
    debug_assert!(bytes.len() <= PAYLOAD_MAX_BYTES, "bounded by the payload's length");
    let mut rows = Rows { bytes, places: Vec::with_capacity(total) };
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

/// Appends columns to `out`, by row, in the same blocks.
fn untranspose(columns: &[u8], width: usize, out: &mut Vec<u8>) {
    let start = out.len();
    let count = columns.len() / width;
    out.resize(start + columns.len(), 0);
    let rows = &mut out[start..];
    let whole = count / 8 * 8;
    for column in (0..width).step_by(8) {
        for row in (0..whole).step_by(8) {
            let mut block = [0_u64; 8];
            for (offset, word) in block.iter_mut().enumerate() {
                *word = word_at(columns, (column + offset) * count + row);
            }
            for (offset, word) in transpose_block(block).iter().enumerate() {
                let at = (row + offset) * width + column;
                rows[at..at + 8].copy_from_slice(&word.to_le_bytes());
            }
        }
    }
    for row in whole..count {
        for column in 0..width {
            rows[row * width + column] = columns[column * count + row];
        }
    }
}

#[inline]
fn word_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// Transposes eight words of eight bytes: swaps halves, then quarters, then bytes.
#[inline]
const fn transpose_block(mut words: [u64; 8]) -> [u64; 8] {
    const STEPS: [(usize, u32, u64); 3] = [
        (4, 32, 0x0000_0000_ffff_ffff),
        (2, 16, 0x0000_ffff_0000_ffff),
        (1, 8, 0x00ff_00ff_00ff_00ff),
    ];
    let mut step = 0;
    while step < STEPS.len() {
        let (distance, shift, mask) = STEPS[step];
        let mut low = 0;
        while low < 8 {
            if low & distance == 0 {
                let high = low + distance;
                let swap = ((words[low] >> shift) ^ words[high]) & mask;
                words[high] ^= swap;
                words[low] ^= swap << shift;
            }
            low += 1;
        }
        step += 1;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn columns_become_the_rows_they_were(count in 0_usize..40, eighths in 3_usize..11, seed in any::<u8>()) {
            let rows: Vec<u8> = (0..count * eighths * 8).map(|at| (at as u8).wrapping_mul(31) ^ seed).collect();
            let (mut columns, mut back) = (Vec::new(), Vec::new());
            transpose(&rows, eighths * 8, &mut columns);
            let place = |at: usize| at % (eighths * 8) * count + at / (eighths * 8);
            prop_assert!((0..rows.len()).all(|at| rows[at] == columns[place(at)]));
            untranspose(&columns, eighths * 8, &mut back);
            prop_assert_eq!(back, rows);
        }

        #[test]
        fn any_payload_decodes_or_is_refused(payload in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode(&payload, 0);
        }
    }
}
