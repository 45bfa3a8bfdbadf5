//! Queues that came near to what they may hold, and for how long.

use super::{Owner, Owners, connections::time_with};
use crate::model::{
    Model,
    net::{Socket, address, state_name},
    net_host::Looks,
};
use hz_probes_ebpf::{
    net::NetSample,
    net_host::{HostSocket, HostUnix},
};
use serde::Serialize;
use std::{cmp::Reverse, net::SocketAddr};

/// The bar by default: the share of its limit from which on a queue is told of, in percent.
pub const QUEUE_OVER_PCT: u32 = 50;

/// Which queue it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum QueueKind {
    /// Connections that wait to be accepted.
    Accept,
    /// Bytes that a process has not read, memory with overhead.
    Receive,
    /// Bytes that a process has queued and the peer not acknowledged, memory with overhead.
    Send,
    /// Packets of UDP that a process has not read, memory with overhead.
    Udp,
    /// Connections of a Unix socket that wait to be accepted.
    UnixAccept,
}

impl QueueKind {
    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Accept => "accept queue",
            Self::Receive => "receive queue",
            Self::Send => "send queue",
            Self::Udp => "UDP receive queue",
            Self::UnixAccept => "Unix accept queue",
        }
    }

    /// Whether it holds connections, not bytes.
    #[must_use]
    pub const fn is_of_connections(self) -> bool {
        matches!(self, Self::Accept | Self::UnixAccept)
    }
}

/// A queue over its bar.
#[derive(Clone, Debug, Serialize)]
pub struct QueueOver {
    /// Which.
    pub kind: QueueKind,
    /// Where: an address, or two.
    pub at: String,
    /// Inode of the network namespace.
    pub netns: u32,
    /// What that is called.
    pub namespace: String,
    /// Whose.
    pub owner: Owner,
    /// The most it held: bytes with overhead, or connections.
    pub most: u64,
    /// What it might hold then.
    pub limit: u64,
    /// How long it was over the bar, as far as the looks show, nanoseconds.
    pub over_ns: u64,
}

/// Queues that held more than `pct` percent of what they may, those that did for longest first.
pub(super) fn queues_over(
    model: &Model,
    owners: &Owners<'_>,
    pct: u32,
    count: usize,
) -> Vec<QueueOver> {
    let mut rows: Vec<QueueOver> = Vec::new();
    for socket in &model.network.sockets {
        for kind in [QueueKind::Accept, QueueKind::Receive, QueueKind::Send] {
            rows.extend(of_socket((model, owners), socket, kind, pct));
        }
    }
    let udp = model.network.host.udp.values();
    rows.extend(udp.filter_map(|looks| of_udp(model, owners, looks, pct)));
    rows.extend(unix(model, owners, pct));
    rows.sort_by_key(|row| (Reverse(row.over_ns), Reverse(row.most), row.at.clone()));
    rows.truncate(count);
    rows
}

fn is_over((held, limit): (u64, u64), pct: u32) -> bool {
    limit > 0 && held * 100 > limit * u64::from(pct)
}

/// What a queue holds and may hold; nothing, if the socket has no such queue then.
fn held(sample: &NetSample, kind: QueueKind) -> (u64, u64) {
    let is_listening = state_name(sample.state) == "listen";
    match kind {
        QueueKind::Accept if is_listening => {
            (sample.unread_bytes.into(), sample.receive_limit_bytes.into())
        }
        QueueKind::Receive if !is_listening => {
            (sample.receive_memory_bytes.into(), sample.receive_limit_bytes.into())
        }
        QueueKind::Send if !is_listening => {
            (sample.send_memory_bytes.into(), sample.send_limit_bytes.into())
        }
        _ => (0, 0),
    }
}

fn of_socket(
    (model, owners): (&Model, &Owners<'_>),
    socket: &Socket,
    kind: QueueKind,
    pct: u32,
) -> Option<QueueOver> {
    let samples = socket.samples.iter().map(|sample| held(sample, kind));
    let (most, limit) = samples.filter(|held| is_over(*held, pct)).max()?;
    Some(QueueOver {
        kind,
        at: place(socket),
        netns: socket.identity.netns,
        namespace: model.network.namespace(socket.identity.netns),
        owner: owners.of_socket(socket, model.end_ns),
        most,
        limit,
        over_ns: time_with(socket, |sample| is_over(held(sample, kind), pct)),
    })
}

fn place(socket: &Socket) -> String {
    if socket.is_listener() {
        return socket.local().to_string();
    }
    format!("{} → {}", socket.local(), socket.peer())
}

fn of_udp(
    model: &Model,
    owners: &Owners<'_>,
    looks: &Looks<HostSocket>,
    pct: u32,
) -> Option<QueueOver> {
    let held = |look: &HostSocket| {
        (u64::from(look.receive_memory_bytes), u64::from(look.receive_limit_bytes))
    };
    let most =
        looks.all().iter().filter(|look| is_over(held(look), pct)).max_by_key(|look| held(look))?;
    Some(QueueOver {
        kind: QueueKind::Udp,
        at: SocketAddr::new(address(most.local), most.local_port).to_string(),
        netns: most.netns,
        namespace: model.network.namespace(most.netns),
        owner: owners.of_process(most.header.pid, most.header.time_ns),
        most: held(most).0,
        limit: held(most).1,
        over_ns: looks.time_ns(|look| is_over(held(look), pct)),
    })
}

fn unix(model: &Model, owners: &Owners<'_>, pct: u32) -> Vec<QueueOver> {
    let held = |look: &HostUnix| (u64::from(look.receive_queue), u64::from(look.send_queue));
    let listening = |look: &HostUnix| state_name(look.state) == "listen";
    let sockets = model.network.host.unix.values();
    let rows = sockets.filter_map(|looks| {
        let is_so = |look: &HostUnix| listening(look) && is_over(held(look), pct);
        let most = looks.all().iter().filter(|look| is_so(look)).max_by_key(|look| held(look))?;
        let name: Vec<u8> = most.name.iter().copied().take_while(|byte| *byte != 0).collect();
        Some(QueueOver {
            kind: QueueKind::UnixAccept,
            at: String::from_utf8_lossy(&name).into_owned(),
            netns: most.netns,
            namespace: model.network.namespace(most.netns),
            owner: owners.of_process(most.header.pid, most.header.time_ns),
            most: held(most).0,
            limit: held(most).1,
            over_ns: looks.time_ns(is_so),
        })
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode::Event, model::Folder};
    use hz_probes_ebpf::Header;

    #[test]
    fn queues_are_over_their_bar_for_as_long_as_looks_find_them_so() {
        let mut folder = Folder::new(0, false);
        let header = |time_ns| Header { time_ns, ..Header::default() };
        for (time_ns, receive_memory_bytes) in [(1, 10), (2, 60), (5, 90), (9, 20)] {
            folder.fold(&Event::NetSample(NetSample {
                header: header(time_ns),
                cookie: 1,
                state: 1,
                receive_memory_bytes,
                receive_limit_bytes: 100,
                send_memory_bytes: 5,
                send_limit_bytes: 100,
                ..NetSample::default()
            }));
            folder.fold(&Event::HostSocket(HostSocket {
                header: header(time_ns),
                cookie: 2,
                protocol: 17,
                local_port: 53,
                receive_memory_bytes: receive_memory_bytes * 2,
                receive_limit_bytes: 200,
                ..HostSocket::default()
            }));
        }
        let mut name = [0; 64];
        name[..2].copy_from_slice(b"@x");
        for (time_ns, receive_queue) in [(1, 0), (2, 3), (3, 3)] {
            folder.fold(&Event::HostUnix(HostUnix {
                header: header(time_ns),
                receive_queue,
                send_queue: 2,
                state: 10,
                name,
                ..HostUnix::default()
            }));
        }
        let model = folder.finish(10);
        let over = |pct| {
            let rows = queues_over(&model, &Owners::of(&model), pct, 10);
            rows.iter().map(|row| (row.kind, row.most, row.limit, row.over_ns)).collect::<Vec<_>>()
        };
        assert_eq!(
            over(50),
            [
                (QueueKind::Udp, 180, 200, 7),
                (QueueKind::Receive, 90, 100, 7),
                (QueueKind::UnixAccept, 3, 2, 1),
            ]
        );
        assert_eq!(over(80)[0], (QueueKind::Udp, 180, 200, 4));
    }
}
