//! The kernel probe `net` in the running kernel, against the kernel's own counters.
#![expect(clippy::unwrap_used, reason = "a test, helpers included")]

#[path = "support/emulated.rs"]
mod emulated;
#[path = "support/live.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod live;
#[path = "support/network.rs"]
mod network;

use emulated::is_emulated;
use hz_probes_ebpf::{
    aggregate::bucket_of,
    net::{
        NET_OWNER_HELD, NET_RETRANSMIT_CLOSED, NET_RETRANSMIT_FAST, NET_RETRANSMIT_PROBE,
        NET_RETRANSMIT_SLOW_START, NET_RETRANSMIT_SYN, NET_RETRANSMIT_SYNACK,
        NET_RETRANSMIT_SYNACK_ASKED, NET_RETRANSMIT_TIMEOUT, NET_THREAD_QUEUED_IT, NetRetransmit,
    },
};
use hz_trace::{
    analyze::summarize_net,
    host::KernelTypes,
    model::net::{Network, QueueWaits, Socket},
    probe::Selection,
    session::{Settings, TargetSpec},
};
use live::{Recorded, alone, own_process, own_tid, record_while, wait_until};
use network::{Link, Reader, SERVER, cookie, is_server, set_congestion};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read as _, Write as _},
    net::{TcpStream, UdpSocket},
    os::fd::{AsRawFd as _, OwnedFd},
    process::{Command, Stdio},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

/// What is sent over a connection.
const BYTES: usize = 1_500_000;

/// Connections that send at the same time, and how much each: so many that some of every kind of loss
/// happens, and so little that no timeout is doubled often.
const SENDERS: usize = 24;
const SENT_BY_EACH: usize = 600_000;

fn net_only(settings: Settings) -> Settings {
    Settings { probes: Selection::none().with("net").unwrap(), ..settings }
}

fn everything() -> Settings {
    net_only(Settings::new(TargetSpec::WholeSystem))
}

/// Every run of a hook is accounted for, and nothing was lost.
fn assert_nothing_lost(recorded: &Recorded) {
    let rows = recorded.outcome.state.ledger.iter().filter(|row| row.site.starts_with("net_"));
    let mut seen = 0;
    for row in rows {
        let explained = row.submitted + row.filtered + row.ring_full + row.read_failed;
        assert_eq!(row.seen, explained, "{row:?}");
        assert_eq!(row.ring_full + row.read_failed, 0, "{row:?}");
        seen += row.seen;
    }
    assert!(seen > 0, "no hook ran");
}

fn sockets_of(network: &Network, netns: u32) -> Vec<&Socket> {
    network.sockets.iter().filter(|socket| socket.identity.netns == netns).collect()
}

/// Sends over some connections at the same time.
fn send(link: &Link, algorithm: Option<&str>) {
    let one = || {
        let mut stream = link.connect();
        if let Some(algorithm) = algorithm {
            set_congestion(&stream, algorithm);
        }
        stream.write_all(&vec![7; SENT_BY_EACH]).unwrap();
    };
    std::thread::scope(|scope| (0..SENDERS).for_each(|_| drop(scope.spawn(one))));
}

/// What was recorded and what the kernel counted; where these differ.
#[derive(Debug)]
struct Difference {
    what: &'static str,
    recorded: u64,
    counted: u64,
}

/// What the kernel counts, against what was recorded of it; what is not equal.
fn differences(
    link: &network::Namespace,
    before: &BTreeMap<String, u64>,
    recorded: &Recorded,
) -> Vec<Difference> {
    let sockets = sockets_of(&recorded.model.network, link.inode());
    let all = sockets.iter().flat_map(|socket| &socket.retransmits).collect::<Vec<_>>();
    let synacks = |reason: u8| {
        let records = sockets.iter().flat_map(|socket| &socket.synacks);
        records.filter(|record| record.header.arg == u32::from(reason)).count() as u64
    };
    let of = |reason: u8| all.iter().filter(move |record| record.reason == reason);
    // Given up before they were counted (EAGAIN, ENOMEM, EBUSY, EINVAL, EHOSTUNREACH).
    let is_counted = |record: &&&NetRetransmit| {
        ![-11, -12, -16, -22, -113].contains(&record.header.arg.cast_signed())
    };
    let segments = |reason: u8| {
        of(reason).filter(is_counted).map(|record| u64::from(record.segments)).sum::<u64>()
    };
    let succeeded = |reason: u8| {
        of(reason)
            .filter(|record| record.header.arg == 0)
            .map(|record| u64::from(record.segments))
            .sum::<u64>()
    };
    let times = |reason: u8| of(reason).count() as u64;
    let grown = |name: &str| link.grown(before, name);
    let answers = synacks(NET_RETRANSMIT_SYNACK) + synacks(NET_RETRANSMIT_SYNACK_ASKED);
    let sees_failures =
        KernelTypes::of_running_kernel().unwrap().tracepoint_args("tcp_retransmit_skb") >= Some(3);
    let unseen = if sees_failures { 0 } else { grown("TCPRetransFail") };
    let sum: u64 = (0..=NET_RETRANSMIT_CLOSED).map(segments).sum();
    let timeouts =
        times(NET_RETRANSMIT_TIMEOUT) + times(NET_RETRANSMIT_SYN) + synacks(NET_RETRANSMIT_SYNACK);
    let spurious = sockets.iter().filter_map(|socket| socket.samples.last());
    let spurious: u64 = spurious.map(|sample| u64::from(sample.spurious)).sum();
    let changes = sockets.iter().flat_map(|socket| &socket.congestion);
    let undone = changes.filter(|change| change.is_undone != 0).count() as u64;
    let undos = ["TCPLossUndo", "TCPFullUndo", "TCPPartialUndo", "TCPDSACKUndo"].map(grown);
    // Both are bounds: a probe may carry new data, then it is no retransmit; and what the kernel takes
    // back outside of recovery changes no state.
    assert!(times(NET_RETRANSMIT_PROBE) <= grown("TCPLossProbes"), "probes");
    assert!(undone <= undos.iter().sum(), "{undone} of {undos:?}");
    let pairs = [
        ("segments", sum + answers + unseen, grown("RetransSegs")),
        ("fast", succeeded(NET_RETRANSMIT_FAST), grown("TCPFastRetrans")),
        ("slow start", succeeded(NET_RETRANSMIT_SLOW_START), grown("TCPSlowStartRetrans")),
        ("SYN", segments(NET_RETRANSMIT_SYN) + answers, grown("TCPSynRetrans")),
        ("timeouts", timeouts, grown("TCPTimeouts")),
        ("spurious", spurious, grown("TCPDSACKRecvSegs")),
    ];
    let differ = pairs.into_iter().filter(|(_, recorded, counted)| recorded != counted);
    differ
        .map(|(what, recorded, counted)| Difference { what, recorded, counted })
        .inspect(|difference| println!("{difference:?}: {all:#?}"))
        .collect()
}

/// Runs until the kernel's counters and the recording are equal.
///
/// A sandbox may hide a process from tracing, and with it whatever softirqs do while that process has
/// the CPU: a timer that runs out then is seen by no tracer. Nothing else excuses a difference, and
/// none of more than a few events.
fn until_equal(
    what: &str,
    mut run: impl FnMut() -> Option<(Recorded, Vec<Difference>)>,
) -> Option<Recorded> {
    for _ in 0..5 {
        let (recorded, differences) = run()?;
        if differences.is_empty() {
            return Some(recorded);
        }
        for each in &differences {
            let missing = each.counted.checked_sub(each.recorded);
            let most = (each.counted / 10).max(3);
            assert!(
                missing.is_some_and(|missing| missing <= most),
                "{what}, {}: {each:?}",
                each.what
            );
        }
        assert!(hides_first_process(), "{what}: {differences:?}");
        println!("{what}: once more, this host hides a process from tracing: {differences:?}");
    }
    unreachable!("{what}: never equal, five times")
}

/// How often the threads of process 1 gave up a CPU.
fn switches_of_first_process() -> u64 {
    let tasks = std::fs::read_dir("/proc/1/task").unwrap();
    let statuses =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok());
    let count = |status: String| -> u64 {
        let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
        lines.filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum()
    };
    statuses.map(count).sum()
}

/// Whether no tracer sees what process 1 does: that it leaves a CPU, for instance, which it does itself.
fn hides_first_process() -> bool {
    static HIDES: OnceLock<bool> = OnceLock::new();
    *HIDES.get_or_init(|| {
        let settings = Settings {
            probes: Selection::none().with("sched").unwrap(),
            ..Settings::new(TargetSpec::WholeSystem)
        };
        let (recorded, switches) = record_while(&settings, || {
            let before = switches_of_first_process();
            let switches = || switches_of_first_process() - before;
            let patience = Instant::now();
            while switches() < 6 && patience.elapsed() < Duration::from_secs(10) {
                std::thread::sleep(Duration::from_millis(100));
            }
            switches()
        });
        let threads = recorded.model.threads.iter().filter(|thread| thread.pid == 1);
        let seen: u64 = threads.map(|thread| thread.switches).sum();
        println!("process 1 left a CPU {switches} times, {seen} of them seen");
        switches >= 6 && seen == 0
    })
}

/// Records while data go over a link with some `rules` of loss; compares both ends' counters.
fn lossy(
    client_rules: &[&str],
    server_rules: &[&str],
    algorithm: Option<&'static str>,
) -> Option<Recorded> {
    let _alone = alone();
    until_equal("counters", || {
        let link = Arc::new(Link::new()?);
        link.shorten_timeouts().unwrap();
        client_rules.iter().try_for_each(|rule| Link::rule(&link.client, rule))?;
        server_rules.iter().try_for_each(|rule| Link::rule(&link.server, rule))?;
        let before = (link.client.counters(), link.server.counters());
        let worker = Arc::clone(&link);
        let (recorded, ()) = record_while(&everything(), move || {
            let reader = Reader::start(worker.listen());
            send(&worker, algorithm);
            drop(reader);
            wait_until("connections to end", || sockets_are_gone(&worker));
        });
        assert_nothing_lost(&recorded);
        let mut found = differences(&link.client, &before.0, &recorded);
        found.extend(differences(&link.server, &before.1, &recorded));
        Some((recorded, found))
    })
}

/// Whether only sockets in `TIME_WAIT` are left, which send nothing again.
fn sockets_are_gone(link: &Link) -> bool {
    [&link.client, &link.server].into_iter().all(|namespace| {
        let text =
            namespace.within(|| std::fs::read_to_string("/proc/thread-self/net/tcp")).unwrap();
        text.lines().skip(1).all(|line| line.split_whitespace().nth(3) == Some("06"))
    })
}

/// One packet in thirty; they are smaller ones and larger ones.
const DATA: &str =
    "-A INPUT -p tcp --dport 5000 ! --syn -m statistic --mode nth --every 30 --packet 7 -j DROP";
/// So much that hardly one of them goes through whole.
const MUCH: &str =
    "-A INPUT -p tcp --dport 5000 ! --syn -m statistic --mode random --probability 0.15 -j DROP";
const ACKS: &str =
    "-A INPUT -p tcp --sport 5000 -m statistic --mode nth --every 5 --packet 3 -j DROP";
/// The third of all; several of this rule drop as many, and none of their successors.
const SYNS: &str =
    "-A INPUT -p tcp --syn -m statistic --mode nth --every 1000000 --packet 2 -j DROP";
const SYNACKS: &str = "-A INPUT -p tcp --tcp-flags SYN,ACK SYN,ACK -m statistic --mode nth --every 1000000 --packet 2 -j DROP";

fn segments_by_reason(recorded: &Recorded) -> BTreeMap<&'static str, u64> {
    let summary = summarize_net(&recorded.model).unwrap();
    summary.by_reason.iter().map(|row| (row.reason, row.retransmitted.segments)).collect()
}

#[test]
#[ignore = "needs CAP_BPF"]
fn lost_data_is_counted_as_the_kernel_counts_it_with_cubic() {
    let Some(recorded) = lossy(&[], &[DATA], Some("cubic")) else { return };
    let reasons = segments_by_reason(&recorded);
    assert!(reasons.get("fast").is_some_and(|segments| *segments > 20), "{reasons:?}");
}

#[test]
#[ignore = "needs CAP_BPF"]
fn lost_data_is_counted_as_the_kernel_counts_it_with_the_default() {
    let Some(recorded) = lossy(&[], &[DATA], None) else { return };
    let reasons = segments_by_reason(&recorded);
    assert!(reasons.get("fast").is_some_and(|segments| *segments > 20), "{reasons:?}");
}

#[test]
#[ignore = "needs CAP_BPF"]
fn lost_acknowledgements_and_handshakes_are_told_apart() {
    let client = [SYNACKS, SYNACKS, SYNACKS, SYNACKS, SYNACKS, ACKS];
    let Some(recorded) = lossy(&client, &[SYNS; 5], Some("cubic")) else { return };
    let reasons = segments_by_reason(&recorded);
    assert!(reasons.contains_key("SYN"), "{reasons:?}");
    assert!(
        reasons.contains_key("SYN-ACK") || reasons.contains_key("SYN-ACK, asked"),
        "{reasons:?}"
    );
}

/// Many SYN-ACKs are lost: both ends' timers then run out in the same tick, and the client may ask while
/// the server's timer is being handled.
#[test]
#[ignore = "needs CAP_BPF"]
fn a_synacks_timer_and_the_clients_question_are_told_apart() {
    let _alone = alone();
    let recorded = until_equal("handshakes", || {
        let link = Arc::new(Link::new()?);
        (0..60).try_for_each(|_| Link::rule(&link.client, SYNACKS))?;
        let before = link.server.counters();
        let worker = Arc::clone(&link);
        let (recorded, ()) = record_while(&everything(), move || {
            let reader = Reader::start(worker.listen());
            std::thread::scope(|scope| {
                // Not all in one tick, which a process that this host hides may have the CPU in.
                for _ in 0..100 {
                    scope.spawn(|| worker.connect());
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
            drop(reader);
            wait_until("connections to end", || sockets_are_gone(&worker));
        });
        assert_nothing_lost(&recorded);
        let found = differences(&link.server, &before, &recorded);
        Some((recorded, found))
    });
    let Some(recorded) = recorded else { return };
    let reasons = segments_by_reason(&recorded);
    let asked = reasons.get("SYN-ACK, asked").copied().unwrap_or(0);
    let timer = reasons.get("SYN-ACK").copied().unwrap_or(0);
    assert!(asked > 0 && asked + timer >= 60, "{reasons:?}");
}

/// Sends, and says its thread's number.
fn send_as(mut stream: TcpStream) -> (TcpStream, u32) {
    let sender = std::thread::spawn(move || {
        stream.write_all(&vec![7; BYTES]).unwrap();
        (stream, own_tid())
    });
    sender.join().unwrap()
}

/// Sends a file without touching it.
fn sendfile_as(stream: TcpStream, file: File) -> (TcpStream, u32) {
    let sender = std::thread::spawn(move || {
        let mut sent = 0;
        while sent < BYTES {
            // SAFETY: no memory is passed; both descriptors are open.
            let more = unsafe {
                libc::sendfile(
                    stream.as_raw_fd(),
                    file.as_raw_fd(),
                    std::ptr::null_mut(),
                    BYTES - sent,
                )
            };
            assert!(more > 0, "{}", std::io::Error::last_os_error());
            sent += usize::try_from(more).unwrap();
        }
        (stream, own_tid())
    });
    sender.join().unwrap()
}

/// Waits until the peer has everything, so that all retransmits of it are over.
fn drain(stream: &TcpStream) {
    let queued = || {
        let mut bytes = 0_i32;
        // SAFETY: the pointer is to an integer, which this request fills.
        assert_eq!(unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) }, 0);
        bytes
    };
    wait_until("everything to be acknowledged", || queued() == 0);
}

#[test]
#[ignore = "needs CAP_BPF"]
fn every_retransmit_is_of_who_queued_it() {
    if std::env::var_os("HZ_VM").is_some() {
        println!(
            "skipped: Linux 6.1 queues what sendfile sends page by page: who sent it is forgotten"
        );
        return;
    }
    let _alone = alone();
    let Some(link) = Link::new() else { return };
    let Some(()) = Link::rule(&link.server, MUCH) else { return };
    let reader = Reader::start(link.listen());
    // Opened before recording begins, by a thread that does not send.
    let streams: Vec<TcpStream> = (0..3).map(|_| link.connect()).collect();
    let cookies: Vec<u64> = streams.iter().map(cookie).collect();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&vec![9; BYTES]).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    // Somebody else's time for the softirqs.
    let burners: Vec<_> =
        (0..hz_trace::host::online_cpus()).map(|_| live::shell("while :; do :; done")).collect();
    let (recorded, (senders, file_senders, child)) =
        record_while(&net_only(own_process_with_children()), move || {
            let mut streams = streams.into_iter();
            let (first, one) = send_as(streams.next().unwrap());
            drain(&first);
            // Another thread goes on with the same socket.
            let (first, two) = send_as(first);
            drain(&first);
            let (second, three) = sendfile_as(streams.next().unwrap(), file);
            drain(&second);
            let third = streams.next().unwrap();
            let mut child = Command::new("head")
                .args(["-c", &BYTES.to_string(), "/dev/zero"])
                .stdout(Stdio::from(OwnedFd::from(third.try_clone().unwrap())))
                .spawn()
                .unwrap();
            let pid = child.id();
            assert!(child.wait().unwrap().success());
            drain(&third);
            ([one, two], three, pid)
        });
    drop((burners, reader));
    assert_nothing_lost(&recorded);
    let network = &recorded.model.network;
    let socket = |place: usize| {
        network.sockets.iter().find(|socket| socket.cookie == cookies[place]).unwrap()
    };
    for place in 0..3 {
        assert_eq!(
            socket(place).owners.first().unwrap().header.arg,
            NET_OWNER_HELD,
            "socket {place}"
        );
        let retransmits = &socket(place).retransmits;
        assert!(retransmits.len() > 3, "socket {place}: {}", retransmits.len());
        assert!(
            retransmits.iter().all(|record| record.owner == NET_THREAD_QUEUED_IT),
            "socket {place}"
        );
    }
    let own = std::process::id();
    let ids = |place: usize| {
        let mut ids: Vec<(u32, u32)> = socket(place)
            .retransmits
            .iter()
            .map(|record| (record.header.pid, record.header.tid))
            .collect();
        ids.dedup();
        ids
    };
    assert_eq!(ids(0), senders.map(|tid| (own, tid)), "two threads, one after the other");
    assert_eq!(ids(1), [(own, file_senders)], "sendfile");
    assert_eq!(ids(2), [(child, child)], "passed to a child");
}

fn own_process_with_children() -> Settings {
    Settings { follow_children: true, ..own_process() }
}

/// What `ss` says of a connection: its receive and send queue.
fn ss_queues(namespace: &network::Namespace, from: &str) -> (u32, u32) {
    let text = namespace.run("ss -tinmH state established").unwrap();
    let line = text.lines().find(|line| line.split_whitespace().nth(2) == Some(from));
    let mut words = line.unwrap().split_whitespace().map(|word| word.parse().unwrap_or(0));
    (words.next().unwrap(), words.next().unwrap())
}

#[test]
#[ignore = "needs CAP_BPF"]
fn queues_are_those_of_ss_and_a_closed_window_is_seen() {
    let _alone = alone();
    let Some(link) = Link::new() else { return };
    let link = Arc::new(link);
    let worker = Arc::clone(&link);
    let (recorded, (addresses, client, server)) = record_while(&everything(), move || {
        let listener = worker.listen();
        let mut stream = worker.connect();
        let (mut peer, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        // Until nothing more fits anywhere, and nothing moves.
        let addresses = (stream.local_addr().unwrap(), peer.local_addr().unwrap());
        let mut last = (0, 0);
        wait_until("both queues to be full", || {
            let is_full = stream.write(&[7; 65_536]).is_err();
            std::thread::sleep(Duration::from_millis(50));
            let now = ss_queues(&worker.client, &addresses.0.to_string());
            let stands = is_full && now == last;
            last = now;
            stands
        });
        let client = ss_queues(&worker.client, &addresses.0.to_string());
        let server = ss_queues(&worker.server, &addresses.1.to_string());
        // A look at the queues while they stand; an emulated recorder may be late.
        std::thread::sleep(Duration::from_secs(if is_emulated() { 12 } else { 3 }));
        assert_eq!(client, ss_queues(&worker.client, &addresses.0.to_string()), "they stand");
        let mut buffer = vec![0; 1 << 20];
        peer.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        while peer.read(&mut buffer).is_ok_and(|read| read > 0) {}
        (addresses, client, server)
    });
    assert_nothing_lost(&recorded);
    let network = &recorded.model.network;
    let socket = |netns: u32, local| {
        let sockets = sockets_of(network, netns);
        let found = sockets.iter().find(|socket| !socket.is_listener() && socket.local() == local);
        let known =
            || sockets.iter().map(|socket| (socket.local(), socket.state())).collect::<Vec<_>>();
        *found.unwrap_or_else(|| unreachable!("{local} is not among {:?}", known()))
    };
    let sender = socket(link.client.inode(), addresses.0);
    let receiver = socket(link.server.inode(), addresses.1);
    assert!(client.1 > 0 && server.0 > 0, "{client:?} {server:?}");
    let is_found = |socket: &Socket, queues: (u32, u32)| {
        socket.samples.iter().any(|sample| {
            (sample.unread_bytes, sample.unsent_bytes + sample.unacked_bytes) == queues
        })
    };
    assert!(is_found(sender, client), "{client:?}: {:?}", sender.samples);
    assert!(is_found(receiver, server), "{server:?}: {:?}", receiver.samples);
    let [closed, ..] = sender.closed_windows.as_slice() else {
        unreachable!("the window was never closed")
    };
    let open_ns = closed.end_ns.unwrap() - closed.start_ns;
    assert!(open_ns > 400_000_000, "closed for {open_ns} ns");
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_listener_that_does_not_accept_overflows_as_the_kernel_counts() {
    let _alone = alone();
    let Some(link) = Link::new() else { return };
    let link = Arc::new(link);
    let before = link.server.counters();
    let worker = Arc::clone(&link);
    let (recorded, queued) = record_while(&everything(), move || {
        let listener = worker.listen();
        // SAFETY: an open descriptor and a number.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 2) }, 0);
        let address = SERVER.parse().unwrap();
        let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(300));
        let connects: Vec<_> = (0..8).map(|_| worker.client.within(connect)).collect();
        let made = connects.iter().filter(|stream| stream.is_ok()).count();
        // A look at the queue while it stands.
        std::thread::sleep(Duration::from_secs(4));
        drop(connects);
        made
    });
    assert_nothing_lost(&recorded);
    let summary = summarize_net(&recorded.model).unwrap();
    let row = summary
        .listeners
        .iter()
        .find(|row| row.local == SERVER && row.netns == link.server.inode())
        .unwrap();
    let drops = link.server.grown(&before, "ListenDrops");
    assert!(drops > 0, "nothing overflowed; {queued} connected");
    assert_eq!(row.drops, drops);
    assert_eq!(
        drops,
        link.server.grown(&before, "ListenOverflows"),
        "all because the queue was full"
    );
    assert_eq!((row.accept_queue_max, row.accept_queue_limit), (3, 2));
    assert!(row.full_ns > 100_000_000, "{row:?}");
    assert_eq!(row.owner.pid, std::process::id());
}

#[test]
#[ignore = "needs CAP_BPF"]
fn resets_and_drops_have_the_kernels_reasons() {
    let _alone = alone();
    let Some(link) = Link::new() else { return };
    let link = Arc::new(link);
    let worker = Arc::clone(&link);
    let (recorded, ()) = record_while(&everything(), move || {
        // Nobody listens: the server's kernel answers with a reset.
        assert!(worker.client.within(|| TcpStream::connect(SERVER).is_err()));
    });
    assert_nothing_lost(&recorded);
    let network = &recorded.model.network;
    let sockets = sockets_of(network, link.client.inode());
    let socket = sockets.iter().find(|socket| is_server(socket.peer())).unwrap();
    assert_eq!(socket.resets.len(), 1, "the client received one");
    assert_eq!(socket.error, 111, "ECONNREFUSED");
    let names: Vec<String> = network
        .drops
        .iter()
        .filter(|drop| drop.netns == link.server.inode() && drop.destination_port == 5000)
        .map(|drop| network.name(1, drop.header.arg))
        .collect();
    assert_eq!(names, ["no_socket"]);
}

/// What `tc -s qdisc` says of a device's discipline: packets sent, packets dropped, packets it has.
fn tc_says(namespace: &network::Namespace, device: &str) -> (u64, u64, u64) {
    let text = namespace.run(&format!("tc -s qdisc show dev {device}")).unwrap();
    let behind = |text: &str, before: &str| -> u64 {
        let (_, rest) =
            text.split_once(before).unwrap_or_else(|| unreachable!("no {before}: {text}"));
        rest.split(|each: char| !each.is_ascii_digit()).next().unwrap().parse().unwrap()
    };
    let (_, backlog) = text.split_once("backlog ").unwrap();
    (behind(&text, "bytes "), behind(&text, "dropped "), behind(backlog, "b "))
}

/// A link whose client's side has a queueing discipline.
fn link_with(discipline: &str) -> Option<Arc<Link>> {
    let types = KernelTypes::of_running_kernel().unwrap();
    if types.tracepoint_args("tcp_sendmsg_locked").is_none() {
        println!("skipped: waits of packets need Linux 6.16");
        return None;
    }
    let link = Link::new()?;
    // So that neither asks for the other's address meanwhile: nobody listens there.
    assert!(link.client.within(|| TcpStream::connect(SERVER)).is_err());
    // Neither neighbours nor routers are looked for, so that nothing else is sent.
    let quiet = || std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
    [&link.client, &link.server].into_iter().for_each(|namespace| {
        namespace.within(quiet).unwrap();
    });
    let added = link.client.run(&format!("tc qdisc add dev va root {discipline}"));
    added.map_err(|reason| println!("skipped: {reason}")).ok().map(|_| Arc::new(link))
}

fn queue_of<'a>(recorded: &'a Recorded, link: &Link) -> &'a QueueWaits {
    let queues = &recorded.model.network.queues;
    let is_it = |queue: &&QueueWaits| queue.told.netns == link.client.inode();
    queues.iter().find(is_it).unwrap_or_else(|| unreachable!("no queue: {queues:?}"))
}

/// Every packet has a bucket, and one that the histogram agrees about.
fn assert_queue(queue: &QueueWaits) {
    assert_eq!(queue.buckets.iter().sum::<u64>(), queue.told.packets, "{:?}", queue.told);
    assert_eq!(queue.told.unmatched, 0, "{:?}", queue.told);
    let longest = queue.buckets.iter().rposition(|count| *count > 0).unwrap();
    assert_eq!(longest, bucket_of(queue.told.max_ns), "{:?}", queue.told);
}

/// How many packets left, and what `tc -s qdisc` says of that.
fn packets_left(of: &Recorded, link: &Link, before: (u64, u64, u64)) -> Vec<Difference> {
    let told = &queue_of(of, link).told;
    let (recorded, counted) = (told.packets, tc_says(&link.client, "va").0 - before.0);
    let differ = recorded != counted || told.unmatched > 0;
    differ.then_some(Difference { what: "packets", recorded, counted }).into_iter().collect()
}

/// Sends over three connections at once, until they are closed; their cookies.
fn three_transfers(link: &Link) -> Vec<u64> {
    let reader = Reader::start(link.listen());
    let mut streams: Vec<TcpStream> = (0..3).map(|_| link.connect()).collect();
    let cookies = streams.iter().map(cookie).collect();
    streams.iter_mut().for_each(|stream| stream.write_all(&vec![7; 300_000]).unwrap());
    streams.iter().for_each(drain);
    drop(streams);
    drop(reader);
    wait_until("connections to end", || sockets_are_gone(link));
    cookies
}

/// Lets a socket have a megabyte on the way, so that a send waits for nothing.
fn hold_all(socket: &UdpSocket) {
    let bytes = 1_i32 << 20;
    // SAFETY: the pointer and the length are those of an integer.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_SNDBUFFORCE,
            (&raw const bytes).cast(),
            4,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// Packets of 1,000 bytes, sent as fast as it goes, and how long that took.
fn burst(link: &Link, packets: u32) -> Duration {
    let socket = link.client.within(|| UdpSocket::bind("10.77.0.1:0")).unwrap();
    hold_all(&socket);
    let began = Instant::now();
    for _ in 0..packets {
        socket.send_to(&[7; 1_000], "10.77.0.2:9").unwrap();
    }
    began.elapsed()
}

#[test]
#[ignore = "needs CAP_BPF"]
fn packets_wait_for_a_token_bucket_as_long_as_its_rate_demands() {
    let _alone = alone();
    // 1 MB a second; what comes at once leaves one by one, the last when the bucket has had tokens for all.
    let Some(link) = link_with("tbf rate 8mbit burst 3000 limit 1000000") else { return };
    let mut sending = Duration::ZERO;
    let recorded = until_equal("packets", || {
        let worker = Arc::clone(&link);
        let (recorded, (took, before)) = record_while(&everything(), move || {
            let before = tc_says(&worker.client, "va");
            let took = burst(&worker, 200);
            wait_until("the bucket to be empty", || tc_says(&worker.client, "va").2 == 0);
            (took, before)
        });
        sending = took;
        let differences = packets_left(&recorded, &link, before);
        Some((recorded, differences))
    });
    let recorded = recorded.unwrap();
    let queue = queue_of(&recorded, &link);
    assert_queue(queue);
    assert_eq!((queue.told.came, queue.told.split), (queue.told.packets, 0), "{:?}", queue.told);
    // 1,042 bytes on the wire each, of which 3,000 have tokens.
    let last_us = 200 * 1_042 - 3_000;
    let sending_us = u64::try_from(sending.as_micros()).unwrap();
    let longest_us = queue.told.max_ns / 1_000;
    let said = format!("{longest_us} us of {last_us}, sent in {sending_us} us");
    println!("{said}");
    assert!(longest_us + sending_us >= last_us - 500, "{said}");
    assert!(longest_us < last_us + last_us / 10, "{said}");
    let mean_us = queue.told.total_ns / queue.told.packets / 1_000;
    assert!((last_us / 2).abs_diff(mean_us) < sending_us + last_us / 20, "{mean_us} us, {said}");
    let summary = summarize_net(&recorded.model).unwrap();
    let row = summary.device_waits.iter().find(|row| row.netns == link.client.inode()).unwrap();
    assert_eq!(row.device, "va");
    assert!(row.p50_ns < row.p99_ns && row.p99_ns <= row.max_ns, "{row:?}");
}

#[test]
#[ignore = "needs CAP_BPF"]
fn packets_that_a_token_bucket_cuts_are_known_again() {
    let _alone = alone();
    // Smaller than two segments: it has to cut all that are larger.
    let Some(link) = link_with("tbf rate 40mbit burst 1600 limit 1000000") else { return };
    let mut cookies = Vec::new();
    let recorded = until_equal("packets", || {
        let worker = Arc::clone(&link);
        let (recorded, (those, before)) = record_while(&everything(), move || {
            let before = tc_says(&worker.client, "va");
            let those = three_transfers(&worker);
            wait_until("the bucket to be empty", || tc_says(&worker.client, "va").2 == 0);
            (those, before)
        });
        cookies = those;
        assert_nothing_lost(&recorded);
        let differences = packets_left(&recorded, &link, before);
        Some((recorded, differences))
    });
    let recorded = recorded.unwrap();
    let queue = queue_of(&recorded, &link);
    assert_queue(queue);
    assert!(queue.told.split > 300 && queue.told.split < queue.told.packets, "{:?}", queue.told);
    let worst = queue.told.max_cookie;
    assert!(cookies.contains(&worst), "{:?}", queue.told);
    let network = &recorded.model.network;
    let queued = |cookie: u64| {
        let socket = network.sockets.iter().find(|socket| socket.cookie == cookie);
        socket.and_then(|socket| socket.queued).unwrap()
    };
    assert_eq!(queued(worst).max_ns, queue.told.max_ns, "the worst connection's worst");
    let of_all: u64 = cookies.iter().map(|cookie| queued(*cookie).packets).sum();
    assert!(of_all > 3 * 300_000 / 1_600 && of_all <= queue.told.packets, "{of_all}");
}

#[test]
#[ignore = "needs CAP_BPF"]
fn packets_go_past_an_empty_queue_and_those_that_stand_in_one_are_missing() {
    let _alone = alone();
    let Some(link) = link_with("pfifo limit 1000") else { return };
    let worker = Arc::clone(&link);
    let (recorded, stand) = record_while(&everything(), move || {
        burst(&worker, 50);
        // So slow that nothing leaves.
        let slow = "tc qdisc replace dev vb root tbf rate 8bit burst 2000 limit 20000";
        worker.server.run(slow).unwrap();
        let socket = worker.server.within(|| UdpSocket::bind("10.77.0.2:0")).unwrap();
        (0..40).for_each(|_| drop(socket.send_to(&[7; 1_000], "10.77.0.1:9")));
        tc_says(&worker.server, "vb")
    });
    let queue = queue_of(&recorded, &link);
    assert_queue(queue);
    assert!(queue.told.bypassed >= 50, "{:?}", queue.told);
    assert_eq!((queue.told.bypassed, queue.told.max_ns), (queue.told.packets, 0));
    let slow = recorded.model.network.queues.iter();
    let slow = slow.map(|queue| queue.told).find(|told| told.netns == link.server.inode()).unwrap();
    let (sent, dropped, backlog) = stand;
    assert!(backlog > 10 && dropped > 10, "{stand:?}");
    assert_eq!((slow.packets, slow.came - slow.packets - dropped), (sent, backlog), "{slow:?}");
}
