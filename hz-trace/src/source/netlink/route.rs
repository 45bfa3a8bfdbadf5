//! Devices and their queueing disciplines as `NETLINK_ROUTE` tells them.

use super::message::{attributes, name, padded};
use hz_probes_ebpf::{
    Header, Kind,
    net_host::{HOST_NAME_BYTES, HostDevice, HostQueue},
};
use std::collections::BTreeMap;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub(super) const RTM_NEWLINK: u16 = 16;
pub(super) const RTM_GETLINK: u16 = 18;
pub(super) const RTM_NEWQDISC: u16 = 36;
pub(super) const RTM_GETQDISC: u16 = 38;

/// `struct ifinfomsg`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct LinkMessage {
    family: u8,
    pad: u8,
    hardware: u16,
    index: u32,
    flags: u32,
    change: u32,
}

/// `struct tcmsg`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct QueueMessage {
    family: u8,
    pad: [u8; 3],
    device: u32,
    handle: u32,
    parent: u32,
    info: u32,
}

const IFLA_IFNAME: u16 = 3;
const IFLA_TXQLEN: u16 = 13;
const IFLA_STATS64: u16 = 23;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_STATS2: u16 = 7;
const TCA_STATS_BASIC: u16 = 1;
const TCA_STATS_QUEUE: u16 = 3;
const TCA_STATS_PKT64: u16 = 8;

/// Where and when a look is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) time_ns: u64,
    pub(super) netns: u32,
}

impl Look {
    fn header(self, kind: Kind, device: u32) -> Header {
        let kind = kind as u16;
        Header { time_ns: self.time_ns, kind, cpu: u16::MAX, arg: device, ..Header::default() }
    }
}

/// Packets and bytes.
type QueueLimit = (Option<u64>, Option<u64>);

/// Lengths of devices' queues by number, packets.
pub(super) type QueueLengths = BTreeMap<u32, u32>;

/// Names of devices by number.
pub(super) type DeviceNames = BTreeMap<u32, [u8; HOST_NAME_BYTES]>;

/// A device from the payload of a message; `None` if it is cut short.
pub(super) fn device(payload: &[u8], look: Look) -> Option<HostDevice> {
    let (message, rest) = LinkMessage::read_from_prefix(payload).ok()?;
    let mut device = HostDevice {
        header: look.header(Kind::HostDevice, message.index),
        netns: look.netns,
        flags: message.flags,
        ..HostDevice::default()
    };
    for (kind, value) in attributes(rest) {
        match kind {
            IFLA_IFNAME => device.device = name(value),
            // `struct rtnl_link_stats64`.
            IFLA_STATS64 => {
                [
                    device.received_packets,
                    device.sent_packets,
                    device.received_bytes,
                    device.sent_bytes,
                    device.receive_errors,
                    device.send_errors,
                    device.receive_drops,
                    device.send_drops,
                ] = padded::<[u64; 8]>(value);
            }
            _ => {}
        }
    }
    Some(device)
}

/// A queueing discipline from the payload of a message; `None` if it is cut short.
pub(super) fn queue(payload: &[u8], look: Look, names: &DeviceNames) -> Option<HostQueue> {
    let (message, rest) = QueueMessage::read_from_prefix(payload).ok()?;
    let mut queue = HostQueue {
        header: look.header(Kind::HostQueue, message.device),
        netns: look.netns,
        handle: message.handle,
        parent: message.parent,
        device: names.get(&message.device).copied().unwrap_or_default(),
        ..HostQueue::default()
    };
    for (kind, value) in attributes(rest) {
        match kind {
            TCA_KIND => queue.kind = name(value),
            TCA_STATS2 => statistics(&mut queue, value),
            _ => {}
        }
    }
    Some(queue)
}

/// What a queueing discipline may hold, packets and bytes, by device and handle, as far as its kind says.
pub(super) fn limit(payload: &[u8], lengths: &QueueLengths) -> Option<((u32, u32), QueueLimit)> {
    let (message, rest) = QueueMessage::read_from_prefix(payload).ok()?;
    let find = |wanted| attributes(rest).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let options = find(TCA_OPTIONS).unwrap_or_default();
    let nested =
        |wanted| attributes(options).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    // A fifo's options are one number; of the others the one that is their limit.
    let limit = match name::<16>(find(TCA_KIND)?).as_slice().split(|byte| *byte == 0).next()? {
        b"pfifo" if !options.is_empty() => (Some(padded::<u32>(options)), None),
        b"bfifo" if !options.is_empty() => (None, Some(padded::<u32>(options))),
        b"fq_codel" | b"codel" => (nested(2).map(padded::<u32>), None),
        b"fq" => (nested(1).map(padded::<u32>), None),
        // `struct tc_tbf_qopt`: two rates of 12 bytes, then the limit in bytes.
        b"tbf" => (None, nested(1).map(|value| padded::<[u32; 7]>(value)[6])),
        b"pfifo_fast" => (lengths.get(&message.device).copied(), None),
        _ => return None,
    };
    let (packets, bytes) = limit;
    Some(((message.device, message.handle), (packets.map(u64::from), bytes.map(u64::from))))
}

/// The length of a device's queue, by its number.
pub(super) fn queue_length(payload: &[u8]) -> Option<(u32, u32)> {
    let (message, rest) = LinkMessage::read_from_prefix(payload).ok()?;
    let length = attributes(rest).find(|(kind, _)| *kind == IFLA_TXQLEN)?;
    Some((message.index, padded(length.1)))
}

fn statistics(queue: &mut HostQueue, nested: &[u8]) {
    let mut packets = None;
    for (kind, value) in attributes(nested) {
        match kind {
            // `struct gnet_stats_basic`: bytes (u64), packets (u32).
            TCA_STATS_BASIC => {
                let [low, high, sent] = padded::<[u32; 3]>(value);
                queue.sent_bytes = u64::from(low) | u64::from(high) << 32;
                queue.sent_packets = u64::from(sent);
            }
            TCA_STATS_PKT64 => packets = Some(padded(value)),
            // `struct gnet_stats_queue`.
            TCA_STATS_QUEUE => {
                [queue.packets, queue.bytes, queue.drops, queue.requeues, queue.overlimits] =
                    padded::<[u32; 5]>(value);
            }
            _ => {}
        }
    }
    // Told beside the 32 bits of the basic statistics once these have overflown.
    queue.sent_packets = packets.unwrap_or(queue.sent_packets);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LOOK: Look = Look { time_ns: 5, netns: 9 };

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(value.len() + 4).unwrap().to_le_bytes().to_vec();
        bytes.extend(kind.to_le_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn a_queue_has_its_device_and_what_it_counted() {
        let message = QueueMessage {
            device: 3,
            handle: 0x10000,
            parent: u32::MAX,
            ..QueueMessage::default()
        };
        let basic: Vec<u8> = [7_u32, 1, 11].into_iter().flat_map(u32::to_le_bytes).collect();
        let counted: Vec<u8> = [1_u32, 2, 3, 4, 5].into_iter().flat_map(u32::to_le_bytes).collect();
        let nested =
            [attribute(TCA_STATS_BASIC, &basic), attribute(TCA_STATS_QUEUE, &counted)].concat();
        let bytes = [
            message.as_bytes().to_vec(),
            attribute(TCA_KIND, b"tbf\0"),
            attribute(TCA_STATS2, &nested),
        ]
        .concat();
        let names = DeviceNames::from([(3, name(b"veth0"))]);
        let queue = queue(&bytes, LOOK, &names).unwrap();
        assert_eq!((queue.sent_bytes, queue.sent_packets), (1 << 32 | 7, 11));
        assert_eq!(
            (queue.packets, queue.bytes, queue.drops, queue.requeues, queue.overlimits),
            (1, 2, 3, 4, 5)
        );
        assert_eq!((&queue.kind[..4], &queue.device[..6]), (&b"tbf\0"[..], &b"veth0\0"[..]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_device_and_a_queue_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert_eq!(device(&bytes, LOOK).is_some(), bytes.len() >= 16);
            prop_assert_eq!(queue(&bytes, LOOK, &DeviceNames::new()).is_some(), bytes.len() >= 20);
        }
    }
}
