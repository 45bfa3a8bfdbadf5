//! Tasks that are parked where their comments say: the test that compiles this looks for them.
//!
//! It says `ready` when all of them wait, and ends when its input does.

use hz_runtime::{
    Runtime, TaskMeta, net::TcpListener, spawn, spawn_with, sync::bounded, time::sleep,
};
use std::{
    future::Future,
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

/// Waits for ever, as if somebody had written it by hand.
struct Never;

impl Future for Never {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

/// Two futures of which the first that is ready ends both.
struct Either<A, B> {
    first: A,
    second: B,
}

impl<A: Future<Output = ()> + Unpin, B: Future<Output = ()> + Unpin> Future for Either<A, B> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if Pin::new(&mut self.first).poll(context).is_ready() {
            return Poll::Ready(());
        }
        Pin::new(&mut self.second).poll(context)
    }
}

async fn innermost(number: u64) -> u64 {
    let kept = [number; 3];
    sleep(Duration::from_secs(3_600)).await; // at: innermost
    kept[0]
}

async fn generic<T: Clone>(value: T) -> T {
    let kept = value.clone();
    innermost(7).await; // at: generic
    kept
}

struct Server;

trait Service {
    fn call(&self) -> impl Future<Output = ()> + Send;
}

impl Server {
    async fn run(&self) {
        generic(String::from("a")).await; // at: run
    }
}

impl Service for Server {
    async fn call(&self) {
        self.run().await; // at: call
    }
}

async fn nested() {
    let server = Server;
    server.call().await; // at: nested
}

async fn select() {
    let first = Box::pin(async {
        innermost(1).await; // at: first
    });
    let second = Box::pin(async {
        Never.await; // at: second
    });
    Either { first, second }.await; // at: select
}

async fn boxed() {
    let inner: Pin<Box<dyn Future<Output = u64> + Send>> = Box::pin(innermost(9));
    inner.await; // at: boxed
}

async fn accepts(listener: TcpListener) {
    let _ = listener.accept().await; // at: accepts
}

async fn joins() {
    let inner = spawn(async {
        Never.await; // at: joined
    });
    let _ = inner.await; // at: joins
}

async fn recursive(depth: u32) {
    if depth == 0 {
        return Never.await; // at: bottom
    }
    Box::pin(recursive(depth - 1)).await; // at: recursive
}

fn main() -> io::Result<()> {
    let runtime = Runtime::builder().worker_threads(2).build().map_err(io::Error::other)?;
    let (sender, receiver) = bounded::<u32>(1);
    let named = |name: &'static str| TaskMeta::named(name);
    runtime.block_on(async {
        spawn_with(named("nested"), nested());
        spawn_with(named("select"), select());
        spawn_with(named("boxed"), boxed());
        let address: SocketAddr = "127.0.0.1:0".parse().map_err(io::Error::other)?;
        spawn_with(named("accepts"), accepts(TcpListener::bind(address)?));
        spawn_with(named("joins"), joins());
        spawn_with(named("recursive"), recursive(3));
        for _ in 0..3 {
            let receiver = receiver.clone();
            spawn_with(named("receives"), async move {
                let _ = receiver.recv().await; // at: receives
            });
        }
        // Two blocks of one function: only their places tell them apart.
        spawn_with(named("one"), async {
            Never.await; // at: one
        });
        spawn_with(named("other"), async {
            Never.await; // at: other
        });
        spawn_with(named("busy"), async {
            loop {
                hz_runtime::yield_now().await;
            }
        });
        // Whoever is spawned last is polled last, by and large.
        sleep(Duration::from_millis(50)).await;
        io::Result::Ok(())
    })?;
    println!("ready");
    io::stdout().flush()?;
    let _ = io::stdin().read(&mut [0]);
    drop(sender);
    std::process::exit(0);
}
