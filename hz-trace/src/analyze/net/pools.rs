//! Pools of connections: whose, how well each connection is used, and how they end.
//!
//! A pool is what one process opens to one address and port; hz does not know the program's own.

use super::{
    Owner, Owners,
    life::{self, End, established_ns},
    verdict::{Verdict, judge},
};
use crate::{
    analyze::distribution::{Distribution, distribution},
    model::{Model, net::Socket},
};
use serde::Serialize;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

/// Requests that a connection which is kept has had at least.
const KEPT_REQUESTS: u32 = 5;

/// What one process opens to one address and port.
#[derive(Clone, Debug, Serialize)]
pub struct Pool {
    /// Whose.
    pub owner: Owner,
    /// To where.
    pub destination: String,
    /// Inode of the network namespace.
    pub netns: u32,
    /// What that is called.
    pub namespace: String,
    /// Connections that were open when recording began.
    pub were_open: u64,
    /// Connections opened meanwhile.
    pub opened: u64,
    /// The same a second.
    pub opened_per_s: f64,
    /// The most that were open at once.
    pub open_max: u64,
    /// Connections ended meanwhile, by how.
    pub ends: BTreeMap<End, u64>,
    /// Connects that found no port (`EADDRNOTAVAIL`).
    pub no_port: u64,
    /// Requests on all of them: times that the process sent after it had received. Answers that are not
    /// waited for are not told apart.
    pub requests: u64,
    /// Requests on each connection that was opened and ended meanwhile: median.
    pub requests_p50: u64,
    /// The same: the mean, which is how often each is used.
    pub requests_mean: f64,
    /// How long those were open.
    pub life: Distribution,
    /// How long they had been idle when the first side closed.
    pub idle: Distribution,
    /// Ports to that destination in `TIME_WAIT` at most, at one look.
    pub time_wait_max: u32,
    /// Ports to that destination in use at most, at one look.
    pub ports_in_use_max: u32,
    /// Ports that the kernel may choose.
    pub ports_available: u32,
    /// What is wrong with it, and what would mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
}

/// A connection of a pool that was opened and ended while it was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) requests: u32,
    pub(super) life_ns: u64,
    pub(super) idle_ns: Option<u64>,
    pub(super) end: End,
}

/// What a verdict is made of, beside the pool's figures.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    pub(super) ended: Vec<Ended>,
    /// Connections that were used again and again.
    pub(super) kept: u64,
}

/// Every pool, that which opens most first.
pub(super) fn pools(model: &Model, owners: &Owners<'_>, count: usize) -> Vec<Pool> {
    let listening: BTreeSet<(u32, u16)> = model
        .network
        .sockets
        .iter()
        .filter(|socket| socket.is_listener())
        .map(|socket| (socket.identity.netns, socket.identity.local_port))
        .collect();
    let mut groups: BTreeMap<(u32, u32, SocketAddr), Vec<&Socket>> = BTreeMap::new();
    for socket in model.network.sockets.iter().filter(|socket| is_opened_here(socket, &listening)) {
        let pid = socket.owners.first().map_or(0, |owner| owner.header.pid);
        let key = (socket.identity.netns, pid, socket.peer());
        groups.entry(key).or_default().push(socket);
    }
    let mut pools: Vec<Pool> = groups
        .into_iter()
        .map(|((_, _, destination), sockets)| pool(model, owners, destination, &sockets))
        .filter(|pool| pool.opened + pool.no_port + pool.were_open > 0)
        .collect();
    pools.sort_by_key(|pool| {
        (Reverse(pool.no_port), Reverse(pool.opened), pool.destination.clone(), pool.owner.pid)
    });
    pools.truncate(count);
    pools
}

/// Whether a process here opened it, as far as can be told.
fn is_opened_here(socket: &Socket, listening: &BTreeSet<(u32, u16)>) -> bool {
    !socket.is_listener()
        && socket.identity.peer_port != 0
        && !socket.is_from_looks
        && (life::connects(socket).next().is_some()
            || (socket.was_there()
                && !life::is_taken(socket)
                && !listening.contains(&(socket.identity.netns, socket.identity.local_port))))
}

fn pool(model: &Model, owners: &Owners<'_>, destination: SocketAddr, sockets: &[&Socket]) -> Pool {
    let evidence = evidence(model, sockets);
    let netns = sockets[0].identity.netns;
    let seconds = model.end_ns.saturating_sub(model.start_ns).max(1) as f64 / 1e9;
    let is_new = |socket: &&&Socket| is_new(model, socket);
    let opened = sockets.iter().filter(is_new).count() as u64;
    let of_ended = |of: fn(&Ended) -> Option<u64>| {
        distribution(evidence.ended.iter().filter_map(of).collect())
    };
    let requests = of_ended(|ended| Some(ended.requests.into()));
    let mut ends = BTreeMap::new();
    let ended = sockets.iter().filter_map(|socket| life::end_of(socket));
    for (_, end) in ended.filter(|(time_ns, _)| *time_ns >= model.start_ns) {
        *ends.entry(end).or_default() += 1;
    }
    let ports = super::hosts::ports_to(model, netns, destination);
    let mut pool = Pool {
        owner: owners.of_socket(sockets[0], sockets[0].seen_ns.1),
        destination: destination.to_string(),
        netns,
        namespace: model.network.namespace(netns),
        were_open: sockets.iter().filter(|socket| socket.was_there()).count() as u64,
        opened,
        opened_per_s: opened as f64 / seconds,
        open_max: open_max(model, sockets),
        ends,
        no_port: sockets.iter().map(|socket| life::without_port(socket)).sum(),
        requests: sockets
            .iter()
            .filter(|socket| socket.was_there() || is_new(socket))
            .map(|socket| u64::from(requests_of(socket)))
            .sum(),
        requests_p50: requests.p50_ns,
        requests_mean: requests.total_ns as f64 / requests.count.max(1) as f64,
        life: of_ended(|ended| Some(ended.life_ns)),
        idle: of_ended(|ended| ended.idle_ns),
        time_wait_max: ports.time_wait,
        ports_in_use_max: ports.in_range,
        ports_available: super::ports::available(&ports),
        verdict: None,
    };
    pool.verdict = judge(&pool, &evidence);
    pool
}

/// Whether it was opened while all was recorded: what came while hz attached is half told.
fn is_new(model: &Model, socket: &Socket) -> bool {
    !socket.was_there() && established_ns(socket).is_some_and(|up_ns| up_ns >= model.start_ns)
}

/// Times that its process sent after it had received.
fn requests_of(socket: &Socket) -> u32 {
    socket.samples.last().map_or(0, |sample| sample.send_bursts)
}

fn evidence(model: &Model, sockets: &[&Socket]) -> Evidence {
    let is_kept =
        |socket: &&&Socket| requests_of(socket) >= KEPT_REQUESTS && life::end_of(socket).is_none();
    Evidence {
        ended: sockets
            .iter()
            .filter(|socket| is_new(model, socket))
            .filter_map(|socket| ended(socket))
            .collect(),
        kept: sockets.iter().filter(is_kept).count() as u64,
    }
}

fn ended(socket: &Socket) -> Option<Ended> {
    let up_ns = established_ns(socket)?;
    let (end_ns, end) = life::end_of(socket)?;
    let last = socket.samples.last()?;
    let received_ns = Some(last.last_receive_ns).filter(|time_ns| *time_ns != 0);
    Some(Ended {
        requests: last.send_bursts,
        life_ns: end_ns.saturating_sub(up_ns),
        idle_ns: received_ns.map(|received_ns| end_ns.saturating_sub(received_ns)),
        end,
    })
}

/// The most that were open at once.
fn open_max(model: &Model, sockets: &[&Socket]) -> u64 {
    let mut steps: Vec<(u64, i64)> = Vec::new();
    for socket in sockets {
        let up_ns = established_ns(socket);
        let Some(up_ns) = up_ns.or(socket.was_there().then_some(model.start_ns)) else { continue };
        steps.push((up_ns, 1));
        if let Some((end_ns, _)) = life::end_of(socket) {
            steps.push((end_ns, -1));
        }
    }
    // What ends when another begins was not open at the same time.
    steps.sort_unstable();
    let mut open = 0;
    let mut most = 0;
    for (_, step) in steps {
        open += step;
        most = most.max(open);
    }
    most.unsigned_abs()
}
