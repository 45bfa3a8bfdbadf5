//! What the kernel said of network namespaces when it was asked: ports, queues, devices, counters.

use hz_probes_ebpf::{
    Header,
    net_host::{HostDevice, HostPorts, HostQueue, HostSocket, HostUnix, NetCounters},
};
use std::collections::BTreeMap;

/// What was seen at each look at one thing, in order. Of looks that saw the same only the first and the
/// last are kept, so that a step begins and ends.
#[derive(Clone, Debug)]
pub struct Looks<T>(Vec<T>);

impl<T> Default for Looks<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Look> Looks<T> {
    /// Adds one.
    pub fn push(&mut self, look: T) {
        match self.0.as_mut_slice() {
            [.., before, last] if before.is_like(last) && last.is_like(&look) => *last = look,
            _ => self.0.push(look),
        }
    }

    /// All that were kept.
    #[must_use]
    pub fn all(&self) -> &[T] {
        &self.0
    }

    /// What a count has grown by from the first to the last.
    #[must_use]
    pub fn grown(&self, count: impl Fn(&T) -> u64) -> u64 {
        let (first, last) = (self.0.first(), self.0.last());
        last.map_or(0, &count).saturating_sub(first.map_or(0, &count))
    }

    /// The most that was seen.
    #[must_use]
    pub fn most(&self, of: impl Fn(&T) -> u64) -> u64 {
        self.0.iter().map(of).max().unwrap_or(0)
    }

    /// For how long it was so: from each look that found it so to the next.
    #[must_use]
    pub fn time_ns(&self, is_so: impl Fn(&T) -> bool) -> u64 {
        let pairs = self.0.windows(2).filter(|pair| is_so(&pair[0]));
        pairs.map(|pair| pair[1].header().time_ns.saturating_sub(pair[0].header().time_ns)).sum()
    }
}

/// A record that a look brings.
pub trait Look: Copy + PartialEq {
    /// What it begins with.
    fn header(&self) -> &Header;
    /// The same, at another time.
    #[must_use]
    fn at(self, header: Header) -> Self;

    /// Whether nothing has changed but the time.
    fn is_like(&self, other: &Self) -> bool {
        other.at(*self.header()) == *self
    }
}

macro_rules! looks {
    ($($record:ty),*) => {$(
        impl Look for $record {
            fn header(&self) -> &Header {
                &self.header
            }

            fn at(self, header: Header) -> Self {
                Self { header, ..self }
            }
        }
    )*};
}
looks!(HostDevice, HostPorts, HostQueue, HostSocket, HostUnix, NetCounters);

/// Where connections go, and which namespace they are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortsKey {
    /// Inode of the network namespace.
    pub netns: u32,
    /// Whether they came to a listener.
    pub is_in: bool,
    /// From where; for those to a listener its address.
    pub source: [u8; 16],
    /// To where; for those to a listener all zero.
    pub destination: [u8; 16],
    /// The port there; for those to a listener its port.
    pub port: u16,
}

/// What is known of namespaces from looks.
#[derive(Clone, Debug, Default)]
pub struct NetHost {
    /// Connections by where they go.
    pub ports: BTreeMap<PortsKey, Looks<HostPorts>>,
    /// Queueing disciplines by namespace, device, parent and handle.
    pub queues: BTreeMap<(u32, u32, u32, u32), Looks<HostQueue>>,
    /// Devices by namespace and number.
    pub devices: BTreeMap<(u32, u32), Looks<HostDevice>>,
    /// UDP sockets by cookie.
    pub udp: BTreeMap<u64, Looks<HostSocket>>,
    /// Unix sockets by namespace and inode.
    pub unix: BTreeMap<(u32, u32), Looks<HostUnix>>,
    /// What each namespace counts.
    pub counters: BTreeMap<u32, Looks<NetCounters>>,
}

impl NetHost {
    /// Whether nothing was asked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counters.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_that_saw_the_same_are_two_and_counts_grow() {
        let mut looks = Looks::default();
        for (time_ns, packets, drops) in
            [(1, 0, 5), (2, 0, 5), (3, 0, 5), (4, 7, 5), (6, 7, 6), (9, 0, 6)]
        {
            let header = Header { time_ns, ..Header::default() };
            looks.push(HostQueue { header, packets, drops, ..HostQueue::default() });
        }
        let times: Vec<u64> = looks.all().iter().map(|look| look.header.time_ns).collect();
        assert_eq!(times, [1, 3, 4, 6, 9]);
        assert_eq!(looks.grown(|look| look.drops.into()), 1);
        assert_eq!(looks.most(|look| look.packets.into()), 7);
        assert_eq!(looks.time_ns(|look| look.packets > 0), 5);
    }
}
