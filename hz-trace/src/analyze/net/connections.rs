//! Connections with most reason to wait.

use super::life::end_of;
use super::{
    Again, Counted, End, Owner, Owners, QueuedPackets, Retransmitted, SocketWaitKind,
    each_retransmit, reason_name, sojourn::queued_packets, spurious_of, undone_of, waits_of_socket,
};
use crate::model::{
    Model, display_comm,
    net::{Socket, state_name},
};
use hz_probes_ebpf::net::NetSample;
use serde::Serialize;
use std::{cmp::Reverse, collections::BTreeMap};

/// Owners of retransmits that are listed of a connection.
const OWNERS_LISTED: usize = 4;

/// One connection.
#[derive(Clone, Debug, Serialize)]
pub struct Connection {
    /// Its number, unique on the host.
    pub cookie: u64,
    /// Its own address.
    pub local: String,
    /// Its peer's.
    pub peer: String,
    /// Inode of its network namespace.
    pub netns: u32,
    /// What that is called.
    pub namespace: String,
    /// Its state at the end.
    pub state: &'static str,
    /// Its congestion control.
    pub algorithm: String,
    /// Who used it last.
    pub owner: Owner,
    /// What was sent again.
    pub retransmitted: Retransmitted,
    /// Segments by reason.
    pub by_reason: BTreeMap<&'static str, u64>,
    /// Who queued what was sent again, with segments.
    pub queued_by: Vec<(Owner, u64)>,
    /// Segments that the peer had twice.
    pub spurious_segments: u64,
    /// Times that the kernel took its reaction to a loss back.
    pub undone: u64,
    /// How long it waited, by what for.
    pub waited_ns: BTreeMap<SocketWaitKind, u64>,
    /// Smoothed round trip at the end, microseconds.
    pub srtt_us: u32,
    /// The longest retransmission timeout, microseconds.
    pub rto_max_us: u32,
    /// The most that was queued and not sent, bytes.
    pub unsent_max_bytes: u32,
    /// The most that was sent and not acknowledged, bytes.
    pub unacked_max_bytes: u32,
    /// The most that its process left unread, bytes.
    pub unread_max_bytes: u32,
    /// How long bytes were there for its process to read, as far as the looks show.
    pub unread_ns: u64,
    /// What kept unsent bytes from being sent, by how often a look found it.
    pub limited_by: Vec<Counted>,
    /// Bytes sent and received, at the last look.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// How long its packets waited to be given to a device; `None`: none did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued: Option<QueuedPackets>,
    /// Its error, a positive `errno`; 0: none.
    pub error: u32,
    /// How it ended, if that was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
    /// States it entered, with when, nanoseconds since recording began.
    pub states: Vec<(u64, &'static str)>,
}

/// The `count` connections with most reason to wait: those that waited longest, then those that sent
/// most again.
#[must_use]
pub fn worst_connections(model: &Model, count: usize) -> Vec<&Socket> {
    let mut ranked: Vec<(u64, u64, &Socket)> = model
        .network
        .sockets
        .iter()
        .filter(|socket| !socket.is_listener())
        .map(|socket| {
            let segments = each_retransmit(socket).map(Again::counted).sum();
            (waited_ns(model, socket).values().sum(), segments, socket)
        })
        .filter(|(waited_ns, segments, _)| *waited_ns > 0 || *segments > 0)
        .collect();
    ranked.sort_by_key(|(waited_ns, segments, socket)| {
        (Reverse(*waited_ns), Reverse(*segments), socket.cookie)
    });
    ranked.into_iter().take(count).map(|(_, _, socket)| socket).collect()
}

fn waited_ns(model: &Model, socket: &Socket) -> BTreeMap<SocketWaitKind, u64> {
    let mut waited = BTreeMap::new();
    for wait in waits_of_socket(socket, model.end_ns) {
        let start_ns = wait.start_ns.max(model.start_ns);
        *waited.entry(wait.kind).or_default() += wait.end_ns.saturating_sub(start_ns);
    }
    waited
}

fn most(socket: &Socket, of: impl Fn(&NetSample) -> u32) -> u32 {
    socket.samples.iter().map(of).max().unwrap_or(0)
}

pub(super) fn connection(model: &Model, owners: &Owners<'_>, socket: &Socket) -> Connection {
    let mut retransmitted = Retransmitted::default();
    let mut by_reason: BTreeMap<&'static str, u64> = BTreeMap::new();
    for again in each_retransmit(socket) {
        retransmitted.add(again);
        *by_reason.entry(reason_name(again.reason)).or_default() += again.counted();
    }
    let last = socket.samples.last();
    let timeouts = socket.retransmits.iter().map(|record| record.rto_us);
    Connection {
        cookie: socket.cookie,
        local: socket.local().to_string(),
        peer: socket.peer().to_string(),
        netns: socket.identity.netns,
        namespace: model.network.namespace(socket.identity.netns),
        state: state_name(
            last.filter(|_| socket.states.is_empty()).map_or(socket.state(), |last| last.state),
        ),
        algorithm: display_comm(&socket.identity.algorithm),
        owner: owners.of_socket(socket, model.end_ns),
        retransmitted,
        by_reason,
        queued_by: queued_by(owners, socket),
        spurious_segments: spurious_of(socket),
        undone: undone_of(socket),
        waited_ns: waited_ns(model, socket),
        srtt_us: last.map_or(0, |sample| sample.srtt_us),
        rto_max_us: timeouts.max().unwrap_or(0).max(last.map_or(0, |sample| sample.rto_us)),
        unsent_max_bytes: most(socket, |sample| sample.unsent_bytes)
            .max(socket.retransmits.iter().map(|record| record.unsent_bytes).max().unwrap_or(0)),
        unacked_max_bytes: most(socket, |sample| sample.unacked_bytes)
            .max(socket.retransmits.iter().map(|record| record.unacked_bytes).max().unwrap_or(0)),
        unread_max_bytes: most(socket, |sample| sample.unread_bytes),
        unread_ns: time_with(socket, |sample| sample.unread_bytes > 0),
        limited_by: limited_by(socket),
        sent_bytes: last.map_or(0, |sample| sample.sent_bytes),
        received_bytes: last.map_or(0, |sample| sample.received_bytes),
        queued: queued_packets(socket),
        error: socket.error,
        end: end_of(socket).map(|(_, end)| end),
        states: socket
            .states
            .iter()
            .map(|(time_ns, state)| (time_ns.saturating_sub(model.start_ns), state_name(*state)))
            .collect(),
    }
}

/// Who queued what was sent again, by segments.
fn queued_by(owners: &Owners<'_>, socket: &Socket) -> Vec<(Owner, u64)> {
    let mut segments: BTreeMap<Owner, u64> = BTreeMap::new();
    for record in &socket.retransmits {
        *segments.entry(owners.of_retransmit(record)).or_default() += Again::of(record).counted();
    }
    let mut rows: Vec<_> = segments.into_iter().collect();
    rows.sort_by_key(|(_, segments)| Reverse(*segments));
    rows.truncate(OWNERS_LISTED);
    rows
}

/// How long `is_so` held: from each look that found it so to the next.
pub(super) fn time_with(socket: &Socket, is_so: impl Fn(&NetSample) -> bool) -> u64 {
    let pairs = socket.samples.windows(2).filter(|pair| is_so(&pair[0]));
    pairs.map(|pair| pair[1].header.time_ns.saturating_sub(pair[0].header.time_ns)).sum()
}

/// Why unsent bytes were not sent, as the looks show.
fn limited_by(socket: &Socket) -> Vec<Counted> {
    let with_unsent = socket.samples.iter().filter(|sample| sample.unsent_bytes > 0);
    super::counted(with_unsent.map(|sample| why_unsent(sample).to_owned()))
}

/// What keeps unsent bytes from being sent, as the socket itself shows.
#[must_use]
pub(super) fn why_unsent(sample: &NetSample) -> &'static str {
    let in_flight = sample.packets_out.saturating_sub(sample.lost_out);
    if sample.peer_window_bytes <= sample.unacked_bytes || sample.limit == 2 {
        "the peer's window"
    } else if in_flight >= sample.cwnd {
        "the congestion window"
    } else if sample.pacing_bytes_per_s != u64::MAX {
        "pacing or the device"
    } else {
        "the device"
    }
}
