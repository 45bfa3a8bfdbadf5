//! User probes as part of a session: from what was asked for to what is attached.

use super::RecordError;
use crate::{
    recording::LedgerRow,
    source::{Scope, Uprobes},
    symbol::{SITES_MAX, Site, UprobeSpec},
};
use hz_probes_ebpf::UprobeSite;

/// The user probes of a session; none if none were asked for.
#[derive(Debug, Default)]
pub(super) struct UserProbes {
    attached: Option<Uprobes>,
    sites: Vec<Site>,
}

impl UserProbes {
    /// Finds every function and attaches to it.
    pub(super) fn attach(
        specs: &[UprobeSpec],
        scope: &Scope,
        follow_children: bool,
        is_verbose: bool,
    ) -> Result<Self, RecordError> {
        if specs.is_empty() {
            return Ok(Self::default());
        }
        let pids = if let Scope::Processes(pids) = scope { pids.as_slice() } else { &[] };
        let mut sites = Vec::new();
        for spec in specs {
            sites.extend(spec.resolve(pids, SITES_MAX)?);
        }
        let logger = is_verbose.then_some(&StandardError as &'static dyn log::Log);
        let attached = Some(Uprobes::attach(&sites, scope, follow_children, logger)?);
        Ok(Self { attached, sites })
    }

    /// Names of the functions, by the number their records carry.
    pub(super) fn names(&self) -> Vec<String> {
        self.sites.iter().map(|site| site.symbol.clone()).collect()
    }

    /// What to tell the user about dear ones.
    pub(super) fn warnings(&self) -> impl Iterator<Item = String> + '_ {
        self.sites.iter().filter_map(Site::warning)
    }

    pub(super) const fn is_on(&self) -> bool {
        self.attached.is_some()
    }

    pub(super) fn drain(&mut self, record: &mut dyn FnMut(&[u8])) {
        if let Some(attached) = &mut self.attached {
            attached.drain(record);
        }
    }

    pub(super) fn detach(&mut self) {
        if let Some(attached) = &mut self.attached {
            attached.detach();
        }
    }

    /// One row per program, and runs that the kernel skipped.
    pub(super) fn ledger(&self) -> (Vec<LedgerRow>, u64) {
        let ledger = self.attached.as_ref().and_then(|attached| attached.ledger().ok());
        let Some(ledger) = ledger else { return (Vec::new(), 0) };
        let sites = UprobeSite::ALL.iter();
        let rows = sites.map(|site| LedgerRow::new(site.tag(), ledger.row(*site))).collect();
        (rows, ledger.skipped_by_kernel)
    }
}

/// Prints what the programs say of themselves, for `-vv`.
struct StandardError;

impl log::Log for StandardError {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        eprintln!("hz-trace: {}: {}", record.target(), record.args());
    }

    fn flush(&self) {}
}
