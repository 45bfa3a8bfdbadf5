//! `hz-trace completions` and `hz-trace man`, from the command line's own description.

use super::Cli;
use anyhow::Result;
use clap::{Args, CommandFactory as _};
use std::{io, process::ExitCode};

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell to complete for
    shell: clap_complete::Shell,
}

impl CompletionsArgs {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "hz-trace", &mut script);
        io::Write::write_all(&mut io::stdout(), &script)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints the manual page in roff.
pub(crate) fn man() -> Result<ExitCode> {
    clap_mangen::Man::new(Cli::command()).render(&mut io::stdout())?;
    Ok(ExitCode::SUCCESS)
}
