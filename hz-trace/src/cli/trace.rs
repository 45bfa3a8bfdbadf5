//! `hz-trace` without a subcommand: record, export, summarize.

use super::{
    export::{self, FormatArgs},
    output::{self, PartialFile},
    record, report, say,
    target::TargetArgs,
};
use anyhow::{Context as _, Result};
use clap::Args;
use hz_trace::{
    recording::Recording,
    replay::{Range, replay},
};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    #[command(flatten)]
    formats: FormatArgs,
    /// Keep the recording too
    #[arg(long, value_name = "FILE")]
    keep: Option<PathBuf>,
    /// Say nothing but errors, and print no summary
    #[arg(short, long)]
    quiet: bool,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
}

impl TraceArgs {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let outputs = self.formats.outputs();
        for (_, path) in &outputs {
            // Better to learn now than after ten minutes that nothing can be written there.
            PartialFile::create(path, output::SHARED)?;
        }
        let recorded_at = self.keep.clone().unwrap_or_else(|| beside(&outputs[0].1));
        let mut settings = self.target.settings();
        for kind in outputs.iter().filter_map(|(exporter, _)| exporter.flame()) {
            settings.probes = settings.probes.with(kind.probes()[0])?;
        }
        let (recorded, outcome) = record::record(&settings, &recorded_at, self.quiet)?;
        let saved = recorded.partial().to_owned();
        let context = || format!("the recording is kept in {}", saved.display());
        let recording = Recording::open(&saved)?;
        let replayed = replay(&recording, Range::default());
        let written = export::write_all(&outputs, &recording, &replayed, Range::default());
        let written = written.with_context(context)?;
        match &self.keep {
            Some(_) => recorded.commit().map(|_| ())?,
            None => recorded.discard(),
        }
        if !self.quiet {
            report::print_summary(&report::summary(&recording, &replayed), self.json)?;
            record::say_end(&outcome);
            for path in written.iter().chain(&self.keep) {
                say(format_args!("wrote {}", path.display()));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Where the recording is while its picture is not yet made.
fn beside(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".hzt");
    PathBuf::from(name)
}
