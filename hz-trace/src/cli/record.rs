//! `hz-trace record`.

use super::{
    output::{self, PartialFile},
    progress::Console,
    report, say, symbolize,
    target::TargetArgs,
};
use anyhow::{Context as _, Result};
use clap::Args;
use hz_trace::{
    session::{self, Outcome, Settings},
    text,
};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

#[derive(Debug, Args)]
pub(crate) struct RecordArgs {
    /// Where to write the recording
    #[arg(short, long, value_name = "FILE", default_value = "recording.hzt")]
    output: PathBuf,
    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
}

impl RecordArgs {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let settings = self.target.settings();
        let (recorded, outcome) = record(&settings, &self.output, self.quiet)?;
        let path = recorded.commit()?;
        if !self.quiet {
            report::print(&path, self.json)?;
            say_end(&outcome);
            let bytes = path.metadata().map_or(outcome.file_bytes, |file| file.len());
            say(format_args!("wrote {} ({})", path.display(), text::bytes(bytes)));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Records to `PATH.partial`. If writing fails, what was written stays there and the error says
/// where.
pub(crate) fn record(
    settings: &Settings,
    path: &Path,
    is_quiet: bool,
) -> Result<(PartialFile, Outcome)> {
    let (mut partial, file) = PartialFile::create(path, output::PRIVATE)?;
    let mut console = Console::new(is_quiet)?;
    match session::record(settings, file, &mut console) {
        Ok(outcome) => {
            // From here on nothing that was recorded may be lost.
            partial.keep();
            // While the processes are there, so are their files.
            if let Err(error) = symbolize::add(partial.partial(), &[], is_quiet) {
                say(format_args!("warning: no names of functions: {error:#}"));
            }
            Ok((partial, outcome))
        }
        Err(error @ session::RecordError::Write(_)) => {
            partial.keep();
            let at = partial.partial().display().to_string();
            Err(error)
                .with_context(|| format!("recording ended early; what was recorded is in {at}"))
        }
        Err(error) => Err(error.into()),
    }
}

/// Says why the recording ended, and how its command did.
pub(crate) fn say_end(outcome: &Outcome) {
    match outcome.command_status {
        Some(status) => say(format_args!("the command ended with {status}")),
        None => say(format_args!("recording ended: {}", outcome.state.ended_because)),
    }
}
