//! A service on hz-runtime's executor whose every request is known: it says its port on standard output
//! and serves until standard input ends. A request is a byte, its answer the same byte.
//!
//! | byte | what it does |
//! |---|---|
//! | `e` | spawns a task that does nothing, and awaits it |
//! | `c` | computes for 300 µs, inside a poll |
//! | `b` | sleeps for 1 ms, inside a poll: what async code must not do |
//! | `t` | waits for a timer of 1 ms |
//! | `s` | spawns 8 tasks `part` that compute for 100 µs each, and awaits them |
//! | `p` | calls what blocks for 1 ms, on the pool for that |
//! | `m` | sends a message to the task `relay`, and waits for its answer |

use hz_runtime::{
    Runtime, TaskMeta,
    net::{TcpListener, TcpStream},
    probe, spawn, spawn_blocking, spawn_with,
    sync::{Receiver, Sender, bounded},
    time::sleep,
};
use std::{
    io::{self, Read as _, Write as _},
    net::Ipv4Addr,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

const PARTS: usize = 8;

fn main() -> io::Result<()> {
    let runtime = Runtime::builder().name("service").worker_threads(2).build();
    let runtime = runtime.map_err(io::Error::other)?;
    let entered = runtime.enter();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_addr()?.port());
    io::stdout().flush()?;
    drop(spawn_with(TaskMeta::named("accept"), accept(listener)));
    io::stdin().read_to_end(&mut Vec::new())?;
    drop(entered);
    drop(runtime);
    Ok(())
}

async fn accept(listener: TcpListener) -> io::Result<()> {
    let (ask, asked) = bounded(1);
    let (answer, answered) = bounded(1);
    drop(spawn_with(TaskMeta::named("relay"), relay(asked, answer)));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let relay = Relay { ask: ask.clone(), answered: answered.clone() };
        drop(spawn_with(TaskMeta::named("connection"), connection(stream, relay)));
    }
}

/// The way to the task `relay` and back.
struct Relay {
    ask: Sender<u8>,
    answered: Receiver<u8>,
}

async fn relay(asked: Receiver<u8>, answer: Sender<u8>) {
    while let Ok(byte) = asked.recv().await {
        if answer.send(byte).await.is_err() {
            return;
        }
    }
}

async fn connection(stream: TcpStream, relay: Relay) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut byte = [0];
    while stream.read(&mut byte).await? == 1 {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        probe::request_begin(id, "byte");
        answer(byte[0], &relay).await;
        probe::request_end(id, 200);
        stream.write(&byte).await?;
    }
    Ok(())
}

async fn answer(byte: u8, relay: &Relay) {
    match byte {
        b'c' => compute(Duration::from_micros(300)),
        b'b' => thread::sleep(Duration::from_millis(1)),
        b't' => sleep(Duration::from_millis(1)).await,
        b's' => {
            let part = || async { compute(Duration::from_micros(100)) };
            let parts = [(); PARTS].map(|()| spawn_with(TaskMeta::named("part"), part()));
            for part in parts {
                let _ = part.await;
            }
        }
        b'p' => drop(spawn_blocking(|| thread::sleep(Duration::from_millis(1))).await),
        b'm' => {
            let asked = relay.ask.send(byte).await.is_ok();
            let answered = asked && relay.answered.recv().await.is_ok();
            debug_assert!(answered, "the relay lives as long as the listener");
        }
        _ => drop(spawn(async {}).await),
    }
}

fn compute(duration: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < duration {
        std::hint::spin_loop();
    }
}
