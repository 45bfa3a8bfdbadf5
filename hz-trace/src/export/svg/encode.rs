//! Numbers as text: variable-length bytes in base 64, and JSON that is safe inside a script.

/// Bytes that numbers were appended to.
#[derive(Clone, Debug, Default)]
pub(super) struct Bytes(Vec<u8>);

impl Bytes {
    /// Appends seven bits per byte, the lowest first; all but the last byte have their top bit
    /// set.
    pub(super) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    /// Appends one byte.
    pub(super) fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    /// Appends a part of a whole as 1 to 255, 0 only if there is none.
    pub(super) fn weight(&mut self, part: u64, whole: u64) {
        let share = u128::from(part) * 255 / u128::from(whole.max(1));
        let least = u8::from(part > 0);
        self.0.push(u8::try_from(share).unwrap_or(u8::MAX).max(least));
    }

    /// As base 64 with padding.
    pub(super) fn base64(&self) -> String {
        const DIGITS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::with_capacity(self.0.len().div_ceil(3) * 4);
        for three in self.0.chunks(3) {
            let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte))
                << (8 * (3 - three.len()));
            for digit in 0..4 {
                let value = bits >> (18 - 6 * digit) & 0x3f;
                let is_there = digit <= three.len();
                text.push(if is_there { char::from(DIGITS[value as usize]) } else { '=' });
            }
        }
        text
    }
}

/// `json` without characters that end a script, a CDATA section or a line: nothing that a process
/// calls itself gets out of the element it is in, whichever parser reads it.
pub(crate) fn safe_json(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for each in json.chars() {
        match each {
            // Outside strings JSON has none of these, inside they may be written so.
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\u{7f}'..='\u{9f}' => {
                safe.push_str(&format!("\\u{:04x}", u32::from(each)));
            }
            each => safe.push(each),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_number(bytes: &[u8]) -> (u64, usize) {
        let mut number = 0;
        for (place, byte) in bytes.iter().enumerate() {
            number |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return (number, place + 1);
            }
        }
        (number, bytes.len())
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        let cases =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (bytes, text) in cases {
            assert_eq!(Bytes(bytes.as_bytes().to_vec()).base64(), text);
        }
    }

    #[test]
    fn nothing_but_nothing_weighs_nothing() {
        let mut bytes = Bytes::default();
        bytes.weight(0, 10);
        bytes.weight(1, 1_000_000);
        bytes.weight(10, 10);
        assert_eq!(bytes.0, [0, 1, 255]);
    }

    proptest! {
        #[test]
        fn numbers_round_trip(numbers in proptest::collection::vec(0..u64::MAX >> 1, 0..20)) {
            let mut bytes = Bytes::default();
            numbers.iter().for_each(|number| bytes.number(*number));
            let mut at = 0;
            for number in numbers {
                let (read, length) = read_number(&bytes.0[at..]);
                prop_assert_eq!(read, number);
                at += length;
            }
            prop_assert_eq!(at, bytes.0.len());
        }

        #[test]
        fn safe_json_means_the_same(text in "\\PC*") {
            let json = serde_json::to_string(&text).unwrap();
            let safe = safe_json(&json);
            prop_assert!(!safe.contains(['<', '>', '&']));
            prop_assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), text);
        }
    }
}
