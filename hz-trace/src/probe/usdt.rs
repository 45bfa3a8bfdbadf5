//! User probe `usdt`.

use super::Probe;
use hz_probes_ebpf::Kind;

/// Marks where programs pass probes that their authors put there.
pub(super) struct Usdt;

impl Probe for Usdt {
    fn name(&self) -> &'static str {
        "usdt"
    }

    fn about(&self) -> &'static str {
        "Statically defined probes of programs (USDT), with their arguments"
    }

    fn language(&self) -> &'static str {
        "C, CO-RE, libbpf"
    }

    fn hooks(&self) -> &'static [&'static str] {
        &["uprobe_multi", "uprobe"]
    }

    fn places(&self) -> &'static [&'static str] {
        &["BINARY:PROVIDER:NAME"]
    }

    fn emits(&self) -> &'static [Kind] {
        &[Kind::Usdt]
    }

    fn is_chosen_by_name(&self) -> bool {
        false
    }

    fn cost(&self) -> &'static str {
        "0.9 to 1.3 µs a hit"
    }
}
