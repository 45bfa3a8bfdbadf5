//! The table of probes: what each attaches, emits and costs.

mod runtime;
mod sched;
mod uprobe;
mod usdt;

use hz_probes_ebpf::Kind;

/// A probe that hz ships.
pub trait Probe: Sync {
    /// Its name on the command line and in recordings; `docs/probes/NAME.md` describes it.
    fn name(&self) -> &'static str;
    /// What it observes, a phrase.
    fn about(&self) -> &'static str;
    /// What its programs are written in and loaded by.
    fn language(&self) -> &'static str;
    /// Where it attaches, preferred hook first.
    fn hooks(&self) -> &'static [&'static str];
    /// Tracepoints or functions it attaches to.
    fn places(&self) -> &'static [&'static str];
    /// The records it writes.
    fn emits(&self) -> &'static [Kind];
    /// What a hit costs, measured; `docs/performance.md` has the command and the machine.
    fn cost(&self) -> &'static str;
}

/// Every probe. The order is the order of `hz-trace probes`.
pub static PROBES: &[&dyn Probe] =
    &[&sched::Sched, &uprobe::Uprobe, &usdt::Usdt, &runtime::Runtime];

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_kind_is_emitted() {
        for kind in Kind::ALL {
            let owners = PROBES.iter().filter(|probe| probe.emits().contains(kind)).count();
            assert_eq!(owners, 1, "{}", kind.tag());
        }
    }

    #[test]
    fn every_probe_has_a_page() {
        for probe in PROBES {
            let page = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join(format!("../docs/probes/{}.md", probe.name()));
            assert!(page.is_file(), "{} is missing", page.display());
        }
    }
}
