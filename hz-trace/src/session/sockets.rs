//! Snapshots of sockets and queues as part of a session.

use super::{
    collect::Collect,
    collector::{Collector, STREAM_SOCKETS},
};
use crate::{
    error::StartError,
    recording::{BpfCost, LedgerRow},
    source::{
        Scope, every_process,
        netlink::{Namespace, Owners, Snapshot, Wanted},
        processes_of,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt as _,
};

/// Network namespaces that are looked into; more are said to be left out.
const NAMESPACES_MAX: usize = 64;

/// The probe `sockets` of a session.
#[derive(Debug)]
pub(super) struct SocketsCollect {
    scope: Scope,
    owners: Owners,
    namespaces: BTreeMap<u32, Namespace>,
    missing: BTreeSet<String>,
}

impl SocketsCollect {
    pub(super) fn new(scope: &Scope) -> Self {
        Self {
            scope: scope.clone(),
            owners: Owners::of(None),
            namespaces: BTreeMap::new(),
            missing: BTreeSet::new(),
        }
    }

    /// Opens the namespaces of the target's processes, and lets go of those in which none is left.
    fn find_namespaces(&mut self) {
        let pids = match &self.scope {
            Scope::All => every_process(),
            scope => {
                let pids = processes_of(scope);
                self.owners.set(pids.clone());
                pids
            }
        };
        let mut found = BTreeSet::new();
        for pid in pids {
            let Ok(namespace) = fs::metadata(format!("/proc/{pid}/ns/net")) else { continue };
            let inode = u32::try_from(namespace.ino()).unwrap_or(0);
            if found.insert(inode) && !self.namespaces.contains_key(&inode) {
                self.open(pid, inode);
            }
        }
        self.namespaces.retain(|inode, _| found.contains(inode));
    }

    fn open(&mut self, pid: u32, inode: u32) {
        if self.namespaces.len() >= NAMESPACES_MAX {
            let text = format!("sockets of more than {NAMESPACES_MAX} network namespaces");
            self.missing.insert(text);
            return;
        }
        match Namespace::of(pid) {
            Ok(namespace) => _ = self.namespaces.insert(inode, namespace),
            Err(error) => _ = self.missing.insert(format!("sockets: {error}")),
        }
    }

    fn look(&mut self, collector: &mut Collector) {
        self.find_namespaces();
        let is_filtered = self.scope != Scope::All;
        for namespace in self.namespaces.values_mut() {
            let mut snapshot = namespace.look(Wanted::ALL);
            snapshot.own(&mut self.owners);
            if is_filtered {
                only_owned(&mut snapshot);
            }
            for refused in &snapshot.refused {
                self.missing.insert(refused.to_string());
            }
            snapshot.records(|record| collector.push(STREAM_SOCKETS, record));
        }
    }
}

/// Keeps the sockets of the target. Ports, queues and counters are the namespace's, and stay.
fn only_owned(snapshot: &mut Snapshot) {
    snapshot.sockets.retain(|socket| socket.header.pid != 0);
    snapshot.unix.retain(|socket| socket.header.pid != 0);
}

impl Collect for SocketsCollect {
    fn name(&self) -> String {
        "sockets (netlink)".to_owned()
    }

    fn attach(&mut self) -> Result<(), StartError> {
        Ok(())
    }

    fn begin(&mut self, collector: &mut Collector) -> Result<(), StartError> {
        self.look(collector);
        Ok(())
    }

    fn drain(&mut self, _collector: &mut Collector) {}

    fn each_second(&mut self, collector: &mut Collector) {
        self.look(collector);
    }

    fn detach(&mut self) {}

    fn end(&mut self, collector: &mut Collector) {
        self.look(collector);
    }

    fn ledger(&self) -> Vec<LedgerRow> {
        Vec::new()
    }

    fn cost(&self) -> Vec<BpfCost> {
        Vec::new()
    }

    fn not_collected(&self) -> Vec<String> {
        let unreadable = self.owners.unreadable();
        let unreadable = (unreadable > 0).then(|| {
            format!(
                "owners of sockets: files of {unreadable} processes may not be read; run as root"
            )
        });
        let cut = self.owners.is_cut().then(|| "owners of sockets: too many open files".to_owned());
        self.missing.iter().cloned().chain(unreadable).chain(cut).collect()
    }
}
