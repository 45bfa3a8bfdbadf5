//! `hz-trace tasks`.

mod render;
mod stacks;

use super::{
    say,
    target::{duration, pid},
};
use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use hz_trace::{
    analyze::{Group, Growing, Growth, LiveTask, Names, groups, parked_groups},
    source::{AttachError, RuntimeMemory, runtimes},
    symbol::Futures,
    text,
};
use serde::Serialize;
use stacks::{Program, StackGroup};
use std::{
    fs,
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

const EXAMPLES: &str = "\
Examples:
  hz-trace tasks                     the tasks of the only program here that shows any
  hz-trace tasks -p 4711             those of a process
  hz-trace tasks -p 4711 --sort poll first those that were not polled for longest
  hz-trace tasks -p 4711 --watch     look each second, and say which group grows
  hz-trace tasks -p 4711 --stacks    at which .await every task is suspended
  hz-trace tasks -p 4711 --json      everything, for other programs

It reads the task directory of hz-runtime, and of any runtime that emits its probes. It needs no BPF,
only to be the process's user or root, and costs the process nothing. --stacks reads its memory too,
and needs the types in its debug info: build it with `debug = \"full\"` in its profile.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TasksArgs {
    /// The process [default: the only one that shows tasks]
    #[arg(short, long, value_name = "PID", value_parser = pid)]
    pid: Option<u32>,
    /// Print JSON; with --watch one object a line
    #[arg(long)]
    json: bool,
    /// Look again and again, and say which group of tasks grows
    #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = pause)]
    watch: Option<Duration>,
    /// Stop watching after so many looks [default: at Ctrl-C]
    #[arg(long, value_name = "LOOKS", requires = "watch", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Say at which .await every task is suspended, from the program's debug info
    #[arg(long)]
    stacks: bool,
    /// Look for separate debug files here too; may be given several times
    #[arg(long, value_name = "DIRECTORY", requires = "stacks")]
    debug_dir: Vec<PathBuf>,
    /// What comes first
    #[arg(long, value_enum, default_value_t)]
    sort: Sort,
    /// Only tasks whose name or place of spawn contains this
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Tasks to list, beside the groups; 0: all
    #[arg(long, value_name = "TASKS", default_value_t = 40)]
    limit: usize,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Sort {
    /// The oldest
    #[default]
    Age,
    /// Those that were not polled for longest
    Poll,
    /// Those that were polled most often
    Polls,
    /// By their number
    Id,
    /// By their name
    Name,
}

/// How long to wait between two looks: not so short that it does nothing else.
fn pause(text: &str) -> Result<Duration, String> {
    let pause = duration(text)?;
    if pause < Duration::from_millis(10) {
        return Err("looking takes time too; 10ms at least".to_owned());
    }
    Ok(pause)
}

/// What is needed to say where tasks are suspended.
type Looking<'a> = (&'a Program, Futures<'a>);

/// What one look gave.
#[derive(Debug, Serialize)]
struct Look {
    pid: u32,
    comm: String,
    workers: u32,
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    time_ns: u64,
    groups: Vec<Group>,
    /// Groups by where they are parked too.
    parked: Vec<Group>,
    /// Tasks that are suspended in the same way.
    #[serde(skip_serializing_if = "Option::is_none")]
    stacks: Option<Vec<StackGroup>>,
    /// Groups that grew since the first look.
    #[serde(skip_serializing_if = "Option::is_none")]
    growing: Option<Vec<Growing>>,
    tasks: Vec<LiveTask>,
    /// Tasks that had no room in the directory since the process began.
    overflow: u64,
    /// Slots of the directory that could not be read.
    unreadable: u64,
}

/// How long a process may take to set up what it shares: it fills some megabytes.
const PATIENCE: Duration = Duration::from_secs(2);

impl TasksArgs {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let mut memory = match self.pid {
            Some(pid) => RuntimeMemory::open_when_ready(pid, PATIENCE)?,
            None => match self.choose()? {
                Some(memory) => memory,
                None => return Ok(ExitCode::SUCCESS),
            },
        };
        let program =
            self.stacks.then(|| Program::open(memory.pid(), &self.debug_dir)).transpose()?;
        let mut looking = program.as_ref().map(|program| (program, program.futures()));
        match self.watch {
            Some(pause) => self.watch(memory, looking, pause),
            None => self.print(&self.look(&mut memory, &mut looking)?, None),
        }?;
        Ok(ExitCode::SUCCESS)
    }

    /// The only process that shows tasks; else those that there are, listed.
    fn choose(&self) -> Result<Option<RuntimeMemory>> {
        let (mut found, hidden) = runtimes();
        if found.len() > 1 {
            io::stdout().write_all(text::showable(&render::processes(&mut found)).as_bytes())?;
            return Ok(None);
        }
        let Some(memory) = found.pop() else {
            let hidden = if hidden > 0 {
                let count = text::plural(hidden, "process");
                format!("; {count} could not be looked at: be root, or grant CAP_SYS_PTRACE")
            } else {
                String::new()
            };
            bail!(
                "no process here shows tasks: none runs on hz-runtime or emits its probes{hidden}"
            );
        };
        let pid = memory.pid();
        say(format_args!("{} (pid {pid}) is the only process that shows tasks", comm(pid)));
        Ok(Some(memory))
    }

    fn look(&self, memory: &mut RuntimeMemory, looking: &mut Option<Looking<'_>>) -> Result<Look> {
        let places = looking
            .as_mut()
            .map(|(program, futures)| stacks::places(memory, program, futures))
            .transpose()?;
        let found = memory.tasks();
        let now_ns = memory.now_ns();
        let names =
            Names::of(&found.entries, |number| memory.text(number), |number| memory.site(number));
        let tasks = found.entries.iter().map(|entry| LiveTask::new(entry, &names, now_ns));
        let mut tasks: Vec<LiveTask> = tasks.filter(|task| self.is_wanted(task)).collect();
        self.sort(&mut tasks);
        if let Some(places) = &places {
            let parked = |task: &LiveTask| stacks::innermost(places.get(&task.task)?);
            tasks.iter_mut().for_each(|task| task.parked_at = parked(task));
        }
        Ok(Look {
            pid: memory.pid(),
            comm: comm(memory.pid()),
            workers: memory.workers(),
            time_ns: now_ns,
            groups: groups(&tasks),
            parked: parked_groups(&tasks),
            stacks: places.map(|places| stacks::grouped(&tasks, &places)),
            growing: None,
            tasks,
            overflow: memory.overflow(),
            unreadable: found.unreadable,
        })
    }

    fn is_wanted(&self, task: &LiveTask) -> bool {
        self.name.as_deref().is_none_or(|wanted| {
            task.name.as_deref().is_some_and(|name| name.contains(wanted))
                || task.spawned_at.contains(wanted)
        })
    }

    fn sort(&self, tasks: &mut [LiveTask]) {
        tasks.sort_by_key(|task| task.task);
        match self.sort {
            Sort::Age => tasks.sort_by_key(|task| std::cmp::Reverse(task.age_ns)),
            Sort::Poll => tasks.sort_by_key(|task| {
                std::cmp::Reverse(task.last_poll_ago_ns.unwrap_or(task.age_ns))
            }),
            Sort::Polls => tasks.sort_by_key(|task| std::cmp::Reverse(task.polls)),
            Sort::Id => {}
            Sort::Name => tasks.sort_by(|a, b| a.name.cmp(&b.name)),
        }
    }

    fn watch(
        &self,
        mut memory: RuntimeMemory,
        mut looking: Option<Looking<'_>>,
        pause: Duration,
    ) -> Result<()> {
        let mut growth = Growth::default();
        let mut looks = 0;
        loop {
            let mut look = self.look(&mut memory, &mut looking)?;
            let groups: Vec<Group> = look.groups.iter().chain(&look.parked).cloned().collect();
            growth.add(look.time_ns, &groups);
            look.growing = Some(growth.growing());
            self.print(&look, Some(&growth))?;
            looks += 1;
            if self.count.is_some_and(|count| looks >= count) {
                return Ok(());
            }
            std::thread::sleep(pause);
            if !memory.is_there() {
                say(format_args!("process {} has ended, or is another program now", memory.pid()));
                return Ok(());
            }
        }
    }

    fn print(&self, look: &Look, growth: Option<&Growth>) -> Result<()> {
        let mut out = io::stdout().lock();
        match (self.json, growth) {
            (true, Some(_)) => writeln!(out, "{}", serde_json::to_string(look)?)?,
            (true, None) => writeln!(out, "{}", serde_json::to_string_pretty(look)?)?,
            (false, Some(_)) if out.is_terminal() => {
                let page = text::showable(&render::page(look, growth, self.limit));
                write!(out, "\x1b[H\x1b[2J{page}")?;
            }
            (false, _) => {
                let page = text::showable(&render::page(look, growth, self.limit));
                write!(out, "{page}{}", if growth.is_some() { "\n" } else { "" })?;
            }
        }
        out.flush()?;
        Ok(())
    }
}

/// A process's name.
fn comm(pid: u32) -> String {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    comm.trim_end().to_owned()
}

/// Whether the process may not be read, rather than not be there.
pub(super) const fn cannot_run(error: &AttachError) -> bool {
    matches!(error, AttachError::NotPermitted { .. } | AttachError::Version { .. })
}
