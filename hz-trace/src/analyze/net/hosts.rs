//! What looks at namespaces show: counters, queueing disciplines, devices, UDP.

use super::{Owner, Owners};
use crate::model::{
    Model,
    net::address,
    net_host::{Looks, NetHost, PortsKey},
};
use hz_probes_ebpf::net_host::{HostDevice, HostPorts, HostQueue, HostSocket, NetCounters};
use serde::Serialize;
use std::{cmp::Reverse, collections::BTreeMap, net::SocketAddr};

/// What a network namespace has counted while it was recorded: the kernel's counters of these names.
#[derive(Clone, Debug, Serialize)]
pub struct NamespaceUse {
    /// Its inode.
    pub netns: u32,
    /// What it is called.
    pub name: String,
    /// From the first look to the last, nanoseconds.
    pub looked_ns: u64,
    /// Looks.
    pub looks: u64,
    /// The longest look, nanoseconds.
    pub look_max_ns: u64,
    /// Connections opened (`ActiveOpens`).
    pub opened: u64,
    /// Connections that its listeners got (`PassiveOpens`).
    pub taken: u64,
    /// Attempts that failed (`AttemptFails`).
    pub failed: u64,
    /// `RetransSegs`.
    pub retransmitted_segments: u64,
    /// `ListenOverflows`.
    pub listen_overflows: u64,
    /// `ListenDrops`.
    pub listen_drops: u64,
    /// `OutRsts`.
    pub resets_sent: u64,
    /// `TCPTimeWaitOverflow`.
    pub time_wait_overflows: u64,
    /// `TCPRcvQDrop`.
    pub receive_queue_drops: u64,
    /// `TCPBacklogDrop`.
    pub backlog_drops: u64,
    /// `TCPToZeroWindowAdv`: times that a window of this side closed.
    pub windows_closed: u64,
    /// Packets of UDP for which a socket had no room (`Udp: RcvbufErrors`).
    pub udp_receive_drops: u64,
    /// `Udp: SndbufErrors`.
    pub udp_send_drops: u64,
    /// Sockets and groups of connections for which looks had no room.
    pub left_out: u64,
}

/// A queueing discipline that held or dropped packets.
#[derive(Clone, Debug, Serialize)]
pub struct Discipline {
    /// The device.
    pub device: String,
    /// What it is: `fq`, `tbf`.
    pub kind: String,
    /// Its handle, as `tc` writes it.
    pub handle: String,
    /// Inode of the network namespace.
    pub netns: u32,
    /// What that is called.
    pub namespace: String,
    /// The most packets in it, at one look.
    pub packets_max: u64,
    /// The most bytes in it, at one look.
    pub bytes_max: u64,
    /// How long there were packets in it, as far as the looks show, nanoseconds.
    pub backlog_ns: u64,
    /// Packets it dropped.
    pub drops: u64,
    /// Packets that the device gave back.
    pub requeues: u64,
    /// Times a packet had to wait for its rate, or more than that; by kind.
    pub overlimits: u64,
    /// Packets sent.
    pub sent_packets: u64,
}

/// A device that dropped packets.
#[derive(Clone, Debug, Serialize)]
pub struct Device {
    /// Its name.
    pub device: String,
    /// Inode of the network namespace.
    pub netns: u32,
    /// What that is called.
    pub namespace: String,
    /// Packets received and dropped.
    pub receive_drops: u64,
    /// Packets dropped instead of sent.
    pub send_drops: u64,
    /// Packets received with an error.
    pub receive_errors: u64,
    /// Packets that could not be sent.
    pub send_errors: u64,
}

/// A UDP socket that held or dropped packets.
#[derive(Clone, Debug, Serialize)]
pub struct UdpUse {
    /// Its address.
    pub local: String,
    /// Inode of the network namespace.
    pub netns: u32,
    /// What that is called.
    pub namespace: String,
    /// Who has it open.
    pub owner: Owner,
    /// Packets for which it had no room.
    pub drops: u64,
    /// The most bytes in its receive queue, overhead included, at one look.
    pub queue_max_bytes: u64,
    /// What it may hold, overhead included.
    pub queue_limit_bytes: u32,
}

/// All of them.
pub(super) fn namespaces(model: &Model) -> Vec<NamespaceUse> {
    let counters = &model.network.host.counters;
    counters.iter().map(|(netns, looks)| namespace(model, *netns, looks)).collect()
}

fn namespace(model: &Model, netns: u32, looks: &Looks<NetCounters>) -> NamespaceUse {
    let all = looks.all();
    let time = |look: Option<&NetCounters>| look.map_or(0, |look| look.header.time_ns);
    let readable = all.iter().filter(|look| look.header.arg == 0).count();
    let grown =
        |of: fn(&NetCounters) -> u64| if readable == all.len() { looks.grown(of) } else { 0 };
    NamespaceUse {
        netns,
        name: model.network.namespace(netns),
        looked_ns: time(all.last()).saturating_sub(time(all.first())),
        looks: all.len() as u64,
        look_max_ns: looks.most(|look| look.took_ns),
        opened: grown(|look| look.active_opens),
        taken: grown(|look| look.passive_opens),
        failed: grown(|look| look.attempt_fails),
        retransmitted_segments: grown(|look| look.retransmitted),
        listen_overflows: grown(|look| look.listen_overflows),
        listen_drops: grown(|look| look.listen_drops),
        resets_sent: grown(|look| look.resets_out),
        time_wait_overflows: grown(|look| look.time_wait_overflows),
        receive_queue_drops: grown(|look| look.receive_queue_drops),
        backlog_drops: grown(|look| look.backlog_drops),
        windows_closed: grown(|look| look.windows_closed),
        udp_receive_drops: grown(|look| look.udp_receive_drops),
        udp_send_drops: grown(|look| look.udp_send_drops),
        left_out: looks.most(|look| look.left_out.into()),
    }
}

/// The disciplines that held or dropped packets, that with most drops first.
pub(super) fn disciplines(model: &Model) -> Vec<Discipline> {
    let queues = model.network.host.queues.values();
    let rows = queues.filter_map(|looks| discipline(model, looks));
    let mut rows: Vec<Discipline> =
        rows.filter(|row| row.packets_max + row.drops + row.requeues > 0).collect();
    rows.sort_by_key(|row| (Reverse(row.drops), Reverse(row.packets_max), row.device.clone()));
    rows
}

fn discipline(model: &Model, looks: &Looks<HostQueue>) -> Option<Discipline> {
    let last = looks.all().last()?;
    Some(Discipline {
        device: name(&last.device),
        kind: name(&last.kind),
        handle: format!("{:x}:", last.handle >> 16),
        netns: last.netns,
        namespace: model.network.namespace(last.netns),
        packets_max: looks.most(|look| look.packets.into()),
        bytes_max: looks.most(|look| look.bytes.into()),
        backlog_ns: looks.time_ns(|look| look.packets > 0),
        drops: looks.grown(|look| look.drops.into()),
        requeues: looks.grown(|look| look.requeues.into()),
        overlimits: looks.grown(|look| look.overlimits.into()),
        sent_packets: looks.grown(|look| look.sent_packets),
    })
}

/// The devices that dropped packets.
pub(super) fn devices(model: &Model) -> Vec<Device> {
    let devices = model.network.host.devices.values().filter_map(|looks| {
        let last: &HostDevice = looks.all().last()?;
        Some(Device {
            device: name(&last.device),
            netns: last.netns,
            namespace: model.network.namespace(last.netns),
            receive_drops: looks.grown(|look| look.receive_drops),
            send_drops: looks.grown(|look| look.send_drops),
            receive_errors: looks.grown(|look| look.receive_errors),
            send_errors: looks.grown(|look| look.send_errors),
        })
    });
    let is_bad = |row: &Device| {
        row.receive_drops + row.send_drops + row.receive_errors + row.send_errors > 0
    };
    devices.filter(is_bad).collect()
}

/// The UDP sockets that held or dropped packets, that with most drops first.
pub(super) fn udp(model: &Model, owners: &Owners<'_>) -> Vec<UdpUse> {
    let host = &model.network.host;
    let rows = host.udp.values().filter_map(|looks| udp_use(model, owners, host, looks));
    let mut rows: Vec<UdpUse> = rows.filter(|row| row.drops + row.queue_max_bytes > 0).collect();
    rows.sort_by_key(|row| (Reverse(row.drops), Reverse(row.queue_max_bytes), row.local.clone()));
    rows
}

fn udp_use(
    model: &Model,
    owners: &Owners<'_>,
    host: &NetHost,
    looks: &Looks<HostSocket>,
) -> Option<UdpUse> {
    let (first, last) = (looks.all().first()?, looks.all().last()?);
    // One that the first look did not find is new: all it dropped was dropped meanwhile.
    let began_ns = host.counters.get(&last.netns)?.all().first()?.header.time_ns;
    let before = if first.header.time_ns <= began_ns { first.drops } else { 0 };
    let owner = looks.all().iter().rev().find(|look| look.header.pid != 0);
    Some(UdpUse {
        local: SocketAddr::new(address(last.local), last.local_port).to_string(),
        netns: last.netns,
        namespace: model.network.namespace(last.netns),
        owner: owner.map_or_else(Owner::default, |look| {
            owners.of_process(look.header.pid, look.header.time_ns)
        }),
        drops: last.drops.saturating_sub(before).into(),
        queue_max_bytes: looks.most(|look| look.receive_memory_bytes.into()),
        queue_limit_bytes: last.receive_limit_bytes,
    })
}

/// A name that a record has, up to its NUL.
fn name(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// The most that connections to `destination` took of ports, over all sources of the namespace: of
/// each source on its own, since each has all ports.
pub(super) fn ports_to(model: &Model, netns: u32, destination: SocketAddr) -> HostPorts {
    let is_it = |key: &PortsKey| {
        !key.is_in
            && key.netns == netns
            && SocketAddr::new(address(key.destination), key.port) == destination
    };
    let ports: &BTreeMap<PortsKey, Looks<HostPorts>> = &model.network.host.ports;
    let looks = ports.iter().filter(|(key, _)| is_it(key)).flat_map(|(_, looks)| looks.all());
    looks.copied().max_by_key(|look| (look.in_range, look.time_wait)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode::Event, model::Folder};
    use hz_probes_ebpf::Header;

    fn header(time_ns: u64, pid: u32, arg: u32) -> Header {
        Header { time_ns, pid, arg, ..Header::default() }
    }

    #[test]
    fn queues_and_devices_are_told_of_when_they_held_or_dropped() {
        let mut folder = Folder::new(0, false);
        let mut device = [0; 16];
        device[..2].copy_from_slice(b"va");
        for (time_ns, packets, drops) in [(1, 0, 5), (2, 30, 9), (4, 0, 9)] {
            let header = header(time_ns, 0, 2);
            let queue = HostQueue { header, packets, drops, device, ..HostQueue::default() };
            folder.fold(&Event::HostQueue(HostQueue { handle: 0x8001_0000, ..queue }));
            folder.fold(&Event::HostQueue(HostQueue {
                handle: 0x8002_0000,
                packets: 0,
                drops: 1,
                ..queue
            }));
            let row =
                HostDevice { header, device, send_drops: drops.into(), ..HostDevice::default() };
            folder.fold(&Event::HostDevice(row));
        }
        let model = folder.finish(10);
        let rows = disciplines(&model);
        let [row] = rows.as_slice() else { panic!("the other held nothing: {rows:?}") };
        assert_eq!((row.device.as_str(), row.handle.as_str()), ("va", "8001:"));
        assert_eq!((row.packets_max, row.backlog_ns, row.drops), (30, 2, 4));
        assert_eq!(devices(&model).iter().map(|row| row.send_drops).collect::<Vec<_>>(), [4]);
    }

    #[test]
    fn drops_of_udp_count_from_the_first_look_or_the_sockets_birth() {
        let mut folder = Folder::new(0, false);
        let look = |time_ns, cookie, drops| HostSocket {
            header: header(time_ns, 7, 1),
            cookie,
            drops,
            protocol: 17,
            local_port: 53,
            ..HostSocket::default()
        };
        for (time_ns, records) in [(1, vec![(1, 100)]), (2, vec![(1, 130), (2, 40)])] {
            for (cookie, drops) in records {
                folder.fold(&Event::HostSocket(look(time_ns, cookie, drops)));
            }
            let header = header(time_ns, 0, 0);
            folder.fold(&Event::NetCounters(NetCounters {
                header,
                udp_receive_drops: time_ns * 70,
                ..NetCounters::default()
            }));
        }
        let model = folder.finish(10);
        let rows = udp(&model, &Owners::of(&model));
        assert_eq!(rows.iter().map(|row| row.drops).collect::<Vec<_>>(), [40, 30]);
        assert_eq!((rows[0].owner.pid, rows[0].owner.how), (7, "had it open"));
        assert_eq!(namespaces(&model)[0].udp_receive_drops, 70);
    }
}
