//! Tasks that waited for a socket, and what the socket waited for meanwhile.

use super::{SocketWait, SocketWaitKind, waits_of_socket};
use crate::model::{
    Model, Object, TaskIndex, TaskState, TaskTile,
    net::{Socket, SocketIndex},
};
use crate::text::duration;
use rustc_hash::FxHashMap;
use serde::Serialize;
use std::cmp::Reverse;

/// A task that was idle because of a socket whose bytes waited.
#[derive(Clone, Debug, Serialize)]
pub struct TaskSocketWait {
    /// The task's number in its process.
    pub task: u64,
    /// Its process.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// From when it was idle, since the recording began.
    pub start_ns: u64,
    /// For how long.
    pub duration_ns: u64,
    /// The socket, by its number.
    pub cookie: u64,
    /// The socket's peer.
    pub peer: String,
    /// For what its bytes waited most meanwhile.
    pub because: SocketWaitKind,
    /// How much of the time.
    pub because_ns: u64,
    /// The same in a sentence.
    pub sentence: String,
}

/// Tasks that were idle because of a socket whose bytes waited: the `count` that waited longest so.
#[must_use]
pub fn task_waits(model: &Model, count: usize) -> Vec<TaskSocketWait> {
    let sockets = (0..).zip(&model.network.sockets);
    let by_cookie: FxHashMap<u64, SocketIndex> =
        sockets.map(|(index, socket)| (socket.cookie, SocketIndex(index))).collect();
    let mut waits_by_socket: FxHashMap<SocketIndex, Vec<SocketWait>> = FxHashMap::default();
    let mut found = Vec::new();
    for (index, task) in (0..).zip(&model.tasks) {
        for tile in task.tiles().filter(|tile| tile.span.state == TaskState::Idle) {
            let Some(socket) = socket_of(model, &by_cookie, &tile) else { continue };
            let waits = waits_by_socket
                .entry(socket)
                .or_insert_with(|| waits_of_socket(model.network.socket(socket), model.end_ns));
            if let Some((because, because_ns)) = reason_within(waits, &tile) {
                found.push((because_ns, because, TaskIndex(index), tile, socket));
            }
        }
    }
    found.sort_by_key(|(because_ns, ..)| Reverse(*because_ns));
    found.truncate(count);
    let row = |(because_ns, because, task, tile, socket): (u64, _, _, TaskTile, _)| {
        describe(model, (task, tile), model.network.socket(socket), (because, because_ns))
    };
    found.into_iter().map(row).collect()
}

/// The socket that a task waits for.
fn socket_of(
    model: &Model,
    by_cookie: &FxHashMap<u64, SocketIndex>,
    tile: &TaskTile,
) -> Option<SocketIndex> {
    match model.objects.get(tile.span.object()?.0 as usize)? {
        Object::File { cookie, .. } => by_cookie.get(cookie).copied(),
        Object::Memory { .. } => None,
    }
}

/// For what a socket's bytes waited most during a tile, and how long.
fn reason_within(waits: &[SocketWait], tile: &TaskTile) -> Option<(SocketWaitKind, u64)> {
    let overlap = |wait: &SocketWait| {
        wait.end_ns.min(tile.end_ns).saturating_sub(wait.start_ns.max(tile.span.start_ns))
    };
    let overlaps = waits.iter().map(|wait| (wait.kind, overlap(wait)));
    overlaps.filter(|(_, overlap_ns)| *overlap_ns > 0).max_by_key(|(_, overlap_ns)| *overlap_ns)
}

fn describe(
    model: &Model,
    (index, tile): (TaskIndex, TaskTile),
    socket: &Socket,
    (because, because_ns): (SocketWaitKind, u64),
) -> TaskSocketWait {
    let task = model.task(index);
    let name = model.task_name(index);
    let start_ns = tile.span.start_ns.saturating_sub(model.start_ns);
    let (duration_ns, peer) = (tile.duration_ns(), socket.peer().to_string());
    let sentence = format!(
        "at {}: task `{name}` ({}) was idle for {}, {} of it because {peer} {}",
        duration(start_ns),
        task.id,
        duration(duration_ns),
        duration(because_ns),
        because.of_the_peer(),
    );
    TaskSocketWait {
        task: task.id,
        pid: model.runtimes.get(task.runtime as usize).map_or(0, |runtime| runtime.pid),
        name,
        start_ns,
        duration_ns,
        cookie: socket.cookie,
        peer,
        because,
        because_ns,
        sentence,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode::Event, model::Folder};
    use hz_probes_ebpf::{
        Header, Kind,
        net::{NET_WINDOW_CLOSED, NET_WINDOW_OPEN, NetSocket, NetWindow},
        runtime::{IO_WRITE, POLL_PENDING, RuntimeEvent},
    };

    fn header(time_ns: u64, kind: Kind, arg: u32) -> Header {
        Header { time_ns, kind: kind as u16, cpu: 0, tid: 12, pid: 11, arg }
    }

    fn runtime(time_ns: u64, kind: Kind, (value, aux): (u64, u32)) -> Event {
        let header = header(time_ns, kind, 0);
        Event::Runtime(RuntimeEvent { header, task: 7, value, aux, reserved: 0 })
    }

    fn window(time_ns: u64, arg: u32) -> Event {
        let header = header(time_ns, Kind::NetWindow, arg);
        Event::NetWindow(NetWindow { header, cookie: 99, ..NetWindow::default() })
    }

    #[test]
    fn a_task_that_writes_waits_for_the_window_of_its_own_socket() {
        let mut folder = Folder::new(0, false);
        let socket = |cookie| {
            let header = header(1, Kind::NetSocket, 0);
            Event::NetSocket(NetSocket { header, cookie, peer_port: 5000, ..NetSocket::default() })
        };
        [socket(98), socket(99)].iter().for_each(|event| folder.fold(event));
        folder.fold(&runtime(10, Kind::PollBegin, (0, 0)));
        folder.fold(&runtime(20, Kind::IoWaitBegin, (99, IO_WRITE)));
        folder.fold(&runtime(30, Kind::PollEnd, (0, POLL_PENDING)));
        folder.fold(&window(40, NET_WINDOW_CLOSED));
        folder.fold(&window(240, NET_WINDOW_OPEN));
        folder.fold(&runtime(300_000, Kind::TaskWake, (99, 0)));
        folder.fold(&runtime(300_100, Kind::PollBegin, (0, 0)));
        let model = folder.finish(400_000);
        let waits = task_waits(&model, 10);
        let [wait] = waits.as_slice() else { panic!("{waits:?}") };
        assert_eq!((wait.task, wait.cookie, wait.because_ns), (7, 99, 200));
        assert_eq!(wait.because, SocketWaitKind::ClosedWindow);
        assert!(wait.sentence.contains(":5000 took no data"), "{}", wait.sentence);
    }
}
