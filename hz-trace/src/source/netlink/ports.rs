//! TCP connections of a namespace, counted by where they go.

use super::inet::state;
use hz_probes_ebpf::{
    Header, Kind,
    net_host::{HOST_PORTS_IN, HOST_PORTS_OUT, HostPorts, HostSocket},
};
use std::collections::{BTreeMap, BTreeSet};

/// Groups of connections that are told apart in one look; a server has one for each of its
/// listeners, a client one for each of its servers.
const GROUPS_MAX: usize = 4_096;

/// Ports that the kernel chooses from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PortRange {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) reserved: u32,
}

impl PortRange {
    /// From the texts of `ip_local_port_range` and `ip_local_reserved_ports`; nothing, if they are not
    /// what the kernel writes.
    pub(super) fn parse(range: &str, reserved: &str) -> Self {
        let mut ends = range.split_whitespace().map(|port| port.parse().ok());
        let (Some(Some(first)), Some(Some(last))) = (ends.next(), ends.next()) else {
            return Self::default();
        };
        let parts = reserved.trim().split(',').filter_map(|part| {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            let (from, to): (u16, u16) = (from.parse().ok()?, to.parse().ok()?);
            let (from, to) = (from.max(first), to.min(last));
            (from <= to).then(|| u32::from(to - from) + 1)
        });
        Self { first, last, reserved: parts.sum() }
    }

    const fn has(self, port: u16) -> bool {
        port >= self.first && port <= self.last
    }
}

/// Source, destination, port there, and whether a listener of this host took them.
type Key = ([u8; 16], [u8; 16], u16, bool);

/// The groups of one look.
#[derive(Debug, Default)]
pub(super) struct Ports {
    range: PortRange,
    listeners: BTreeSet<(u16, [u8; 16])>,
    groups: BTreeMap<Key, HostPorts>,
    pub(super) left_out: u32,
}

impl Ports {
    pub(super) fn new(range: PortRange) -> Self {
        Self { range, ..Self::default() }
    }

    /// Notes a listener. All are to be known before the first connection is counted.
    pub(super) fn listener(&mut self, socket: &HostSocket) {
        self.listeners.insert((socket.local_port, socket.local));
    }

    /// Counts a connection.
    pub(super) fn count(&mut self, socket: &HostSocket) {
        let is_in = [socket.local, [0; 16]]
            .into_iter()
            .any(|address| self.listeners.contains(&(socket.local_port, address)));
        let key = if is_in {
            (socket.local, [0; 16], socket.local_port, true)
        } else {
            (socket.local, socket.peer, socket.peer_port, false)
        };
        if self.groups.len() >= GROUPS_MAX && !self.groups.contains_key(&key) {
            self.left_out = self.left_out.saturating_add(1);
            return;
        }
        let group = self.groups.entry(key).or_default();
        let place = match socket.state {
            state::TIME_WAIT => &mut group.time_wait,
            state::ESTABLISHED => &mut group.established,
            state::SYN_SENT | state::SYN_RECEIVED | state::NEW_SYN_RECEIVED => {
                &mut group.connecting
            }
            state::CLOSE_WAIT => &mut group.close_wait,
            _ => &mut group.closing,
        };
        *place += 1;
        group.in_range += u32::from(self.range.has(socket.local_port));
    }

    /// The groups.
    pub(super) fn finish(self, time_ns: u64, netns: u32) -> Vec<HostPorts> {
        let range = self.range;
        let record = |((source, destination, port, is_in), group): (Key, HostPorts)| HostPorts {
            header: Header {
                time_ns,
                kind: Kind::HostPorts as u16,
                cpu: u16::MAX,
                arg: if is_in { HOST_PORTS_IN } else { HOST_PORTS_OUT },
                ..Header::default()
            },
            source,
            destination,
            port,
            netns,
            range_first: range.first,
            range_last: range.last,
            reserved_ports: range.reserved,
            ..group
        };
        self.groups.into_iter().map(record).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_is_what_the_kernel_may_choose() {
        let range = PortRange::parse("32768\t60999\n", "80,40000-40009,60990-61010\n");
        assert_eq!(range, PortRange { first: 32_768, last: 60_999, reserved: 20 });
        assert_eq!(PortRange::parse("", "x"), PortRange::default());
    }

    #[test]
    fn connections_are_counted_by_where_they_go_and_those_to_listeners_apart() {
        let mut ports = Ports::new(PortRange { first: 32_768, last: 60_999, reserved: 0 });
        let any = HostSocket { local_port: 80, state: state::LISTEN, ..HostSocket::default() };
        ports.listener(&any);
        let peer = [7; 16];
        for (local_port, peer_port, state) in [
            (40_000, 5432, state::TIME_WAIT),
            (40_001, 5432, state::ESTABLISHED),
            (1_000, 5432, state::CLOSE_WAIT),
            (80, 50_000, state::ESTABLISHED),
        ] {
            ports.count(&HostSocket { local_port, peer, peer_port, state, ..any });
        }
        let [inward, out] = &ports.finish(5, 9)[..] else { panic!("two groups") };
        assert_eq!((inward.header.arg, inward.port, inward.established), (HOST_PORTS_IN, 80, 1));
        assert_eq!((out.port, out.time_wait, out.established, out.close_wait), (5432, 1, 1, 1));
        assert_eq!(out.in_range, 2);
    }
}
