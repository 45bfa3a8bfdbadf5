//! Waits of packets, which the programs of `net` add up, as records.

use super::net::Net;
use crate::host::clock;
use hz_probes_ebpf::{
    Header, Kind,
    aggregate::BUCKETS,
    net::{NET_SOJOURN_PART, NetQueued, NetSojourn, NetSojournPart},
};
use libbpf_rs::{MapCore as _, MapFlags};
use zerocopy::{FromBytes, Immutable, IntoBytes as _, KnownLayout};

/// A value of the map `DEVICES`.
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct DeviceWaits {
    told: NetSojourn,
    buckets: [u64; BUCKETS],
}

const _: () = assert!(BUCKETS.is_multiple_of(NET_SOJOURN_PART));

impl Net {
    /// Calls `each` with how long packets have waited for every device, in all since recording began.
    pub fn sojourns(&self, mut each: impl FnMut(&[u8])) {
        self.each_value("DEVICES", |value| {
            let Ok((waits, _)) = DeviceWaits::read_from_prefix(value) else { return };
            let header = |kind: Kind, arg| Header {
                time_ns: clock::monotonic_ns(),
                kind: kind as u16,
                arg,
                ..Header::default()
            };
            let record = NetSojourn { header: header(Kind::NetSojourn, 0), ..waits.told };
            each(record.as_bytes());
            for (first, counts) in (0..).step_by(NET_SOJOURN_PART).zip(parts(&waits.buckets)) {
                if counts.iter().any(|count| *count > 0) {
                    let header = header(Kind::NetSojournPart, first);
                    let NetSojourn { netns, device, .. } = record;
                    each(NetSojournPart { header, netns, device, counts }.as_bytes());
                }
            }
        });
    }

    /// Calls `each` with how long the packets of every socket have waited; at the end, since it walks
    /// all of them.
    pub fn queued(&self, mut each: impl FnMut(&[u8])) {
        self.each_value("SOCKET_WAITS", |value| {
            let Ok((waits, _)) = NetQueued::read_from_prefix(value) else { return };
            let (time_ns, kind) = (clock::monotonic_ns(), Kind::NetQueued as u16);
            let header = Header { time_ns, kind, ..Header::default() };
            each(NetQueued { header, ..waits }.as_bytes());
        });
    }

    fn each_value(&self, map: &str, mut each: impl FnMut(&[u8])) {
        let Some(map) = self.map(map) else { return };
        for key in map.keys() {
            if let Ok(Some(value)) = map.lookup(&key, MapFlags::ANY) {
                each(&value);
            }
        }
    }
}

fn parts(buckets: &[u64; BUCKETS]) -> impl Iterator<Item = [u64; NET_SOJOURN_PART]> + '_ {
    let (parts, _) = buckets.as_chunks();
    parts.iter().copied()
}
