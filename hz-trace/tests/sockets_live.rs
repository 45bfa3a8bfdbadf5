//! What netlink tells of sockets and queues, beside the kernel's own tools, in network namespaces
//! made here.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test dies where it fails, its helpers too"
)]

use hz_probes_ebpf::net_host::{HOST_PORTS_IN, HOST_PORTS_OUT, HostPorts, HostSocket};
use hz_trace::source::netlink::{Namespace, Owners, Snapshot, Wanted, state};
use rustix::thread::{UnshareFlags, gettid, unshare_unsafe};
use std::{
    fs,
    io::{ErrorKind, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    process::Command,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `test` in a thread that has a network namespace of its own, which ends with it.
fn in_own_namespace(test: impl FnOnce(&mut Namespace) + Send + 'static) {
    let inside = std::thread::spawn(|| {
        // SAFETY: only this thread's network namespace changes; files stay shared.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("needs CAP_SYS_ADMIN");
        run("ip", &["link", "set", "lo", "up"]);
        let tid = u32::try_from(gettid().as_raw_nonzero().get()).unwrap();
        test(&mut Namespace::of(tid).unwrap());
    });
    inside.join().unwrap_or_else(|death| std::panic::resume_unwind(death));
}

/// A tool's output, run in this thread's namespace.
fn run(command: &str, arguments: &[&str]) -> String {
    let output = Command::new(command).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// A counter of this thread's namespace, as the kernel prints it.
fn counter(file: &str, group: &str, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with(&format!("{group}:")));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let place = names.split_whitespace().position(|each| each == name).unwrap();
    values.split_whitespace().nth(place).unwrap().parse().unwrap()
}

fn look(namespace: &mut Namespace) -> Snapshot {
    let snapshot = namespace.look(Wanted::ALL);
    assert!(snapshot.refused.is_empty(), "{:?}", snapshot.refused);
    assert_eq!(snapshot.counters.left_out, 0);
    snapshot
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what} within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn listener(snapshot: &Snapshot, port: u16) -> HostSocket {
    let is_it = |socket: &&HostSocket| socket.local_port == port && socket.state == state::LISTEN;
    *snapshot.sockets.iter().find(is_it).unwrap()
}

fn ports(snapshot: &Snapshot, port: u16, direction: u32) -> HostPorts {
    let is_it = |group: &&HostPorts| group.port == port && group.header.arg == direction;
    *snapshot.ports.iter().find(is_it).unwrap_or_else(|| panic!("no {port}: {:?}", snapshot.ports))
}

/// The number that follows `name:` in what `ss` says.
fn number(text: &str, name: &str) -> u64 {
    let at = text.find(name).unwrap_or_else(|| panic!("no {name} in {text}")) + name.len();
    let digits = text[at..].split(|each: char| !each.is_ascii_digit()).next().unwrap();
    digits.parse().unwrap_or_else(|_| panic!("no number at {name} in {text}"))
}

#[test]
#[ignore = "needs CAP_BPF"]
fn queues_of_a_reader_that_stopped_are_those_of_ss() {
    in_own_namespace(|namespace| {
        let server = TcpListener::bind("127.0.0.1:7001").unwrap();
        let mut client = TcpStream::connect("127.0.0.1:7001").unwrap();
        let (_reader, _) = server.accept().unwrap();
        client.set_nonblocking(true).unwrap();
        let full = Instant::now();
        while full.elapsed() < Duration::from_millis(300) {
            match client.write(&[7; 65_536]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                sent => assert!(sent.unwrap() > 0),
            }
        }
        let mut snapshot = look(namespace);
        snapshot.own(&mut Owners::of(Some(vec![std::process::id()])));
        let of = |port: u16| {
            let is_it = |socket: &&HostSocket| socket.peer_port == port && socket.state == 1;
            *snapshot.sockets.iter().find(is_it).unwrap()
        };
        let writer = of(7001);
        let reader = of(writer.local_port);
        for (socket, filter) in [(writer, "dport = :7001"), (reader, "sport = :7001")] {
            let said = run("ss", &["-Htinm", "state", "established", filter]);
            let mut words = said.split_whitespace();
            let queues: [u32; 2] =
                [words.next(), words.next()].map(|word| word.unwrap().parse().unwrap());
            assert_eq!([socket.receive_queue, socket.send_queue], queues, "{said}");
            for (name, value) in [
                ("skmem:(r", socket.receive_memory_bytes),
                (",rb", socket.receive_limit_bytes),
                (",tb", socket.send_limit_bytes),
                (",w", socket.send_memory_bytes),
                ("cwnd:", socket.cwnd),
                ("mss:", socket.mss),
            ] {
                assert_eq!(u64::from(value), number(&said, name), "{name} {said}");
            }
            assert_eq!(socket.header.pid, std::process::id());
        }
        assert!(reader.receive_queue > 0 && writer.unsent_bytes > 0, "{writer:?}");
        let said = run("ss", &["-Htinm", "state", "established", "dport = :7001"]);
        assert_eq!(u64::from(writer.unsent_bytes), number(&said, "notsent:"));
        assert_eq!(writer.sent_bytes + writer.retransmitted_bytes, number(&said, "bytes_sent:"));
    });
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_listener_that_does_not_accept_overflows_as_often_as_the_kernel_counts() {
    in_own_namespace(|namespace| {
        fs::write("/proc/sys/net/core/somaxconn", "2").unwrap();
        let server = TcpListener::bind("[::]:7002").unwrap();
        let clients = std::thread::scope(|scope| {
            let connect = || {
                let address = "127.0.0.1:7002".parse().unwrap();
                TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok()
            };
            let threads: Vec<_> = (0..6).map(|_| scope.spawn(connect)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(clients.iter().flatten().count() >= 3);
        let snapshot = look(namespace);
        let found = listener(&snapshot, 7002);
        // One more than the limit: the kernel's bound is depth > limit.
        assert_eq!((found.receive_queue, found.send_queue), (3, 2));
        let overflows = counter("netstat", "TcpExt", "ListenOverflows");
        // Retries go on: what was counted lies between what was read before and after.
        let later = look(namespace).counters.listen_overflows;
        assert!(snapshot.counters.listen_overflows > 0);
        assert!(snapshot.counters.listen_overflows <= overflows && overflows <= later);
        assert!(found.drops > 0, "{found:?}");
        let inward = ports(&snapshot, 7002, HOST_PORTS_IN);
        assert_eq!(&inward.source[10..12], &[0xff, 0xff], "mapped: {inward:?}");
        assert_eq!(inward.established, 3);
        drop((server, clients));
    });
}

#[test]
#[ignore = "needs CAP_BPF"]
fn short_connections_are_counted_until_no_port_is_left() {
    in_own_namespace(|namespace| {
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "50000 50031").unwrap();
        fs::write("/proc/sys/net/ipv4/tcp_tw_reuse", "0").unwrap();
        for address in ["127.0.0.1:7003", "[::1]:7004"] {
            let server = TcpListener::bind(address).unwrap();
            let port = server.local_addr().unwrap().port();
            let mut opened = 0;
            let refused = loop {
                match TcpStream::connect(address) {
                    Ok(client) => {
                        // This side closes first: it keeps TIME_WAIT.
                        let (accepted, _) = server.accept().unwrap();
                        drop(client);
                        drop(accepted);
                        opened += 1;
                    }
                    Err(error) => break error,
                }
                assert!(opened <= 32, "more connections than ports");
            };
            assert_eq!(refused.kind(), ErrorKind::AddrNotAvailable);
            until("every connection is in TIME_WAIT", || {
                ports(&look(namespace), port, HOST_PORTS_OUT).time_wait == opened
            });
            let group = ports(&look(namespace), port, HOST_PORTS_OUT);
            assert_eq!((group.range_first, group.range_last), (50_000, 50_031));
            assert_eq!((opened, group.in_range), (32, 32));
            let said = run("ss", &["-Htan", "state", "time-wait", &format!("dport = :{port}")]);
            assert_eq!(said.lines().count(), 32);
        }
    });
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_slow_queue_holds_what_tc_says_and_udp_drops_are_the_sockets() {
    in_own_namespace(|namespace| {
        let full = UdpSocket::bind("127.0.0.1:7005").unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..2_000 {
            sender.send_to(&[7; 1_000], "127.0.0.1:7005").unwrap();
        }
        let snapshot = look(namespace);
        let is_it = |socket: &&HostSocket| socket.local_port == 7005 && socket.protocol == 17;
        let socket = snapshot.sockets.iter().find(is_it).unwrap();
        let dropped = counter("snmp", "Udp", "RcvbufErrors");
        assert!(dropped > 0 && socket.receive_memory_bytes > 0);
        assert_eq!(
            (u64::from(socket.drops), snapshot.counters.udp_receive_drops),
            (dropped, dropped)
        );
        drop(full);

        run("ip", &["link", "add", "hz0", "type", "veth", "peer", "name", "hz1"]);
        for arguments in ["address add 10.77.0.1/24 dev hz0", "link set hz0 up", "link set hz1 up"]
        {
            run("ip", &arguments.split(' ').collect::<Vec<_>>());
        }
        run(
            "ip",
            &"neigh add 10.77.0.2 lladdr 02:00:00:00:00:77 dev hz0".split(' ').collect::<Vec<_>>(),
        );
        // So slow that nothing leaves while it is looked at.
        run(
            "tc",
            &"qdisc add dev hz0 root tbf rate 8bit burst 2000 limit 20000"
                .split(' ')
                .collect::<Vec<_>>(),
        );
        for _ in 0..40 {
            let _ = sender_on("10.77.0.1:0").send_to(&[7; 1_000], "10.77.0.2:9");
        }
        let snapshot = look(namespace);
        let queue = snapshot.queues.iter().find(|queue| queue.kind.starts_with(b"tbf\0")).unwrap();
        assert_eq!(&queue.device[..4], b"hz0\0");
        let said = run("tc", &["-s", "qdisc", "show", "dev", "hz0"]);
        for (name, value) in [
            ("dropped ", queue.drops),
            ("overlimits ", queue.overlimits),
            ("requeues ", queue.requeues),
            ("backlog ", queue.bytes),
            ("b ", queue.packets),
        ] {
            assert_eq!(
                u64::from(value),
                number(&said[said.find("Sent").unwrap()..], name),
                "{name} {said}"
            );
        }
        assert_eq!(queue.sent_bytes, number(&said, "Sent "));
        assert!(queue.packets > 0 && queue.drops > 0, "{said}");
    });
}

fn sender_on(address: &str) -> UdpSocket {
    UdpSocket::bind(address).unwrap()
}
