//! Numbers as people read them, and text that terminals can show.

use crate::model::is_unshowable;

/// A duration with three digits: `0`, `8 ns`, `1.93 µs`, `15.6 ms`, `12.0 s`.
#[must_use]
pub fn duration(ns: u64) -> String {
    let value = ns as f64;
    match ns {
        0 => "0".to_owned(),
        1..1_000 => format!("{ns} ns"),
        1_000..999_500 => format!("{} µs", three_digits(value / 1e3)),
        999_500..999_500_000 => format!("{} ms", three_digits(value / 1e6)),
        _ => format!("{} s", three_digits(value / 1e9)),
    }
}

fn three_digits(value: f64) -> String {
    match value {
        ..9.995 => format!("{value:.2}"),
        ..99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// A count with separators: `312,904`.
#[must_use]
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Memory or a file's length: `41 MB`.
#[must_use]
pub fn bytes(value: u64) -> String {
    let scaled = value as f64;
    match value {
        0..1_000 => format!("{value} B"),
        1_000..1_000_000 => format!("{} kB", three_digits(scaled / 1e3)),
        1_000_000..1_000_000_000 => format!("{} MB", three_digits(scaled / 1e6)),
        _ => format!("{} GB", three_digits(scaled / 1e9)),
    }
}

/// A share of a whole in percent, for where there is little room: `0 %`, `<1 %`, `12 %`.
#[must_use]
pub fn share(part: u64, whole: u64) -> String {
    let share = part as f64 * 100.0 / whole.max(1) as f64;
    if part > 0 && share < 1.0 { "<1 %".to_owned() } else { format!("{share:.0} %") }
}

/// A share in percent: `0.8 %`, `78 %`.
#[must_use]
pub fn percent(value: f64) -> String {
    if value < 9.95 { format!("{value:.1} %") } else { format!("{value:.0} %") }
}

/// `text` without characters that would do something to a terminal, lines apart.
#[must_use]
pub fn showable(text: &str) -> String {
    let safe = |each: char| if each != '\n' && is_unshowable(each) { '\u{fffd}' } else { each };
    text.chars().map(safe).collect()
}

/// `count` and its noun, in the plural if need be.
#[must_use]
pub fn plural(value: u64, noun: &str) -> String {
    let ending = if noun.ends_with("ch") || noun.ends_with('s') { "es" } else { "s" };
    format!("{} {noun}{}", count(value), if value == 1 { "" } else { ending })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits_and_never_a_thousand_of_a_unit() {
        let cases = [
            (0, "0"),
            (8, "8 ns"),
            (999, "999 ns"),
            (1_934, "1.93 µs"),
            (999_499, "999 µs"),
            (999_500, "1.00 ms"),
            (15_600_000, "15.6 ms"),
            (999_500_000, "1.00 s"),
            (312_000_000_000, "312 s"),
        ];
        for (ns, text) in cases {
            assert_eq!(duration(ns), text, "{ns}");
        }
    }

    #[test]
    fn what_a_file_says_cannot_move_the_cursor() {
        assert_eq!(showable("pid 1\u{1b}[2J\u{202e}\nok"), "pid 1\u{fffd}[2J\u{fffd}\nok");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            [count(7), count(1_204), count(312_904), count(1_000_000)],
            ["7", "1,204", "312,904", "1,000,000"]
        );
        assert_eq!(
            [bytes(12), bytes(41_000_000), bytes(4_000_000_000)],
            ["12 B", "41.0 MB", "4.00 GB"]
        );
        assert_eq!([percent(0.04), percent(78.4)], ["0.0 %", "78 %"]);
        assert_eq!([share(0, 10), share(1, 1_000), share(125, 1_000)], ["0 %", "<1 %", "12 %"]);
        assert_eq!(
            [plural(1, "thread"), plural(2, "thread"), plural(0, "switch")],
            ["1 thread", "2 threads", "0 switches"]
        );
    }
}
