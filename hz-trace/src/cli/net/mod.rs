//! `hz-trace net`.

mod follow;
mod lines;
mod listeners;
mod pools;
mod queues;
mod render;

use super::{
    UsageError,
    output::{self, PartialFile},
    progress::Console,
    record, report, say,
    target::TargetArgs,
};
use anyhow::{Context as _, Result};
use clap::Args;
use follow::Follower;
use hz_trace::{
    analyze::{NetSummary, QUEUE_OVER_PCT, summarize_net_over},
    probe::Selection,
    recording::Recording,
    replay::{Range, replay},
    session::{self, Outcome, RecordError, Settings, record_looks},
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
  hz-trace net -p 4711 --follow        what happens to its sockets, a line each, until Ctrl-C
  hz-trace net -a --follow --json | jq -c 'select(.segments)'

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
    /// Print events as they happen, a line each, until Ctrl-C; no page. Those that whoever reads is too
    /// slow for are left out and counted
    #[arg(short, long, conflicts_with = "file")]
    follow: bool,
    /// Print JSON: the same figures, with their units in the keys; with --follow, an object a line
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
        if self.follow {
            return self.follow(&settings);
        }
        let (recorded, outcome) = self.record(&settings, &path)?;
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

impl NetArgs {
    /// Records; where BPF cannot run, looks at sockets instead and says so.
    fn record(&self, settings: &Settings, path: &Path) -> Result<(PartialFile, Outcome)> {
        let error = match record::record(settings, path, self.quiet) {
            Err(error) if cannot_run(&error) => error,
            done => return done,
        };
        say(format_args!("warning: {error:#}; looks at sockets instead"));
        let (mut partial, file) = PartialFile::create(path, output::PRIVATE)?;
        let outcome = record_looks(settings, file, &mut Console::new(self.quiet)?)?;
        partial.keep();
        Ok((partial, outcome))
    }

    /// Prints events as they happen, and keeps the recording if that is wanted.
    fn follow(&self, settings: &Settings) -> Result<ExitCode> {
        let mut follower = Follower::new(Console::new(self.quiet)?, self.json);
        let outcome = match &self.keep {
            Some(path) => {
                let (partial, file) = PartialFile::create(path, output::PRIVATE)?;
                let outcome = session::record(settings, file, &mut follower)?;
                partial.commit()?;
                outcome
            }
            None => session::record(settings, io::sink(), &mut follower)?,
        };
        let not_shown = follower.finish()?;
        if !self.quiet {
            record::say_end(&outcome);
            let lost = text::plural(outcome.state.lost(), "record");
            say(format_args!("{lost} lost, {} not shown", text::count(not_shown)));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Whether it failed because this host does not run the programs.
fn cannot_run(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<RecordError>(), Some(RecordError::Start(_)))
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
