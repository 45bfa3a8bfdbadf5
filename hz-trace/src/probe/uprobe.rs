//! User probe `uprobe`.

use super::Probe;
use hz_probes_ebpf::Kind;

/// Marks and spans of functions in user space.
pub(super) struct Uprobe;

impl Probe for Uprobe {
    fn name(&self) -> &'static str {
        "uprobe"
    }

    fn about(&self) -> &'static str {
        "Entries of functions in user space, and their durations"
    }

    fn language(&self) -> &'static str {
        "Rust, aya"
    }

    fn hooks(&self) -> &'static [&'static str] {
        &["uprobe", "uretprobe"]
    }

    fn places(&self) -> &'static [&'static str] {
        &["BINARY:SYMBOL", "BINARY:SYMBOL%return"]
    }

    fn emits(&self) -> &'static [Kind] {
        &[Kind::Uprobe]
    }

    fn is_chosen_by_name(&self) -> bool {
        false
    }

    fn cost(&self) -> &'static str {
        "about 1 µs a hit, 20 times that where the instruction must be single-stepped"
    }
}
