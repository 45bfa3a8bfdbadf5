//! The table of probes: what each attaches, emits and costs.

mod net;
mod runtime;
mod sched;
mod sockets;
mod stacks;
mod uprobe;
mod usdt;

use hz_probes_ebpf::Kind;
use std::collections::BTreeSet;

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
    /// Whether it is chosen by name; others have an option of their own, which says what to observe.
    fn is_chosen_by_name(&self) -> bool {
        true
    }
    /// Whether it runs if nothing is said about probes.
    fn is_usual(&self) -> bool {
        false
    }
    /// Probes that run with it, since what it shows needs them.
    fn implies(&self) -> &'static [&'static str] {
        &[]
    }
    /// What a hit costs, measured; `docs/performance.md` has the command and the machine.
    fn cost(&self) -> &'static str;
}

/// Every probe. The order is the order of `hz-trace probes`.
pub static PROBES: &[&dyn Probe] = &[
    &sched::Sched,
    &uprobe::Uprobe,
    &usdt::Usdt,
    &runtime::Runtime,
    &net::Net,
    &sockets::Sockets,
    &stacks::OnCpu,
    &stacks::OffCpu,
    &stacks::Alloc,
];

/// The probe of this name.
#[must_use]
pub fn named(name: &str) -> Option<&'static dyn Probe> {
    PROBES.iter().copied().find(|probe| probe.name() == name)
}

/// Which probes a recording runs, of those that are chosen by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection(BTreeSet<&'static str>);

impl Selection {
    /// What a recording has if nothing else is said.
    #[must_use]
    pub fn usual() -> Self {
        Self(PROBES.iter().filter(|probe| probe.is_usual()).map(|probe| probe.name()).collect())
    }

    /// None.
    #[must_use]
    pub const fn none() -> Self {
        Self(BTreeSet::new())
    }

    /// With the probe `name` as well, and those that it implies.
    ///
    /// # Errors
    ///
    /// [`SelectionError`] if no probe is chosen by this name.
    pub fn with(mut self, name: &str) -> Result<Self, SelectionError> {
        match named(name) {
            Some(probe) if probe.is_chosen_by_name() => {
                self.0.insert(probe.name());
                self.0.extend(probe.implies());
                Ok(self)
            }
            Some(probe) => Err(SelectionError::HasItsOwnOption { name: probe.name() }),
            None => Err(SelectionError::Unknown { name: name.to_owned(), known: choices() }),
        }
    }

    /// With the probe `alloc` as well.
    #[must_use]
    pub fn with_alloc(mut self) -> Self {
        self.0.insert("alloc");
        self
    }

    /// Whether it has the probe `name`.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }
}

fn choices() -> String {
    let names = PROBES.iter().filter(|probe| probe.is_chosen_by_name()).map(|probe| probe.name());
    names.collect::<Vec<_>>().join(", ")
}

/// Why a probe cannot be chosen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectionError {
    /// There is no such probe.
    #[error("no probe is called {name}; there are {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// Those there are.
        known: String,
    },
    /// It has to be told what to observe.
    #[error("{name} needs to be told what to observe: use --{name}")]
    HasItsOwnOption {
        /// The probe.
        name: &'static str,
    },
}

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
    fn probes_are_chosen_by_name_and_others_point_to_their_option() {
        let usual = Selection::usual();
        assert!(usual.has("sched") && usual.has("runtime") && !usual.has("uprobe"));
        let runtime = Selection::none().with("runtime").unwrap();
        assert!(runtime.has("runtime") && !runtime.has("sched"));
        let net = Selection::none().with("net").unwrap();
        assert!(net.has("net") && net.has("sockets") && !net.has("sched"));
        let error = Selection::none().with("usdt").unwrap_err().to_string();
        assert!(error.ends_with("use --usdt"), "{error}");
        let error = Selection::none().with("sceds").unwrap_err().to_string();
        assert!(error.starts_with("no probe is called sceds; there are sched, "), "{error}");
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
