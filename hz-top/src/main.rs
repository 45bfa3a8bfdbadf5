//! The `hz-top` command.
#![forbid(unsafe_code)]

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    match hz_top::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("hz-top: {error:#}");
            ExitCode::FAILURE
        }
    }
}
