//! `hz-trace flame`.

use super::{
    UsageError, flame_text,
    output::{self, PartialFile},
    record, report, say,
    target::{TargetArgs, duration},
};
use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use hz_trace::{
    analyze::{
        Diff, Flame, FlameKind, FlameQuery, GroupBy, LockUse, Tops, diff, flame, locks,
        read_folded, tops, write_folded,
    },
    export::{Caption, amount, draw_diff, draw_flame},
    recording::Recording,
    replay::{Range, Replay, replay},
    symbol::SymbolTable,
    text,
};
use std::{
    fs,
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

const EXAMPLES: &str = "\
Examples:
  hz-trace flame -p 4711 -d 10 --output flame.svg   10 s of CPU time, rooted in the async tasks that took it
  hz-trace flame -p 4711 -d 10 --kind off-cpu       what it waited for, and who ended that
  hz-trace flame -p 4711 -d 10 --alloc              what it allocates, whatever its allocator
  hz-trace flame app.hzt --kind live                of a recording: memory that was not freed
  hz-trace flame app.hzt --from 2.1s --to 2.4s --task checkout
                                                    a part of it: one task, for 300 ms
  hz-trace flame after.hzt --against before.hzt     what changed; both scaled to the same size
  hz-trace flame app.hzt --to 5s --against app.hzt --against-from 5s
                                                    the same of two parts of one recording
  hz-trace flame app.hzt --folded                   stacks as text, for other tools
  perf script | inferno-collapse-perf > perf.folded; hz-trace flame perf.folded

A list of what took most goes to standard output, the picture to a file.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct FlameArgs {
    /// The recording, or folded stacks; without it, a target is recorded
    file: Option<PathBuf>,
    /// What of [default: on-cpu; with --alloc: alloc]
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// What the stacks stand on
    #[arg(long, value_enum, default_value_t)]
    group_by: Group,
    /// Begin this long after the recording did, e.g. 2.1s
    #[arg(long, value_name = "TIME", value_parser = duration)]
    from: Option<Duration>,
    /// End this long after the recording began
    #[arg(long, value_name = "TIME", value_parser = duration)]
    to: Option<Duration>,
    /// Only tasks with this in their name
    #[arg(long, value_name = "NAME")]
    task: Option<String>,
    /// Show what changed since this recording, or these folded stacks
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Begin this long after that recording did
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "against")]
    against_from: Option<Duration>,
    /// End this long after that recording began
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "against")]
    against_to: Option<Duration>,
    /// Where to write the picture [default: flame.svg, or none with --folded or --json]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print folded stacks
    #[arg(long, conflicts_with = "json")]
    folded: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Lines of each list
    #[arg(long, value_name = "LINES", default_value_t = 15)]
    limit: usize,
    /// Keep the recording
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    keep: Option<PathBuf>,
    /// Say nothing but errors, and print no list
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Kind {
    /// Time on a CPU
    #[default]
    OnCpu,
    /// Time off a CPU, by the stack that left it
    OffCpu,
    /// Time waited for a CPU
    RunQueue,
    /// Time slept, by the stack that ended it
    Wakeups,
    /// Bytes allocated
    Alloc,
    /// Bytes allocated and not freed
    Live,
}

impl From<Kind> for FlameKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::OnCpu => Self::OnCpu,
            Kind::OffCpu => Self::OffCpu,
            Kind::RunQueue => Self::RunQueue,
            Kind::Wakeups => Self::Wakeups,
            Kind::Alloc => Self::Alloc,
            Kind::Live => Self::Live,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Group {
    /// The async task that was polled, else the thread
    #[default]
    Task,
    /// The thread
    Thread,
    /// The process
    Process,
    /// The CPU
    Cpu,
    /// Nothing
    None,
}

impl From<Group> for GroupBy {
    fn from(group: Group) -> Self {
        match group {
            Group::Task => Self::Task,
            Group::Thread => Self::Thread,
            Group::Process => Self::Process,
            Group::Cpu => Self::Cpu,
            Group::None => Self::None,
        }
    }
}

/// A flame graph and what is said beside it.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) flame: Flame,
    pub(super) tops: Tops,
    pub(super) locks: Vec<LockUse>,
    pub(super) caption: Caption,
    pub(super) length_ns: u64,
}

impl FlameArgs {
    pub(crate) fn run(mut self) -> Result<ExitCode> {
        self.check()?;
        let output = self
            .output
            .clone()
            .or_else(|| (!self.folded && !self.json).then(|| PathBuf::from("flame.svg")));
        if let Some(path) = &output {
            // Better to learn now than after ten minutes that nothing can be written there.
            PartialFile::create(path, output::SHARED)?;
        }
        let shown = match self.file.clone() {
            Some(file) => self.read(&file, (self.from, self.to))?,
            None => self.record(output.as_deref())?,
        };
        let change = match &self.against {
            Some(file) => {
                let before = self.read(file, (self.against_from, self.against_to))?;
                Some(diff(&before.flame, &shown.flame))
            }
            None => None,
        };
        if let Some(path) = &output {
            write(path, &shown, change.as_ref())?;
        }
        self.print(&shown, change.as_ref())?;
        if let Some(path) = output.filter(|_| !self.quiet) {
            say(format_args!("wrote {}", path.display()));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn check(&self) -> Result<(), UsageError> {
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from >= to
        {
            return Err(UsageError("nothing to show: --from is not before --to".to_owned()));
        }
        Ok(())
    }

    fn kind(&self) -> FlameKind {
        let usual = if self.target.has_alloc() { Kind::Alloc } else { Kind::OnCpu };
        self.kind.unwrap_or(usual).into()
    }

    /// Records the target, and shows that.
    fn record(&mut self, output: Option<&Path>) -> Result<Shown> {
        let kind = self.kind();
        let mut settings = std::mem::take(&mut self.target).settings();
        // Memory is told by a runtime that can, else by probes that are asked for.
        settings.probes = settings.probes.with(kind.probes()[0])?;
        self.kind = Some(self.kind.unwrap_or(match kind {
            FlameKind::Alloc => Kind::Alloc,
            _ => Kind::OnCpu,
        }));
        let beside = || {
            let mut name = output.unwrap_or(Path::new("flame")).as_os_str().to_owned();
            name.push(".hzt");
            PathBuf::from(name)
        };
        let path = self.keep.clone().unwrap_or_else(beside);
        let (recorded, outcome) = record::record(&settings, &path, self.quiet)?;
        let shown = self.read(recorded.partial(), (self.from, self.to));
        let saved = recorded.partial().display().to_string();
        let shown = shown.with_context(|| format!("the recording is kept in {saved}"))?;
        match self.keep {
            Some(_) => recorded.commit().map(|_| ())?,
            None => recorded.discard(),
        }
        if !self.quiet {
            record::say_end(&outcome);
        }
        Ok(shown)
    }

    fn read(&self, file: &Path, range: (Option<Duration>, Option<Duration>)) -> Result<Shown> {
        if let Some(flame) = folded(file)? {
            let caption = Caption {
                title: file.display().to_string(),
                subtitle: amount(flame.unit, flame.total),
                ..Caption::default()
            };
            let tops = function_tops(&flame);
            return Ok(Shown { flame, tops, locks: Vec::new(), caption, length_ns: 0 });
        }
        let recording = Recording::open(file)?;
        let to_ns = range.1.map(nanoseconds);
        let replayed = replay(&recording, Range { from_ns: None, to_ns });
        report::warn_of_damage(file, &recording, &replayed);
        self.fold(&recording, &replayed, range)
    }

    fn fold(
        &self,
        recording: &Recording,
        replayed: &Replay,
        range: (Option<Duration>, Option<Duration>),
    ) -> Result<Shown> {
        let model = &replayed.model;
        let since = |time: Duration| model.start_ns.saturating_add(nanoseconds(time));
        let query = FlameQuery {
            group_by: self.group_by.into(),
            from_ns: range.0.map_or(model.start_ns, since),
            to_ns: range.1.map_or(model.end_ns.saturating_add(1), since),
            task: self.task.clone(),
            ..FlameQuery::new(self.kind())
        };
        let symbols: SymbolTable = recording.symbols();
        let flame = flame(model, &symbols, &query);
        if flame.stacks.is_empty() {
            bail!("{}", nothing(&query, recording, replayed));
        }
        let tops = tops(model, &symbols, &query, &flame);
        let locks = match query.kind {
            FlameKind::OffCpu => locks(model, &symbols, &query),
            _ => Vec::new(),
        };
        let caption = flame_text::caption(recording, replayed, &query, &flame);
        let length_ns = query.to_ns.min(model.end_ns).saturating_sub(query.from_ns);
        Ok(Shown { flame, tops, locks, caption, length_ns })
    }

    fn print(&self, shown: &Shown, change: Option<&Diff>) -> Result<()> {
        let mut out = BufWriter::new(io::stdout().lock());
        if self.folded {
            write_folded(&shown.flame, &mut out)?;
        } else if self.json {
            let json = flame_text::json(shown, change, self.limit);
            writeln!(out, "{}", serde_json::to_string_pretty(&json)?)?;
        } else if !self.quiet {
            let page = flame_text::page(shown, change, self.limit);
            out.write_all(text::showable(&page).as_bytes())?;
        }
        out.flush()?;
        Ok(())
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The file as folded stacks, if it is no recording.
fn folded(file: &Path) -> Result<Option<Flame>> {
    let cannot = || format!("cannot read {}", file.display());
    let mut magic = [0; 8];
    let mut opened = fs::File::open(file).with_context(cannot)?;
    let is_recording =
        io::Read::read_exact(&mut opened, &mut magic).is_ok() && magic == *b"hz-trace";
    if is_recording {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&fs::read(file).with_context(cannot)?).into_owned();
    let (flame, wrong) = read_folded(&text);
    if flame.stacks.is_empty() {
        bail!("{} is neither a recording of hz nor folded stacks", file.display());
    }
    if wrong > 0 {
        say(format_args!("{}: {} no folded stack", file.display(), text::plural(wrong, "line")));
    }
    Ok(Some(flame))
}

fn function_tops(flame: &Flame) -> Tops {
    let query = FlameQuery::new(flame.kind);
    tops(&hz_trace::model::Model::default(), &SymbolTable::default(), &query, flame)
}

/// Why there is nothing, and what to do.
fn nothing(query: &FlameQuery, recording: &Recording, replayed: &Replay) -> String {
    let (title, is_memory) = (query.kind.title(), query.kind.is_memory());
    let probe = query.kind.probes()[0];
    let has = |probe: &str| recording.meta.probes.iter().any(|name| has_probe(name, probe));
    if !is_memory && !has(probe) {
        return format!(
            "no {title}: the recording has no records of {probe}; record with --probes sched,runtime,{probe}"
        );
    }
    if is_memory && replayed.model.stacks.allocations.is_empty() {
        let why = if has("alloc") {
            "nothing was sampled; --alloc-sample takes more samples".to_owned()
        } else {
            "the program's allocator does not tell (hz-runtime's does, by HZ_ALLOC_SAMPLE_BYTES); \
             record with --alloc"
                .to_owned()
        };
        let missing = recording.state.not_collected(&recording.meta);
        let missing = missing.into_iter().map(|missing| format!("; not collected: {missing}"));
        return format!("no {title}: {why}{}", missing.collect::<String>());
    }
    match &query.task {
        Some(task) => format!("no {title} of a task with `{task}` in its name, in this range"),
        None => format!("no {title} in this range"),
    }
}

/// Whether what a recording says of its probes, such as `oncpu (cpu-clock, 99 Hz), alloc (uprobe)`, names
/// one.
fn has_probe(names: &str, probe: &str) -> bool {
    names.split(", ").any(|name| name.split(' ').next() == Some(probe))
}

fn write(path: &Path, shown: &Shown, change: Option<&Diff>) -> Result<()> {
    let (partial, file) = PartialFile::create(path, output::SHARED)?;
    let mut out = BufWriter::new(file);
    match change {
        Some(change) => draw_diff(change, shown.flame.unit, &shown.caption, &mut out),
        None => draw_flame(&shown.flame, &shown.caption, &mut out),
    }
    .and_then(|()| out.flush())
    .with_context(|| format!("cannot write {}", path.display()))?;
    partial.commit().map(|_| ())
}
