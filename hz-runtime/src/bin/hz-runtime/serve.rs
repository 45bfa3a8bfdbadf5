//! `hz-runtime serve`.

use super::{routes, runtime};
use anyhow::{Context as _, Result};
use clap::Args;
use futures_lite::future::or;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hz_runtime::net::{TcpListener, TcpStream};
use hz_runtime::sync::{Receiver, Sender, bounded};
use hz_runtime::{TaskMeta, spawn_with, time::timeout};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::process::ExitCode;
use std::task::Poll;
use std::time::Duration;

/// How long requests that are being answered may go on once the service is told to end.
const GRACE: Duration = Duration::from_secs(5);

/// How long to wait when there is no file descriptor left for a connection.
const PAUSE: Duration = Duration::from_millis(10);

/// Serve HTTP until Ctrl-C
///
/// Routes: POST /echo answers with what it was sent, GET /echo with 1 KB; /cpu?us=N computes for N
/// microseconds inside a poll; /block?us=N blocks its worker with a sleep of the thread, which async code must
/// not do: the fault to be found; /sleep?us=N waits for a timer; /spawn?n=N spawns N tasks and joins
/// them; /healthz says ok.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  hz-runtime serve                                  on 127.0.0.1:8080, a worker for each CPU
  hz-runtime serve --listen 127.0.0.1:0             on a free port, which it prints
  hz-runtime load 127.0.0.1:8080 --connections 100  a load for it, in another shell")]
pub(crate) struct ServeArgs {
    /// Address and port to listen on; port 0 is any free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Worker threads [default: one for each CPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
}

impl ServeArgs {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let runtime = runtime("hz-serve", self.workers.map(usize::from))?;
        let _entered = runtime.enter();
        let listener = TcpListener::bind(self.listen).with_context(|| {
            format!("cannot listen on {}; choose another with --listen", self.listen)
        })?;
        let address = listener.local_addr().context("the listener has no address")?;
        let stop = stop_signal().context("cannot wait for signals")?;
        super::say(&format!("listening on http://{address}, pid {}\n", std::process::id()))?;
        let accept = spawn_with(TaskMeta::named("accept"), accept(listener, stop));
        runtime.block_on(accept).context("the task that accepts connections ended")?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A channel that is closed by the first SIGINT or SIGTERM. A second one ends the process.
fn stop_signal() -> io::Result<Receiver<()>> {
    let (sender, receiver) = bounded(1);
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    let wait = move || {
        signals.forever().next();
        drop(sender);
        signals.forever().next();
        let _ = signal_hook::low_level::emulate_default_handler(SIGINT);
    };
    std::thread::Builder::new().name("hz-signals".to_owned()).spawn(wait)?;
    Ok(receiver)
}

/// Accepts connections until `stop` is closed, then lets requests end.
async fn accept(listener: TcpListener, stop: Receiver<()>) {
    let (open, all_closed) = bounded::<()>(1);
    loop {
        let stopped = async {
            let _ = stop.recv().await;
            None
        };
        match or(stopped, async { Some(listener.accept().await) }).await {
            None => break,
            Some(Ok((stream, _))) => {
                let connection = connection(stream, stop.clone(), open.clone());
                drop(spawn_with(TaskMeta::named("connection"), connection));
            }
            // The next connection may fare better, once there is a descriptor for it.
            Some(Err(_)) => hz_runtime::time::sleep(PAUSE).await,
        }
    }
    drop((listener, open));
    let _ = timeout(GRACE, all_closed.recv()).await;
}

/// Serves one connection; `_open` says to whoever waits that it is there.
async fn connection(stream: TcpStream, stop: Receiver<()>, _open: Sender<()>) {
    let _ = stream.set_nodelay(true);
    let mut http = http1::Builder::new();
    http.half_close(false);
    let mut serve = pin!(http.serve_connection(stream, service_fn(routes::answer)));
    let mut stopping = stop.recv();
    let mut is_heard = false;
    let stopped = poll_fn(|cx| {
        // All connections wait in one line: only the first time, and then to hear that it is over.
        if is_heard && !stop.is_closed() {
            return Poll::Pending;
        }
        is_heard = true;
        Pin::new(&mut stopping).poll(cx).map(|_| false)
    });
    // What a client does wrong is no concern of the others'. The connection first: a request that has
    // come is then taken, whatever happens with the stop.
    let served = async {
        let _ = serve.as_mut().await;
        true
    };
    let is_over = or(served, stopped).await;
    if !is_over {
        serve.as_mut().graceful_shutdown();
        let _ = serve.await;
    }
}
