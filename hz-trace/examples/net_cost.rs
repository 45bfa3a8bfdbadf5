//! What the probe `net` takes of a loopback transfer and of an echo, beside the same without it.
//!
//! `cargo run --release --example net_cost`, as root. Rounds with and without take turns.
#![expect(clippy::unwrap_used, reason = "a measurement: what fails, ends it")]

use hz_trace::source::{Net, NetworkNamespace, Scope};
use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_secs(2);

/// Two ends of a connection.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    (client, server)
}

/// Bytes that go one way in a round.
fn bulk(stop: &AtomicBool) -> u64 {
    let (mut client, mut server) = pair();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let buffer = vec![7; 262_144];
            while !stop.load(Ordering::Relaxed) {
                client.write_all(&buffer).unwrap();
            }
        });
        let mut buffer = vec![0; 262_144];
        let mut bytes = 0;
        loop {
            match server.read(&mut buffer).unwrap() {
                0 => return bytes,
                read => bytes += read as u64,
            }
        }
    })
}

/// Requests of 128 bytes that are answered in a round, one at a time.
fn echo(stop: &AtomicBool) -> u64 {
    let (mut client, mut server) = pair();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut buffer = [0; 128];
            while server.read_exact(&mut buffer).is_ok() {
                server.write_all(&buffer).unwrap();
            }
        });
        let mut buffer = [7; 128];
        let mut count = 0;
        while !stop.load(Ordering::Relaxed) {
            client.write_all(&buffer).unwrap();
            client.read_exact(&mut buffer).unwrap();
            count += 1;
        }
        drop(client);
        count
    })
}

/// How much a round does a second, with the probe or without.
fn round(work: fn(&AtomicBool) -> u64, with_probe: bool) -> f64 {
    let mut net = with_probe.then(|| {
        let mut net = Net::load(&Scope::All, None).unwrap();
        net.attach().unwrap();
        net
    });
    let namespace = NetworkNamespace::of(std::process::id()).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let stops = Arc::clone(&stop);
    let began = Instant::now();
    let worker = std::thread::spawn(move || work(&stops));
    for tick in 1.. {
        std::thread::sleep(Duration::from_millis(10));
        if let Some(net) = &mut net {
            net.drain(|_| ());
            if tick % 10 == 0 {
                net.sample(&namespace, |_| ()).unwrap();
            }
        }
        if began.elapsed() >= ROUND {
            break;
        }
    }
    stop.store(true, Ordering::Relaxed);
    worker.join().unwrap() as f64 / began.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    for (name, unit, work) in [
        ("bulk", 1e9, bulk as fn(&AtomicBool) -> u64),
        ("echo", 1.0, echo as fn(&AtomicBool) -> u64),
    ] {
        round(work, false);
        let pairs: Vec<(f64, f64)> =
            (0..ROUNDS).map(|_| (round(work, false), round(work, true))).collect();
        let without = median(pairs.iter().map(|pair| pair.0).collect()) / unit;
        let with = median(pairs.iter().map(|pair| pair.1).collect()) / unit;
        let taken = median(pairs.iter().map(|pair| 100.0 * (1.0 - pair.1 / pair.0)).collect());
        println!("{name}: {without:.2}/s without, {with:.2}/s with the probe: {taken:.1} % less");
    }
}
