//! Sockets as part of a session: whose they are, what happens to them, and what they hold.

use super::{
    collect::Collect,
    collector::{Collector, STREAM_NET, STREAM_NET_HOST, STREAM_NET_SAMPLES},
};
use crate::{
    error::StartError,
    host::{KernelTypes, clock},
    recording::{BpfCost, LedgerRow},
    source::{Net, NetworkNamespace, Scope, add_namespaces, processes_of},
};
use hz_probes_ebpf::{
    Header, Kind,
    net::{NET_NAME_BYTES, NET_NAMES_DROP, NET_NAMES_RESET, NetLost, NetName},
};
use std::{
    collections::BTreeMap,
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};
use zerocopy::IntoBytes as _;

/// A look may take one part of this many of a CPU: with many sockets looks become rare.
const LOOK_SHARE: u32 = 100;

/// Names of reasons: their table, the kernel's type, and what all of its names begin with.
const REASONS: [(u32, &str, &str); 2] = [
    (NET_NAMES_DROP, "skb_drop_reason", "SKB_DROP_REASON_"),
    (NET_NAMES_RESET, "sk_rst_reason", "SK_RST_REASON_"),
];

/// The probe `net` of a session.
#[derive(Debug)]
pub(super) struct NetCollect {
    net: Net,
    scope: Scope,
    namespaces: BTreeMap<u64, NetworkNamespace>,
    every: Duration,
    next_look: Instant,
    /// Records that the ring had no room for, as far as was told, and when that was.
    told_lost: (u64, u64),
    refused_looks: BTreeMap<u64, String>,
}

impl NetCollect {
    /// Loads it.
    pub(super) fn load(
        scope: &Scope,
        processes: Option<BorrowedFd<'_>>,
        every: Duration,
    ) -> Result<Self, StartError> {
        Ok(Self {
            every,
            net: Net::load(scope, processes)?,
            scope: scope.clone(),
            namespaces: BTreeMap::new(),
            next_look: Instant::now(),
            told_lost: (0, 0),
            refused_looks: BTreeMap::new(),
        })
    }

    fn find_namespaces(&mut self) {
        add_namespaces(&mut self.namespaces, processes_of(&self.scope));
    }

    /// Looks into the queues, and says when the next look is.
    fn look(&mut self, collector: &mut Collector) {
        let began_ns = clock::own_thread_ns();
        for (inode, namespace) in &self.namespaces {
            let each = |record: &[u8]| collector.push(STREAM_NET_SAMPLES, record);
            if let Err(error) = self.net.sample(namespace, each) {
                self.refused_looks.insert(*inode, error.to_string());
            }
        }
        let took = Duration::from_nanos(clock::own_thread_ns().saturating_sub(began_ns));
        self.next_look = Instant::now() + self.every.max(took * LOOK_SHARE);
    }

    fn drain_ring(&mut self, collector: &mut Collector) {
        self.net.drain(|record| collector.push(STREAM_NET, record));
    }

    fn tell_lost(&mut self, collector: &mut Collector) {
        let (told, since_ns) = self.told_lost;
        let lost = self.net.ledger().iter().map(|row| row.ring_full).sum();
        let now_ns = clock::monotonic_ns();
        if lost > told {
            let kind = Kind::NetLost as u16;
            let header = Header { time_ns: now_ns, kind, ..Header::default() };
            let record = NetLost { header, since_ns, count: lost - told };
            collector.push(STREAM_NET_HOST, record.as_bytes());
        }
        self.told_lost = (lost, now_ns);
    }
}

impl Collect for NetCollect {
    fn name(&self) -> String {
        format!("net ({})", self.net.hook())
    }

    fn attach(&mut self) -> Result<(), StartError> {
        self.told_lost.1 = clock::monotonic_ns();
        self.net.attach()
    }

    fn begin(&mut self, collector: &mut Collector) -> Result<(), StartError> {
        tell_names(&KernelTypes::of_running_kernel()?, collector);
        self.net.holders(|record| collector.push(STREAM_NET_SAMPLES, record))?;
        self.find_namespaces();
        self.look(collector);
        Ok(())
    }

    fn drain(&mut self, collector: &mut Collector) {
        if Instant::now() >= self.next_look {
            self.look(collector);
        }
        self.drain_ring(collector);
    }

    fn each_second(&mut self, collector: &mut Collector) {
        self.find_namespaces();
        self.net.sojourns(|record| collector.push(STREAM_NET_HOST, record));
        self.tell_lost(collector);
    }

    fn detach(&mut self) {
        self.net.detach();
    }

    fn end(&mut self, collector: &mut Collector) {
        self.look(collector);
        self.drain_ring(collector);
        self.net.sojourns(|record| collector.push(STREAM_NET_HOST, record));
        self.net.queued(|record| collector.push(STREAM_NET_HOST, record));
        self.tell_lost(collector);
    }

    fn ledger(&self) -> Vec<LedgerRow> {
        self.net.ledger()
    }

    fn cost(&self) -> Vec<BpfCost> {
        self.net.cost()
    }

    fn not_collected(&self) -> Vec<String> {
        let refused = self.refused_looks.iter().map(|(inode, error)| {
            format!("queues of sockets in network namespace {inode}: {error}")
        });
        self.net.missing().iter().cloned().chain(refused).collect()
    }
}

/// Says what the running kernel calls its reasons.
fn tell_names(types: &KernelTypes, collector: &mut Collector) {
    for (table, enumeration, prefix) in REASONS {
        for (name, value) in types.enumeration(enumeration) {
            let kind = Kind::NetName as u16;
            let time_ns = clock::monotonic_ns();
            let header = Header { time_ns, kind, arg: value, ..Header::default() };
            let mut record = NetName { header, table, ..NetName::default() };
            let name = name.strip_prefix(prefix).unwrap_or(&name).to_lowercase();
            let length = name.len().min(NET_NAME_BYTES - 1);
            record.name[..length].copy_from_slice(&name.as_bytes()[..length]);
            collector.push(STREAM_NET_HOST, record.as_bytes());
        }
    }
}
