//! Why bytes waited: what was sent again and why, what the queues held, and whose it was.

mod connections;
mod hosts;
mod life;
mod listeners;
mod over;
mod owner;
mod pools;
mod ports;
mod sojourn;
mod verdict;
mod waits;

pub use connections::{Connection, worst_connections};
pub use hosts::{Device, Discipline, NamespaceUse, UdpUse};
pub use life::End;
pub use listeners::{Dropped, Listener};
pub use over::{QUEUE_OVER_PCT, QueueKind, QueueOver};
pub use owner::{Owner, Owners};
pub use pools::Pool;
pub use ports::PortUse;
pub use sojourn::{DeviceWaits, QueuedPackets};
pub use verdict::{Setting, Verdict};
pub use waits::{SocketWait, SocketWaitKind, waits_of_socket};

use super::distribution::{Distribution, distribution};
use crate::{
    model::{
        Model,
        net::{Socket, address},
    },
    recording::LedgerRow,
};
use connections::connection;
use hz_probes_ebpf::net::{
    NET_NAMES_DROP, NET_NAMES_NAMESPACE, NET_NAMES_RESET, NET_RESET_SENT, NET_RETRANSMIT_CLOSED,
    NET_RETRANSMIT_FAST, NET_RETRANSMIT_PROBE, NET_RETRANSMIT_SLOW_START, NET_RETRANSMIT_SYN,
    NET_RETRANSMIT_SYNACK, NET_RETRANSMIT_SYNACK_ASKED, NET_RETRANSMIT_TIMEOUT, NetRetransmit,
    NetSynAck,
};
use serde::Serialize;
use sojourn::device_waits;
use std::collections::BTreeMap;

/// Connections that are listed.
const LISTED: usize = 10;

/// Why bytes waited.
#[derive(Clone, Debug, Serialize)]
pub struct NetSummary {
    /// What was recorded.
    pub target: String,
    /// How long.
    pub duration_ns: u64,
    /// Connections that were seen, listeners not included.
    pub connections: usize,
    /// What was sent again, all together.
    pub retransmitted: Retransmitted,
    /// Segments sent again as looks at sockets show it, those that events tell of as well.
    pub retransmitted_by_looks: u64,
    /// The same by reason, in the order of [`reason_name`].
    pub by_reason: Vec<ReasonRow>,
    /// The same by peer, most segments first.
    pub by_peer: Vec<PeerRow>,
    /// Segments that a peer says it had twice.
    pub spurious_segments: u64,
    /// Times that the kernel took its reaction to a loss back.
    pub undone: u64,
    /// Connections with most reason to wait, the worst first.
    pub worst: Vec<Connection>,
    /// Queues over their bar, those that were for longest first.
    pub queues_over: Vec<QueueOver>,
    /// That bar: the share of what a queue may hold, in percent.
    pub queue_over_pct: u32,
    /// Listeners.
    pub listeners: Vec<Listener>,
    /// What processes open to one destination, with what is wrong with it.
    pub pools: Vec<Pool>,
    /// Ports in use, by where connections go.
    pub ports: Vec<PortUse>,
    /// Queueing disciplines that held or dropped packets.
    pub disciplines: Vec<Discipline>,
    /// Devices that dropped packets.
    pub devices: Vec<Device>,
    /// UDP sockets that held or dropped packets.
    pub udp: Vec<UdpUse>,
    /// What network namespaces have counted.
    pub namespaces: Vec<NamespaceUse>,
    /// How long `connect` took, of those that succeeded.
    pub connect: Distribution,
    /// Connects that failed.
    pub connects_failed: u64,
    /// How connections ended, and attempts to make one.
    pub ends: Vec<Counted>,
    /// Whether what happened to sockets was recorded; if not, all is from looks without BPF.
    pub has_events: bool,
    /// Resets by direction and reason.
    pub resets: Vec<Counted>,
    /// Devices that packets waited for, the longest waits first.
    pub device_waits: Vec<DeviceWaits>,
    /// Packets dropped, by the kernel's reason.
    pub drops: Vec<Counted>,
    /// Records that were lost.
    pub lost: u64,
    /// What became of every run of a hook.
    pub ledger: Vec<LedgerRow>,
    /// What was not collected, and why.
    pub not_collected: Vec<String>,
}

/// How much was sent again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Retransmitted {
    /// Times.
    pub times: u64,
    /// Segments: the kernel's `RetransSegs`.
    pub segments: u64,
    /// Bytes.
    pub bytes: u64,
    /// Segments of these that were refused further down (`TCPRetransFail`).
    pub failed_segments: u64,
    /// Segments of attempts that TCP gave up before it counted them, because the first ones had not
    /// even left the host, for instance; in none of the figures above.
    pub given_up_segments: u64,
}

/// Results with which TCP gives up before it sends: `EAGAIN` outside of the peer's window, `ENOMEM`, `EBUSY`
/// while the first one is still in a queue of this host, `EINVAL`, `EHOSTUNREACH` (`__tcp_retransmit_skb`).
const GIVEN_UP: [i32; 5] = [-11, -12, -16, -22, -113];

/// One time that something was sent again.
#[derive(Clone, Copy, Debug)]
struct Again {
    reason: u8,
    segments: u32,
    bytes: u32,
    result: i32,
}

impl Again {
    fn of(record: &NetRetransmit) -> Self {
        Self {
            reason: record.reason,
            segments: record.segments,
            bytes: record.bytes,
            result: record.header.arg.cast_signed(),
        }
    }

    const fn of_synack(record: &NetSynAck) -> Self {
        Self { reason: record.header.arg.to_le_bytes()[0], segments: 1, bytes: 0, result: 0 }
    }

    fn is_given_up(self) -> bool {
        GIVEN_UP.contains(&self.result)
    }

    /// Segments that the kernel counts as sent again.
    fn counted(self) -> u64 {
        if self.is_given_up() { 0 } else { self.segments.into() }
    }
}

impl Retransmitted {
    fn add(&mut self, again: Again) {
        let segments = u64::from(again.segments);
        if again.is_given_up() {
            self.given_up_segments += segments;
            return;
        }
        self.times += 1;
        self.segments += segments;
        self.bytes += u64::from(again.bytes);
        self.failed_segments += if again.result == 0 { 0 } else { segments };
    }
}

/// What was sent again for one reason.
#[derive(Clone, Debug, Serialize)]
pub struct ReasonRow {
    /// The reason.
    pub reason: &'static str,
    /// How much.
    pub retransmitted: Retransmitted,
}

/// What was sent again to one peer.
#[derive(Clone, Debug, Serialize)]
pub struct PeerRow {
    /// Its address.
    pub peer: String,
    /// How much.
    pub retransmitted: Retransmitted,
    /// Segments by reason.
    pub by_reason: BTreeMap<&'static str, u64>,
}

/// How often something happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// What.
    pub what: String,
    /// How often.
    pub count: u64,
}

/// What a reason is called.
#[must_use]
pub const fn reason_name(reason: u8) -> &'static str {
    match reason {
        NET_RETRANSMIT_SYN => "SYN",
        NET_RETRANSMIT_TIMEOUT => "timeout",
        NET_RETRANSMIT_SLOW_START => "slow start",
        NET_RETRANSMIT_FAST => "fast",
        NET_RETRANSMIT_PROBE => "tail loss probe",
        NET_RETRANSMIT_SYNACK => "SYN-ACK",
        NET_RETRANSMIT_SYNACK_ASKED => "SYN-ACK, asked",
        NET_RETRANSMIT_CLOSED => "closed window",
        _ => "other",
    }
}

/// Summarizes the sockets of a recording; `None` if there are none.
#[must_use]
pub fn summarize_net(model: &Model) -> Option<NetSummary> {
    summarize_net_over(model, QUEUE_OVER_PCT)
}

/// The same, with queues told of from `queue_over_pct` percent of what they may hold on.
#[must_use]
pub fn summarize_net_over(model: &Model, queue_over_pct: u32) -> Option<NetSummary> {
    let network = &model.network;
    if network.sockets.is_empty() && network.host.is_empty() {
        return None;
    }
    let owners = Owners::of(model);
    let connects = network.sockets.iter().flat_map(life::connects);
    // What came while hz attached is half told.
    let connects: Vec<life::Connect> =
        connects.filter(|connect| connect.began_ns >= model.start_ns).collect();
    let made = connects.iter().filter(|connect| connect.is_made).map(|connect| connect.took_ns);
    let ends = network.sockets.iter().filter_map(life::end_of);
    let ends = ends.filter(|(time_ns, _)| *time_ns >= model.start_ns);
    let (retransmitted, by_reason) = by_reason(&network.sockets);
    Some(NetSummary {
        target: String::new(),
        duration_ns: model.end_ns.saturating_sub(model.start_ns),
        connections: network.sockets.iter().filter(|socket| !socket.is_listener()).count(),
        retransmitted,
        retransmitted_by_looks: network
            .sockets
            .iter()
            .map(|socket| socket.grown(|sample| sample.retransmitted.into()))
            .sum(),
        by_reason,
        by_peer: by_peer(&network.sockets),
        spurious_segments: network.sockets.iter().map(spurious_of).sum(),
        undone: network.sockets.iter().map(undone_of).sum(),
        worst: worst_connections(model, LISTED)
            .into_iter()
            .map(|socket| connection(model, &owners, socket))
            .collect(),
        queues_over: over::queues_over(model, &owners, queue_over_pct, LISTED),
        queue_over_pct,
        listeners: listeners::listeners(model, &owners),
        pools: pools::pools(model, &owners, LISTED),
        ports: ports::port_use(model, &owners, LISTED),
        disciplines: hosts::disciplines(model),
        devices: hosts::devices(model),
        udp: hosts::udp(model, &owners),
        namespaces: hosts::namespaces(model),
        connect: distribution(made.collect()),
        connects_failed: connects.iter().filter(|connect| !connect.is_made).count() as u64,
        ends: counted(ends.map(|(_, end)| end.words().to_owned())),
        has_events: !network.names.keys().all(|(table, _)| *table == NET_NAMES_NAMESPACE),
        resets: resets(model),
        device_waits: device_waits(network),
        drops: drops(model),
        lost: network.lost.iter().map(|(_, _, count)| count).sum(),
        ledger: Vec::new(),
        not_collected: Vec::new(),
    })
}

/// How long each connect took that was made, nanoseconds.
pub(crate) fn connect_times_ns(model: &Model) -> Vec<u64> {
    let connects = model.network.sockets.iter().flat_map(life::connects);
    let made = connects.filter(|connect| connect.is_made && connect.began_ns >= model.start_ns);
    made.map(|connect| connect.took_ns).collect()
}

/// How long each connection that a listener took waited to be accepted, nanoseconds.
pub(crate) fn accept_waits_ns(model: &Model) -> Vec<u64> {
    let taken = model.network.sockets.iter().filter(|socket| life::is_taken(socket));
    taken.filter_map(life::accept_wait_ns).collect()
}

/// Every retransmission of a socket.
fn each_retransmit(socket: &Socket) -> impl Iterator<Item = Again> + '_ {
    let synacks = socket.synacks.iter().map(Again::of_synack);
    socket.retransmits.iter().map(Again::of).chain(synacks)
}

fn by_reason(sockets: &[Socket]) -> (Retransmitted, Vec<ReasonRow>) {
    let mut all = Retransmitted::default();
    let mut rows: BTreeMap<u8, Retransmitted> = BTreeMap::new();
    for again in sockets.iter().flat_map(each_retransmit) {
        all.add(again);
        rows.entry(again.reason).or_default().add(again);
    }
    let rows = rows
        .into_iter()
        .map(|(reason, retransmitted)| ReasonRow { reason: reason_name(reason), retransmitted });
    (all, rows.collect())
}

fn by_peer(sockets: &[Socket]) -> Vec<PeerRow> {
    let mut rows: BTreeMap<[u8; 16], PeerRow> = BTreeMap::new();
    let mut add = |peer: [u8; 16], again: Again| {
        let row = rows.entry(peer).or_insert_with(|| PeerRow {
            peer: address(peer).to_string(),
            retransmitted: Retransmitted::default(),
            by_reason: BTreeMap::new(),
        });
        row.retransmitted.add(again);
        *row.by_reason.entry(reason_name(again.reason)).or_default() += again.counted();
    };
    for socket in sockets {
        let data = socket.retransmits.iter().map(Again::of);
        data.for_each(|again| add(socket.identity.peer, again));
        socket.synacks.iter().for_each(|record| add(record.peer, Again::of_synack(record)));
    }
    let mut rows: Vec<PeerRow> = rows.into_values().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.retransmitted.segments));
    rows
}

/// Segments that the peer said it had twice, while it was recorded.
fn spurious_of(socket: &Socket) -> u64 {
    socket.grown(|sample| sample.spurious.into())
}

fn undone_of(socket: &Socket) -> u64 {
    socket.congestion.iter().filter(|change| change.is_undone != 0).count() as u64
}

fn resets(model: &Model) -> Vec<Counted> {
    let resets = model.network.sockets.iter().flat_map(|socket| &socket.resets);
    counted(resets.map(|reset| {
        if reset.header.arg != NET_RESET_SENT {
            return "received".to_owned();
        }
        match reset.reason {
            u32::MAX => "sent".to_owned(),
            reason => format!("sent: {}", model.network.name(NET_NAMES_RESET, reason)),
        }
    }))
}

fn drops(model: &Model) -> Vec<Counted> {
    let network = &model.network;
    counted(network.drops.iter().map(|drop| network.name(NET_NAMES_DROP, drop.header.arg)))
}

/// How often each occurs, the most frequent first.
fn counted(things: impl Iterator<Item = String>) -> Vec<Counted> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for what in things {
        *counts.entry(what).or_default() += 1;
    }
    let mut rows: Vec<Counted> =
        counts.into_iter().map(|(what, count)| Counted { what, count }).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.count));
    rows
}
