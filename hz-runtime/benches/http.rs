//! The service `hz-runtime serve` beside the same service on Tokio: HTTP echo of 1 KB over 1,000 connections
//! that are kept alive, alternating runs, medians and ratios.
//!
//! `cargo bench -p hz-runtime --features service --bench http [-- --rounds N --seconds N]`. Both
//! have two workers; the load is `hz-runtime load`, on the same CPUs. The routes are the same code,
//! and what Tokio's service lacks is only the end by a signal.

use anyhow::{Context as _, Result, ensure};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use tokio::net::TcpListener;

#[path = "../src/bin/hz-runtime/routes.rs"]
mod routes;

const COMMAND: &str = env!("CARGO_BIN_EXE_hz-runtime");
const WORKERS: usize = 2;
const CONNECTIONS: &str = "1000";

fn main() -> Result<()> {
    if std::env::args().any(|arg| arg == "--serve-on-tokio") {
        return serve_on_tokio();
    }
    let rounds = option("--rounds", 5)?;
    let seconds = option("--seconds", 4)?;
    let itself = std::env::current_exe()?;
    let services = [
        Service::start(
            "hz-runtime",
            Command::new(COMMAND).args(["serve", "--listen", "127.0.0.1:0"]),
        )?,
        Service::start("Tokio", Command::new(itself).arg("--serve-on-tokio"))?,
    ];
    // What a process does at its start is not what is measured.
    for service in &services {
        service.load(1)?;
    }
    let mut runs = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        for turn in 0..2 {
            let which = (turn + round as usize) % 2;
            runs[which].push(services[which].load(seconds)?);
        }
    }
    println!("{:12} {:>12} {:>10} {:>10}", "", "requests/s", "p50, us", "p99, us");
    let [hz, tokio] = [0, 1].map(|which| {
        let of = |figure: fn(&Run) -> f64| median(runs[which].iter().map(figure));
        let median =
            Run { rate: of(|run| run.rate), p50: of(|run| run.p50), p99: of(|run| run.p99) };
        let name = services[which].name;
        println!("{name:12} {:12.0} {:10.0} {:10.0}", median.rate, median.p50, median.p99);
        median
    });
    let ratios = (hz.rate / tokio.rate, hz.p50 / tokio.p50, hz.p99 / tokio.p99);
    println!("{:12} {:12.2} {:10.2} {:10.2}", "ratio", ratios.0, ratios.1, ratios.2);
    Ok(())
}

/// The number after an option.
fn option(name: &str, default: u32) -> Result<u32> {
    let mut args = std::env::args().skip_while(|arg| arg != name);
    match (args.next(), args.next()) {
        (Some(_), Some(number)) => number.parse().with_context(|| format!("{name} takes a number")),
        _ => Ok(default),
    }
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<_> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// What the load saw.
#[derive(Clone, Copy, Debug)]
struct Run {
    rate: f64,
    p50: f64,
    p99: f64,
}

/// A service in a process of its own, which ends with this.
struct Service {
    name: &'static str,
    process: Child,
    address: String,
}

impl Service {
    fn start(name: &'static str, command: &mut Command) -> Result<Self> {
        if name == "hz-runtime" {
            command.args(["--workers", &WORKERS.to_string()]);
        }
        let mut process = command.stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        let said = process.stdout.take().context("it has a pipe")?;
        BufReader::new(said).read_line(&mut line)?;
        let address = line.split("http://").nth(1).and_then(|rest| rest.split(',').next());
        let address = address.with_context(|| format!("{name} said {line:?}"))?.trim().to_owned();
        Ok(Self { name, process, address })
    }

    fn load(&self, seconds: u32) -> Result<Run> {
        let mut load = Command::new(COMMAND);
        load.args(["load", &self.address, "--json", "--connections", CONNECTIONS]);
        let output = load.args(["--duration", &seconds.to_string()]).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        ensure!(report["broken"] == 0 && report["refused"] == 0, "not all was answered: {report}");
        let figure = |value: &serde_json::Value| value.as_f64().context("the load has no figure");
        Ok(Run {
            rate: figure(&report["requests_per_second"])?,
            p50: figure(&report["latency"]["p50_us"])?,
            p99: figure(&report["latency"]["p99_us"])?,
        })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// As one writes a service on hyper and Tokio.
fn serve_on_tokio() -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    // On a worker, as that of hz-runtime is.
    runtime.block_on(runtime.spawn(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("listening on http://{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(async {
                let mut http = http1::Builder::new();
                http.half_close(false);
                // What a client does wrong is no concern of the others'.
                let _ =
                    http.serve_connection(TokioIo::new(stream), service_fn(routes::answer)).await;
            });
        }
    }))?
}
