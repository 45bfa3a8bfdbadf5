//! Records of sockets, folded into [`Network`](crate::model::net::Network).

use super::Folder;
use crate::{
    decode::Event,
    model::net::{ClosedWindow, QueueWaits, Socket, SocketIndex},
};
use hz_probes_ebpf::{
    aggregate::BUCKETS,
    net::{
        NET_SAMPLE_LAST, NET_SOJOURN_PART, NET_WINDOW_CLOSED, NetName, NetOwner, NetSample,
        NetSocket, NetSojourn, NetSojournPart, NetState, NetWindow,
    },
};
use rustc_hash::FxHashMap;

/// What the fold knows of sockets beside the model.
#[derive(Debug, Default)]
pub(super) struct NetNow {
    by_cookie: FxHashMap<u64, SocketIndex>,
}

impl Folder {
    /// Folds a record of `net`; false if it is none.
    pub(super) fn fold_net(&mut self, event: &Event) -> bool {
        match event {
            Event::NetSocket(record) => self.net_socket(record),
            Event::NetOwner(record) => self.net_owner(record),
            Event::NetState(record) => self.net_state(record),
            Event::NetRetransmit(record) => {
                self.socket(record.cookie, record.header.time_ns).retransmits.push(*record);
            }
            Event::NetSynAck(record) => {
                self.socket(record.cookie, record.header.time_ns).synacks.push(*record);
            }
            Event::NetCongestion(record) => {
                self.socket(record.cookie, record.header.time_ns).congestion.push(*record);
            }
            Event::NetReset(record) => {
                self.socket(record.cookie, record.header.time_ns).resets.push(*record);
            }
            Event::NetSample(record) => self.net_sample(record),
            Event::NetWindow(record) => self.net_window(record),
            Event::NetDrop(record) => self.model.network.drops.push(*record),
            Event::NetName(record) => self.net_name(record),
            Event::NetLost(record) => {
                let until_ns = record.header.time_ns;
                self.model.network.lost.push((record.since_ns, until_ns, record.count));
            }
            Event::NetSojourn(record) => self.net_queue(record.netns, record.device).told = *record,
            Event::NetSojournPart(record) => self.net_sojourn_part(record),
            Event::NetQueued(record) => {
                self.socket(record.cookie, record.header.time_ns).queued = Some(*record);
            }
            _ => return false,
        }
        true
    }

    /// The waits for a device.
    fn net_queue(&mut self, netns: u32, device: u32) -> &mut QueueWaits {
        let queues = &mut self.model.network.queues;
        let is_it = |queue: &QueueWaits| (queue.told.netns, queue.told.device) == (netns, device);
        let place = queues.iter().position(is_it).unwrap_or_else(|| {
            let told = NetSojourn { netns, device, ..NetSojourn::default() };
            queues.push(QueueWaits { told, buckets: vec![0; BUCKETS] });
            queues.len() - 1
        });
        &mut queues[place]
    }

    fn net_sojourn_part(&mut self, record: &NetSojournPart) {
        let buckets = &mut self.net_queue(record.netns, record.device).buckets;
        let first = record.header.arg as usize;
        if let Some(part) = buckets.get_mut(first..first.saturating_add(NET_SOJOURN_PART)) {
            part.copy_from_slice(&record.counts);
        }
    }

    /// The socket `cookie`, which has a record of `time_ns`.
    pub(super) fn socket(&mut self, cookie: u64, time_ns: u64) -> &mut Socket {
        let sockets = &mut self.model.network.sockets;
        let index = *self.net.by_cookie.entry(cookie).or_insert_with(|| {
            sockets.push(Socket::new(cookie, time_ns));
            SocketIndex(u32::try_from(sockets.len() - 1).unwrap_or(u32::MAX))
        });
        let socket = &mut sockets[index.0 as usize];
        socket.seen_ns.0 = socket.seen_ns.0.min(time_ns);
        socket.seen_ns.1 = socket.seen_ns.1.max(time_ns);
        socket
    }

    /// The socket `cookie`, if a record has named it.
    pub(super) fn socket_if_known(&self, cookie: u64) -> Option<&Socket> {
        let index = self.net.by_cookie.get(&cookie)?;
        self.model.network.sockets.get(index.0 as usize)
    }

    fn net_socket(&mut self, record: &NetSocket) {
        let socket = self.socket(record.cookie, record.header.time_ns);
        if socket.is_from_looks {
            // From here on all is told, and better.
            let was_there = socket.identity.flags;
            *socket = Socket::new(record.cookie, socket.seen_ns.0);
            socket.identity.flags = was_there;
        }
        let flags = socket.identity.flags | record.flags;
        socket.identity = NetSocket { flags, ..*record };
        if record.header.pid != 0 {
            socket.owners.push(NetOwner { header: record.header, cookie: record.cookie });
        }
    }

    fn net_owner(&mut self, record: &NetOwner) {
        self.socket(record.cookie, record.header.time_ns).owners.push(*record);
    }

    fn net_state(&mut self, record: &NetState) {
        let socket = self.socket(record.cookie, record.header.time_ns);
        let state = record.header.arg.to_le_bytes()[0];
        socket.states.push((record.header.time_ns, state));
        if record.local_port != 0 {
            socket.identity.local_port = record.local_port;
        }
        if record.error != 0 {
            socket.error = record.error;
        }
    }

    pub(super) fn net_sample(&mut self, record: &NetSample) {
        let socket = self.socket(record.cookie, record.header.time_ns);
        if record.header.arg == NET_SAMPLE_LAST {
            socket.is_over = true;
        }
        if record.error != 0 {
            socket.error = record.error;
        }
        match socket.samples.as_mut_slice() {
            // The third of three that are alike takes the second's place: a step begins and ends.
            [.., before, last] if is_alike(before, last) && is_alike(last, record) => {
                *last = *record;
            }
            _ => socket.samples.push(*record),
        }
    }

    fn net_window(&mut self, record: &NetWindow) {
        let time_ns = record.header.time_ns;
        let windows = &mut self.socket(record.cookie, time_ns).closed_windows;
        let open = windows.last_mut().filter(|window| window.end_ns.is_none());
        match (record.header.arg == NET_WINDOW_CLOSED, open) {
            (true, None) => windows.push(ClosedWindow { start_ns: time_ns, end_ns: None }),
            (false, Some(window)) => window.end_ns = Some(time_ns),
            // Closed twice; or opened, and closed before recording began: its samples say so.
            _ => {}
        }
    }

    fn net_name(&mut self, record: &NetName) {
        let end = record.name.iter().position(|byte| *byte == 0).unwrap_or(record.name.len());
        let name = String::from_utf8_lossy(&record.name[..end]).into_owned();
        self.model.network.names.insert((record.table, record.header.arg), name);
    }
}

/// Whether nothing has changed between two looks but the time.
fn is_alike(one: &NetSample, other: &NetSample) -> bool {
    NetSample { header: one.header, ..*other } == *one
}

#[cfg(test)]
mod tests {
    use super::*;
    use hz_probes_ebpf::{
        Header,
        net::{NET_OWNER_HELD, NET_WINDOW_OPEN},
    };

    fn header(time_ns: u64, arg: u32) -> Header {
        Header { time_ns, arg, tid: 12, pid: 11, ..Header::default() }
    }

    #[test]
    fn a_socket_is_met_once_and_has_its_owners() {
        let mut folder = Folder::new(0, false);
        let socket =
            NetSocket { header: header(5, NET_OWNER_HELD), cookie: 9, ..NetSocket::default() };
        folder.fold(&Event::NetSocket(socket));
        folder.fold(&Event::NetOwner(NetOwner { header: header(6, 5), cookie: 9 }));
        folder.fold(&Event::NetState(NetState {
            header: header(7, 0x0104),
            cookie: 9,
            ..NetState::default()
        }));
        let model = folder.finish(10);
        let [socket] = model.network.sockets.as_slice() else { panic!("one socket") };
        assert_eq!((socket.owners.len(), socket.state(), socket.seen_ns), (2, 4, (5, 7)));
    }

    #[test]
    fn looks_that_show_nothing_new_are_dropped_and_steps_stay() {
        let mut folder = Folder::new(0, false);
        for (time_ns, unsent_bytes) in
            [(1, 0), (2, 0), (3, 0), (4, 0), (5, 7), (6, 7), (7, 7), (8, 0)]
        {
            let header = header(time_ns, 0);
            folder.fold(&Event::NetSample(NetSample {
                header,
                cookie: 3,
                unsent_bytes,
                ..NetSample::default()
            }));
        }
        let model = folder.finish(10);
        let times = model.network.sockets[0].samples.iter();
        let times: Vec<_> =
            times.map(|sample| (sample.header.time_ns, sample.unsent_bytes)).collect();
        assert_eq!(times, [(1, 0), (4, 0), (5, 7), (7, 7), (8, 0)]);
    }

    #[test]
    fn windows_close_once() {
        let mut folder = Folder::new(0, false);
        let record = |time_ns, arg| {
            Event::NetWindow(NetWindow {
                header: header(time_ns, arg),
                cookie: 3,
                ..NetWindow::default()
            })
        };
        for (time_ns, arg) in [
            (1, NET_WINDOW_OPEN),
            (2, NET_WINDOW_CLOSED),
            (3, NET_WINDOW_CLOSED),
            (4, NET_WINDOW_OPEN),
            (5, NET_WINDOW_CLOSED),
        ] {
            folder.fold(&record(time_ns, arg));
        }
        let model = folder.finish(10);
        let windows = &model.network.sockets[0].closed_windows;
        assert_eq!(
            windows.as_slice(),
            [
                ClosedWindow { start_ns: 2, end_ns: Some(4) },
                ClosedWindow { start_ns: 5, end_ns: None }
            ]
        );
    }
}
