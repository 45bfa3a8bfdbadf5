//! A small program with requests, spans, marks, buffers, sockets and a leak, of which all is known.

use hz_probes_ebpf::{
    Header, Kind,
    net::{NET_RETRANSMIT_TIMEOUT, NetRetransmit, NetSocket, NetWindow},
    runtime::{
        IO_READ, IO_WRITE, POLL_PENDING, POLL_READY, RuntimeEvent, SpawnSite, TEXT_BYTES, Text,
        WAKE_CHANNEL, WAKE_IO,
    },
};
use hz_trace::{
    decode::Event,
    model::{Folder, Model},
};

pub(crate) const PID: u32 = 4_711;
pub(crate) const MS: u64 = 1_000_000;

/// The cookies of the two sockets.
pub(crate) const UPLOAD: u64 = 70;
pub(crate) const FETCH: u64 = 71;

/// Texts and sites by number.
const TEXTS: [(u32, &str); 7] = [
    (1, "/src/main.rs"),
    (2, "upload"),
    (3, "fetch"),
    (4, "/files"),
    (5, "parse"),
    (6, "checked"),
    (7, "leak"),
];

/// Its records, folded.
pub(crate) struct Story(pub(crate) Folder);

impl Story {
    pub(crate) fn new() -> Self {
        let mut story = Self(Folder::new(0, false));
        for (number, text) in TEXTS {
            let mut bytes = [0; TEXT_BYTES];
            bytes[..text.len()].copy_from_slice(text.as_bytes());
            let header = header(Kind::Text, 0, number);
            story.0.fold(&Event::Text(Text { header, bytes: text.len() as u32, text: bytes }));
        }
        for (number, name) in [(1, 2), (2, 3), (3, 7)] {
            let header = header(Kind::SpawnSite, 0, number);
            let site =
                SpawnSite { header, name, file: 1, line: number * 10, ..SpawnSite::default() };
            story.0.fold(&Event::SpawnSite(site));
        }
        story
    }

    /// At a millisecond, in a task, with `header.arg`, the value and `aux`.
    pub(crate) fn tell(
        &mut self,
        at_ms: u64,
        kind: Kind,
        task: u64,
        (arg, value, aux): (u32, u64, u32),
    ) {
        let header = header(kind, at_ms * MS, arg);
        self.0.fold(&Event::Runtime(RuntimeEvent { header, task, value, aux, reserved: 0 }));
    }

    fn poll(&mut self, from_ms: u64, to_ms: u64, task: u64, end: u32) {
        self.tell(from_ms, Kind::PollBegin, task, (0, 0, 2));
        self.tell(to_ms, Kind::PollEnd, task, (0, 0, end));
    }

    fn socket(&mut self, cookie: u64, port: u16) {
        let (mut local, mut peer) = ([0; 16], [0; 16]);
        local[10..].copy_from_slice(&[0xff, 0xff, 10, 77, 0, 1]);
        peer[10..].copy_from_slice(&[0xff, 0xff, 10, 77, 0, 2]);
        let header = header(Kind::NetSocket, 0, 0);
        let (local_port, peer_port) = (port, 5_000);
        let socket = NetSocket {
            header,
            cookie,
            local,
            peer,
            local_port,
            peer_port,
            ..NetSocket::default()
        };
        self.0.fold(&Event::NetSocket(socket));
    }
}

fn header(kind: Kind, time_ns: u64, arg: u32) -> Header {
    Header { time_ns, kind: kind as u16, cpu: u16::MAX, tid: PID, pid: PID, arg }
}

/// Task 1 uploads: it is polled for 10 ms, waits 300 ms to write, 250 ms of them while its peer's window
/// is closed, is ready for 5 ms and done after 5 ms more. Task 2 fetches: it waits 400 ms to read while its
/// request is sent again after a timeout of 200 ms, then 40 ms for a channel. Tasks 10 and on leak.
pub(crate) fn story() -> Model {
    let mut story = Story::new();
    story.socket(UPLOAD, 4_001);
    story.socket(FETCH, 4_002);
    story.tell(10, Kind::TaskSpawn, 1, (1, 0, 2));
    story.tell(20, Kind::PollBegin, 1, (0, 0, 2));
    story.tell(20, Kind::RequestBegin, 1, (4, 90, 0));
    story.tell(22, Kind::SpanBegin, 1, (5, 91, 0));
    story.tell(23, Kind::BufferTaken, 1, (4_096, 0x1000, 21));
    story.tell(24, Kind::BufferTaken, 1, (8_192, 0x2000, 12));
    story.tell(26, Kind::SpanEnd, 1, (5, 91, 0));
    story.tell(27, Kind::Mark, 1, (6, 1_234, 0));
    story.tell(28, Kind::BufferReturned, 1, (4_096, 0x1000, 21));
    story.tell(29, Kind::IoWaitBegin, 1, (7, UPLOAD, IO_WRITE));
    story.tell(30, Kind::PollEnd, 1, (0, 0, POLL_PENDING));
    for (time_ns, arg) in [(50 * MS, 1), (300 * MS, 0)] {
        let header = Header { time_ns, arg, ..Header::default() };
        let window = NetWindow { header, cookie: UPLOAD, ..NetWindow::default() };
        story.0.fold(&Event::NetWindow(window));
    }
    story.tell(330, Kind::TaskWake, 1, (7, UPLOAD, WAKE_IO));
    story.tell(335, Kind::PollBegin, 1, (0, 0, 2));
    story.tell(340, Kind::RequestEnd, 1, (200, 90, 0));
    story.tell(340, Kind::PollEnd, 1, (0, 0, POLL_READY));
    story.tell(10, Kind::TaskSpawn, 2, (2, 0, 2));
    story.tell(345, Kind::PollBegin, 2, (0, 0, 2));
    story.tell(345, Kind::RequestBegin, 2, (4, 92, 0));
    story.tell(349, Kind::IoWaitBegin, 2, (8, FETCH, IO_READ));
    story.tell(350, Kind::PollEnd, 2, (0, 0, POLL_PENDING));
    story.0.fold(&Event::NetRetransmit(NetRetransmit {
        header: Header { time_ns: 560 * MS, ..Header::default() },
        cookie: FETCH,
        rto_us: 200_000,
        reason: NET_RETRANSMIT_TIMEOUT,
        ..NetRetransmit::default()
    }));
    story.tell(750, Kind::TaskWake, 2, (8, FETCH, WAKE_IO));
    story.poll(750, 755, 2, POLL_PENDING);
    story.tell(795, Kind::TaskWake, 2, (0, 0x9000, WAKE_CHANNEL));
    story.poll(795, 800, 2, POLL_READY);
    story.tell(800, Kind::RequestEnd, 2, (500, 92, 0));
    for number in 0..20 {
        let (at_ms, task) = (10 + 48 * number, 10 + number);
        story.tell(at_ms, Kind::TaskSpawn, task, (3, 0, 2));
        story.poll(at_ms + 1, at_ms + 2, task, POLL_PENDING);
    }
    story.0.finish(1_000 * MS)
}
