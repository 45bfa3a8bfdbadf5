//! Looks at sockets and queues, folded into what a window shows of them.

use super::{
    LimitedBy, Listener, Network, Ports, ProtocolCounts, Qdisc, Reasons, Socket, TcpState,
};
use crate::{
    decode::Event,
    model::{net::address, window::Window},
};
use hz_probes_ebpf::{
    net::{
        NET_RETRANSMIT_FAST, NET_RETRANSMIT_PROBE, NET_RETRANSMIT_SLOW_START, NET_RETRANSMIT_SYN,
        NET_RETRANSMIT_TIMEOUT, NetRetransmit,
    },
    net_host::{HOST_PORTS_OUT, HostPorts, HostQueue, HostSocket, NetCounters},
};
use rustc_hash::FxHashMap;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

const LISTEN: u8 = 10;
const TIME_WAIT: u8 = 6;
const TCP: u8 = 6;

/// Sockets whose reasons and tasks are remembered; more would be no use to anybody.
const REMEMBERED_MAX: usize = 65_536;

/// What may wait in queueing disciplines, packets and bytes, by device and handle: `None` is not known.
pub type Limits = BTreeMap<(u32, u32), (Option<u64>, Option<u64>)>;

/// What a socket had counted at the look before.
#[derive(Clone, Copy, Debug, Default)]
struct Before {
    retransmitted: u32,
    drops: u32,
    acked_bytes: u64,
    received_bytes: u64,
    busy_us: u64,
    window_limited_us: u64,
    buffer_limited_us: u64,
}

impl Before {
    const fn of(socket: &HostSocket) -> Self {
        Self {
            retransmitted: socket.retransmitted,
            drops: socket.drops,
            acked_bytes: socket.acked_bytes,
            received_bytes: socket.received_bytes,
            busy_us: socket.busy_us,
            window_limited_us: socket.window_limited_us,
            buffer_limited_us: socket.buffer_limited_us,
        }
    }
}

/// What a look at one network namespace brought.
#[derive(Debug, Default)]
struct Look {
    sockets: Vec<HostSocket>,
    ports: Vec<HostPorts>,
    queues: Vec<HostQueue>,
}

/// Names a process.
pub(crate) type NameProcess<'a> = dyn FnMut(u32) -> String + 'a;

/// Folds records of looks into windows. Its memory is that of two looks, whatever time passes.
#[derive(Debug, Default)]
pub struct NetworkFolder {
    /// Records of looks that have not ended, by namespace.
    open: BTreeMap<u32, Look>,
    /// The looks of this window that have ended.
    closed: BTreeMap<u32, (Look, NetCounters)>,
    sockets_before: FxHashMap<u64, Before>,
    counters_before: BTreeMap<u32, NetCounters>,
    queues_before: FxHashMap<(u32, u32, u32), HostQueue>,
    reasons: FxHashMap<u64, Reasons>,
    /// Threads that used sockets last, by cookie.
    threads: FxHashMap<u64, u32>,
    tasks: FxHashMap<u64, String>,
    limits: Limits,
    has_reasons: bool,
    last: Option<Network>,
}

impl NetworkFolder {
    /// Folds a record of the probes `sockets` and `net`; others change nothing.
    pub fn fold(&mut self, event: &Event) {
        match event {
            Event::HostSocket(socket) => self.socket(socket),
            Event::HostPorts(ports) => self.open.entry(ports.netns).or_default().ports.push(*ports),
            Event::HostQueue(queue) => {
                self.open.entry(queue.netns).or_default().queues.push(*queue);
            }
            Event::NetCounters(counters) => self.end_look(counters),
            Event::NetRetransmit(record) => self.retransmit(record),
            Event::NetSynAck(record) => self.reason(record.cookie, |reasons| reasons.syn += 1),
            Event::NetOwner(record) => self.user(record.cookie, record.header.tid),
            Event::NetSocket(record) => self.user(record.cookie, record.header.tid),
            _ => {}
        }
    }

    /// Takes a socket of a look.
    pub(crate) fn socket(&mut self, socket: &HostSocket) {
        if socket.protocol == TCP && socket.state != TIME_WAIT {
            self.open.entry(socket.netns).or_default().sockets.push(*socket);
        }
    }

    /// Says what may wait in the queues of interfaces.
    pub fn limit(&mut self, limits: Limits) {
        self.limits.extend(limits);
    }

    /// Says whether the reasons of retransmits are asked for now.
    pub fn asks_for_reasons(&mut self, is_so: bool) {
        self.has_reasons = is_so;
        if !is_so {
            self.reasons.clear();
            self.threads.clear();
        }
    }

    fn user(&mut self, cookie: u64, tid: u32) {
        if tid != 0 && self.threads.len() < REMEMBERED_MAX {
            self.threads.insert(cookie, tid);
        }
    }

    fn retransmit(&mut self, record: &NetRetransmit) {
        self.has_reasons = true;
        self.user(record.cookie, record.header.tid);
        self.reason(record.cookie, |reasons| {
            let sum = match record.reason {
                NET_RETRANSMIT_TIMEOUT | NET_RETRANSMIT_SLOW_START => &mut reasons.timeout,
                NET_RETRANSMIT_FAST => &mut reasons.fast,
                NET_RETRANSMIT_PROBE => &mut reasons.probe,
                NET_RETRANSMIT_SYN => &mut reasons.syn,
                _ => &mut reasons.other,
            };
            *sum = sum.saturating_add(record.segments.max(1));
        });
    }

    fn reason(&mut self, cookie: u64, change: impl FnOnce(&mut Reasons)) {
        if self.reasons.len() < REMEMBERED_MAX || self.reasons.contains_key(&cookie) {
            change(self.reasons.entry(cookie).or_default());
        }
    }

    fn end_look(&mut self, counters: &NetCounters) {
        let look = self.open.remove(&counters.netns).unwrap_or_default();
        self.closed.insert(counters.netns, (look, *counters));
    }

    /// Puts what the last look brought into `window`, whose tasks are there already.
    pub(crate) fn close(&mut self, window: &mut Window, name: &mut NameProcess<'_>) {
        let looks = std::mem::take(&mut self.closed);
        if looks.is_empty() {
            window.network = self.last.clone().map(|last| Network { is_fresh: false, ..last });
            return;
        }
        self.learn_tasks(window);
        let before_ns = self.last.as_ref().map_or(0, |last| last.time_ns);
        let time_ns = looks.values().map(|(_, counters)| counters.header.time_ns).max();
        let time_ns = time_ns.unwrap_or(0);
        let mut network = Network {
            time_ns,
            length_ns: if before_ns == 0 { 0 } else { time_ns.saturating_sub(before_ns) },
            is_fresh: true,
            has_reasons: self.has_reasons,
            ..Network::default()
        };
        let mut seen = FxHashMap::default();
        for (look, counters) in looks.values() {
            network.took_ns += counters.took_ns;
            self.add_sockets(look, &mut network, &mut seen, name);
            self.add_queues(look, &mut network);
            self.add_counts(counters, &mut network.counts);
            add_ports(look, &mut network.ports);
        }
        network.sockets_total = network.sockets.len() as u64;
        self.tasks.retain(|cookie, _| seen.contains_key(cookie));
        self.threads.retain(|cookie, _| seen.contains_key(cookie));
        self.reasons.clear();
        self.sockets_before = seen;
        self.counters_before.retain(|netns, _| looks.contains_key(netns));
        self.last = Some(network.clone());
        window.network = Some(network);
    }

    fn learn_tasks(&mut self, window: &Window) {
        for task in window.tasks.iter().filter(|task| task.cookie != 0) {
            if self.tasks.len() < REMEMBERED_MAX {
                self.tasks.insert(task.cookie, format!("{}#{}", task.name, task.task));
            }
        }
    }

    fn add_sockets(
        &self,
        look: &Look,
        network: &mut Network,
        seen: &mut FxHashMap<u64, Before>,
        name: &mut NameProcess<'_>,
    ) {
        let mut names: FxHashMap<u32, String> = FxHashMap::default();
        network.sockets.reserve(look.sockets.len());
        for socket in &look.sockets {
            let pid = socket.header.pid;
            let owner = names.entry(pid).or_insert_with(|| name(pid)).clone();
            let now = Before::of(socket);
            // What a socket counted before it was seen first is no news of this window.
            let before = self.sockets_before.get(&socket.cookie).copied().unwrap_or(now);
            seen.insert(socket.cookie, now);
            let task = self.tasks.get(&socket.cookie).cloned().unwrap_or_default();
            if socket.state == LISTEN {
                network.listeners.push(listener(socket, before, owner, task));
            } else {
                let mut row = connected(socket, before, owner, task);
                row.tid = self.threads.get(&socket.cookie).copied().unwrap_or(0);
                row.reasons = self.reasons.get(&socket.cookie).copied().unwrap_or_default();
                network.sockets.push(row);
            }
        }
    }

    fn add_queues(&mut self, look: &Look, network: &mut Network) {
        for queue in &look.queues {
            let key = (queue.netns, queue.header.arg, queue.handle);
            let before = self.queues_before.insert(key, *queue).unwrap_or(*queue);
            let limits = self.limits.get(&(queue.header.arg, queue.handle));
            let sent_bytes = queue.sent_bytes.saturating_sub(before.sent_bytes);
            let (limit, limit_bytes) = limits.copied().unwrap_or((None, None));
            network.qdiscs.push(Qdisc {
                interface: text(&queue.device),
                kind: text(&queue.kind),
                handle: queue.handle,
                packets: queue.packets.into(),
                bytes: queue.bytes.into(),
                limit,
                limit_bytes,
                wait_ns: wait_ns(queue.bytes.into(), sent_bytes, network.length_ns),
                dropped: queue.drops.wrapping_sub(before.drops).into(),
                requeued: queue.requeues.wrapping_sub(before.requeues).into(),
                sent: queue.sent_packets.saturating_sub(before.sent_packets),
                sent_bytes,
                dropped_total: queue.drops.into(),
            });
        }
    }

    fn add_counts(&mut self, now: &NetCounters, sum: &mut ProtocolCounts) {
        let before = self.counters_before.insert(now.netns, *now).unwrap_or(*now);
        let since = |of: fn(&NetCounters) -> u64| of(now).saturating_sub(of(&before));
        sum.sent += since(|counters| counters.segments_out);
        sum.retransmitted += since(|counters| counters.retransmitted);
        sum.timeouts += since(|counters| counters.timeouts);
        sum.loss_probes += since(|counters| counters.loss_probes);
        sum.fast_retransmits += since(|counters| counters.fast_retransmits);
        sum.syn_retransmits += since(|counters| counters.syn_retransmits);
        sum.listen_overflows += since(|counters| counters.listen_overflows);
        sum.listen_drops += since(|counters| counters.listen_drops);
        sum.accepted += since(|counters| counters.passive_opens);
        sum.opened += since(|counters| counters.active_opens);
        sum.failed += since(|counters| counters.attempt_fails);
    }
}

/// How long so many bytes take at the rate at which others were sent.
fn wait_ns(bytes: u64, sent_bytes: u64, length_ns: u64) -> Option<u64> {
    if bytes == 0 {
        return Some(0);
    }
    let wait = u128::from(bytes) * u128::from(length_ns) / u128::from(sent_bytes.max(1));
    (sent_bytes > 0).then(|| u64::try_from(wait).unwrap_or(u64::MAX))
}

fn add_ports(look: &Look, ports: &mut Ports) {
    for group in &look.ports {
        ports.time_wait += u64::from(group.time_wait);
        let range = u64::from(group.range_last.saturating_sub(group.range_first));
        let available = if group.range_last == 0 { 0 } else { range + 1 };
        let available = available.saturating_sub(group.reserved_ports.into());
        ports.available = ports.available.max(available);
        if group.header.arg == HOST_PORTS_OUT {
            ports.used += u64::from(group.in_range);
            ports.most_used = ports.most_used.max(group.in_range.into());
        }
    }
}

fn listener(socket: &HostSocket, before: Before, owner: String, task: String) -> Listener {
    Listener {
        local: local(socket),
        cookie: socket.cookie,
        inode: socket.inode,
        pid: socket.header.pid,
        owner,
        task,
        queue: socket.receive_queue.into(),
        limit: socket.send_queue.into(),
        dropped: socket.drops.wrapping_sub(before.drops).into(),
        dropped_total: socket.drops.into(),
    }
}

fn connected(socket: &HostSocket, before: Before, owner: String, task: String) -> Socket {
    Socket {
        cookie: socket.cookie,
        inode: socket.inode,
        local: local(socket),
        peer: SocketAddr::new(host(socket.family, socket.peer), socket.peer_port),
        state: TcpState(socket.state),
        pid: socket.header.pid,
        tid: 0,
        owner,
        task,
        receive_queue: socket.receive_queue.into(),
        send_queue: socket.send_queue.into(),
        unsent: socket.unsent_bytes.into(),
        send_limit: socket.send_limit_bytes.into(),
        cwnd: socket.cwnd,
        srtt_us: socket.srtt_us,
        retransmits_total: socket.retransmitted.into(),
        retransmits: socket.retransmitted.wrapping_sub(before.retransmitted).into(),
        reasons: Reasons::default(),
        backoff: socket.backoff.into(),
        limited: limited(socket, before),
        sent_bytes: socket.acked_bytes.saturating_sub(before.acked_bytes),
        received_bytes: socket.received_bytes.saturating_sub(before.received_bytes),
    }
}

/// What limits a socket: what the kernel counted since the look before, else what it holds now.
fn limited(socket: &HostSocket, before: Before) -> LimitedBy {
    let busy_us = socket.busy_us.saturating_sub(before.busy_us);
    let window_us = socket.window_limited_us.saturating_sub(before.window_limited_us);
    let buffer_us = socket.buffer_limited_us.saturating_sub(before.buffer_limited_us);
    let has_more = socket.unsent_bytes > 0;
    match () {
        () if socket.backoff > 0 && socket.packets_out > 0 => LimitedBy::Loss,
        () if busy_us > 0 && window_us * 2 > busy_us => LimitedBy::PeerWindow,
        () if busy_us > 0 && buffer_us * 2 > busy_us => LimitedBy::SendBuffer,
        () if has_more && socket.peer_window_bytes < socket.mss => LimitedBy::PeerWindow,
        () if has_more && socket.packets_out >= socket.cwnd => LimitedBy::Cwnd,
        () => LimitedBy::App,
    }
}

fn local(socket: &HostSocket) -> SocketAddr {
    SocketAddr::new(host(socket.family, socket.local), socket.local_port)
}

fn host(family: u16, bytes: [u8; 16]) -> IpAddr {
    const AF_INET: u16 = 2;
    // Unset is all zero in both families.
    if family == AF_INET && bytes == [0; 16] {
        return IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    }
    address(bytes)
}

fn text(name: &[u8]) -> String {
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    crate::text::showable(&String::from_utf8_lossy(&name[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hz_probes_ebpf::{Header, net_host::HOST_PORTS_IN};

    const SECOND: u64 = 1_000_000_000;

    fn socket(cookie: u64, retransmitted: u32) -> HostSocket {
        HostSocket {
            cookie,
            protocol: TCP,
            family: 2,
            state: 1,
            local_port: 8_080,
            retransmitted,
            cwnd: 10,
            mss: 1_448,
            peer_window_bytes: 65_535,
            ..HostSocket::default()
        }
    }

    fn counters(time_ns: u64, retransmitted: u64) -> Event {
        Event::NetCounters(NetCounters {
            header: Header { time_ns, ..Header::default() },
            retransmitted,
            ..NetCounters::default()
        })
    }

    fn close(folder: &mut NetworkFolder) -> Network {
        let mut window = Window::default();
        folder.close(&mut window, &mut |pid| format!("p{pid}"));
        window.network.unwrap()
    }

    #[test]
    fn counts_are_of_the_time_between_two_looks_and_the_first_has_none() {
        let mut folder = NetworkFolder::default();
        folder.fold(&Event::HostSocket(socket(1, 7)));
        folder.fold(&counters(SECOND, 100));
        let first = close(&mut folder);
        assert_eq!((first.length_ns, first.counts.retransmitted), (0, 0));
        assert_eq!((first.sockets[0].retransmits, first.sockets[0].retransmits_total), (0, 7));
        folder.fold(&Event::HostSocket(socket(1, 9)));
        folder.fold(&Event::HostSocket(socket(2, 50)));
        folder.fold(&counters(3 * SECOND, 130));
        let second = close(&mut folder);
        assert_eq!((second.length_ns, second.counts.retransmitted), (2 * SECOND, 30));
        assert_eq!(second.sockets.iter().map(|row| row.retransmits).collect::<Vec<_>>(), [2, 0]);
        assert!((second.per_second(second.counts.retransmitted) - 15.0).abs() < 1e-9);
        // No look: the last one, and said so.
        let third = close(&mut folder);
        assert!(second.is_fresh && !third.is_fresh);
        assert_eq!(third.sockets, second.sockets);
    }

    #[test]
    fn reasons_are_those_of_the_socket_and_the_window() {
        let mut folder = NetworkFolder::default();
        for (reason, segments) in [(NET_RETRANSMIT_TIMEOUT, 2), (NET_RETRANSMIT_PROBE, 1)] {
            let header = Header { tid: 9, ..Header::default() };
            let record =
                NetRetransmit { header, cookie: 1, reason, segments, ..NetRetransmit::default() };
            folder.fold(&Event::NetRetransmit(record));
        }
        folder.fold(&Event::HostSocket(socket(1, 3)));
        folder.fold(&counters(SECOND, 3));
        let network = close(&mut folder);
        assert!(network.has_reasons);
        assert_eq!(network.sockets[0].reasons.words(), "2 RTO 1 TLP");
        assert_eq!(network.sockets[0].tid, 9);
        folder.fold(&Event::HostSocket(socket(1, 3)));
        folder.fold(&counters(2 * SECOND, 3));
        assert_eq!(close(&mut folder).sockets[0].reasons.total(), 0);
    }

    #[test]
    fn what_limits_is_what_the_kernel_counted_most() {
        let none = Before::default();
        let of = |change: fn(&mut HostSocket)| {
            let mut socket = socket(1, 0);
            change(&mut socket);
            limited(&socket, none)
        };
        assert_eq!(of(|_| {}), LimitedBy::App);
        assert_eq!(of(|s| (s.unsent_bytes, s.packets_out) = (9, 10)), LimitedBy::Cwnd);
        assert_eq!(of(|s| (s.busy_us, s.window_limited_us) = (9, 5)), LimitedBy::PeerWindow);
        assert_eq!(of(|s| (s.busy_us, s.buffer_limited_us) = (9, 5)), LimitedBy::SendBuffer);
        assert_eq!(of(|s| (s.backoff, s.packets_out) = (1, 1)), LimitedBy::Loss);
        assert_eq!(of(|s| (s.unsent_bytes, s.peer_window_bytes) = (9, 0)), LimitedBy::PeerWindow);
    }

    #[test]
    fn ports_and_listeners_are_told_apart_and_a_queue_has_its_wait() {
        let mut folder = NetworkFolder::default();
        let group = |arg, in_range, time_wait| {
            Event::HostPorts(HostPorts {
                header: Header { arg, ..Header::default() },
                range_first: 32_768,
                range_last: 60_999,
                reserved_ports: 2,
                in_range,
                time_wait,
                ..HostPorts::default()
            })
        };
        let queue = |sent_bytes| {
            Event::HostQueue(HostQueue {
                bytes: 5_000,
                packets: 4,
                sent_bytes,
                ..HostQueue::default()
            })
        };
        for (at, sent) in [(SECOND, 0), (2 * SECOND, 10_000)] {
            folder.fold(&group(HOST_PORTS_OUT, 5, 3));
            folder.fold(&group(HOST_PORTS_OUT, 9, 0));
            folder.fold(&group(HOST_PORTS_IN, 77, 1));
            let listener = HostSocket { state: LISTEN, receive_queue: 3, ..socket(7, 0) };
            folder.fold(&Event::HostSocket(HostSocket { send_queue: 128, ..listener }));
            folder.fold(&queue(sent));
            folder.fold(&counters(at, 0));
            close(&mut folder);
        }
        let network = folder.last.unwrap();
        assert_eq!(
            network.ports,
            Ports { time_wait: 4, used: 14, available: 28_230, most_used: 9 }
        );
        assert_eq!((network.listeners[0].queue, network.listeners[0].limit), (3, 128));
        assert_eq!(network.listeners[0].local.to_string(), "0.0.0.0:8080");
        assert_eq!(network.qdiscs[0].wait_ns, Some(SECOND / 2));
        assert!(network.sockets.is_empty());
    }

    #[test]
    fn a_network_survives_json() {
        let row = Socket {
            state: TcpState(8),
            local: "[::1]:9".parse().unwrap(),
            limited: LimitedBy::PeerWindow,
            ..Socket::default()
        };
        let network = Network { sockets: vec![row], ..Network::default() };
        let text = serde_json::to_string(&network).unwrap();
        assert!(text.contains("\"close-wait\"") && text.contains("\"peer_window\""), "{text}");
        assert_eq!(serde_json::from_str::<Network>(&text).unwrap(), network);
    }
}
