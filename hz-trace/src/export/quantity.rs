//! Numbers as words: three significant digits and the unit that fits.

/// A duration: `0`, `850 ns`, `12.3 µs`, `15.6 ms`, `10.0 s`.
pub(crate) fn duration(ns: u64) -> String {
    match ns {
        0 => "0".to_owned(),
        1..1_000 => format!("{ns} ns"),
        1_000..999_500 => format!("{} µs", significant(ns as f64 / 1e3)),
        999_500..999_500_000 => format!("{} ms", significant(ns as f64 / 1e6)),
        _ => format!("{} s", significant(ns as f64 / 1e9)),
    }
}

/// Three significant digits, all of what is before the point.
fn significant(value: f64) -> String {
    match value {
        value if value < 9.995 => format!("{value:.2}"),
        value if value < 99.95 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

/// A count, its thousands set apart: `312 904`.
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A number of things with their noun: `1 thread`, `12 threads`.
pub(crate) fn counted(value: u64, noun: &str) -> String {
    let plural = if value == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(value))
}

/// A share in percent: `0 %`, `<1 %`, `12 %`.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    let share = part as f64 * 100.0 / whole.max(1) as f64;
    if part > 0 && share < 1.0 { "<1 %".to_owned() } else { format!("{share:.0} %") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits_and_never_a_thousand_of_a_unit() {
        let cases = [
            (0, "0"),
            (7, "7 ns"),
            (999, "999 ns"),
            (1_000, "1.00 µs"),
            (12_345, "12.3 µs"),
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
    fn counts_are_grouped_and_small_shares_are_not_zero() {
        assert_eq!(count(7), "7");
        assert_eq!(count(312_904), "312 904");
        assert_eq!(counted(1, "thread"), "1 thread");
        assert_eq!(percent(0, 10), "0 %");
        assert_eq!(percent(1, 1_000), "<1 %");
        assert_eq!(percent(125, 1_000), "12 %");
    }
}
