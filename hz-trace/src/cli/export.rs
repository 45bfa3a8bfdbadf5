//! `hz-trace export`.

use super::{
    UsageError,
    output::{self, PartialFile},
    report, say,
    target::duration,
};
use anyhow::{Context as _, Result};
use clap::{Args, builder::PossibleValuesParser};
use hz_trace::{
    export::{About, EXPORTERS, Exporter, FlameLink, Subject},
    model::Thread,
    recording::{Meta, Recording, Target},
    replay::{Range, Replay, replay},
    text,
};
use std::{
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The recording
    file: PathBuf,
    #[command(flatten)]
    formats: FormatArgs,
    /// Begin this long after the recording did, e.g. 2.1s
    #[arg(long, value_name = "TIME", value_parser = duration)]
    from: Option<Duration>,
    /// End this long after the recording began
    #[arg(long, value_name = "TIME", value_parser = duration)]
    to: Option<Duration>,
}

/// Formats and where they go.
#[derive(Debug, Args)]
pub(crate) struct FormatArgs {
    /// Formats, separated by commas: svg is a timeline; charts has round trips, windows and queues of
    /// connections over time (with --probes net); flame and off-cpu are flame graphs of the time on and
    /// off a CPU, to which a timeline made with them leads from its spans
    #[arg(long, value_name = "FORMAT", value_delimiter = ',', default_value = "svg", value_parser = formats())]
    export: Vec<String>,
    /// Where to write; with several formats, FILE.FORMAT each [default: timeline.svg]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

fn formats() -> PossibleValuesParser {
    PossibleValuesParser::new(EXPORTERS.iter().map(|exporter| exporter.name()))
}

impl FormatArgs {
    /// Every format's exporter and file.
    pub(crate) fn outputs(&self) -> Vec<(&'static dyn Exporter, PathBuf)> {
        let chosen =
            EXPORTERS.iter().filter(|each| self.export.iter().any(|name| name == each.name()));
        let chosen: Vec<&'static dyn Exporter> = chosen.copied().collect();
        let is_single = chosen.len() == 1;
        let path = |exporter: &dyn Exporter| match &self.output {
            Some(path) if is_single => path.clone(),
            Some(stem) => with_format(stem, exporter.extension()),
            None => with_format(Path::new("timeline"), exporter.extension()),
        };
        chosen.into_iter().map(|exporter| (exporter, path(exporter))).collect()
    }
}

/// `timeline.flame.svg` of `timeline` and of `timeline.svg`.
fn with_format(stem: &Path, format: &str) -> PathBuf {
    let is_picture = stem.extension().is_some_and(|extension| extension == "svg");
    let stem = if is_picture { stem.with_extension("") } else { stem.to_owned() };
    let mut name = stem.into_os_string();
    name.push(".");
    name.push(format);
    PathBuf::from(name)
}

impl ExportArgs {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let recording = Recording::open(&self.file)?;
        let range = Range { from_ns: self.from.map(nanoseconds), to_ns: self.to.map(nanoseconds) };
        check(range)?;
        let replayed = replay(&recording, range);
        report::warn_of_damage(&self.file, &recording, &replayed);
        check_within(range, &replayed)?;
        let outputs = self.formats.outputs();
        let written = write_all(&outputs, &recording, &replayed, range)?;
        for path in &written {
            say(format_args!("wrote {}", path.display()));
        }
        let is_whole = written.len() == outputs.len();
        Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn check(range: Range) -> Result<(), UsageError> {
    let (from_ns, to_ns) = (range.from_ns.unwrap_or(0), range.to_ns.unwrap_or(u64::MAX));
    if from_ns < to_ns {
        return Ok(());
    }
    let (from, to) = (text::duration(from_ns), text::duration(to_ns));
    Err(UsageError(format!("nothing to export: --from {from} is not before --to {to}")))
}

fn check_within(range: Range, replayed: &Replay) -> Result<(), UsageError> {
    let from_ns = range.from_ns.unwrap_or(0);
    let duration_ns = replayed.model.end_ns.saturating_sub(replayed.model.start_ns);
    if from_ns < duration_ns.max(1) {
        return Ok(());
    }
    let (from, length) = (text::duration(from_ns), text::duration(duration_ns));
    Err(UsageError(format!("--from {from} is after the end: the recording is {length} long")))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Writes every format, each under a temporary name until it is whole, and returns those for which there was
/// something to write; says why there was not.
pub(crate) fn write_all(
    outputs: &[(&'static dyn Exporter, PathBuf)],
    recording: &Recording,
    replayed: &Replay,
    range: Range,
) -> Result<Vec<PathBuf>> {
    let mut about = about(recording, replayed);
    let mut there = Vec::new();
    for (exporter, path) in outputs {
        match exporter.missing(&part(replayed, &about, range)) {
            Some(why) => say(format_args!("no {}: {why}", path.display())),
            None => there.push((*exporter, path)),
        }
    }
    let flames = there.iter().filter_map(|(exporter, path)| Some((exporter.flame()?, path)));
    let flames: Vec<_> = flames.map(|(kind, path)| FlameLink::to_file(kind, path)).collect();
    let symbols = (!flames.is_empty()).then(|| recording.symbols());
    about.flames = flames;
    let mut subject = part(replayed, &about, range);
    subject.symbols = symbols.as_ref();
    for (exporter, path) in &there {
        write(*exporter, path, &subject)?;
    }
    Ok(there.into_iter().map(|(_, path)| path.clone()).collect())
}

fn part<'a>(replayed: &'a Replay, about: &'a About, range: Range) -> Subject<'a> {
    let subject = Subject::new(&replayed.model, about);
    subject.part(range.from_ns.unwrap_or(0), range.to_ns.unwrap_or(u64::MAX))
}

fn write(exporter: &dyn Exporter, path: &Path, subject: &Subject<'_>) -> Result<()> {
    let (partial, file) = PartialFile::create(path, output::SHARED)?;
    let mut out = BufWriter::new(file);
    exporter
        .export(subject, &mut out)
        .and_then(|()| out.flush())
        .with_context(|| format!("cannot write {}", path.display()))?;
    partial.commit().map(|_| ())
}

/// What a reader should know of a recording beside what happened.
pub(super) fn about(recording: &Recording, replayed: &Replay) -> About {
    let Recording { meta, state, .. } = recording;
    let recorded_ns = recording.end_ns().saturating_sub(meta.start_ns);
    // A recorder that was killed at once has told no cost.
    let own = (state.time_ns > 0).then_some(state.own);
    About {
        recorded_ns,
        title: title(meta, replayed),
        target: meta.target.to_string(),
        host: meta.host.clone(),
        kernel: meta.kernel.clone(),
        probes: meta.probe_names(),
        lost: state.lost(),
        not_collected: state.not_collected(meta),
        flames: Vec::new(),
        own_cpu_pct: own.map(|own| 100.0 * own.cpu_ns as f64 / recorded_ns.max(1) as f64),
        own_memory_bytes: own.map(|own| own.memory_peak_bytes),
    }
}

/// The target's name: its process's, or the host's.
fn title(meta: &Meta, replayed: &Replay) -> String {
    let pid = match &meta.target {
        Target::Processes { pids, .. } => pids.first().copied(),
        Target::Command { pid, .. } => Some(*pid),
        Target::WholeSystem | Target::Cgroup { .. } => None,
    };
    let threads = &replayed.model.threads;
    let named = pid.and_then(|pid| threads.iter().find(|thread| thread.tid == pid));
    named.map_or_else(|| meta.host.clone(), Thread::name)
}
