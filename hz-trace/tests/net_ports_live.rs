//! Ports, pools and listeners in the running kernel, against what the kernel and the programs count.
#![expect(clippy::unwrap_used, reason = "a test, helpers included")]

#[path = "support/live.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod live;
#[path = "support/network.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod network;

use hz_trace::{
    analyze::{End, NetSummary, Pool, Setting, summarize_net},
    probe::Selection,
    session::{Settings, TargetSpec},
};
use live::{alone, record_while};
use network::{Link, Namespace, SERVER};
use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

fn everything() -> Settings {
    let probes = Selection::none().with("net").unwrap();
    Settings { probes, ..Settings::new(TargetSpec::WholeSystem) }
}

/// Answers `answers` requests of a byte on each of `connections`, and then closes or waits for the client to.
fn serve(
    listener: TcpListener,
    connections: usize,
    answers: usize,
    closes_first: bool,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for _ in 0..connections {
            let (mut stream, _) = listener.accept().unwrap();
            let mut byte = [0];
            for _ in 0..answers {
                stream.read_exact(&mut byte).unwrap();
                stream.write_all(&byte).unwrap();
            }
            if closes_first {
                stream.shutdown(Shutdown::Write).unwrap();
            }
            // Until the client has closed.
            assert_eq!(stream.read(&mut byte).unwrap(), 0);
        }
    })
}

fn request(stream: &mut TcpStream) {
    stream.write_all(&[7]).unwrap();
    stream.read_exact(&mut [0]).unwrap();
}

/// Sockets in `TIME_WAIT`, as `ss` counts them.
fn time_waits(namespace: &Namespace) -> usize {
    namespace.run("ss -Htan state time-wait").unwrap().lines().count()
}

fn pool_of(summary: &NetSummary, client: &Namespace) -> Pool {
    let is_it = |pool: &&Pool| pool.netns == client.inode() && pool.destination == SERVER;
    summary.pools.iter().find(is_it).unwrap().clone()
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_burst_of_short_connections_runs_out_of_ports_and_is_told_to_keep_them() {
    const PORTS: usize = 100;
    const ATTEMPTS: usize = 130;
    let _alone = alone();
    let Some(link) = Link::new() else { return };
    let link = Arc::new(link);
    link.client.within(|| {
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40099").unwrap();
    });
    let before = link.client.counters();
    let worker = Arc::clone(&link);
    let (recorded, (refused, waiting)) = record_while(&everything(), move || {
        let server = serve(worker.listen(), PORTS, 1, false);
        let refused = worker.client.within(|| {
            let attempt = || match TcpStream::connect(SERVER) {
                Ok(mut stream) => {
                    request(&mut stream);
                    // Closes: TIME_WAIT is on this side.
                    true
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
                    false
                }
            };
            (0..ATTEMPTS).filter(|_| !attempt()).count()
        });
        server.join().unwrap();
        (refused, time_waits(&worker.client))
    });
    let summary = summarize_net(&recorded.model).unwrap();
    let pool = pool_of(&summary, &link.client);
    let opened = link.client.grown(&before, "ActiveOpens");
    assert_eq!(pool.opened, opened, "{pool:?}");
    assert_eq!((opened as usize, refused), (PORTS, ATTEMPTS - PORTS));
    assert_eq!(pool.no_port as usize, refused, "each failure is seen: {pool:?}");
    assert_eq!(pool.ends.get(&End::NoPort).copied().unwrap_or(0) as usize, refused);
    assert_eq!(pool.owner.pid, std::process::id());
    assert_eq!((pool.requests as usize, pool.requests_p50, pool.open_max), (PORTS, 1, 1));
    let row = summary.ports.iter().find(|row| row.netns == link.client.inode()).unwrap();
    assert_eq!(row.destination, SERVER);
    assert_eq!((row.in_use_max as usize, row.available as usize), (PORTS, PORTS));
    assert_eq!(row.time_wait_max as usize, waiting, "as ss counts");
    assert_eq!(row.no_port, pool.no_port);
    let verdict = pool.verdict.as_ref().unwrap();
    assert_eq!((verdict.setting, verdict.is_peers), (Setting::KeepAlive, false), "{verdict:?}");
    assert_eq!(verdict.avoidable as usize, PORTS - 1);
    let ports = verdict.ports.as_deref().unwrap();
    assert!(ports.starts_with("30 connects found no port: 100 of 100 to "), "{ports}");
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_server_that_closes_after_each_answer_is_told_apart_from_a_client_that_does() {
    const CONNECTIONS: usize = 40;
    let _alone = alone();
    let Some(link) = Link::new() else { return };
    let link = Arc::new(link);
    let worker = Arc::clone(&link);
    let (recorded, ()) = record_while(&everything(), move || {
        let server = serve(worker.listen(), CONNECTIONS, 3, true);
        worker.client.within(|| {
            for _ in 0..CONNECTIONS {
                let mut stream = TcpStream::connect(SERVER).unwrap();
                (0..3).for_each(|_| request(&mut stream));
                // The peer closes first.
                assert_eq!(stream.read(&mut [0]).unwrap(), 0);
            }
        });
        server.join().unwrap();
    });
    let summary = summarize_net(&recorded.model).unwrap();
    let pool = pool_of(&summary, &link.client);
    assert_eq!(pool.ends.get(&End::ClosedByPeer), Some(&(CONNECTIONS as u64)), "{pool:?}");
    assert_eq!((pool.requests as usize, pool.requests_p50), (3 * CONNECTIONS, 3));
    let verdict = pool.verdict.as_ref().unwrap();
    assert_eq!((verdict.setting, verdict.is_peers), (Setting::KeepAlive, true), "{verdict:?}");
    assert_eq!(verdict.remedy, "more than 3 requests per connection at the peer");
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_listener_that_accepts_late_says_for_how_long_and_who() {
    const LATE: Duration = Duration::from_millis(700);
    let _alone = alone();
    let Some(link) = Link::new() else { return };
    let link = Arc::new(link);
    let before = link.server.counters();
    let worker = Arc::clone(&link);
    let (recorded, acceptor) = record_while(&everything(), move || {
        let listener = worker.listen();
        // SAFETY: an open descriptor and a number.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 2) }, 0);
        let address = SERVER.parse().unwrap();
        let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok();
        let mut streams: Vec<TcpStream> =
            (0..6).filter_map(|_| worker.client.within(connect)).collect();
        streams.iter_mut().for_each(|stream| stream.write_all(&[7]).unwrap());
        std::thread::sleep(LATE);
        let accept = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0]).unwrap();
            (live::own_tid(), stream, listener)
        });
        let (tid, ..) = accept.join().unwrap();
        tid
    });
    let summary = summarize_net(&recorded.model).unwrap();
    let row = summary.listeners.iter().find(|row| row.netns == link.server.inode()).unwrap();
    assert_eq!(row.accept.count, 1, "{row:?}");
    assert!(row.accept.max_ns > 700_000_000, "{row:?}");
    assert_eq!((row.acceptor.pid, row.acceptor.tid), (std::process::id(), acceptor), "{row:?}");
    assert_eq!((row.taken, row.not_accepted), (3, 2), "{row:?}");
    let grown = |name: &str| link.server.grown(&before, name);
    assert!(row.drops > 0);
    assert_eq!(row.drops, grown("ListenDrops"));
    assert_eq!(row.dropped.iter().map(|each| each.count).sum::<u64>(), row.drops, "{row:?}");
    let counted = summary.namespaces.iter().find(|each| each.netns == row.netns).unwrap();
    assert_eq!(counted.listen_overflows, grown("ListenOverflows"));
    assert_eq!(counted.listen_drops, grown("ListenDrops"));
}
