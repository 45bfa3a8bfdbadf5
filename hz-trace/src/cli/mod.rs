//! The command line: one file per subcommand.

mod doctor;
mod export;
mod flame;
mod flame_text;
mod holders;
mod net;
mod output;
mod probes;
mod progress;
mod record;
mod report;
mod report_program;
mod report_tasks;
mod shell;
mod symbolize;
mod table;
mod target;
mod tasks;
mod trace;

use anyhow::Result;
use clap::{Parser, Subcommand};
use hz_trace::{
    session::RecordError,
    source::{UprobeError, UsdtError},
};
use std::{
    fmt,
    io::{self, Write as _},
    process::ExitCode,
};

/// Exit code of a command whose arguments make no sense together.
const WRONG_USAGE: u8 = 2;

/// Exit code of a command that this host cannot run.
const CANNOT_RUN_HERE: u8 = 3;

const EXAMPLES: &str = "\
Examples:
  hz-trace --export=svg -p 4711 -d 10           10 s of a running process, as timeline.svg
  hz-trace --export=svg --output=make.svg -- make -j4
                                                a command and its children, until it ends
  hz-trace -a -d 5                              5 s of the whole system
  hz-trace -p 4711 --uprobe libc.so.6:malloc%return
                                                with every call of malloc, and how long it took
  hz-trace record -o app.hzt -p 4711            record now, until Ctrl-C …
  hz-trace report app.hzt                       … and ask later, on any machine
  hz-trace export app.hzt --from 2.1s --to 2.4s a part of it, as a picture
  hz-trace net -p 4711 -d 10                    why the bytes of its connections waited
  hz-trace flame -p 4711 -d 10 --output flame.svg
                                                where its CPU time went, rooted in its tasks
  hz-trace tasks -p 4711                        its async tasks, and what they wait for

Exit codes: 0 fine, 1 failed, 2 wrong usage, 3 this host cannot.";

/// Shows why a request, a task or a byte had to wait
///
/// Without a subcommand: records a target, exports it and prints a summary. Without a target: the
/// whole system, until Ctrl-C.
#[derive(Debug, Parser)]
#[command(name = "hz-trace", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    trace: trace::TraceArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Record to a file, to be exported or reported later
    Record(record::RecordArgs),
    /// Make a picture of a recording
    Export(export::ExportArgs),
    /// Summarize a recording
    Report(report::ReportArgs),
    /// Show why bytes waited: what was sent again and why, what queues held, and whose it was
    Net(net::NetArgs),
    /// Draw where time or memory went, as a flame graph
    Flame(flame::FlameArgs),
    /// Find the names of functions that a recording has only addresses of
    Symbolize(symbolize::SymbolizeArgs),
    /// List the async tasks that live in a process now, and what they wait for
    Tasks(tasks::TasksArgs),
    /// Try what works on this host, and say what would enable the rest
    Doctor(doctor::DoctorArgs),
    /// List the probes: what each emits and what it costs
    Probes(probes::ProbesArgs),
    /// Print a completion script for a shell
    Completions(shell::CompletionsArgs),
    /// Print the manual page
    Man,
}

impl Cli {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self.command {
            None => self.trace.run(),
            Some(Command::Record(args)) => args.run(),
            Some(Command::Export(args)) => args.run(),
            Some(Command::Report(args)) => args.run(),
            Some(Command::Net(args)) => args.run(),
            Some(Command::Flame(args)) => args.run(),
            Some(Command::Symbolize(args)) => args.run(),
            Some(Command::Tasks(args)) => args.run(),
            Some(Command::Doctor(args)) => args.run(),
            Some(Command::Probes(args)) => args.run(),
            Some(Command::Completions(args)) => args.run(),
            Some(Command::Man) => shell::man(),
        }
    }
}

/// Arguments that are sound alone and make no sense together, or not with this recording.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

/// Says a line on standard error. Nobody listening is no reason to end a recording, let alone to
/// die of.
pub(crate) fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "hz-trace: {line}");
}

/// 3 if this host cannot do it, 2 if it was asked wrongly, 1 if it went wrong.
pub(crate) fn exit_code(error: &anyhow::Error) -> ExitCode {
    if error.is::<UsageError>() {
        return ExitCode::from(WRONG_USAGE);
    }
    let cannot_run = |cause: &(dyn std::error::Error + 'static)| {
        let record = cause.downcast_ref::<RecordError>();
        matches!(record, Some(RecordError::Start(_)))
            || cause.downcast_ref().is_some_and(tasks::cannot_run)
            || matches!(record, Some(RecordError::Uprobe(error)) if !matches!(error, UprobeError::NoSuchProcess { .. }))
            || matches!(record, Some(RecordError::Usdt(error)) if !matches!(error, UsdtError::NoSuchProcess { .. }))
    };
    if error.chain().any(cannot_run) {
        return ExitCode::from(CANNOT_RUN_HERE);
    }
    ExitCode::FAILURE
}

/// Whether the reader of our output has gone, which is no error.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.into_iter().any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
