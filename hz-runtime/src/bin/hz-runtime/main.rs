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
        Err(error) => {
            eprintln!("hz-runtime: {error:#}");
            ExitCode::FAILURE
        }
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
