//! How long packets waited for network devices.

use crate::model::net::{Network, QueueWaits, Socket};
use hz_probes_ebpf::aggregate::bucket_floor_ns;
use serde::Serialize;

/// A device that packets waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceWaits {
    /// Its name.
    pub device: String,
    /// Inode of its network namespace.
    pub netns: u32,
    /// What that is called.
    pub namespace: String,
    /// Packets that it was given, and of which is known when they came.
    pub packets: u64,
    /// Packets of these that went past the queue, since it was empty.
    pub bypassed: u64,
    /// Packets of these that had been cut out of larger ones.
    pub split: u64,
    /// Packets that it was given, and of which is not known when they came.
    pub unmatched: u64,
    /// How long all together waited, nanoseconds.
    pub total_ns: u64,
    /// Half of them waited this long or less; a quarter too little at the most.
    pub p50_ns: u64,
    /// All but one in a hundred.
    pub p99_ns: u64,
    /// The longest wait.
    pub max_ns: u64,
    /// When that ended, nanoseconds of `CLOCK_MONOTONIC`.
    pub max_time_ns: u64,
    /// Whose packet that was: its connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_of: Option<String>,
    /// Times that packets were to leave and the driver took none.
    pub stops: u64,
}

/// How long packets of a connection waited for its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct QueuedPackets {
    /// How many did.
    pub packets: u64,
    /// Their mean.
    pub mean_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

/// The devices that packets waited for, the longest waits first.
pub(super) fn device_waits(network: &Network) -> Vec<DeviceWaits> {
    let mut rows: Vec<DeviceWaits> =
        network.queues.iter().map(|queue| waits_for(network, queue)).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.max_ns));
    rows
}

/// The waits of a connection's packets, if any waited.
pub(super) fn queued_packets(socket: &Socket) -> Option<QueuedPackets> {
    let queued = socket.queued?;
    Some(QueuedPackets {
        packets: queued.packets,
        mean_ns: queued.total_ns.checked_div(queued.packets)?,
        max_ns: queued.max_ns,
    })
}

fn waits_for(network: &Network, queue: &QueueWaits) -> DeviceWaits {
    let told = &queue.told;
    let length = told.name.iter().position(|byte| *byte == 0).unwrap_or(told.name.len());
    let of = |socket: &&Socket| socket.cookie == told.max_cookie && told.max_cookie != 0;
    DeviceWaits {
        device: String::from_utf8_lossy(&told.name[..length]).into_owned(),
        netns: told.netns,
        namespace: network.namespace(told.netns),
        packets: told.packets,
        bypassed: told.bypassed,
        split: told.split,
        unmatched: told.unmatched,
        total_ns: told.total_ns,
        p50_ns: at_share(&queue.buckets, 50).min(told.max_ns),
        p99_ns: at_share(&queue.buckets, 99).min(told.max_ns),
        max_ns: told.max_ns,
        max_time_ns: told.max_time_ns,
        max_of: network
            .sockets
            .iter()
            .find(of)
            .map(|socket| format!("{} → {}", socket.local(), socket.peer())),
        stops: told.stops,
    }
}

/// The shortest time of the bucket below which, itself included, `pct` of a hundred are.
fn at_share(buckets: &[u64], pct: u64) -> u64 {
    let all: u64 = buckets.iter().sum();
    let mut rest = all.saturating_mul(pct).div_ceil(100);
    for (bucket, count) in buckets.iter().enumerate() {
        if *count >= rest && *count > 0 {
            return bucket_floor_ns(bucket);
        }
        rest -= count;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use hz_probes_ebpf::{
        aggregate::{BUCKETS, bucket_of},
        net::NetSojourn,
    };

    fn waits(times: &[u64]) -> QueueWaits {
        let mut buckets = vec![0; BUCKETS];
        times.iter().for_each(|time| buckets[bucket_of(*time)] += 1);
        let mut name = [0; 16];
        name[..4].copy_from_slice(b"eth0");
        let told = NetSojourn {
            name,
            packets: times.len() as u64,
            max_ns: times.iter().copied().max().unwrap_or(0),
            ..NetSojourn::default()
        };
        QueueWaits { told, buckets }
    }

    #[test]
    fn half_and_nearly_all_are_read_from_the_buckets() {
        let times: Vec<u64> = (1..=100).map(|ms| ms * 1_000_000).collect();
        let network = Network { queues: vec![waits(&times)], ..Network::default() };
        let [row] = device_waits(&network).try_into().unwrap();
        assert_eq!(row.device, "eth0");
        assert!(row.p50_ns <= 50_000_000 && row.p50_ns > 37_000_000, "{row:?}");
        assert!(row.p99_ns <= 99_000_000 && row.p99_ns > 74_000_000, "{row:?}");
        assert_eq!((row.max_ns, row.max_of), (100_000_000, None));
    }

    #[test]
    fn packets_that_went_past_waited_for_nothing() {
        let network = Network { queues: vec![waits(&[0; 7]), waits(&[])], ..Network::default() };
        let rows = device_waits(&network);
        assert!(rows.iter().all(|row| (row.p50_ns, row.p99_ns, row.max_ns) == (0, 0, 0)));
    }
}
