//! Sockets and queues that are watched: netlink in any case, the probe `net` while somebody wants to
//! know why segments are sent again.

use crate::{
    decode,
    error::StartError,
    model::window::{NetworkFolder, NotCollected, Window},
    recording::{BpfCost, LedgerRow},
    source::{
        Net, Scope,
        netlink::{Namespace, Owners, Snapshot, Wanted},
        processes_by_namespace, processes_of,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

/// Network namespaces that are looked into; more are said to be left out.
const NAMESPACES_MAX: usize = 64;

/// How often processes are asked for their network namespaces.
const LISTED: Duration = Duration::from_secs(5);

/// A look may take one part of this many of a CPU's time: while sockets are shown, and otherwise.
const SHARE_SHOWN: u32 = 50;
const SHARE: u32 = 150;

/// What is asked of netlink. `TIME_WAIT` is counted in any case.
const WANTED: Wanted =
    Wanted { has_udp: false, has_unix: false, has_queues: true, has_time_wait: false };

/// The network of a target.
#[derive(Debug)]
pub(super) struct LiveNetwork {
    scope: Scope,
    owners: Owners,
    namespaces: BTreeMap<u32, Namespace>,
    folder: NetworkFolder,
    probe: Option<Net>,
    refusal: Option<String>,
    listed: Option<Instant>,
    last: Option<(Instant, Duration)>,
    missing: BTreeSet<String>,
}

impl LiveNetwork {
    pub(super) fn new(scope: &Scope) -> Self {
        Self {
            scope: scope.clone(),
            owners: Owners::of(None),
            namespaces: BTreeMap::new(),
            folder: NetworkFolder::default(),
            probe: None,
            refusal: None,
            listed: None,
            last: None,
            missing: BTreeSet::new(),
        }
    }

    /// Attaches the probe `net`. `processes` is the map of the target's processes.
    pub(super) fn attach(&mut self, processes: Option<BorrowedFd<'_>>) {
        let loaded = Net::load(&self.scope, processes).and_then(|mut net| {
            net.attach()?;
            Ok(net)
        });
        match loaded {
            Ok(net) => (self.probe, self.refusal) = (Some(net), None),
            Err(error) => self.refuse(&error),
        }
        self.folder.asks_for_reasons(self.probe.is_some());
    }

    fn refuse(&mut self, error: &StartError) {
        self.refusal = Some(error.to_string());
    }

    /// Says why the probe `net` cannot be had.
    pub(super) fn cannot_attach(&mut self, why: &str) {
        self.refusal = Some(why.to_owned());
    }

    pub(super) const fn is_attached(&self) -> bool {
        self.probe.is_some()
    }

    pub(super) fn detach(&mut self) {
        self.probe = None;
        self.folder.asks_for_reasons(false);
    }

    /// Reads what the probe has recorded.
    pub(super) fn tick(&mut self) {
        let Self { probe, folder, .. } = self;
        if let Some(net) = probe {
            net.drain(|record| {
                if let Ok(event) = decode::decode(record) {
                    folder.fold(&event);
                }
            });
        }
    }

    /// Looks, if the last look was not too short ago for what it took, and puts what is known into the
    /// window that has ended.
    pub(super) fn close(&mut self, window: &mut Window, is_shown: bool) {
        self.tick();
        let share = if is_shown { SHARE_SHOWN } else { SHARE };
        if self.last.is_none_or(|(at, took)| at.elapsed() >= took * share) {
            let began = Instant::now();
            self.look();
            self.last = Some((began, began.elapsed()));
        }
        let mut name = |pid: u32| name_of(pid, window_name(pid, &window.threads));
        let mut network = Window { tasks: std::mem::take(&mut window.tasks), ..Window::default() };
        self.folder.close(&mut network, &mut name);
        window.network = network.network;
        window.tasks = network.tasks;
        window.not_collected.extend(self.not_collected());
    }

    fn look(&mut self) {
        if self.listed.is_none_or(|listed| listed.elapsed() >= LISTED) {
            self.listed = Some(Instant::now());
            self.missing.clear();
            self.find_namespaces();
        }
        let is_filtered = self.scope != Scope::All;
        for namespace in self.namespaces.values_mut() {
            let mut snapshot = namespace.look(WANTED);
            snapshot.own(&mut self.owners);
            if is_filtered {
                snapshot.sockets.retain(|socket| socket.header.pid != 0);
            }
            self.missing.extend(snapshot.refused.iter().map(ToString::to_string));
            take(&mut self.folder, snapshot);
        }
    }

    /// Opens the namespaces of the target's processes, and lets go of those in which none is left.
    fn find_namespaces(&mut self) {
        let pids = processes_of(&self.scope);
        if self.scope != Scope::All {
            self.owners.set(pids.clone());
        }
        let found = processes_by_namespace(pids);
        for (inode, pid) in &found {
            if !self.namespaces.contains_key(inode) {
                self.open(*pid, *inode);
            }
        }
        self.namespaces.retain(|inode, _| found.contains_key(inode));
        if self.namespaces.is_empty() && self.missing.is_empty() {
            self.missing.insert(
                "the network namespace of another user's process: run as root, or grant CAP_SYS_PTRACE"
                    .to_owned(),
            );
        }
    }

    fn open(&mut self, pid: u32, inode: u32) {
        if self.namespaces.len() >= NAMESPACES_MAX {
            let text = format!("more than {NAMESPACES_MAX} network namespaces");
            self.missing.insert(text);
            return;
        }
        match Namespace::of(pid) {
            Ok(namespace) => _ = self.namespaces.insert(inode, namespace),
            Err(error) => _ = self.missing.insert(error.to_string()),
        }
    }

    fn not_collected(&self) -> Vec<NotCollected> {
        let mut missing: Vec<NotCollected> =
            self.missing.iter().map(|why| NotCollected::new("sockets", why)).collect();
        let unreadable = self.owners.unreadable();
        if unreadable > 0 {
            let why = format!(
                "files of {unreadable} processes may not be read: run as root, or grant CAP_SYS_PTRACE"
            );
            missing.push(NotCollected::new("owners of sockets", why));
        }
        if self.owners.is_cut() {
            missing.push(NotCollected::new("owners of sockets", "too many open files"));
        }
        let refusal = self.refusal.as_ref();
        missing.extend(refusal.map(|why| NotCollected::new("reasons of retransmits", why)));
        missing
    }

    /// What became of every record of the probe.
    pub(super) fn ledger(&self) -> Vec<LedgerRow> {
        self.probe.as_ref().map(Net::ledger).unwrap_or_default()
    }

    /// What its programs took.
    pub(super) fn cost(&self) -> Vec<BpfCost> {
        self.probe.as_ref().map(Net::cost).unwrap_or_default()
    }
}

fn take(folder: &mut NetworkFolder, snapshot: Snapshot) {
    use decode::Event;
    let Snapshot { sockets, ports, queues, limits, counters, .. } = snapshot;
    sockets.iter().for_each(|socket| folder.socket(socket));
    ports.into_iter().for_each(|record| folder.fold(&Event::HostPorts(record)));
    queues.into_iter().for_each(|record| folder.fold(&Event::HostQueue(record)));
    folder.limit(limits);
    folder.fold(&Event::NetCounters(counters));
}

fn window_name(pid: u32, threads: &[crate::model::window::ThreadRow]) -> Option<&str> {
    let thread = threads.iter().find(|thread| thread.pid == pid && !thread.process.is_empty());
    thread.map(|thread| thread.process.as_str())
}

/// A process's name: the one that is known, or the one that `/proc` says.
fn name_of(pid: u32, known: Option<&str>) -> String {
    match known {
        Some(name) => name.to_owned(),
        None if pid == 0 => String::new(),
        None => {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            crate::text::showable(comm.trim_end())
        }
    }
}
