//! User probes as part of a session: from what was asked for to what is attached.

use super::{
    RecordError, Settings,
    collector::{STREAM_UPROBES, STREAM_USDTS},
};
use crate::{
    recording::{BpfCost, LedgerRow, UsdtName},
    source::{Scope, Uprobes, Usdt},
    symbol::{SITES_MAX, Site, UsdtProbe},
};
use hz_probes_ebpf::{UprobeSite, UsdtSite};
use std::{collections::BTreeMap, path::Path};

/// The user probes of a session; none if none were asked for.
#[derive(Debug, Default)]
pub(super) struct UserProbes {
    uprobes: Option<Uprobes>,
    sites: Vec<Site>,
    usdts: Option<Usdt>,
    usdt_probes: Vec<UsdtProbe>,
}

impl UserProbes {
    /// Finds every function and probe and attaches to it.
    pub(super) fn attach(settings: &Settings, scope: &Scope) -> Result<Self, RecordError> {
        let mut probes = Self::default();
        let pids = if let Scope::Processes(pids) = scope { pids.as_slice() } else { &[] };
        for spec in &settings.uprobes {
            probes.sites.extend(spec.resolve(pids, SITES_MAX)?);
        }
        for spec in &settings.usdts {
            probes.usdt_probes.extend(spec.resolve(pids, SITES_MAX)?);
        }
        let follow = settings.follow_children;
        if !probes.sites.is_empty() {
            let logger = settings.is_verbose.then_some(&StandardError as &'static dyn log::Log);
            probes.uprobes = Some(Uprobes::attach(&probes.sites, scope, follow, logger)?);
        }
        if !probes.usdt_probes.is_empty() {
            probes.usdts = Some(Usdt::attach(&probes.usdt_probes, scope, follow)?);
        }
        Ok(probes)
    }

    /// The probes of hz that run.
    pub(super) fn running(&self) -> impl Iterator<Item = &'static str> {
        let uprobe = self.uprobes.is_some().then_some("uprobe");
        uprobe.into_iter().chain(self.usdts.is_some().then_some("usdt"))
    }

    /// Names of the functions, by the number their records carry.
    pub(super) fn names(&self) -> Vec<String> {
        self.sites.iter().map(|site| site.symbol.clone()).collect()
    }

    /// Statically defined probes, by the number their records carry.
    pub(super) fn usdt_names(&self) -> Vec<UsdtName> {
        let name = |probe: &UsdtProbe| UsdtName {
            binary: probe.binary.display().to_string(),
            provider: probe.provider.clone(),
            name: probe.name.clone(),
            arguments: probe.arguments.clone(),
        };
        self.usdt_probes.iter().map(name).collect()
    }

    /// What to tell the user about dear ones, and about those that stay silent.
    pub(super) fn warnings(&self) -> impl Iterator<Item = String> + '_ {
        self.sites.iter().filter_map(Site::warning).chain(swallowed(&self.usdt_probes))
    }

    pub(super) fn drain(&mut self, record: &mut dyn FnMut(u16, &[u8])) {
        if let Some(uprobes) = &mut self.uprobes {
            uprobes.drain(&mut |bytes| record(STREAM_UPROBES, bytes));
        }
        if let Some(usdts) = &mut self.usdts {
            usdts.drain(&mut |bytes| record(STREAM_USDTS, bytes));
        }
    }

    /// Records nothing more. What takes long is left to [`Self::detach`].
    pub(super) fn stop(&mut self) {
        if let Some(uprobes) = &mut self.uprobes {
            uprobes.detach();
        }
        if let Some(usdts) = &self.usdts {
            usdts.stop();
        }
    }

    pub(super) fn detach(&mut self) {
        if let Some(usdts) = &mut self.usdts {
            usdts.detach();
        }
    }

    /// One row and one cost per program.
    pub(super) fn ledger_and_cost(&self) -> (Vec<LedgerRow>, Vec<BpfCost>) {
        let (mut rows, mut cost) = (Vec::new(), Vec::new());
        if let Some(ledger) = self.uprobes.as_ref().and_then(|uprobes| uprobes.ledger().ok()) {
            let sites = UprobeSite::ALL.iter();
            rows.extend(sites.map(|site| LedgerRow::new(site.tag(), ledger.row(*site))));
            let (program, skipped_by_kernel) = ("uprobe".to_owned(), ledger.skipped_by_kernel);
            cost.push(BpfCost { program, skipped_by_kernel, ..BpfCost::default() });
        }
        if let Some(ledger) = self.usdts.as_ref().and_then(|usdts| usdts.ledger().ok()) {
            let sites = UsdtSite::ALL.iter();
            rows.extend(sites.map(|site| LedgerRow::new(site.tag(), ledger.row(*site))));
            cost.extend(ledger.cost);
        }
        (rows, cost)
    }
}

/// One warning for each file whose layout hides semaphores from the kernel.
fn swallowed(probes: &[UsdtProbe]) -> Vec<String> {
    let mut files: BTreeMap<&Path, Vec<String>> = BTreeMap::new();
    for probe in probes.iter().filter(|probe| probe.is_swallowed) {
        files.entry(&probe.binary).or_default().push(probe.full_name());
    }
    let warning = |(binary, names): (&Path, Vec<String>)| {
        let more =
            if names.len() > 1 { format!(" and {} more", names.len() - 1) } else { String::new() };
        format!(
            "{} was linked so that the kernel cannot raise the semaphore of {}{more} in processes \
             that start from now on: only those that run already will fire. Align the section \
             .probes to a page to mend it",
            binary.display(),
            names[0],
        )
    };
    files.into_iter().map(warning).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(name: &str, is_swallowed: bool) -> UsdtProbe {
        UsdtProbe {
            binary: "/opt/app".into(),
            provider: "app".to_owned(),
            name: name.to_owned(),
            arguments: String::new(),
            places: 1,
            has_semaphore: true,
            is_swallowed,
        }
    }

    #[test]
    fn a_file_is_warned_of_once() {
        let probes = [probe("begin", true), probe("end", true), probe("other", false)];
        let warnings = swallowed(&probes);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("of app:begin and 1 more in"), "{warnings:?}");
        assert!(swallowed(&probes[2..]).is_empty());
    }
}
