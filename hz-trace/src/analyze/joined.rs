//! Why a task waited for a socket: what the socket waited for meanwhile.

use super::net::{SocketWait, SocketWaitKind, waits_of_socket};
use crate::model::{
    Model, Object, TaskIndex, TaskState, TaskTile, Why,
    net::{Network, Socket, SocketIndex},
};
use crate::text::duration;
use rustc_hash::FxHashMap;
use serde::Serialize;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, hash_map::Entry},
};

/// How many of the worst are listed.
const WORST: usize = 10;

/// What the bytes of a socket that a task waited for were waiting for themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SocketCause {
    /// For what.
    pub kind: SocketWaitKind,
    /// Whether it was the other end's socket that waited, which this recording has too.
    pub is_peers: bool,
    /// For how much of the task's wait.
    pub duration_ns: u64,
}

impl SocketCause {
    /// As the end of "waited for …".
    #[must_use]
    pub fn words(&self) -> String {
        let of = if self.is_peers { " of its peer" } else { "" };
        format!("{}{of}", self.kind.words())
    }
}

/// A task's wait for a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketIdle {
    /// The socket, if the recording knows more of it than its cookie.
    pub socket: SocketIndex,
    /// What it waited for, the longest first; empty if nothing is known.
    pub causes: Vec<SocketCause>,
}

/// What is known of a socket that tasks wait for.
#[derive(Clone, Debug)]
struct Known {
    socket: SocketIndex,
    waits: Vec<SocketWait>,
    /// Of the other end.
    peers: Vec<SocketWait>,
}

/// The waits of all sockets that tasks wait for.
#[derive(Clone, Debug, Default)]
pub struct SocketWaits {
    by_cookie: FxHashMap<u64, Known>,
}

impl SocketWaits {
    /// Looks at every socket that a task names.
    #[must_use]
    pub fn of(model: &Model) -> Self {
        let network = &model.network;
        if network.sockets.is_empty() {
            return Self::default();
        }
        let by_number = places(network, |socket| socket.cookie);
        let by_ends = places(network, |socket| (socket.local(), socket.peer()));
        let waits = |index: SocketIndex| waits_of_socket(network.socket(index), model.end_ns);
        let mut known = Self::default();
        for object in &model.objects {
            let Object::File { cookie, .. } = object else { continue };
            let Some(socket) = by_number.get(cookie).copied().filter(|_| *cookie != 0) else {
                continue;
            };
            let Entry::Vacant(free) = known.by_cookie.entry(*cookie) else { continue };
            let ends = network.socket(socket);
            let peer = by_ends.get(&(ends.peer(), ends.local())).copied();
            let peers = peer.filter(|_| !ends.is_listener()).map(waits).unwrap_or_default();
            let peers = peers.into_iter().filter(|wait| is_of_sender(wait.kind)).collect();
            free.insert(Known { socket, waits: waits(socket), peers });
        }
        known
    }

    /// What is known of the socket that a task was idle for in a tile of its life, or in a part of
    /// it.
    #[must_use]
    pub fn why(&self, model: &Model, tile: &TaskTile) -> Option<SocketIdle> {
        let known = self.known(model, tile)?;
        let mut causes = Vec::new();
        add(&mut causes, &known.waits, (tile, false));
        // Who waits to read waits for what the other end cannot get through.
        if matches!(tile.span.why, Why::Read | Why::File) {
            add(&mut causes, &known.peers, (tile, true));
        }
        causes.sort_by_key(|cause| Reverse(cause.duration_ns));
        Some(SocketIdle { socket: known.socket, causes })
    }

    fn known(&self, model: &Model, tile: &TaskTile) -> Option<&Known> {
        if tile.span.state != TaskState::Idle {
            return None;
        }
        let object = model.objects.get(tile.span.object()?.0 as usize)?;
        let Object::File { cookie, .. } = object else { return None };
        self.by_cookie.get(cookie)
    }
}

fn places<K: std::hash::Hash + Eq>(
    network: &Network,
    key: impl Fn(&Socket) -> K,
) -> FxHashMap<K, SocketIndex> {
    (0_u32..).map(SocketIndex).zip(&network.sockets).map(|(at, each)| (key(each), at)).collect()
}

/// Whether it keeps the data of the socket's own side from the other. A closed window is the
/// reader's own doing.
const fn is_of_sender(kind: SocketWaitKind) -> bool {
    !matches!(kind, SocketWaitKind::ClosedWindow)
}

/// Adds how much of `tile` each kind of wait covers.
fn add(causes: &mut Vec<SocketCause>, waits: &[SocketWait], (tile, is_peers): (&TaskTile, bool)) {
    // Sorted by their start: none after these overlaps.
    let before_end = waits.partition_point(|wait| wait.start_ns < tile.end_ns);
    let mut covered: BTreeMap<SocketWaitKind, (u64, u64)> = BTreeMap::new();
    for wait in &waits[..before_end] {
        let (until_ns, sum_ns) = covered.entry(wait.kind).or_insert((tile.span.start_ns, 0));
        let start_ns = wait.start_ns.max(*until_ns);
        let end_ns = wait.end_ns.min(tile.end_ns);
        *sum_ns += end_ns.saturating_sub(start_ns);
        *until_ns = (*until_ns).max(end_ns);
    }
    let found = covered.into_iter().filter(|(_, (_, duration_ns))| *duration_ns > 0);
    causes.extend(found.map(|(kind, (_, duration_ns))| SocketCause {
        kind,
        is_peers,
        duration_ns,
    }));
}

/// What one task waited for one file in one way.
#[derive(Clone, Debug, Serialize)]
pub struct IoWait {
    /// The task's number in its process.
    pub task: u64,
    /// Its process.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// `read`, `write`, `accept`, `connect` or `file`.
    pub to: &'static str,
    /// The file's number in the process.
    pub fd: u32,
    /// The socket's cookie, 0: no socket.
    pub cookie: u64,
    /// The socket's own address, if the recording knows it.
    pub local: Option<String>,
    /// That of the other end.
    pub peer: Option<String>,
    /// How often it waited.
    pub waits: u64,
    /// How long together.
    pub waited_ns: u64,
    /// The longest wait.
    pub longest_ns: u64,
    /// When that began, since the recording began.
    pub longest_start_ns: u64,
    /// What the socket waited for meanwhile, the longest first.
    pub causes: Vec<SocketCause>,
    /// The same in a sentence, if there is a cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sentence: Option<String>,
}

/// How a wait for a file is called; `None`: it was for something else.
pub(super) const fn file_wait(why: Why) -> Option<&'static str> {
    match why {
        Why::Read => Some("read"),
        Why::Write => Some("write"),
        Why::Accept => Some("accept"),
        Why::Connect => Some("connect"),
        Why::File => Some("file"),
        _ => None,
    }
}

/// The waits for files: first those with a known cause, then the longest; the first ten.
pub(super) fn io_waits(model: &Model, sockets: &SocketWaits) -> Vec<IoWait> {
    let mut rows: FxHashMap<(TaskIndex, &'static str, u32, u64), IoWait> = FxHashMap::default();
    for (index, task) in (0_u32..).map(TaskIndex).zip(&model.tasks) {
        for tile in task.tiles().filter(|tile| tile.span.state == TaskState::Idle) {
            let Some(to) = file_wait(tile.span.why) else { continue };
            let object = tile.span.object().and_then(|each| model.objects.get(each.0 as usize));
            let Some(Object::File { fd, cookie, .. }) = object else { continue };
            let row = rows.entry((index, to, *fd, *cookie)).or_insert_with(|| IoWait {
                task: task.id,
                pid: model.runtimes.get(task.runtime as usize).map_or(0, |runtime| runtime.pid),
                name: String::new(),
                to,
                fd: *fd,
                cookie: *cookie,
                local: None,
                peer: None,
                waits: 0,
                waited_ns: 0,
                longest_ns: 0,
                longest_start_ns: 0,
                causes: Vec::new(),
                sentence: None,
            });
            row.add(model, &tile, sockets);
        }
    }
    let mut rows: Vec<(TaskIndex, IoWait)> =
        rows.into_iter().map(|((index, ..), row)| (index, row)).collect();
    rows.sort_by_key(|(_, row)| {
        (Reverse(row.caused_ns()), Reverse(row.waited_ns), row.pid, row.task, row.fd)
    });
    rows.truncate(WORST);
    rows.into_iter().map(|(index, row)| row.told(model.task_name(index))).collect()
}

impl IoWait {
    fn add(&mut self, model: &Model, tile: &TaskTile, sockets: &SocketWaits) {
        let waited_ns = tile.duration_ns();
        self.waits += 1;
        self.waited_ns += waited_ns;
        if waited_ns > self.longest_ns {
            self.longest_ns = waited_ns;
            self.longest_start_ns = tile.span.start_ns.saturating_sub(model.start_ns);
        }
        let Some(idle) = sockets.why(model, tile) else { return };
        if self.local.is_none() {
            let socket = model.network.socket(idle.socket);
            self.local = Some(socket.local().to_string());
            self.peer = (!socket.is_listener()).then(|| socket.peer().to_string());
        }
        for cause in idle.causes {
            let same = |each: &&mut SocketCause| {
                (each.kind, each.is_peers) == (cause.kind, cause.is_peers)
            };
            match self.causes.iter_mut().find(same) {
                Some(sum) => sum.duration_ns += cause.duration_ns,
                None => self.causes.push(cause),
            }
        }
    }

    fn caused_ns(&self) -> u64 {
        self.causes.iter().map(|cause| cause.duration_ns).sum()
    }

    fn told(mut self, name: String) -> Self {
        self.causes.sort_by_key(|cause| Reverse(cause.duration_ns));
        self.name = name;
        let to = match (self.to, &self.peer) {
            ("read", Some(peer)) => format!("to read from {peer}"),
            ("write", Some(peer)) => format!("to write to {peer}"),
            ("connect", Some(peer)) => format!("to connect to {peer}"),
            ("file", _) => format!("for file {}", self.fd),
            (to, _) => format!("to {to} file {}", self.fd),
        };
        let longest_ns = self.causes.first().map_or(0, |cause| cause.duration_ns);
        let causes: Vec<String> = self
            .causes
            .iter()
            .filter(|cause| cause.duration_ns * 20 >= longest_ns)
            .map(|cause| format!("{} for {}", duration(cause.duration_ns), cause.words()))
            .collect();
        self.sentence = (!causes.is_empty()).then(|| {
            format!(
                "task `{}` ({}) was idle {} waiting {to}, of it {}",
                self.name,
                self.task,
                duration(self.waited_ns),
                causes.join(" and ")
            )
        });
        self
    }
}
