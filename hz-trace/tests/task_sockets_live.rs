//! Why tasks of the real runtime were idle for a socket, over a link that really loses and a reader that
//! really stops.
#![expect(clippy::unwrap_used, reason = "a test, helpers included")]

#[path = "support/live.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod live;
#[path = "support/network.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod network;

use hz_runtime::{
    Runtime, TaskMeta,
    net::TcpStream,
    probe::{mark, request_begin, request_end},
    spawn_with,
};
use hz_trace::{
    analyze::{IoWait, POLL_OVER_NS, SocketWaitKind, TaskSummary, summarize_tasks},
    export::{About, EXPORTERS, Subject},
    probe::Selection,
    session::Settings,
};
use live::{Recorded, alone, own_process, record_while};
use network::Link;
use std::{
    io::{Read as _, Write as _},
    sync::Arc,
    time::{Duration, Instant},
};

/// More than all buffers on the way hold.
const BYTES: usize = 16 << 20;

/// How long the reader stops once all buffers are full, and how long the link loses all.
const STOPPED: Duration = Duration::from_millis(600);
const LOSES: Duration = Duration::from_millis(500);

fn settings() -> Settings {
    let probes = Selection::none().with("sched").unwrap().with("runtime").unwrap();
    Settings { probes: probes.with("net").unwrap(), ..own_process() }
}

/// A task that writes more than fits while nobody reads.
async fn upload(stream: TcpStream) {
    request_begin(1, "/upload");
    stream.write_all(&vec![7; BYTES]).await.unwrap();
    mark("sent", BYTES as u64);
    request_end(1, 200);
}

/// A task that asks and waits for the answer.
async fn fetch(stream: TcpStream) {
    request_begin(2, "/fetch");
    stream.write_all(b"ping").await.unwrap();
    stream.read_exact(&mut [0; 4]).await.unwrap();
    request_end(2, 200);
}

fn connected(link: &Link, listener: &std::net::TcpListener) -> (TcpStream, std::net::TcpStream) {
    let stream = link.connect();
    let (peer, _) = listener.accept().unwrap();
    stream.set_nonblocking(true).unwrap();
    (TcpStream::from_std(stream).unwrap(), peer)
}

/// Waits until nothing more has come for some time: the writer can write no more.
fn wait_until_full(peer: &std::net::TcpStream) {
    let mut last = (0, Instant::now());
    while last.0 == 0 || last.1.elapsed() < STOPPED {
        let unread = rustix::io::ioctl_fionread(peer).unwrap();
        if unread != last.0 {
            last = (unread, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Lets a reader stop while a task writes, then the link lose everything while another one asks.
fn run(link: &Link, runtime: &Runtime) -> Option<()> {
    let listener = link.listen();
    let _entered = runtime.enter();
    let (stream, mut peer) = connected(link, &listener);
    let reader = std::thread::spawn(move || {
        wait_until_full(&peer);
        let mut buffer = vec![0; 1 << 20];
        while peer.read(&mut buffer).is_ok_and(|read| read > 0) {}
    });
    runtime.block_on(spawn_with(TaskMeta::named("upload"), upload(stream))).unwrap();
    reader.join().unwrap();
    let (stream, mut peer) = connected(link, &listener);
    let rule = "INPUT -p tcp --dport 5000 -j DROP";
    Link::rule(&link.server, &format!("-A {rule}"))?;
    let echo = std::thread::spawn(move || {
        let mut asked = [0; 4];
        peer.read_exact(&mut asked).unwrap();
        peer.write_all(&asked).unwrap();
    });
    let handle = spawn_with(TaskMeta::named("fetch"), fetch(stream));
    std::thread::sleep(LOSES);
    Link::rule(&link.server, &format!("-D {rule}"))?;
    runtime.block_on(handle).unwrap();
    echo.join().unwrap();
    Some(())
}

fn recorded() -> Option<Recorded> {
    let link = Arc::new(Link::new()?);
    let runtime = Runtime::builder().worker_threads(2).build().unwrap();
    let worker = Arc::clone(&link);
    let (recorded, done) = record_while(&settings(), move || run(&worker, &runtime));
    done.map(|()| recorded)
}

fn wait<'a>(tasks: &'a TaskSummary, name: &str) -> &'a IoWait {
    let mut waits = tasks.io_waits.iter();
    let found = waits.find(|wait| wait.name == name && !wait.causes.is_empty());
    found.unwrap_or_else(|| unreachable!("{name}: {:#?}", tasks.io_waits))
}

#[track_caller]
fn assert_cause(wait: &IoWait, kind: SocketWaitKind, least_ms: u64) {
    let cause = wait.causes.iter().find(|cause| cause.kind == kind);
    let caused_ms = cause.map_or(0, |cause| cause.duration_ns / 1_000_000);
    assert!(caused_ms >= least_ms, "{caused_ms} ms: {wait:#?}");
    assert!(wait.waited_ns / 1_000_000 >= caused_ms, "{wait:#?}");
    assert_eq!(wait.peer.as_deref(), Some(network::SERVER), "{wait:#?}");
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_task_that_was_idle_for_a_socket_says_why_the_socket_had_nothing_for_it() {
    let _alone = alone();
    let Some(recorded) = recorded() else { return };
    let tasks = summarize_tasks(&recorded.model, POLL_OVER_NS).unwrap();
    let upload = wait(&tasks, "upload");
    assert_eq!(upload.to, "write");
    assert_cause(upload, SocketWaitKind::ClosedWindow, 400);
    let fetch = wait(&tasks, "fetch");
    assert_eq!(fetch.to, "read");
    assert_cause(fetch, SocketWaitKind::Timeout, 150);
    for (route, on) in [
        ("/upload", "writing: the peer's closed window"),
        ("/fetch", "reading: a retransmission timeout"),
    ] {
        let request = tasks.requests.iter().find(|request| request.name == route).unwrap();
        let idle = request.spent.idle.iter().find(|idle| idle.on == on);
        assert!(idle.is_some_and(|idle| idle.idle_ns > 150_000_000), "{request:#?}");
    }
    let about = About { target: "this test".to_owned(), ..About::default() };
    let mut svg = Vec::new();
    EXPORTERS[0].export(&Subject::new(&recorded.model, &about), &mut svg).unwrap();
    if let Some(path) = std::env::var_os("HZ_KEEP_PICTURE") {
        std::fs::write(path, &svg).unwrap();
    }
    let svg = String::from_utf8(svg).unwrap();
    let notes: Vec<&str> = svg.split("<text").filter(|text| text.contains(">idle ")).collect();
    let says = |words: &str| notes.iter().any(|note| note.contains(words));
    assert!(says("on writing 10.77.0.2:5000: ") && says("closed window"), "{notes:?}");
    assert!(
        says("on reading 10.77.0.2:5000: ") && says("for a retransmission timeout"),
        "{notes:?}"
    );
    // It grows, and a clock that is not converted has none.
    let error_ns = recorded.outcome.state.runtimes[0].clock_error_ns;
    let says_ns = hz_runtime::clock::error_ns();
    assert_eq!(error_ns.is_some(), says_ns > 0, "{error_ns:?} {says_ns}");
    assert!(error_ns.is_none_or(|error_ns| error_ns <= says_ns), "{error_ns:?} {says_ns}");
}
