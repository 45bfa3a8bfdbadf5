//! Functions of the running kernel that say what a stack is about.

use std::{fs, ops::Range};

/// Where they are. What the kernel does not say is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Functions {
    /// In which a thread leaves its CPU or wakes another: above them on a stack are tracepoints and hz's
    /// own program.
    pub(super) events: Vec<Range<u64>>,
    /// By which interrupts enter. They stand one behind the other.
    pub(super) interrupts: Range<u64>,
}

/// What an interrupt's entry is called, by architecture: a name, or how it begins.
const ENTRIES: [&str; 3] = if cfg!(target_arch = "x86_64") {
    ["asm_common_interrupt", "asm_spurious_interrupt", "asm_sysvec_"]
} else {
    ["el1h_64_irq", "el0t_64_irq", "el0t_32_irq"]
};

/// Entries that lie further apart are not what they are taken for.
const ENTRIES_BYTES_MAX: u64 = 64 << 10;

impl Functions {
    /// Reads them from `/proc/kallsyms`.
    pub(super) fn of_running_kernel() -> Self {
        Self::parse(&fs::read_to_string("/proc/kallsyms").unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let symbol = |line| -> Option<(u64, &str)> {
            let mut words = str::split(line, ' ');
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            Some((address, words.nth(1)?))
        };
        // Modules come behind the kernel, and have a tab before theirs. Addresses that may not be seen are 0.
        let symbols = text.lines().filter_map(symbol).filter(|(address, _)| *address != 0);
        let mut symbols: Vec<(u64, &str)> = symbols.collect();
        symbols.sort_unstable_by_key(|(address, _)| *address);
        let end_of = |start: u64| {
            let next = symbols.partition_point(|(address, _)| *address <= start);
            symbols.get(next).map_or(u64::MAX, |(address, _)| *address)
        };
        let span = |start: u64| start..end_of(start);
        let is_event = |name: &str| matches!(name, "__schedule" | "try_to_wake_up");
        let is_entry = |name: &str| ENTRIES.iter().any(|entry| name.starts_with(entry));
        let starts = |is_one: &dyn Fn(&str) -> bool| -> Vec<u64> {
            let found = symbols.iter().filter(|(_, name)| is_one(name));
            found.map(|(address, _)| *address).collect()
        };
        let entries = starts(&is_entry);
        let interrupts = entries.first().zip(entries.last());
        let interrupts = interrupts.map_or(0..0, |(first, last)| *first..end_of(*last));
        let is_compact = interrupts.end - interrupts.start <= ENTRIES_BYTES_MAX;
        Self {
            events: starts(&is_event).into_iter().map(span).collect(),
            interrupts: if is_compact { interrupts } else { 0..0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_end_where_the_next_begins() {
        let entry = ENTRIES[0];
        let text = format!(
            "ffffffff81000050 T try_to_wake_up\nffffffff81000010 T {entry}\nffffffff81000020 T {}\n\
             ffffffff81000030 T other\nffffffff81000040 t __schedule\nffffffffc0000000 t __schedule_x\t[module]\n",
            ENTRIES[1]
        );
        let found = Functions::parse(&text);
        let high = |low: u64| 0xffff_ffff_8100_0000 + low;
        assert_eq!(found.interrupts, high(0x10)..high(0x30));
        let expected = [high(0x40)..high(0x50), high(0x50)..0xffff_ffff_c000_0000];
        assert_eq!(found.events, expected);
    }

    #[test]
    fn a_kernel_that_hides_addresses_has_none() {
        let text = "0000000000000000 T asm_common_interrupt\n0000000000000000 T __schedule\n";
        assert_eq!(Functions::parse(text), Functions::default());
        assert_eq!(Functions::parse("x\n\n1 2"), Functions::default());
    }

    #[test]
    fn entries_far_apart_are_not_believed() {
        let text = format!("1000 T {}\n900000 T {}\n900100 T x\n", ENTRIES[0], ENTRIES[1]);
        assert_eq!(Functions::parse(&text).interrupts, 0..0);
    }
}
