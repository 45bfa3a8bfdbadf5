//! Listeners: what waited in their queues, what overflowed and when, and who should have accepted.

use super::{
    Owner, Owners,
    life::{accept_wait_ns, accepted, established_ns, is_taken},
};
use crate::{
    analyze::distribution::{Distribution, distribution},
    model::{
        Model,
        net::{Socket, state_name},
    },
};
use hz_probes_ebpf::net::{NET_OWNER_ACCEPTS, NetSample};
use serde::Serialize;

/// Times at which connections were dropped that are told of a listener.
const DROPS_LISTED: usize = 8;

/// One listener.
#[derive(Clone, Debug, Serialize)]
pub struct Listener {
    /// Its address.
    pub local: String,
    /// Inode of its network namespace.
    pub netns: u32,
    /// What that is called.
    pub namespace: String,
    /// Who listens.
    pub owner: Owner,
    /// The thread that accepted last, and should have accepted the rest; as `owner` if none has.
    pub acceptor: Owner,
    /// The most connections that waited to be accepted.
    pub accept_queue_max: u32,
    /// Connections it may hold.
    pub accept_queue_limit: u32,
    /// The most handshakes that were not finished.
    pub syn_queue_max: u32,
    /// Connections refused or forgotten: the kernel's `ListenDrops` of this one.
    pub drops: u64,
    /// When that was, between two looks each.
    pub dropped: Vec<Dropped>,
    /// SYN-ACKs sent again.
    pub synacks: u64,
    /// How long its accept queue was full, as far as the looks show.
    pub full_ns: u64,
    /// Connections it took while it was recorded.
    pub taken: u64,
    /// How long connections waited to be accepted.
    pub accept: Distribution,
    /// Whether that is until they were accepted; if not, until a thread used them first.
    pub is_accept_seen: bool,
    /// Connections that nobody had accepted or used when recording ended.
    pub not_accepted: u64,
}

/// Connections that a listener dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// None had been before this, nanoseconds since recording began.
    pub from_ns: u64,
    /// All had been then, nanoseconds since recording began.
    pub to_ns: u64,
    /// How many.
    pub count: u64,
}

/// All listeners of a model.
pub(super) fn listeners(model: &Model, owners: &Owners<'_>) -> Vec<Listener> {
    let sockets = model.network.sockets.iter().filter(|socket| socket.is_listener());
    sockets.map(|socket| listener(model, owners, socket)).collect()
}

fn listener(model: &Model, owners: &Owners<'_>, socket: &Socket) -> Listener {
    // The last one may be of a socket that is closed already.
    let listening = || {
        let is_listening = |sample: &&NetSample| state_name(sample.state) == "listen";
        socket.samples.iter().filter(is_listening)
    };
    let most = |of: fn(&NetSample) -> u32| listening().map(of).max().unwrap_or(0);
    let taken = |child: &&Socket| {
        is_child(socket, child)
            && established_ns(child).is_some_and(|up_ns| up_ns >= model.start_ns)
    };
    let children: Vec<&Socket> = model.network.sockets.iter().filter(taken).collect();
    let owner = owners.of_socket(socket, model.end_ns);
    let last = children.iter().filter_map(|child| accepted(child));
    let last = last.max_by_key(|owner| owner.header.time_ns);
    let waits = children.iter().filter_map(|child| accept_wait_ns(child));
    let is_accept_seen = |child: &&Socket| {
        accepted(child).is_some_and(|owner| owner.header.arg == NET_OWNER_ACCEPTS)
    };
    Listener {
        local: socket.local().to_string(),
        netns: socket.identity.netns,
        namespace: model.network.namespace(socket.identity.netns),
        acceptor: last.map_or_else(|| owner.clone(), |last| owners.of_record(last)),
        owner,
        accept_queue_max: most(|sample| sample.unread_bytes),
        accept_queue_limit: most(|sample| sample.receive_limit_bytes),
        syn_queue_max: most(|sample| sample.syn_queue),
        drops: socket.grown(|sample| sample.drops.into()),
        dropped: dropped(model, socket),
        synacks: socket.synacks.len() as u64,
        // The queue holds one more than its limit (sk_acceptq_is_full).
        full_ns: super::connections::time_with(socket, |sample| {
            state_name(sample.state) == "listen" && sample.unread_bytes > sample.receive_limit_bytes
        }),
        taken: children.len() as u64,
        accept: distribution(waits.collect()),
        is_accept_seen: children.iter().any(is_accept_seen),
        not_accepted: children.iter().filter(|child| accepted(child).is_none()).count() as u64,
    }
}

/// Whether `listener` took a connection.
fn is_child(listener: &Socket, child: &Socket) -> bool {
    let (at, to) = (&listener.identity, &child.identity);
    !child.is_listener()
        && at.netns == to.netns
        && at.local_port == to.local_port
        && (at.local == to.local || listener.local().ip().is_unspecified())
        && is_taken(child)
}

fn dropped(model: &Model, socket: &Socket) -> Vec<Dropped> {
    let since = |time_ns: u64| time_ns.saturating_sub(model.start_ns);
    let first = socket.samples.first().filter(|sample| !socket.was_there() && sample.drops > 0);
    let first = first.map(|sample| Dropped {
        from_ns: since(socket.seen_ns.0),
        to_ns: since(sample.header.time_ns),
        count: sample.drops.into(),
    });
    let pairs = socket.samples.windows(2).filter(|pair| pair[1].drops > pair[0].drops);
    let steps = pairs.map(|pair| Dropped {
        from_ns: since(pair[0].header.time_ns),
        to_ns: since(pair[1].header.time_ns),
        count: u64::from(pair[1].drops - pair[0].drops),
    });
    first.into_iter().chain(steps).take(DROPS_LISTED).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{analyze::net::life, decode::Event, model::Folder};
    use hz_probes_ebpf::{
        Header,
        net::{NET_OWNER_OF_LISTENER, NetOwner, NetSocket},
    };

    #[test]
    fn a_listener_has_its_queue_its_drops_with_time_and_who_should_have_accepted() {
        let mut folder = Folder::new(0, false);
        let header = |time_ns, tid, arg| Header { time_ns, arg, pid: 4, tid, ..Header::default() };
        let listens = NetSocket {
            header: header(1, 4, 3),
            cookie: 1,
            state: 10,
            local_port: 80,
            ..NetSocket::default()
        };
        folder.fold(&Event::NetSocket(listens));
        for (time_ns, unread_bytes, drops) in [(10, 0, 0), (20, 3, 5), (30, 3, 7), (40, 0, 7)] {
            folder.fold(&Event::NetSample(NetSample {
                header: header(time_ns, 0, 0),
                cookie: 1,
                state: 10,
                unread_bytes,
                receive_limit_bytes: 2,
                drops,
                ..NetSample::default()
            }));
        }
        for (cookie, up_ns, accepted_ns) in [(2, 12, Some(15)), (3, 13, Some(38)), (4, 14, None)] {
            let child = NetSocket {
                header: header(up_ns, 4, NET_OWNER_OF_LISTENER),
                cookie,
                local: [7; 16],
                local_port: 80,
                ..NetSocket::default()
            };
            folder.fold(&Event::NetSocket(child));
            life::tests::states(&mut folder, cookie, &[(up_ns, 1, 0)]);
            if let Some(time_ns) = accepted_ns {
                let header = header(time_ns, 6, NET_OWNER_ACCEPTS);
                folder.fold(&Event::NetOwner(NetOwner { header, cookie }));
            }
        }
        let model = folder.finish(50);
        let rows = listeners(&model, &Owners::of(&model));
        let [row] = rows.as_slice() else { panic!("one listener") };
        assert_eq!((row.accept_queue_max, row.accept_queue_limit, row.full_ns), (3, 2, 20));
        assert_eq!(row.drops, 7);
        let times: Vec<_> = row.dropped.iter().map(|d| (d.from_ns, d.to_ns, d.count)).collect();
        assert_eq!(times, [(10, 20, 5), (20, 30, 2)]);
        assert_eq!((row.taken, row.accept.count, row.accept.max_ns), (3, 2, 25));
        assert_eq!((row.not_accepted, row.is_accept_seen), (1, true));
        assert_eq!((row.owner.tid, row.acceptor.tid, row.acceptor.how), (4, 6, "accepts"));
    }
}
