//! Ports in use: how many of those that the kernel may choose are taken, and by what.

use super::{Owner, Owners, life};
use crate::model::{
    Model,
    net::address,
    net_host::{Looks, PortsKey},
};
use hz_probes_ebpf::net_host::HostPorts;
use serde::Serialize;
use std::{cmp::Reverse, net::SocketAddr};

/// Connections from one address to one address and port.
#[derive(Clone, Debug, Serialize)]
pub struct PortUse {
    /// From where.
    pub source: String,
    /// To where, with the port.
    pub destination: String,
    /// Inode of the network namespace.
    pub netns: u32,
    /// What that is called.
    pub namespace: String,
    /// The processes that were seen to connect there; `TIME_WAIT` belongs to nobody any more.
    pub owners: Vec<Owner>,
    /// Ports of the range in use at most, at one look.
    pub in_use_max: u32,
    /// Ports of the range in use at the last look.
    pub in_use_last: u32,
    /// Ports that the kernel may choose for it: `ip_local_port_range` without
    /// `ip_local_reserved_ports`. Other destinations may use the same ones.
    pub available: u32,
    /// The most in `TIME_WAIT`, at one look.
    pub time_wait_max: u32,
    /// The most open ones, at one look.
    pub established_max: u32,
    /// The most that this side had closed and the peer had not.
    pub closing_max: u32,
    /// The most that the peer had closed and this side had not.
    pub close_wait_max: u32,
    /// Connects that found no port (`EADDRNOTAVAIL`).
    pub no_port: u64,
}

impl PortUse {
    /// The share of the available ports in use at most, in percent.
    #[must_use]
    pub fn in_use_pct(&self) -> f64 {
        100.0 * f64::from(self.in_use_max) / f64::from(self.available.max(1))
    }
}

/// Where connections go, those that use most ports first.
pub(super) fn port_use(model: &Model, owners: &Owners<'_>, count: usize) -> Vec<PortUse> {
    let ports = model.network.host.ports.iter().filter(|(key, _)| !key.is_in);
    let mut rows: Vec<PortUse> = ports.map(|(key, looks)| row(model, key, looks)).collect();
    rows.sort_by_key(|row| {
        (Reverse(row.no_port), Reverse(row.in_use_max), row.destination.clone())
    });
    rows.truncate(count);
    rows.iter_mut().for_each(|row| row.owners = owners_of(model, owners, row));
    rows
}

/// Ports that the kernel may choose.
pub(super) fn available(ports: &HostPorts) -> u32 {
    if ports.range_last < ports.range_first {
        return 0;
    }
    (u32::from(ports.range_last - ports.range_first) + 1).saturating_sub(ports.reserved_ports)
}

fn row(model: &Model, key: &PortsKey, looks: &Looks<HostPorts>) -> PortUse {
    let most = |of: fn(&HostPorts) -> u32| looks.all().iter().map(of).max().unwrap_or(0);
    let destination = SocketAddr::new(address(key.destination), key.port);
    let is_there = |socket: &&crate::model::net::Socket| {
        socket.identity.netns == key.netns && socket.peer() == destination
    };
    let sockets = model.network.sockets.iter().filter(is_there);
    PortUse {
        source: address(key.source).to_string(),
        destination: destination.to_string(),
        netns: key.netns,
        namespace: model.network.namespace(key.netns),
        owners: Vec::new(),
        in_use_max: most(|ports| ports.in_range),
        in_use_last: looks.all().last().map_or(0, |ports| ports.in_range),
        available: looks.all().last().map_or(0, available),
        time_wait_max: most(|ports| ports.time_wait),
        established_max: most(|ports| ports.established),
        closing_max: most(|ports| ports.closing),
        close_wait_max: most(|ports| ports.close_wait),
        no_port: sockets.map(life::without_port).sum(),
    }
}

/// Who connects there, each process once.
fn owners_of(model: &Model, owners: &Owners<'_>, row: &PortUse) -> Vec<Owner> {
    let mut found: Vec<Owner> = Vec::new();
    for socket in &model.network.sockets {
        if socket.identity.netns != row.netns || socket.peer().to_string() != row.destination {
            continue;
        }
        let owner = owners.of_socket(socket, model.end_ns);
        if owner.pid != 0 && found.iter().all(|known| known.pid != owner.pid) {
            found.push(owner);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode::Event, model::Folder};
    use hz_probes_ebpf::{
        Header,
        net::{NET_OWNER_CONNECTS, NetSocket},
    };

    fn mapped(last: u8) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[10..].copy_from_slice(&[0xff, 0xff, 10, 0, 0, last]);
        bytes
    }

    #[test]
    fn ports_are_counted_against_those_that_the_kernel_may_choose() {
        let mut folder = Folder::new(0, false);
        for (time_ns, time_wait) in [(1, 10), (2, 900), (3, 400)] {
            folder.fold(&Event::HostPorts(HostPorts {
                header: Header { time_ns, ..Header::default() },
                source: mapped(1),
                destination: mapped(2),
                netns: 9,
                port: 5432,
                range_first: 40_000,
                range_last: 40_999,
                reserved_ports: 100,
                in_range: time_wait,
                time_wait,
                ..HostPorts::default()
            }));
        }
        let header =
            Header { time_ns: 1, arg: NET_OWNER_CONNECTS, pid: 4, tid: 4, ..Header::default() };
        folder.fold(&Event::NetSocket(NetSocket {
            header,
            cookie: 1,
            peer: mapped(2),
            netns: 9,
            peer_port: 5432,
            ..NetSocket::default()
        }));
        life::tests::states(&mut folder, 1, &[(1, 2, 0), (2, 7, 99), (3, 2, 0), (4, 7, 99)]);
        let model = folder.finish(10);
        let rows = port_use(&model, &Owners::of(&model), 10);
        let [row] = rows.as_slice() else { panic!("one destination") };
        assert_eq!((row.source.as_str(), row.destination.as_str()), ("10.0.0.1", "10.0.0.2:5432"));
        assert_eq!((row.in_use_max, row.in_use_last, row.available), (900, 400, 900));
        assert!((row.in_use_pct() - 100.0).abs() < 0.01);
        assert_eq!(row.no_port, 2, "each attempt counts");
        assert_eq!(row.owners.iter().map(|owner| owner.pid).collect::<Vec<_>>(), [4]);
    }
}
