//! `hz-runtime load`.

use super::latency::Latency;
use super::mix::{Mix, parse_mix};
use super::response::Answers;
use super::runtime;
use anyhow::{Context as _, Result};
use clap::Args;
use hz_runtime::net::TcpStream;
use hz_runtime::time::sleep_until;
use hz_runtime::{TaskMeta, spawn_with};
use serde::Serialize;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Make requests of a service and say how long they took
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  hz-runtime load 127.0.0.1:8080 --connections 1000 --duration 10
  hz-runtime load 127.0.0.1:8080 --mix echo=90,cpu:500=5,block:20000=1,spawn:10=4
  hz-runtime load 127.0.0.1:8080 --rate 2000 --json

A mix is routes with a number where they take one and a weight: ROUTE[:NUMBER][=WEIGHT],…")]
pub(crate) struct LoadArgs {
    /// Where the service listens
    #[arg(value_name = "ADDRESS")]
    address: SocketAddr,
    /// Connections that are kept open, each with one request at a time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    connections: u32,
    /// Seconds to go on for
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    duration: u32,
    /// Requests a second of all connections together [default: as many as are answered]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// What to ask for
    #[arg(long, value_name = "MIX", default_value = "echo", value_parser = parse_mix)]
    mix: Mix,
    /// Bytes of the body that /echo is sent
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(0..=1_048_576))]
    body: u32,
    /// Worker threads [default: one for each CPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What all connections share.
#[derive(Debug)]
struct Plan {
    address: SocketAddr,
    requests: Vec<Vec<u8>>,
    mix: Mix,
    end: Instant,
    /// Between two requests of a connection.
    period: Option<Duration>,
}

/// What one connection, or all, saw.
#[derive(Debug, Default)]
struct Seen {
    times_ns: Vec<u64>,
    /// Answers with another status than 200.
    refused: u64,
    /// Connections that broke or could not be made.
    broken: u64,
    first_error: Option<io::Error>,
}

#[derive(Debug, Serialize)]
struct Report {
    requests: u64,
    seconds: f64,
    requests_per_second: f64,
    refused: u64,
    broken: u64,
    latency: Latency,
}

impl LoadArgs {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let runtime = runtime("hz-load", self.workers.map(usize::from))?;
        let begin = Instant::now();
        let plan = Arc::new(self.plan(begin));
        let mut seen = runtime.block_on(drive(&plan, self.connections));
        let elapsed = begin.elapsed();
        if seen.times_ns.is_empty()
            && let Some(error) = seen.first_error.take()
        {
            return Err(error).with_context(|| format!("no answer from {}", self.address));
        }
        self.print(&mut seen, elapsed)
    }

    fn plan(&self, begin: Instant) -> Plan {
        let host = self.address.to_string();
        let body_bytes = self.body as usize;
        let requests =
            self.mix.parts().iter().map(|part| part.request(&host, body_bytes)).collect();
        let period = |rate| Duration::from_secs_f64(f64::from(self.connections) / f64::from(rate));
        Plan {
            address: self.address,
            requests,
            mix: self.mix.clone(),
            end: begin + Duration::from_secs(self.duration.into()),
            period: self.rate.map(period),
        }
    }

    fn print(&self, seen: &mut Seen, elapsed: Duration) -> Result<ExitCode> {
        let requests = seen.times_ns.len() as u64;
        let seconds = elapsed.as_secs_f64();
        let report = Report {
            requests,
            seconds,
            requests_per_second: requests as f64 / seconds,
            refused: seen.refused,
            broken: seen.broken,
            latency: Latency::of(&mut seen.times_ns),
        };
        let text = if self.json {
            serde_json::to_string_pretty(&report)? + "\n"
        } else {
            report.to_string()
        };
        super::say(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { requests, seconds, requests_per_second, refused, broken, latency } = self;
        writeln!(f, "{requests} requests in {seconds:.1} s, {requests_per_second:.0} a second")?;
        let Latency { p50_us, p90_us, p99_us, p999_us, max_us } = latency;
        writeln!(
            f,
            "latency in us: p50 {p50_us:.0}, p90 {p90_us:.0}, p99 {p99_us:.0}, p99.9 {p999_us:.0}, max {max_us:.0}"
        )?;
        writeln!(f, "{refused} answered with another status than 200, {broken} connections broke")
    }
}

/// Runs all connections to the end of the plan.
async fn drive(plan: &Arc<Plan>, connections: u32) -> Seen {
    let tasks: Vec<_> = (0..connections)
        .map(|number| {
            let plan = Arc::clone(plan);
            spawn_with(TaskMeta::named("client"), client(plan, number))
        })
        .collect();
    let mut all = Seen::default();
    for task in tasks {
        // A client does not panic and nobody cancels it.
        let Ok(seen) = task.await else { continue };
        all.times_ns.extend(seen.times_ns);
        all.refused += seen.refused;
        all.broken += seen.broken;
        all.first_error = all.first_error.or(seen.first_error);
    }
    all
}

async fn client(plan: Arc<Plan>, number: u32) -> Seen {
    let mut seen = Seen::default();
    if let Err(error) = converse(&plan, number, &mut seen).await {
        seen.broken += 1;
        seen.first_error = Some(error);
    }
    seen
}

/// Makes requests over one connection.
async fn converse(plan: &Plan, number: u32, seen: &mut Seen) -> io::Result<()> {
    let stream = TcpStream::connect(plan.address).await?;
    stream.set_nodelay(true)?;
    let mut answers = Answers::new();
    let mut random = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = Instant::now();
    while Instant::now() < plan.end {
        if let Some(period) = plan.period {
            sleep_until(next).await;
            next += period;
        }
        // Knuth's generator; the upper bits are the better ones.
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let request = &plan.requests[plan.mix.choose(random >> 33)];
        let begin = Instant::now();
        stream.write_all(request).await?;
        let status = answers.next(&stream).await?;
        seen.times_ns.push(u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX));
        seen.refused += u64::from(status != 200);
    }
    Ok(())
}
