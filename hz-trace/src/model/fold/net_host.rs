//! Looks at network namespaces, folded into [`NetHost`].
//!
//! A TCP socket of which BPF told nothing is known from looks alone, and becomes a
//! [`Socket`](crate::model::net::Socket) like the others.

use super::Folder;
use crate::{
    decode::Event,
    model::net_host::{NetHost, PortsKey},
};
use hz_probes_ebpf::{
    Header,
    net::{
        NET_OWNER_HELD, NET_SAMPLE_PERIODIC, NET_SOCKET_WAS_THERE, NetOwner, NetSample, NetSocket,
    },
    net_host::{HOST_PORTS_IN, HostPorts, HostSocket},
};

/// `IPPROTO_TCP`.
const TCP: u8 = 6;

impl Folder {
    /// Folds a record of `sockets`; false if it is none.
    pub(super) fn fold_net_host(&mut self, event: &Event) -> bool {
        match event {
            Event::HostSocket(record) if record.protocol == TCP => self.tcp_look(record),
            Event::HostSocket(record) => {
                self.host().udp.entry(record.cookie).or_default().push(*record);
            }
            Event::HostPorts(record) => {
                self.host().ports.entry(key_of(record)).or_default().push(*record);
            }
            Event::HostQueue(record) => {
                let key = (record.netns, record.header.arg, record.parent, record.handle);
                self.host().queues.entry(key).or_default().push(*record);
            }
            Event::HostDevice(record) => {
                let key = (record.netns, record.header.arg);
                self.host().devices.entry(key).or_default().push(*record);
            }
            Event::HostUnix(record) => {
                let key = (record.netns, record.inode);
                self.host().unix.entry(key).or_default().push(*record);
            }
            Event::NetCounters(record) => {
                self.host().counters.entry(record.netns).or_default().push(*record);
            }
            _ => return false,
        }
        true
    }

    const fn host(&mut self) -> &mut NetHost {
        &mut self.model.network.host
    }

    /// A look at a TCP socket: all that is known of one that BPF told nothing of.
    fn tcp_look(&mut self, record: &HostSocket) {
        let time_ns = record.header.time_ns;
        // A look is ended by its counters.
        let is_first = !self.host().counters.contains_key(&record.netns);
        let is_new = self.socket_if_known(record.cookie).is_none();
        let socket = self.socket(record.cookie, time_ns);
        if is_new {
            socket.is_from_looks = true;
            socket.identity = identity(record, is_first);
        }
        if !socket.is_from_looks {
            return;
        }
        let pid = record.header.pid;
        if pid != 0 && socket.owners.last().is_none_or(|owner| owner.header.pid != pid) {
            let header = Header { pid, tid: pid, time_ns, arg: NET_OWNER_HELD, ..record.header };
            socket.owners.push(NetOwner { header, cookie: record.cookie });
        }
        self.net_sample(&sample(record));
    }
}

fn key_of(record: &HostPorts) -> PortsKey {
    PortsKey {
        netns: record.netns,
        is_in: record.header.arg == HOST_PORTS_IN,
        source: record.source,
        destination: record.destination,
        port: record.port,
    }
}

fn identity(record: &HostSocket, was_there: bool) -> NetSocket {
    NetSocket {
        header: Header { arg: 0, ..record.header },
        cookie: record.cookie,
        local: record.local,
        peer: record.peer,
        netns: record.netns,
        local_port: record.local_port,
        peer_port: record.peer_port,
        family: record.family,
        state: record.state,
        flags: if was_there { NET_SOCKET_WAS_THERE } else { 0 },
        protocol: record.protocol.into(),
        algorithm: record.algorithm,
    }
}

fn sample(record: &HostSocket) -> NetSample {
    let ms = |us: u64| u32::try_from(us / 1_000).unwrap_or(u32::MAX);
    NetSample {
        header: Header { arg: NET_SAMPLE_PERIODIC, ..record.header },
        cookie: record.cookie,
        sent_bytes: record.sent_bytes,
        acked_bytes: record.acked_bytes,
        received_bytes: record.received_bytes,
        retransmitted_bytes: record.retransmitted_bytes,
        pacing_bytes_per_s: record.pacing_bytes_per_s,
        retransmitted: record.retransmitted,
        spurious: record.spurious,
        busy_ms: ms(record.busy_us),
        window_limited_ms: ms(record.window_limited_us),
        buffer_limited_ms: ms(record.buffer_limited_us),
        unsent_bytes: record.unsent_bytes,
        unacked_bytes: if is_listener(record) {
            0
        } else {
            record.send_queue.saturating_sub(record.unsent_bytes)
        },
        send_memory_bytes: record.send_memory_bytes,
        send_limit_bytes: record.send_limit_bytes,
        unread_bytes: record.receive_queue,
        receive_memory_bytes: record.receive_memory_bytes,
        receive_limit_bytes: if is_listener(record) {
            record.send_queue
        } else {
            record.receive_limit_bytes
        },
        own_window_bytes: record.own_window_bytes,
        peer_window_bytes: record.peer_window_bytes,
        drops: record.drops,
        cwnd: record.cwnd,
        ssthresh: record.ssthresh,
        srtt_us: record.srtt_us,
        rttvar_us: record.rttvar_us,
        rto_us: record.rto_us,
        packets_out: record.packets_out,
        lost_out: record.lost_out,
        mss: record.mss,
        state: record.state,
        congestion: record.congestion,
        ..NetSample::default()
    }
}

/// The kernel's `TCP_LISTEN`.
const fn is_listener(record: &HostSocket) -> bool {
    record.state == 10
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(time_ns: u64, cookie: u64, receive_queue: u32) -> HostSocket {
        let header = Header { time_ns, pid: 7, ..Header::default() };
        HostSocket { header, cookie, receive_queue, protocol: TCP, ..HostSocket::default() }
    }

    #[test]
    fn what_bpf_told_of_is_not_told_again_and_the_rest_is_known_from_looks() {
        let mut folder = Folder::new(0, false);
        folder.fold(&Event::HostSocket(look(1, 4, 10)));
        folder.fold(&Event::HostSocket(look(1, 5, 20)));
        folder.fold(&Event::NetSocket(NetSocket {
            header: Header { time_ns: 2, pid: 9, ..Header::default() },
            cookie: 4,
            ..NetSocket::default()
        }));
        folder.fold(&Event::HostSocket(look(3, 4, 11)));
        folder.fold(&Event::HostSocket(look(3, 5, 21)));
        let model = folder.finish(10);
        let [told, seen] = model.network.sockets.as_slice() else { panic!("two sockets") };
        assert!(!told.is_from_looks && told.samples.is_empty(), "{told:?}");
        assert_eq!(told.owner_at(9).map(|owner| owner.header.pid), Some(9));
        assert!(seen.is_from_looks && seen.was_there());
        assert_eq!(seen.samples.iter().map(|each| each.unread_bytes).collect::<Vec<_>>(), [20, 21]);
        assert_eq!(seen.owners.len(), 1, "said once");
    }
}
