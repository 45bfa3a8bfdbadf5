//! What a summary says of tasks.

use super::{report::section, report_program, table::Table};
use hz_trace::{
    analyze::{Distribution, KernelTime, TaskSummary, TaskUse, WorkerUse},
    text::{count, duration, percent, plural, share},
};
use std::fmt::{Result, Write as _};

/// CPUs that the placement has columns for; of more, only those that tasks ran on for longest.
const CPUS: usize = 8;

/// Pairs of workers that the table of steals has rows for.
const STEALS: usize = 10;

/// Writes the sections of tasks.
pub(super) fn write(out: &mut String, tasks: &TaskSummary, duration_ns: u64) -> Result {
    overview(out, tasks)?;
    section(out, "Tasks by name", &by_name(tasks))?;
    section(out, "Tasks by time in polls", &uses(&tasks.by_poll_time))?;
    section(out, "Tasks by wait from being woken to being polled", &uses(&tasks.by_ready_wait))?;
    section(out, "Tasks by longest poll", &uses(&tasks.by_longest_poll))?;
    slow_polls(out, tasks)?;
    section(out, "Where tasks were polled, as shares of their time on a CPU", &placement(tasks))?;
    section(out, "Workers", &workers(tasks, duration_ns))?;
    section(out, "Tasks taken from other workers", &steals(tasks))?;
    report_program::write(out, tasks)
}

fn overview(out: &mut String, tasks: &TaskSummary) -> Result {
    writeln!(out, "\nTasks")?;
    for runtime in &tasks.runtimes {
        writeln!(
            out,
            "  {} ({}): {} on {}",
            runtime.name,
            runtime.pid,
            plural(runtime.tasks as u64, "task"),
            plural(runtime.workers as u64, "worker"),
        )?;
    }
    times(out, "Polls", &tasks.polls)?;
    if tasks.polls.count > 0 {
        writeln!(out, "  In polls: {}", kernel_words(&tasks.in_polls))?;
    }
    times(out, "From woken to polled", &tasks.ready_wait)?;
    times(out, "Timers fired late by", &tasks.timer_lateness)?;
    times(out, "Blocking pool, queued", &tasks.blocking_queue_wait)?;
    times(out, "Blocking pool, calls", &tasks.blocking_call)
}

pub(super) fn times(out: &mut String, what: &str, times: &Distribution) -> Result {
    let Distribution { count: number, total_ns, p50_ns, p99_ns, max_ns } = *times;
    if number == 0 {
        return Ok(());
    }
    let [p50, p99, max, total] = [p50_ns, p99_ns, max_ns, total_ns].map(duration);
    writeln!(out, "  {what}: p50 {p50}, p99 {p99}, max {max}; {total} in {}", count(number))
}

fn kernel_words(time: &KernelTime) -> String {
    let of = |ns| share(ns, time.total_ns());
    let mut words = format!(
        "{} on a CPU, {} waiting for one, {} blocked",
        of(time.on_cpu_ns),
        of(time.waiting_ns),
        of(time.blocked_ns()),
    );
    if time.not_recorded_ns > 0 {
        let _ = write!(words, ", {} not recorded", of(time.not_recorded_ns));
    }
    words
}

/// On a CPU, waiting for one, blocked.
fn kernel_cells(time: &KernelTime) -> [String; 4] {
    [time.total_ns(), time.on_cpu_ns, time.waiting_ns, time.blocked_ns()].map(duration)
}

fn by_name(tasks: &TaskSummary) -> Table {
    let mut table = Table::new(&[
        "NAME", ">TASKS", ">POLLS", ">POLLED", ">ON CPU", ">WAITED", ">BLOCKED", ">LONGEST",
        ">READY", ">MOVES",
    ]);
    for group in &tasks.by_name {
        let mut cells = vec![cut(&group.name), count(group.tasks), count(group.polls)];
        cells.extend(kernel_cells(&group.in_polls));
        cells.extend([group.longest_poll_ns, group.ready_wait_ns].map(duration));
        cells.push(count(group.migrations));
        table.row(cells);
    }
    table
}

fn uses(uses: &[TaskUse]) -> Table {
    let mut table = Table::new(&[
        "TASK", ">ID", ">POLLS", ">POLLED", ">ON CPU", ">WAITED", ">BLOCKED", ">LONGEST", ">READY",
        ">WORST",
    ]);
    for task in uses {
        let mut cells = vec![cut(&task.name), task.task.to_string(), count(task.polls)];
        cells.extend(kernel_cells(&task.in_polls));
        let waits = [task.longest_poll_ns, task.ready_wait_ns, task.longest_ready_wait_ns];
        cells.extend(waits.map(duration));
        table.row(cells);
    }
    table
}

/// A name as long as a column has room for.
pub(super) fn cut(name: &str) -> String {
    const ROOM: usize = 20;
    if name.chars().count() <= ROOM {
        return name.to_owned();
    }
    name.chars().take(ROOM - 1).chain(['…']).collect()
}

fn slow_polls(out: &mut String, tasks: &TaskSummary) -> Result {
    if tasks.polls_over == 0 {
        return Ok(());
    }
    let limit = duration(tasks.poll_over_ns);
    writeln!(out, "\nPolls over {limit}: {}", count(tasks.polls_over))?;
    for poll in &tasks.slow_polls {
        let line = format!("at {}: {}", duration(poll.start_ns), poll.sentence);
        for (number, line) in wrap(&line).iter().enumerate() {
            writeln!(out, "{}{line}", if number == 0 { "  " } else { "    " })?;
        }
    }
    Ok(())
}

/// Lines that fit the screen, broken between words, but for a number and its unit.
pub(super) fn wrap(text: &str) -> Vec<String> {
    const COLUMNS: usize = 94;
    let mut lines = vec![String::new()];
    for word in words(text) {
        let Some(line) = lines.last_mut() else { break };
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > COLUMNS {
            lines.push(word);
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&word);
    }
    lines
}

fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let is_unit = |last: &String| {
            last.ends_with(|each: char| each.is_ascii_digit())
                && matches!(word.trim_end_matches([',', ':']), "s" | "ms" | "µs" | "ns")
        };
        match words.last_mut().filter(|last| is_unit(last)) {
            Some(number) => {
                number.push(' ');
                number.push_str(word);
            }
            None => words.push(word.to_owned()),
        }
    }
    words
}

fn placement(tasks: &TaskSummary) -> Table {
    let mut cpus: Vec<u16> =
        tasks.placement.iter().flat_map(|row| row.on_cpu_ns.keys().copied()).collect();
    cpus.sort_unstable();
    cpus.dedup();
    let used = |cpu: &u16| -> u64 {
        tasks.placement.iter().filter_map(|row| row.on_cpu_ns.get(cpu)).sum()
    };
    cpus.sort_by_key(|cpu| (std::cmp::Reverse(used(cpu)), *cpu));
    cpus.truncate(CPUS);
    cpus.sort_unstable();
    let names: Vec<String> = cpus.iter().map(|cpu| format!(">CPU {cpu}")).collect();
    let mut columns = vec!["TASK", ">ID", ">ON CPU"];
    columns.extend(names.iter().map(String::as_str));
    columns.push(">MOVES");
    let mut table = Table::new(&columns);
    for row in &tasks.placement {
        let total_ns: u64 = row.on_cpu_ns.values().sum();
        let mut cells = vec![cut(&row.name), row.task.to_string(), duration(total_ns)];
        let on = |cpu: &u16| row.on_cpu_ns.get(cpu).copied().unwrap_or(0);
        cells.extend(cpus.iter().map(|cpu| share(on(cpu), total_ns)));
        cells.push(count(row.migrations));
        table.row(cells);
    }
    table
}

fn workers(tasks: &TaskSummary, duration_ns: u64) -> Table {
    let mut table = Table::new(&[
        ">PID",
        ">WORKER",
        ">TID",
        ">POLLS",
        ">BUSY",
        ">ON CPU",
        ">PARKED",
        ">PARKS",
        ">STOLE",
        ">STOLEN",
        ">QUEUE MAX",
    ]);
    for worker in &tasks.workers {
        let WorkerUse { pid, worker: number, tid, .. } = *worker;
        let of = |ns: u64| percent(100.0 * ns as f64 / duration_ns.max(1) as f64);
        let tid = tid.map_or_else(|| "?".to_owned(), |tid| tid.to_string());
        let mut cells = vec![pid.to_string(), number.to_string(), tid, count(worker.polls)];
        let times = [worker.in_polls.total_ns(), worker.in_polls.on_cpu_ns, worker.parked_ns];
        cells.extend(times.map(of));
        cells.extend([worker.parks, worker.stole, worker.stolen].map(count));
        cells.push(worker.deepest_queue.to_string());
        table.row(cells);
    }
    table
}

fn steals(tasks: &TaskSummary) -> Table {
    let mut table = Table::new(&[">PID", ">FROM WORKER", ">BY WORKER", ">TIMES", ">TASKS"]);
    for steal in tasks.steals.iter().take(STEALS) {
        let mut cells = [steal.pid, steal.from, steal.to].map(|each| each.to_string()).to_vec();
        cells.extend([steal.steals, steal.tasks].map(count));
        table.row(cells);
    }
    table
}

/// What belongs to the foot of a summary: whether the clocks agree, and what is missing.
pub(super) fn foot(out: &mut String, tasks: &TaskSummary) -> Result {
    let check = &tasks.clock_check;
    if check.polls + check.not_compared > 0 {
        writeln!(
            out,
            "Clocks agree: {} of {} polls begin or end while the kernel has their thread off the CPU by\n\
             more than 2 µs; the furthest by {}; {} could not be compared",
            count(check.contradictions),
            count(check.polls),
            duration(check.furthest_ns),
            count(check.not_compared),
        )?;
    }
    for runtime in &tasks.runtimes {
        let name = format!("{} ({})", runtime.name, runtime.pid);
        if let Some(error_ns) = runtime.clock_error_ns {
            let error = duration(error_ns);
            writeln!(out, "Clock of {name}: within {error} of the kernel's, as it says")?;
        }
        if !runtime.not_collected.is_empty() {
            let kinds = format!("Not collected from {name}: {}", runtime.not_collected.join(", "));
            wrap(&kinds).iter().try_for_each(|line| writeln!(out, "{line}"))?;
        }
        if runtime.lost > 0 {
            let gaps = plural(runtime.losses as u64, "gap");
            let lost = plural(runtime.lost, "event");
            writeln!(
                out,
                "Lost: {lost} of {name} were overwritten before they were read, in {gaps}"
            )?;
        }
        if runtime.contradictions > 0 {
            let records = plural(runtime.contradictions, "event");
            writeln!(out, "Contradictions: {records} of {name} do not fit the ones before")?;
        }
    }
    Ok(())
}
