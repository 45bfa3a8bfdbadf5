//! Sockets: what they are, whose, and what happened to them.

use hz_probes_ebpf::net::{
    NET_NAMES_NAMESPACE, NET_SOCKET_WAS_THERE, NetCongestion, NetDrop, NetOwner, NetQueued,
    NetReset, NetRetransmit, NetSample, NetSocket, NetSojourn, NetSynAck,
};
use rustc_hash::FxHashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// A socket's place in [`Network::sockets`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketIndex(pub u32);

/// What is known of sockets.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// Every socket that a record named, in the order of appearance.
    pub sockets: Vec<Socket>,
    /// How long packets waited for devices.
    pub queues: Vec<QueueWaits>,
    /// Packets that were dropped.
    pub drops: Vec<NetDrop>,
    /// What the recorded kernel calls its reasons, by table and number.
    pub names: FxHashMap<(u32, u32), String>,
    /// What the kernel said of namespaces when it was asked.
    pub host: super::net_host::NetHost,
    /// Records lost, with the times between which that was, nanoseconds of `CLOCK_MONOTONIC`.
    pub lost: Vec<(u64, u64, u64)>,
}

impl Network {
    /// The socket at `index`.
    ///
    /// # Panics
    ///
    /// If `index` is of another model.
    #[must_use]
    pub fn socket(&self, index: SocketIndex) -> &Socket {
        &self.sockets[index.0 as usize]
    }

    /// What a network namespace is called, or its inode.
    #[must_use]
    pub fn namespace(&self, inode: u32) -> String {
        let name = self.names.get(&(NET_NAMES_NAMESPACE, inode)).cloned();
        name.unwrap_or_else(|| format!("namespace {inode}"))
    }

    /// The kernel's name of a reason, or its number.
    #[must_use]
    pub fn name(&self, table: u32, number: u32) -> String {
        self.names.get(&(table, number)).cloned().unwrap_or_else(|| format!("reason {number}"))
    }
}

/// How long packets waited for a device, in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueWaits {
    /// Their number and the longest wait.
    pub told: NetSojourn,
    /// The histogram, as [`bucket_of`](hz_probes_ebpf::aggregate::bucket_of) numbers it.
    pub buckets: Vec<u64>,
}

/// A time during which a peer took no data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedWindow {
    /// When it closed its window, nanoseconds of `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// When it opened it; `None`: not in the recording.
    pub end_ns: Option<u64>,
}

/// A socket's life, as far as it was recorded.
#[derive(Clone, Debug)]
pub struct Socket {
    /// Its number, unique on the host.
    pub cookie: u64,
    /// What it is.
    pub identity: NetSocket,
    /// Who used it, in order.
    pub owners: Vec<NetOwner>,
    /// When it entered which state, as the kernel numbers them, nanoseconds of `CLOCK_MONOTONIC`.
    pub states: Vec<(u64, u8)>,
    /// An error it ended with, a positive `errno`; 0: none.
    pub error: u32,
    /// What was sent again.
    pub retransmits: Vec<NetRetransmit>,
    /// SYN-ACKs sent again, of a listener.
    pub synacks: Vec<NetSynAck>,
    /// What its queues held: only looks at which something had changed, and the last one.
    pub samples: Vec<NetSample>,
    /// Times during which its peer took no data.
    pub closed_windows: Vec<ClosedWindow>,
    /// Recoveries and losses.
    pub congestion: Vec<NetCongestion>,
    /// Resets.
    pub resets: Vec<NetReset>,
    /// How long its packets waited for a device; `None`: none did.
    pub queued: Option<NetQueued>,
    /// When its first and last record was, nanoseconds of `CLOCK_MONOTONIC`.
    pub seen_ns: (u64, u64),
    /// Whether it was destroyed.
    pub is_over: bool,
    /// Whether it is known from looks without BPF only: what happened between them was not seen.
    pub is_from_looks: bool,
}

/// The kernel's `TCP_LISTEN`.
const LISTEN: u8 = 10;

impl Socket {
    /// A socket of which only the cookie is known yet.
    pub(super) fn new(cookie: u64, time_ns: u64) -> Self {
        Self {
            cookie,
            identity: NetSocket { cookie, ..NetSocket::default() },
            owners: Vec::new(),
            states: Vec::new(),
            error: 0,
            retransmits: Vec::new(),
            synacks: Vec::new(),
            samples: Vec::new(),
            closed_windows: Vec::new(),
            congestion: Vec::new(),
            resets: Vec::new(),
            queued: None,
            seen_ns: (time_ns, time_ns),
            is_over: false,
            is_from_looks: false,
        }
    }

    /// Its own address and port.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        SocketAddr::new(address(self.identity.local), self.identity.local_port)
    }

    /// Its peer's.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        SocketAddr::new(address(self.identity.peer), self.identity.peer_port)
    }

    /// Whether it was there before recording began.
    #[must_use]
    pub const fn was_there(&self) -> bool {
        self.identity.flags & NET_SOCKET_WAS_THERE != 0
    }

    /// What a count that only grows has grown by: since the first look if it was there before recording
    /// began, else in its life.
    #[must_use]
    pub fn grown(&self, count: impl Fn(&NetSample) -> u64) -> u64 {
        let last = self.samples.last().map_or(0, &count);
        let before = if self.was_there() { self.samples.first().map_or(0, &count) } else { 0 };
        last.saturating_sub(before)
    }

    /// Whether it listens, or did.
    #[must_use]
    pub fn is_listener(&self) -> bool {
        self.identity.state == LISTEN || self.states.iter().any(|(_, state)| *state == LISTEN)
    }

    /// Its state when the recording ended or it did, as the kernel numbers it.
    #[must_use]
    pub fn state(&self) -> u8 {
        self.states.last().map_or(self.identity.state, |(_, state)| *state)
    }

    /// Who used it last before `time_ns`, or first.
    #[must_use]
    pub fn owner_at(&self, time_ns: u64) -> Option<&NetOwner> {
        let behind = self.owners.partition_point(|owner| owner.header.time_ns <= time_ns);
        self.owners.get(behind.saturating_sub(1))
    }
}

/// An address as records have it; IPv4 ones are mapped there.
#[must_use]
pub fn address(bytes: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(bytes).to_canonical()
}

/// The kernel's name of a TCP state.
#[must_use]
pub const fn state_name(state: u8) -> &'static str {
    match state {
        1 => "established",
        2 => "syn-sent",
        3 => "syn-received",
        4 => "fin-wait-1",
        5 => "fin-wait-2",
        6 => "time-wait",
        7 => "closed",
        8 => "close-wait",
        9 => "last-ack",
        LISTEN => "listen",
        11 => "closing",
        12 => "new-syn-received",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_as_their_family_has_them() {
        let mut bytes = [0; 16];
        bytes[10..].copy_from_slice(&[0xff, 0xff, 10, 77, 0, 1]);
        assert_eq!(address(bytes).to_string(), "10.77.0.1");
        bytes = [0; 16];
        bytes[15] = 1;
        assert_eq!(address(bytes).to_string(), "::1");
    }

    #[test]
    fn the_owner_is_the_last_before() {
        let mut socket = Socket::new(7, 0);
        assert!(socket.owner_at(5).is_none());
        for (time_ns, pid) in [(10, 1), (20, 2)] {
            let header = hz_probes_ebpf::Header { time_ns, pid, ..Default::default() };
            socket.owners.push(NetOwner { header, cookie: 7 });
        }
        let pid = |time_ns| socket.owner_at(time_ns).unwrap().header.pid;
        assert_eq!([pid(5), pid(10), pid(19), pid(20), pid(99)], [1, 1, 1, 2, 2]);
    }
}
