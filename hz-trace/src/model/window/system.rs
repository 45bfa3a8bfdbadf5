//! What else is in a window: the network, memory, and hz itself.

use serde::{Deserialize, Serialize};

/// Something that is not collected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotCollected {
    /// What.
    pub what: String,
    /// Why, and what would help.
    pub why: String,
}

impl NotCollected {
    /// `what` is not collected because of `why`.
    pub fn new(what: &str, why: impl Into<String>) -> Self {
        Self { what: what.to_owned(), why: why.into() }
    }
}

/// What hz itself takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Own {
    /// CPU time of this process in the window.
    pub cpu_ns: u64,
    /// Resident memory now, bytes.
    pub memory_bytes: u64,
    /// Time that gathering this window took.
    pub gather_ns: u64,
    /// Windows that could not be shown because the screen was slower, since the start.
    pub dropped_windows: u64,
    /// Estimated CPU time of its programs in the kernel in the window.
    pub bpf_ns: u64,
}

/// One of hz's programs in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgramRow {
    /// Its name.
    pub program: String,
    /// Runs in the window, as far as they were measured.
    pub measured_runs: u64,
    /// Time these runs took together.
    pub measured_ns: u64,
    /// Runs that the kernel left out in the window.
    pub skipped: u64,
}

/// What the host counts of its network, and its sockets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// Connected sockets, or as many as are kept.
    pub sockets: Vec<Socket>,
    /// Connected sockets that there are.
    pub sockets_total: u64,
    /// Sockets that listen.
    pub listeners: Vec<Listener>,
    /// What the host's TCP counted.
    pub counts: ProtocolCounts,
    /// Local ports.
    pub ports: Ports,
    /// Queues of interfaces.
    pub qdiscs: Vec<Qdisc>,
}

/// What TCP counted in the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProtocolCounts {
    /// Segments sent.
    pub sent: u64,
    /// Segments sent again.
    pub retransmitted: u64,
    /// Times a retransmission timer fired.
    pub timeouts: u64,
    /// Tail loss probes.
    pub loss_probes: u64,
    /// Connections that a full accept queue turned away.
    pub listen_overflows: u64,
    /// Connections that were dropped by listeners, for whatever reason.
    pub listen_drops: u64,
    /// Connections that were accepted.
    pub accepted: u64,
    /// Connections that were begun.
    pub opened: u64,
}

/// Local ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ports {
    /// Sockets in `TIME_WAIT`.
    pub time_wait: u64,
    /// Ephemeral ports that are in use.
    pub used: u64,
    /// Ephemeral ports that there are.
    pub available: u64,
}

/// A connected socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Socket {
    /// Its cookie.
    pub cookie: u64,
    /// Its inode.
    pub inode: u64,
    /// Local address.
    pub local: String,
    /// Address of the peer.
    pub peer: String,
    /// State of the connection.
    pub state: String,
    /// Process that has it, 0: not known.
    pub pid: u32,
    /// Task or process that has it.
    pub owner: String,
    /// Bytes received and not read.
    pub receive_queue: u64,
    /// Bytes sent and not acknowledged, or not sent.
    pub send_queue: u64,
    /// Bytes of them that were never sent.
    pub unsent: u64,
    /// Congestion window, segments.
    pub cwnd: u32,
    /// Smoothed round trip time, microseconds.
    pub srtt_us: u32,
    /// Segments sent again, since it was connected.
    pub retransmits_total: u64,
    /// Segments sent again in the window.
    pub retransmits: u64,
    /// Retransmission timeouts that are pending.
    pub backoff: u32,
    /// What limits it: `app`, `cwnd`, `rwnd`, `sndbuf`.
    pub limited: String,
    /// Bytes sent and acknowledged in the window.
    pub sent_bytes: u64,
    /// Bytes received in the window.
    pub received_bytes: u64,
}

impl Socket {
    /// What makes it remarkable.
    pub(super) fn weight(&self) -> u64 {
        self.unsent + self.send_queue + self.receive_queue + self.retransmits * 100_000
    }
}

/// A socket that listens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Listener {
    /// Its address.
    pub local: String,
    /// Its inode.
    pub inode: u64,
    /// Process that has it, 0: not known.
    pub pid: u32,
    /// Process that has it.
    pub owner: String,
    /// Connections that wait to be accepted.
    pub queue: u64,
    /// How many may.
    pub limit: u64,
}

/// The queue of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Qdisc {
    /// The interface.
    pub interface: String,
    /// Kind of queue.
    pub kind: String,
    /// Packets that wait.
    pub packets: u64,
    /// Bytes that wait.
    pub bytes: u64,
    /// Packets that may wait, if that is known.
    pub limit: Option<u64>,
    /// Packets dropped in the window.
    pub dropped: u64,
    /// Packets that had to be put back in the window.
    pub requeued: u64,
    /// Packets sent in the window.
    pub sent: u64,
}

/// A place that allocates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Site {
    /// Process.
    pub pid: u32,
    /// Where: the innermost frames that are not the allocator's.
    pub place: String,
    /// Estimated bytes allocated in the window.
    pub bytes: u64,
    /// Estimated bytes that were allocated and not freed since hz looks.
    pub live_bytes: u64,
    /// Samples in the window.
    pub samples: u64,
}

/// A pool of buffers, by the size of its pages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PoolRow {
    /// Process.
    pub pid: u32,
    /// Size of a page, bytes.
    pub page_bytes: u64,
    /// Buffers taken in the window.
    pub taken: u64,
    /// Buffers given back in the window.
    pub returned: u64,
    /// Bytes of buffers that were taken and not given back, since hz looks.
    pub used_bytes: u64,
    /// Tasks that wait for a buffer.
    pub waiting: u64,
}
