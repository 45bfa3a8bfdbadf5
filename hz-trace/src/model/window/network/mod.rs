//! The network in a window: sockets, listeners, ports, queues, and what TCP counted.

mod fold;
mod names;

pub use fold::{Limits, NetworkFolder};
pub use names::{LimitedBy, TcpState};

use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// What the host counts of its network, and its sockets.
///
/// Counts are of the time since the look before, [`Network::length_ns`]: with very many sockets a look
/// takes so long that not every window has one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// When it was looked at, nanoseconds of `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// Time since the look before, 0: there was none.
    pub length_ns: u64,
    /// Whether the look was in this window; otherwise it is the last one there was.
    pub is_fresh: bool,
    /// How long the look took.
    pub took_ns: u64,
    /// Connected sockets, or as many as are kept.
    pub sockets: Vec<Socket>,
    /// Connected sockets of the target that there are.
    pub sockets_total: u64,
    /// Sockets that listen.
    pub listeners: Vec<Listener>,
    /// What TCP counted, of all network namespaces of the target.
    pub counts: ProtocolCounts,
    /// Local ports.
    pub ports: Ports,
    /// Queues of interfaces.
    pub qdiscs: Vec<Qdisc>,
    /// Whether the kernel was asked for the reason of each segment that was sent again.
    pub has_reasons: bool,
}

impl Network {
    /// How many a second `count` is.
    #[must_use]
    pub fn per_second(&self, count: u64) -> f64 {
        if self.length_ns == 0 { 0.0 } else { count as f64 * 1e9 / self.length_ns as f64 }
    }

    /// The connected socket with this cookie.
    #[must_use]
    pub fn socket(&self, cookie: u64) -> Option<&Socket> {
        self.sockets.iter().find(|socket| socket.cookie == cookie)
    }
}

/// What TCP counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProtocolCounts {
    /// Segments sent, without those sent again.
    pub sent: u64,
    /// Segments sent again.
    pub retransmitted: u64,
    /// Times a retransmission timer fired.
    pub timeouts: u64,
    /// Tail loss probes.
    pub loss_probes: u64,
    /// Segments sent again because acknowledgements showed a loss.
    pub fast_retransmits: u64,
    /// `SYN`s and `SYN-ACK`s sent again.
    pub syn_retransmits: u64,
    /// Connections that a full accept queue turned away.
    pub listen_overflows: u64,
    /// Connections that were dropped by listeners, for whatever reason.
    pub listen_drops: u64,
    /// Connections that listeners got.
    pub accepted: u64,
    /// Connections that were begun.
    pub opened: u64,
    /// Attempts to connect that failed.
    pub failed: u64,
}

/// Local ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ports {
    /// Connections in `TIME_WAIT`.
    pub time_wait: u64,
    /// Connections whose own port is ephemeral.
    pub used: u64,
    /// Ephemeral ports that there are for one address of a peer.
    pub available: u64,
    /// Connections with ephemeral ports to that address and port that has most of them.
    pub most_used: u64,
}

/// Why segments were sent again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reasons {
    /// A timer expired, and what is sent again after it.
    pub timeout: u32,
    /// Acknowledgements showed a loss.
    pub fast: u32,
    /// Tail loss probes.
    pub probe: u32,
    /// A `SYN` or `SYN-ACK` was not answered.
    pub syn: u32,
    /// Other reasons.
    pub other: u32,
}

impl Reasons {
    /// All together.
    #[must_use]
    pub const fn total(&self) -> u32 {
        self.timeout + self.fast + self.probe + self.syn + self.other
    }

    /// As people say it: `2 RTO 1 fast`.
    #[must_use]
    pub fn words(&self) -> String {
        let parts = [
            (self.timeout, "RTO"),
            (self.fast, "fast"),
            (self.probe, "TLP"),
            (self.syn, "SYN"),
            (self.other, "other"),
        ];
        let parts = parts.into_iter().filter(|(count, _)| *count > 0);
        parts.map(|(count, what)| format!("{count} {what}")).collect::<Vec<_>>().join(" ")
    }
}

/// A connected socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Socket {
    /// Its cookie.
    pub cookie: u64,
    /// Its inode.
    pub inode: u32,
    /// Local address.
    pub local: SocketAddr,
    /// Address of the peer.
    pub peer: SocketAddr,
    /// State of the connection.
    pub state: TcpState,
    /// Process that has it, 0: not known.
    pub pid: u32,
    /// Thread that used it last, 0: not known.
    pub tid: u32,
    /// Name of that process.
    pub owner: String,
    /// Task that waits for it or did last, with its number; empty: not known.
    pub task: String,
    /// Bytes received and not read.
    pub receive_queue: u64,
    /// Bytes sent and not acknowledged, or not sent.
    pub send_queue: u64,
    /// Bytes of them that were never sent.
    pub unsent: u64,
    /// Limit of what may be queued to be sent, bytes of memory.
    pub send_limit: u64,
    /// Congestion window, segments.
    pub cwnd: u32,
    /// Smoothed round trip time, microseconds.
    pub srtt_us: u32,
    /// Segments sent again, since it was connected.
    pub retransmits_total: u64,
    /// Segments sent again since the look before.
    pub retransmits: u64,
    /// Why, as far as that was asked for.
    pub reasons: Reasons,
    /// How often its retransmission timeout is doubled now.
    pub backoff: u32,
    /// What limits it.
    pub limited: LimitedBy,
    /// Bytes sent and acknowledged since the look before.
    pub sent_bytes: u64,
    /// Bytes received since the look before.
    pub received_bytes: u64,
}

const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

impl Default for Socket {
    fn default() -> Self {
        Self {
            cookie: 0,
            inode: 0,
            local: NOWHERE,
            peer: NOWHERE,
            state: TcpState::default(),
            pid: 0,
            tid: 0,
            owner: String::new(),
            task: String::new(),
            receive_queue: 0,
            send_queue: 0,
            unsent: 0,
            send_limit: 0,
            cwnd: 0,
            srtt_us: 0,
            retransmits_total: 0,
            retransmits: 0,
            reasons: Reasons::default(),
            backoff: 0,
            limited: LimitedBy::default(),
            sent_bytes: 0,
            received_bytes: 0,
        }
    }
}

impl Socket {
    /// What makes it remarkable: bytes that wait, and segments that had to be sent again.
    #[must_use]
    pub const fn weight(&self) -> u64 {
        self.unsent
            + self.send_queue
            + self.receive_queue
            + self.retransmits * 100_000
            + self.backoff as u64 * 1_000_000
    }
}

/// A socket that listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Listener {
    /// Its address.
    pub local: SocketAddr,
    /// Its cookie.
    pub cookie: u64,
    /// Its inode.
    pub inode: u32,
    /// Process that has it, 0: not known.
    pub pid: u32,
    /// Name of that process.
    pub owner: String,
    /// Task that accepts from it, with its number; empty: not known.
    pub task: String,
    /// Connections that wait to be accepted.
    pub queue: u64,
    /// How many may.
    pub limit: u64,
    /// Connections refused or forgotten since the look before.
    pub dropped: u64,
    /// Connections refused or forgotten in its life.
    pub dropped_total: u64,
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            local: NOWHERE,
            cookie: 0,
            inode: 0,
            pid: 0,
            owner: String::new(),
            task: String::new(),
            queue: 0,
            limit: 0,
            dropped: 0,
            dropped_total: 0,
        }
    }
}

/// The queue of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Qdisc {
    /// The interface.
    pub interface: String,
    /// Kind of queue.
    pub kind: String,
    /// Its handle: major number in the upper half.
    pub handle: u32,
    /// Packets that wait.
    pub packets: u64,
    /// Bytes that wait.
    pub bytes: u64,
    /// Packets that may wait, if that is known.
    pub limit: Option<u64>,
    /// Bytes that may wait, if that is known.
    pub limit_bytes: Option<u64>,
    /// How long what waits takes at the rate of now, nanoseconds; `None`: nothing is sent.
    pub wait_ns: Option<u64>,
    /// Packets dropped since the look before.
    pub dropped: u64,
    /// Packets that had to be put back since the look before.
    pub requeued: u64,
    /// Packets sent since the look before.
    pub sent: u64,
    /// Bytes sent since the look before.
    pub sent_bytes: u64,
    /// Packets dropped since it was made.
    pub dropped_total: u64,
}
