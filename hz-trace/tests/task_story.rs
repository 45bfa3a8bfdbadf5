//! What is said of requests, spans, marks, buffers, waits for sockets and tasks that become more: of
//! records whose truth is written beside them.

#![expect(clippy::unwrap_used, reason = "a test dies where it fails, its helpers too")]

use hz_probes_ebpf::{
    Header, Kind,
    net::{NET_RETRANSMIT_TIMEOUT, NetRetransmit, NetSocket, NetWindow},
    runtime::{
        IO_READ, IO_WRITE, POLL_PENDING, POLL_READY, RuntimeEvent, SpawnSite, TEXT_BYTES, Text,
        WAKE_CHANNEL, WAKE_IO, WAKE_TIMER,
    },
};
use hz_trace::{
    analyze::{POLL_OVER_NS, SocketWaitKind, Spent, TaskSummary, summarize_tasks},
    decode::Event,
    export::{About, EXPORTERS, Subject},
    model::{Folder, Model, TaskState, Why},
};

const PID: u32 = 4_711;
const MS: u64 = 1_000_000;

/// The cookies of the two sockets.
const UPLOAD: u64 = 70;
const FETCH: u64 = 71;

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

struct Story(Folder);

impl Story {
    fn new() -> Self {
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
    fn tell(&mut self, at_ms: u64, kind: Kind, task: u64, (arg, value, aux): (u32, u64, u32)) {
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
fn story() -> Model {
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

fn summary() -> TaskSummary {
    summarize_tasks(&story(), POLL_OVER_NS).unwrap()
}

fn sum(spent: &Spent) -> u64 {
    spent.in_polls.total_ns() + spent.ready_ns + spent.idle_ns + spent.not_recorded_ns
}

#[test]
fn the_time_of_requests_is_told_apart_and_sums_to_it() {
    let summary = summary();
    let [files] = &summary.requests[..] else { unreachable!("{:?}", summary.requests) };
    assert_eq!((&*files.name, files.duration.count, files.unfinished), ("/files", 2, 0));
    assert_eq!((files.duration.max_ns, files.duration.total_ns), (455 * MS, 775 * MS));
    assert_eq!(sum(&files.spent), files.duration.total_ns);
    assert_eq!(files.spent.ready_ns, 5 * MS);
    assert_eq!(files.spent.in_polls.total_ns(), 30 * MS);
    let idle = files.spent.idle.iter().map(|idle| (&*idle.on, idle.idle_ns / MS));
    assert_eq!(
        idle.collect::<Vec<_>>(),
        [
            ("writing: the peer's closed window", 250),
            ("reading", 200),
            ("reading: a retransmission timeout", 200),
            ("writing", 50),
            ("a channel", 40),
        ]
    );
    let slowest = files.slowest.as_ref().unwrap();
    assert_eq!((slowest.id, slowest.task, slowest.duration_ns), (92, Some(2), 455 * MS));
    assert_eq!(sum(&slowest.spent), slowest.duration_ns);
    let [parse] = &summary.user_spans[..] else { unreachable!("{:?}", summary.user_spans) };
    assert_eq!((&*parse.name, parse.spent.in_polls.total_ns()), ("parse", 4 * MS));
    let [checked] = &summary.marks[..] else { unreachable!("{:?}", summary.marks) };
    assert_eq!((&*checked.name, checked.count, checked.last_value), ("checked", 1, 1_234));
}

#[test]
fn a_wait_for_a_socket_names_it_and_says_what_it_waited_for() {
    let summary = summary();
    let [upload, fetch] = &summary.io_waits[..] else { unreachable!("{:?}", summary.io_waits) };
    assert_eq!((&*upload.name, upload.to, upload.waited_ns), ("upload", "write", 300 * MS));
    assert_eq!(upload.peer.as_deref(), Some("10.77.0.2:5000"));
    let causes = |wait: &hz_trace::analyze::IoWait| -> Vec<_> {
        wait.causes.iter().map(|cause| (cause.kind, cause.duration_ns / MS)).collect()
    };
    assert_eq!(causes(upload), [(SocketWaitKind::ClosedWindow, 250)]);
    assert_eq!(causes(fetch), [(SocketWaitKind::Timeout, 200)]);
    assert_eq!(
        upload.sentence.as_deref(),
        Some(
            "task `upload` (1) was idle 300 ms waiting to write to 10.77.0.2:5000, of it 250 ms for \
             the peer's closed window"
        )
    );
}

#[test]
fn a_task_that_waits_for_several_things_was_idle_for_the_one_that_ended_it() {
    let mut story = Story::new();
    story.tell(10, Kind::TaskSpawn, 1, (1, 0, 2));
    for (from_ms, arg, cookie, cause) in
        [(20, 0, 0, WAKE_TIMER), (40, 7, UPLOAD, WAKE_IO), (60, 8, FETCH, WAKE_IO)]
    {
        story.tell(from_ms, Kind::PollBegin, 1, (0, 0, 2));
        // hyper reads beside whatever its service waits for.
        story.tell(from_ms, Kind::IoWaitBegin, 1, (7, UPLOAD, IO_READ));
        story.tell(from_ms + 1, Kind::PollEnd, 1, (0, 0, POLL_PENDING));
        story.tell(from_ms + 11, Kind::TaskWake, 1, (arg, cookie, cause));
    }
    let model = story.0.finish(100 * MS);
    let idle = model.tasks[0].tiles().filter(|tile| tile.span.state == TaskState::Idle);
    let whys: Vec<Why> = idle.map(|tile| tile.span.why).collect();
    assert_eq!(whys, [Why::Timer, Why::Read, Why::File]);
}

#[test]
fn the_pool_is_told_by_what_was_out_at_once() {
    let summary = summary();
    let [pool] = &summary.buffers[..] else { unreachable!("{:?}", summary.buffers) };
    assert_eq!((pool.taken, pool.taken_bytes, pool.most_out), (2, 12_288, 2));
    assert_eq!((pool.most_out_bytes, pool.out_at_end), (12_288, 1));
    assert_eq!((pool.held.count, pool.held.max_ns), (1, 5 * MS));
    assert_eq!(pool.by_page_bytes.iter().collect::<Vec<_>>(), [(&4_096, &1), (&2_097_152, &1)]);
}

#[test]
fn tasks_that_become_more_are_named_and_others_are_not() {
    let summary = summary();
    let growing: Vec<&str> = summary
        .over_time
        .iter()
        .filter(|row| row.is_growing)
        .map(|row| row.name.as_str())
        .collect();
    assert_eq!(growing, ["leak"], "{:?}", summary.over_time);
    let leak = &summary.over_time[0];
    assert_eq!(leak.spawned_at.as_deref(), Some("/src/main.rs:30"));
    assert_eq!((leak.alive[0], leak.alive.last()), (0, Some(&20)));
    assert!((leak.per_second - 20.0).abs() < 1e-9, "{leak:?}");
    assert_eq!(leak.parked[0].tasks, 20, "{leak:?}");
}

#[test]
fn the_picture_has_it_in_the_lanes_of_the_tasks() {
    let model = story();
    let about = About { target: format!("pid {PID}"), ..About::default() };
    let mut bytes = Vec::new();
    EXPORTERS[0].export(&Subject::new(&model, &about), &mut bytes).unwrap();
    let svg = String::from_utf8(bytes).unwrap();
    for words in [
        "idle 300 ms on writing 10.77.0.2:5000: 250 ms for the peer's closed window",
        "idle 400 ms on reading 10.77.0.2:5000: 200 ms for a retransmission timeout",
        ">request</text>",
        ">span</text>",
        ">mark</text>",
        ">idle: its socket waited</text>",
    ] {
        assert!(svg.contains(words), "{words}");
    }
    let (_, data) = svg.split_once("class=\"hz-data\"").unwrap();
    let data = data.split_once("<![CDATA[").unwrap().1.split_once("]]>").unwrap().0;
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    let names: Vec<&str> =
        data["names"].as_array().unwrap().iter().map(|name| name[0].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "request \u{1} /files, status 200",
            "request \u{1} /files, status 500",
            "parse",
            "mark checked: \u{1}"
        ]
    );
    let lanes = data["lanes"].as_array().unwrap();
    let lane = lanes.iter().find(|lane| lane["waits"].is_array()).unwrap();
    assert_eq!(lane["kind"], "task", "{lane}");
}
