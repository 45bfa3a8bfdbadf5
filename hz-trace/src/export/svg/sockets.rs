//! Connections as the picture shows them: what they hold in each column of pixels, what was sent
//! again, and when their bytes waited.

use super::Scene;
use super::columns::Grid;
use crate::analyze::{SocketWait, SocketWaitKind, waits_of_socket, worst_connections};
use crate::model::Model;
use crate::model::net::Socket;
use hz_probes_ebpf::net::{NET_RETRANSMIT_SYN, NET_RETRANSMIT_TIMEOUT};
use std::cmp::Reverse;

/// Connections with a lane of their own.
const LANES: usize = 12;

/// What a connection held and did in a column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SocketColumn {
    /// The most bytes that were sent and not acknowledged.
    pub(super) in_flight: u32,
    /// The most bytes that were not yet sent.
    pub(super) unsent: u32,
    /// The most bytes that its process had not read.
    pub(super) unread: u32,
    /// Segments sent again because a timer expired.
    pub(super) timeouts: u32,
    /// Segments sent again for other reasons.
    pub(super) again: u32,
    /// Whether the peer's window was closed: 1, or a timer was waited for: 2.
    pub(super) waits: u32,
}

impl SocketColumn {
    /// As the script has it.
    pub(super) const fn numbers(&self) -> [u32; 6] {
        [self.in_flight, self.unsent, self.unread, self.timeouts, self.again, self.waits]
    }

    /// All bytes that are shown above each other.
    pub(super) const fn bytes(&self) -> u64 {
        self.in_flight as u64 + self.unsent as u64 + self.unread as u64
    }
}

/// Places of the connections that have a lane: those with most reason to wait, then those that held
/// most.
pub(super) fn shown(model: &Model) -> Vec<usize> {
    let sockets = &model.network.sockets;
    let place = |socket: &&Socket| sockets.iter().position(|each| each.cookie == socket.cookie);
    let mut shown: Vec<usize> = worst_connections(model, LANES).iter().filter_map(place).collect();
    let mut rest: Vec<(Reverse<u64>, usize)> = (0..sockets.len())
        .filter(|place| !shown.contains(place) && !sockets[*place].is_listener())
        .map(|place| (Reverse(held(&sockets[place])), place))
        .filter(|(held, _)| held.0 > 0)
        .collect();
    rest.sort_unstable();
    shown.extend(rest.into_iter().map(|(_, place)| place));
    shown.truncate(LANES);
    shown
}

/// The most that a look found in a connection's queues.
fn held(socket: &Socket) -> u64 {
    let held = socket.samples.iter().map(|sample| {
        u64::from(sample.unsent_bytes)
            + u64::from(sample.unacked_bytes)
            + u64::from(sample.unread_bytes)
    });
    held.max().unwrap_or(0)
}

/// When what a connection held was seen: time, bytes in flight, unsent, and unread if that was seen.
fn looks(socket: &Socket) -> Vec<(u64, u32, u32, Option<u32>)> {
    let samples = socket.samples.iter().map(|sample| {
        let unread = Some(sample.unread_bytes);
        (sample.header.time_ns, sample.unacked_bytes, sample.unsent_bytes, unread)
    });
    let again = socket
        .retransmits
        .iter()
        .map(|record| (record.header.time_ns, record.unacked_bytes, record.unsent_bytes, None));
    let mut looks: Vec<_> = samples.chain(again).collect();
    looks.sort_unstable();
    looks
}

/// What a connection held and did in each column.
pub(super) fn socket_columns(scene: &Scene<'_>, socket: &Socket) -> Vec<SocketColumn> {
    let waits = waits_of_socket(socket, scene.subject.model.end_ns);
    columns(&scene.grid, socket, &waits)
}

fn columns(grid: &Grid, socket: &Socket, waits: &[SocketWait]) -> Vec<SocketColumn> {
    let looks = looks(socket);
    let mut next = looks.iter().peekable();
    let mut again = socket.retransmits.iter().peekable();
    let mut now = SocketColumn::default();
    let mut columns = Vec::with_capacity(grid.len());
    for column in 0..grid.len() {
        let (start_ns, end_ns) = (grid.start_ns(column), grid.start_ns(column + 1));
        let mut most = now;
        while let Some((time_ns, in_flight, unsent, unread)) = next.next_if(|look| look.0 < end_ns)
        {
            let unread = unread.unwrap_or(now.unread);
            now = SocketColumn { in_flight: *in_flight, unsent: *unsent, unread, ..now };
            if *time_ns < start_ns || most.bytes() < now.bytes() {
                most = now;
            }
        }
        while let Some(record) = again.next_if(|record| record.header.time_ns < end_ns) {
            let is_here = record.header.time_ns >= start_ns;
            let is_timer = matches!(record.reason, NET_RETRANSMIT_TIMEOUT | NET_RETRANSMIT_SYN);
            most.timeouts += if is_here && is_timer { record.segments } else { 0 };
            most.again += if is_here && !is_timer { record.segments } else { 0 };
        }
        most.waits = waits_within(waits, start_ns, end_ns);
        columns.push(most);
    }
    columns
}

fn waits_within(waits: &[SocketWait], start_ns: u64, end_ns: u64) -> u32 {
    let mut here = waits.iter().filter(|wait| wait.start_ns < end_ns && wait.end_ns > start_ns);
    here.by_ref()
        .map(|wait| if wait.kind == SocketWaitKind::ClosedWindow { 1 } else { 2 })
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Event;
    use crate::model::Folder;
    use hz_probes_ebpf::Header;
    use hz_probes_ebpf::net::{NetRetransmit, NetSample, NetWindow};

    #[test]
    fn a_column_has_the_most_that_was_held_and_what_was_done_in_it() {
        let mut folder = Folder::new(0, false);
        let header = |time_ns, arg| Header { time_ns, arg, ..Header::default() };
        for (time_ns, unsent_bytes, unread_bytes) in [(5, 10, 1), (12, 70, 2), (18, 20, 3)] {
            let sample = NetSample {
                header: header(time_ns, 0),
                cookie: 1,
                unsent_bytes,
                unread_bytes,
                ..NetSample::default()
            };
            folder.fold(&Event::NetSample(sample));
        }
        let record = NetRetransmit {
            header: header(25, 0),
            cookie: 1,
            segments: 4,
            unacked_bytes: 9,
            reason: NET_RETRANSMIT_TIMEOUT,
            ..NetRetransmit::default()
        };
        folder.fold(&Event::NetRetransmit(record));
        for (time_ns, arg) in [(31, 1), (33, 0)] {
            folder.fold(&Event::NetWindow(NetWindow {
                header: header(time_ns, arg),
                cookie: 1,
                ..NetWindow::default()
            }));
        }
        let model = folder.finish(50);
        let socket = &model.network.sockets[0];
        let columns = columns(&Grid::new(0, 50, 5), socket, &waits_of_socket(socket, 50));
        let numbers: Vec<_> = columns.iter().map(SocketColumn::numbers).collect();
        assert_eq!(
            numbers,
            [
                [0, 10, 1, 0, 0, 0],
                [0, 70, 2, 0, 0, 0],
                [0, 20, 3, 4, 0, 2],
                [9, 0, 3, 0, 0, 1],
                [9, 0, 3, 0, 0, 0],
            ]
        );
    }
}
