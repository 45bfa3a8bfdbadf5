//! `hz-trace net`.

mod listeners;
mod pools;
mod queues;
mod render;

use super::{UsageError, record, report, say, target::TargetArgs};
use anyhow::{Context as _, Result};
use clap::Args;
use hz_trace::{
    analyze::{NetSummary, QUEUE_OVER_PCT, summarize_net_over},
    probe::Selection,
    recording::Recording,
    replay::{Range, replay},
    text,
};
use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

const EXAMPLES: &str = "\
Examples:
  hz-trace net -p 4711 -d 10           10 s of a process's connections
  hz-trace net -a -d 5 --json          of the whole system, for other programs
  hz-trace net -- curl -sO http://…    those of a command
  hz-trace net app.hzt                 of a recording made with --probes net

What was sent again is said with the reason that the kernel had, and with the thread that queued the
bytes. hz-trace --probes sched,runtime,net … draws connections beside threads and tasks.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct NetArgs {
    /// A recording to read, instead of recording now
    #[arg(value_name = "FILE", conflicts_with_all = ["pid", "cgroup", "all", "command", "keep"])]
    file: Option<PathBuf>,
    /// Keep the recording
    #[arg(long, value_name = "FILE")]
    keep: Option<PathBuf>,
    /// Say nothing but errors while recording
    #[arg(short, long)]
    quiet: bool,
    /// Tell of queues that hold more than this share of what they may, in percent
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..=100), default_value_t = QUEUE_OVER_PCT)]
    queue_over: u32,
    /// Print JSON: the same figures, with their units in the keys
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
}

impl NetArgs {
    pub(crate) fn run(self) -> Result<ExitCode> {
        if let Some(path) = &self.file {
            print(path, &self)?;
            return Ok(ExitCode::SUCCESS);
        }
        let directory = tempfile_directory();
        let path = self.keep.clone().unwrap_or(directory);
        let probes = Selection::none().with("net").and_then(|probes| probes.with("runtime"))?;
        let settings = self.target.clone().settings_with(probes);
        if !settings.probes.has("net") {
            return Err(UsageError("--probes leaves net out".to_owned()).into());
        }
        let (recorded, outcome) = record::record(&settings, &path, self.quiet)?;
        let saved = recorded.partial().to_owned();
        let printed = print(&saved, &self)
            .with_context(|| format!("the recording is in {}", saved.display()));
        match &self.keep {
            Some(_) => recorded.commit().map(|_| ())?,
            None => recorded.discard(),
        }
        printed?;
        if !self.quiet {
            record::say_end(&outcome);
        }
        if let (Some(path), false) = (&self.keep, self.quiet) {
            say(format_args!("wrote {}", path.display()));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Where a recording that nobody keeps is meanwhile.
fn tempfile_directory() -> PathBuf {
    std::env::temp_dir().join(format!("hz-trace-net.{}.hzt", std::process::id()))
}

fn print(path: &Path, args: &NetArgs) -> Result<()> {
    let recording = Recording::open(path)?;
    let replayed = replay(&recording, Range::default());
    report::warn_of_damage(path, &recording, &replayed);
    let Some(summary) = summarize_net_over(&replayed.model, args.queue_over) else {
        anyhow::ensure!(
            recording
                .meta
                .probes
                .iter()
                .any(|probe| probe.starts_with("net") || probe.starts_with("sockets")),
            "{} has no sockets: record with --probes net",
            path.display()
        );
        io::stdout().write_all(b"No socket of the target was seen.\n")?;
        return Ok(());
    };
    let not_collected = recording.state.not_collected(&recording.meta);
    let ledger = recording.state.ledger.iter().filter(|row| row.site.starts_with("net_"));
    let summary = NetSummary {
        target: recording.meta.target.to_string(),
        lost: recording.state.lost(),
        ledger: ledger.cloned().collect(),
        not_collected,
        ..summary
    };
    let text = if args.json {
        format!("{}\n", serde_json::to_string_pretty(&summary).context("cannot write JSON")?)
    } else {
        text::showable(&render::render(&summary))
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(())
}
