//! Snapshots of sockets and queues as part of a session.

use super::{
    collect::Collect,
    collector::{Collector, STREAM_SOCKETS},
};
use crate::{
    error::StartError,
    host::clock,
    recording::{BpfCost, LedgerRow},
    source::{
        Scope, namespace_name,
        netlink::{Namespace, Owners, Snapshot, Wanted},
        processes_by_namespace, processes_of,
    },
};
use hz_probes_ebpf::{
    Header, Kind,
    net::{NET_NAME_BYTES, NET_NAMES_NAMESPACE, NetName},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};
use zerocopy::IntoBytes as _;

/// Network namespaces that are looked into; more are said to be left out.
const NAMESPACES_MAX: usize = 64;

/// Looks may take one part of this many of the time.
const LOOK_SHARE: u32 = 50;

/// The probe `sockets` of a session.
#[derive(Debug)]
pub(super) struct SocketsCollect {
    scope: Scope,
    owners: Owners,
    namespaces: BTreeMap<u32, Namespace>,
    missing: BTreeSet<String>,
    every: Duration,
    next_look: Instant,
}

impl SocketsCollect {
    pub(super) fn new(scope: &Scope, every: Duration) -> Self {
        Self {
            scope: scope.clone(),
            owners: Owners::of(None),
            namespaces: BTreeMap::new(),
            missing: BTreeSet::new(),
            every,
            next_look: Instant::now(),
        }
    }

    /// Opens the namespaces of the target's processes, and lets go of those in which none is left; but at
    /// the end of a recording, when that is to be expected.
    fn find_namespaces(&mut self, is_last: bool, collector: &mut Collector) {
        let pids = processes_of(&self.scope);
        if self.scope != Scope::All {
            self.owners.set(pids.clone());
        }
        let found = processes_by_namespace(pids);
        for (inode, pid) in &found {
            if !self.namespaces.contains_key(inode) {
                self.open(*pid, *inode, collector);
            }
        }
        self.namespaces.retain(|inode, _| is_last || found.contains_key(inode));
    }

    fn open(&mut self, pid: u32, inode: u32, collector: &mut Collector) {
        if self.namespaces.len() >= NAMESPACES_MAX {
            let text = format!("sockets of more than {NAMESPACES_MAX} network namespaces");
            self.missing.insert(text);
            return;
        }
        match Namespace::of(pid) {
            Ok(namespace) => {
                self.namespaces.insert(inode, namespace);
                tell_name(pid, inode, collector);
            }
            Err(error) => _ = self.missing.insert(format!("sockets: {error}")),
        }
    }

    fn look(&mut self, is_last: bool, collector: &mut Collector) {
        let began = Instant::now();
        self.find_namespaces(is_last, collector);
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
        // Where there is much to look at, looks become rare.
        self.next_look = Instant::now() + self.every.max(began.elapsed() * LOOK_SHARE);
    }
}

/// Says what a namespace is called.
fn tell_name(pid: u32, inode: u32, collector: &mut Collector) {
    let time_ns = clock::monotonic_ns();
    let header = Header { time_ns, kind: Kind::NetName as u16, arg: inode, ..Header::default() };
    let mut record = NetName { header, table: NET_NAMES_NAMESPACE, ..NetName::default() };
    let name = namespace_name(pid, inode);
    let mut length = name.len().min(NET_NAME_BYTES - 1);
    while !name.is_char_boundary(length) {
        length -= 1;
    }
    record.name[..length].copy_from_slice(&name.as_bytes()[..length]);
    collector.push(STREAM_SOCKETS, record.as_bytes());
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
        self.look(false, collector);
        Ok(())
    }

    fn drain(&mut self, collector: &mut Collector) {
        if Instant::now() >= self.next_look {
            self.look(false, collector);
        }
    }

    fn each_second(&mut self, _collector: &mut Collector) {}

    fn detach(&mut self) {}

    fn end(&mut self, collector: &mut Collector) {
        self.look(true, collector);
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
