//! `hz-runtime`: a small HTTP service on the runtime, and a load for it. For demonstrations, measurements
//! and as an example of a service whose every task can be followed.

#![forbid(unsafe_code)]

mod latency;
mod load;
mod mix;
mod response;
mod routes;
mod serve;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use hz_runtime::{Runtime, alloc::SampledAllocator};
use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: SampledAllocator = SampledAllocator::system();

/// A small HTTP service on an async runtime whose every task can be followed, and a load for it
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeArgs),
    Load(load::LoadArgs),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(args) => args.run(),
        Command::Load(args) => args.run(),
    };
    match done {
        Ok(status) => status,
        Err(error) if error.is::<Unread>() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hz-runtime: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Nobody reads our output any more, as after `| head`: that ends us quietly.
#[derive(Debug)]
struct Unread;

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody reads the output")
    }
}

impl std::error::Error for Unread {}

/// Writes `text` to standard output, at once.
fn say(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Unread.into()),
        written => written.context("cannot write to standard output"),
    }
}

/// A runtime with so many workers, by default one for each CPU.
fn runtime(name: &str, workers: Option<usize>) -> Result<Runtime> {
    hz_runtime::alloc::prepare().context("cannot sample allocations")?;
    let builder = Runtime::builder().name(name);
    let builder = match workers {
        Some(workers) => builder.worker_threads(workers),
        None => builder,
    };
    builder.build().context("cannot start the runtime")
}
