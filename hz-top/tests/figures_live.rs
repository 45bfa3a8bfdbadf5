//! The figures of the dashboard beside those of `/proc`, `pidstat`, `ss` and `tc -s` for the same
//! interval: a load of known shape in a network namespace of its own, which ends with it.
//!
//! The peers' sums are read again and again while hz-top runs; what they grew by in its window is read off
//! between two readings.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test dies where it fails, its helpers too"
)]

#[path = "figures/load.rs"]
mod load;
#[path = "figures/peers.rs"]
mod peers;

use hz_trace::model::window::{Network, Socket, Window};
use load::{CLIENTS, CLOSED, Load, UNACCEPTED};
use peers::{Connection, Peers, connections};
use std::{collections::BTreeMap, process::Command};

/// In a started copy the load; elsewhere nothing.
#[test]
#[ignore = "needs CAP_BPF"]
fn load() {
    load::run_if_asked();
}

/// What differs by more than it may.
#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    /// Two figures of the same may differ by `share` of the peer's and by `most` besides.
    fn compare(&mut self, what: &str, ours: f64, peer: f64, (share, most): (f64, f64)) {
        println!("{what}: {ours:.0}, its peer {peer:.0}");
        if (ours - peer).abs() > share * peer.abs() + most {
            self.0.push(format!("{what}: {ours:.1}, its peer says {peer:.1}"));
        }
    }
}

fn look(pid: u32) -> Window {
    let pid = pid.to_string();
    // With this panel the probe for reasons runs as well, and sockets are looked at most often.
    let output = Command::new(env!("CARGO_BIN_EXE_hz-top"))
        .args(["--once", "--json", "--panel", "sockets", "--interval", "3", "--pid", &pid])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
#[ignore = "needs CAP_BPF"]
fn figures_agree_with_proc_pidstat_ss_and_tc() {
    let load = Load::start();
    let peers = Peers::follow(load.pid());
    let window = look(load.pid());
    let connections = connections(load.pid());
    let peers = peers.until(window.end_ns);
    let network = window.network.as_ref().unwrap();
    let mut differences = Differences::default();
    cpus(&window, &peers, &mut differences);
    threads(&window, &peers, &mut differences);
    queue(network, &peers, &mut differences);
    sockets(network, &connections, load.pid(), &mut differences);
    assert_eq!(window.lost(), 0, "{:?}", window.ledger);
    assert!(differences.0.is_empty(), "{:#?}", differences.0);
}

/// `/proc/stat` counts in steps of 10 ms. What is not idle is threads, interrupts, and what a CPU does to go
/// idle and to come back, which nothing counts: on a virtual machine some percent of the time. Ours are threads.
fn cpus(window: &Window, peers: &Peers, differences: &mut Differences) {
    let (from, to) = (window.start_ns, window.end_ns);
    assert!(!window.cpus.is_empty());
    for row in &window.cpus {
        let idle_ns = peers.grew(&format!("cpu{} idle", row.cpu), from, to);
        let (what, length_ns) = (format!("ms that CPU {} was busy", row.cpu), window.length_ns());
        let most_ms = (length_ns as f64 - idle_ns) / 1e6;
        let least_ms = peers.grew(&format!("cpu{} threads", row.cpu), from, to) / 1e6;
        let least_ms = least_ms.min(most_ms);
        let ours_ms = row.busy_ns as f64 / 1e6;
        println!("{what}: between {least_ms:.0} and {most_ms:.0} by its peer");
        differences.compare(&what, ours_ms, ours_ms.clamp(least_ms, most_ms), (0.03, 30.0));
    }
    let switches: u64 = window.cpus.iter().map(|row| row.switches).sum();
    let peer = peers.grew("switches", from, to);
    assert!(peer > 3_000.0, "{peer} switches are no load");
    differences.compare("switches of all CPUs", switches as f64, peer, (0.03, 50.0));
}

/// How far apart the two look at a switch or a wake-up: the kernel reads its clock at the beginning, and
/// other programs at the same place may go first, or an interrupt.
const SWITCH_MS: f64 = 0.015;

/// A thread that has its CPU is accounted for at ticks of up to 10 ms.
fn threads(window: &Window, peers: &Peers, differences: &mut Differences) {
    let (from, to) = (window.start_ns, window.end_ns);
    for name in ["burner", "ping", "pong", "flood"] {
        let row = window.threads.iter().find(|row| row.name == name);
        let row = row.unwrap_or_else(|| panic!("no {name} in {:?}", window.threads));
        assert!(row.is_target && row.pid != row.tid, "{row:?}");
        let mut compare = |figure: &str, ours: f64, tolerance| {
            let peer = peers.grew(&format!("{name} {figure}"), from, to);
            differences.compare(&format!("{name}: {figure}"), ours, peer, tolerance);
        };
        let (run_ms, wait_ms) = (row.run_ns as f64 / 1e6, row.wait_ns() as f64 / 1e6);
        let (yields, preemptions) = (row.yields as f64, row.preemptions as f64);
        let switching_ms = SWITCH_MS * (yields + preemptions);
        compare("ms runnable", run_ms + wait_ms, (0.02, 15.0 + switching_ms));
        compare("ms on a CPU", run_ms, (0.02, 15.0 + switching_ms));
        compare("ms waited for a CPU", wait_ms, (0.02, 15.0 + switching_ms));
        compare("voluntary switches", yields, (0.03, 20.0));
        compare("involuntary switches", preemptions, (0.05, 20.0));
        // It reads once a second, and rounds to 10 ms.
        compare("ms on a CPU by pidstat", run_ms, (0.05, 100.0 + switching_ms));
        compare("ms waited for a CPU by pidstat", wait_ms, (0.1, 150.0 + switching_ms));
        compare("voluntary switches by pidstat", yields, (0.1, 100.0));
    }
    let burner = window.threads.iter().find(|row| row.name == "burner").unwrap();
    // Others may want the CPUs as well.
    assert!(burner.run_ns > window.length_ns() / 50, "{burner:?} is no load");
}

fn queue(network: &Network, peers: &Peers, differences: &mut Differences) {
    let queue = network.qdiscs.iter().find(|queue| queue.kind == "tbf");
    let queue = queue.unwrap_or_else(|| panic!("no tbf in {:?}", network.qdiscs));
    assert_eq!(queue.interface, load::INTERFACE);
    assert!(network.length_ns > 1_000_000_000, "looked at {} ns apart", network.length_ns);
    let (from, to) = (network.time_ns - network.length_ns, network.time_ns);
    let mut compare = |what: &str, ours: u64, most| {
        let peer = peers.grew(what, from, to);
        assert!(peer > 20.0, "{peer} {what} are no load");
        differences.compare(what, ours as f64, peer, (0.05, most));
    };
    compare("packets that the queue dropped", queue.dropped, 60.0);
    compare("packets that the queue sent", queue.sent, 10.0);
    compare("TCP segments sent", network.counts.sent, 60.0);
    for (what, ours, most) in
        [("packets in the queue", queue.packets, 2.0), ("bytes in the queue", queue.bytes, 2_200.0)]
    {
        let (least, largest) = peers.range(what, from, to);
        assert!(largest > 0.0, "no {what}");
        let nearest = (ours as f64).clamp(least, largest);
        differences.compare(what, ours as f64, nearest, (0.0, most));
    }
}

/// But for those that something goes through all the time, queues of sockets stand still.
fn sockets(network: &Network, connections: &[Connection], pid: u32, differences: &mut Differences) {
    let of = |state: &'static str| connections.iter().filter(move |each| each.state == state);
    let queues = |each: &Connection| (each.receive_queue, each.send_queue);
    let is_still = |local: u16, peer: u16| ![local, peer].contains(&load::PINGED);
    let theirs: BTreeMap<_, _> = of("ESTAB")
        .filter(|each| each.pid == Some(pid) && is_still(each.local.port(), each.peer_port))
        .map(|each| ((each.local.port(), each.peer_port), queues(each)))
        .collect();
    let key = |socket: &Socket| (socket.local.port(), socket.peer.port());
    let still = network.sockets.iter().filter(|socket| is_still(key(socket).0, key(socket).1));
    let ours: BTreeMap<_, _> = still
        .filter(|socket| socket.state.name() == "established" && socket.pid == pid)
        .map(|socket| (key(socket), (socket.receive_queue, socket.send_queue)))
        .collect();
    assert!(ours.len() >= 2 * CLIENTS + UNACCEPTED, "{} sockets", ours.len());
    assert!(ours.values().any(|queues| queues.0 > 0) && ours.values().any(|queues| queues.1 > 0));
    assert_eq!(ours, theirs, "queues of sockets by their ports");
    let owned = of("ESTAB").filter(|each| each.pid == Some(pid)).count();
    differences.compare("sockets", network.sockets_total as f64, owned as f64, (0.0, 0.0));
    let closed = of("TIME-WAIT").count();
    assert_eq!(closed, CLOSED);
    let time_wait = network.ports.time_wait;
    differences.compare("in TIME-WAIT", time_wait as f64, closed as f64, (0.0, 0.0));
    let theirs: BTreeMap<_, _> = of("LISTEN").map(|each| (each.local, queues(each))).collect();
    let listeners = network.listeners.iter();
    let ours: BTreeMap<_, _> = listeners.map(|row| (row.local, (row.queue, row.limit))).collect();
    assert!(ours.values().any(|(queue, _)| *queue == UNACCEPTED as u64), "{ours:?}");
    assert_eq!(ours, theirs, "queues of listeners");
}
