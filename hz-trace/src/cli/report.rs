//! `hz-trace report`, and the summary after a run.

use super::{holders, report_tasks, say, table::Table, target::duration};
use anyhow::{Context as _, Result};
use clap::Args;
use hz_trace::{
    analyze::{CpuUse, Distribution, Summary, Worst, summarize, summarize_tasks},
    recording::Recording,
    replay::{Range, Replay, replay},
    text,
};
use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

/// Columns of the screen that a summary should not exceed.
const COLUMNS: usize = 100;

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// The recording
    file: PathBuf,
    /// Print JSON: the same figures, with their units in the keys
    #[arg(long)]
    json: bool,
    /// List polls of tasks that took longer than this [default: 10ms]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    poll_over: Option<Duration>,
}

impl ReportArgs {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let (recording, replayed) = read(&self.file)?;
        let mut summary = summary(&recording, &replayed);
        if let Some(over) = self.poll_over {
            let over_ns = u64::try_from(over.as_nanos()).unwrap_or(u64::MAX);
            let mut tasks = summarize_tasks(&replayed.model, over_ns);
            tasks.iter_mut().for_each(|tasks| tasks.add_processes(&recording.state.runtimes));
            summary.tasks = tasks;
        }
        print_summary(&summary, self.json)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Reads a recording and prints its summary.
pub(crate) fn print(path: &Path, as_json: bool) -> Result<()> {
    let (recording, replayed) = read(path)?;
    print_summary(&summary(&recording, &replayed), as_json)
}

fn read(path: &Path) -> Result<(Recording, Replay)> {
    let recording = Recording::open(path)?;
    let replayed = replay(&recording, Range::default());
    warn_of_damage(path, &recording, &replayed);
    Ok((recording, replayed))
}

/// The summary of a recording that was replayed.
pub(crate) fn summary(recording: &Recording, replayed: &Replay) -> Summary {
    let mut summary = summarize(&recording.meta, &recording.state, &replayed.model);
    summary.own.file_bytes = recording.bytes;
    summary
}

/// Prints a summary to standard output.
pub(crate) fn print_summary(summary: &Summary, as_json: bool) -> Result<()> {
    let text = if as_json {
        let json = serde_json::to_string_pretty(summary).context("cannot write JSON")?;
        format!("{json}\n")
    } else {
        text::showable(&render(summary))
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

/// Says what of the file cannot be read.
pub(crate) fn warn_of_damage(path: &Path, recording: &Recording, replayed: &Replay) {
    let path = path.display();
    if !recording.is_complete {
        say(format_args!("{path} was not ended properly; it reads up to its last whole chunk"));
    }
    if recording.damaged_bytes > 0 {
        say(format_args!(
            "{path}: {} are in no whole chunk",
            text::plural(recording.damaged_bytes, "byte")
        ));
    }
    if replayed.damaged_chunks > 0 {
        say(format_args!("{path}: {} damaged", text::plural(replayed.damaged_chunks, "chunk")));
    }
    if replayed.model.undecoded > 0 {
        let count = text::plural(replayed.model.undecoded, "record");
        say(format_args!("{path}: {count} of a kind this hz does not know"));
    }
}

fn render(summary: &Summary) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = heading(&mut out, summary);
    let _ = section(&mut out, "CPUs", &cpus(summary));
    let _ = section(&mut out, "Processes by CPU time", &processes(summary));
    let _ = section(&mut out, "Threads by run-queue wait", &threads(summary));
    let _ = section(&mut out, "Worst waits for a CPU", &worst(summary));
    if let Some(tasks) = &summary.tasks {
        let _ = report_tasks::write(&mut out, tasks, summary.duration_ns);
    }
    let _ = footer(&mut out, summary);
    out
}

fn heading(out: &mut String, summary: &Summary) -> std::fmt::Result {
    let threads = text::plural(summary.threads as u64, "thread");
    let (cpus, switches) = if summary.has_switches {
        let cpus = text::plural(summary.cpus.len() as u64, "CPU");
        (format!("{cpus} · "), text::plural(summary.switches, "switch"))
    } else {
        (String::new(), "switches not recorded".to_owned())
    };
    writeln!(out, "{}", summary.target)?;
    writeln!(
        out,
        "{} · {cpus}{threads} · {switches} · Linux {} on {}",
        text::duration(summary.duration_ns),
        summary.kernel,
        summary.host,
    )?;
    if !summary.has_switches {
        return Ok(());
    }
    let wait = &summary.run_queue_wait;
    if wait.count == 0 {
        return writeln!(out, "No thread of the target waited for a CPU.");
    }
    writeln!(
        out,
        "Run-queue wait: p50 {}, p99 {}, max {}; {} in {}; {}",
        text::duration(wait.p50_ns),
        text::duration(wait.p99_ns),
        text::duration(wait.max_ns),
        text::duration(wait.total_ns),
        text::plural(wait.count, "wait"),
        text::plural(summary.migrations, "migration"),
    )
}

pub(in crate::cli) fn section(out: &mut String, title: &str, table: &Table) -> std::fmt::Result {
    if table.is_empty() {
        return Ok(());
    }
    write!(out, "\n{title}\n{}", table.render())
}

fn cpus(summary: &Summary) -> Table {
    let mut table = Table::new(&[
        ">CPU",
        ">BUSY",
        ">IDLE",
        ">NOT RECORDED",
        ">HARD IRQ",
        ">SOFT IRQ",
        ">STEAL",
    ]);
    for cpu in &summary.cpus {
        let share = |ns: u64| text::percent(100.0 * ns as f64 / summary.duration_ns.max(1) as f64);
        let CpuUse { busy_ns, idle_ns, not_recorded_ns, .. } = *cpu;
        let mut cells = vec![cpu.cpu.to_string()];
        cells.extend([busy_ns, idle_ns, not_recorded_ns].map(share));
        cells.extend([cpu.hard_interrupts_ns, cpu.soft_interrupts_ns, cpu.steal_ns].map(share));
        table.row(cells);
    }
    table
}

fn processes(summary: &Summary) -> Table {
    let mut table = Table::new(&["PROCESS", ">PID", ">THREADS", ">ON CPU", ">OF ONE CPU"]);
    for process in &summary.processes {
        let share = 100.0 * process.running_ns as f64 / summary.duration_ns.max(1) as f64;
        table.row(vec![
            process.name.clone(),
            process.pid.to_string(),
            process.threads.to_string(),
            text::duration(process.running_ns),
            text::percent(share),
        ]);
    }
    table
}

fn threads(summary: &Summary) -> Table {
    let columns = [
        "THREAD", ">TID", ">PID", ">ON CPU", ">WAITED", ">WAITS", ">P50", ">P99", ">MAX", ">MOVES",
    ];
    let mut table = Table::new(&columns);
    for thread in &summary.threads_by_wait {
        let Distribution { count, total_ns, p50_ns, p99_ns, max_ns } = thread.run_queue_wait;
        let mut cells = vec![thread.name.clone(), thread.tid.to_string(), thread.pid.to_string()];
        cells.extend([thread.running_ns, total_ns].map(text::duration));
        cells.push(text::count(count));
        cells.extend([p50_ns, p99_ns, max_ns].map(text::duration));
        cells.push(text::count(thread.migrations));
        table.row(cells);
    }
    table
}

fn worst(summary: &Summary) -> Table {
    let mut table =
        Table::new(&[">AT", ">WAITED", ">CPU", "THREAD", "WOKEN BY", "WHO HAD THE CPU"]);
    for wait in &summary.worst_waits {
        let unfinished = if wait.is_over { "" } else { "+" };
        table.row(vec![
            text::duration(wait.start_ns),
            format!("{}{unfinished}", text::duration(wait.duration_ns)),
            wait.cpu.to_string(),
            format!("{} ({})", wait.name, wait.tid),
            woken_by(wait),
        ]);
    }
    let room = COLUMNS.saturating_sub(table.width(5) + 2);
    for (row, wait) in summary.worst_waits.iter().enumerate() {
        table.extend(row + 1, holders::words(wait, room));
    }
    table
}

fn woken_by(wait: &Worst) -> String {
    match wait.waker.as_deref() {
        Some("a hardware interrupt") => "hard irq".to_owned(),
        Some("a software interrupt") => "soft irq".to_owned(),
        Some(thread) => thread.to_owned(),
        None if wait.after == "preempted" => "(preempted)".to_owned(),
        None => "?".to_owned(),
    }
}

fn footer(out: &mut String, summary: &Summary) -> std::fmt::Result {
    writeln!(out)?;
    let check = &summary.check;
    if check.threads > 0 {
        writeln!(
            out,
            "Check: {} switches recorded, {} by the kernel's count; {} of {} differ by more than 1",
            text::count(check.counts.recorded_switches),
            text::count(check.counts.kernel_switches),
            check.threads_off,
            text::plural(check.threads as u64, "thread"),
        )?;
    }
    if let Some(tasks) = &summary.tasks {
        report_tasks::foot(out, tasks)?;
    }
    for reason in &summary.not_collected {
        writeln!(out, "Not collected: {reason}")?;
    }
    for note in &summary.notes {
        writeln!(out, "{note}")?;
    }
    for row in &summary.lost_by_site {
        writeln!(out, "Lost: {} at {} ({})", text::count(row.lost), row.site, row.reason)?;
    }
    if summary.contradictions > 0 {
        writeln!(
            out,
            "Contradictions: {} records do not fit the ones before: records are missing, or this host\n\
             hides a process from tracing",
            text::count(summary.contradictions)
        )?;
    }
    let own = &summary.own;
    writeln!(
        out,
        "Lost: {}\nhz itself: {} of a CPU, BPF {}, {} of memory, {} of recording for {} records",
        text::plural(summary.lost, "record"),
        text::percent(own.cpu_pct),
        own.bpf_pct.map_or_else(
            || "not measured".to_owned(),
            |share| format!("about {}", text::percent(share))
        ),
        text::bytes(own.memory_peak_bytes),
        text::bytes(own.file_bytes),
        text::count(summary.records),
    )
}
