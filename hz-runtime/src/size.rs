//! Sizes as people write them.

/// Reads a size as `HZ_MEMORY_POOL_SIZE` and others have it: bytes, or with `k`, `M`, `G` in powers of 1024.
pub(crate) fn parse(text: &str) -> Option<usize> {
    let text = text.trim();
    let (digits, shift) = match text.char_indices().next_back()? {
        (at, 'k' | 'K') => (&text[..at], 10),
        (at, 'm' | 'M') => (&text[..at], 20),
        (at, 'g' | 'G') => (&text[..at], 30),
        _ => (text, 0),
    };
    let number: usize = digits.trim_end().parse().ok()?;
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!(parse("4G"), Some(4 << 30));
        assert_eq!(parse(" 64M "), Some(64 << 20));
        assert_eq!(parse("512k"), Some(512 << 10));
        assert_eq!(parse("3145728"), Some(3 << 20));
        for wrong in ["", "G", "-1M", "4 GiB", "1.5G", "99999999999G", "0x10"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
