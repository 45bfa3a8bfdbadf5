//! What a summary says of requests, spans, marks, buffers, allocations and waits for sockets.

use super::{
    report::section,
    report_tasks::{cut, times, wrap},
    table::Table,
};
use hz_trace::{
    analyze::{
        BufferPoolUse, Distribution, IoWait, NamedSpans, Slowest, Spent, TaskAllocations,
        TaskSummary, TasksOverTime,
    },
    text::{bytes, count, duration, plural, share},
};
use std::fmt::{Result, Write as _};

/// Things that a line names.
const NAMED: usize = 3;

/// Writes the sections.
pub(super) fn write(out: &mut String, tasks: &TaskSummary) -> Result {
    section(out, "Tasks by wait for files and sockets", &io_waits(&tasks.io_waits))?;
    for sentence in tasks.io_waits.iter().filter_map(|wait| wait.sentence.as_ref()) {
        lines(out, sentence)?;
    }
    section(out, "Tasks alive", &over_time(&tasks.over_time))?;
    tasks
        .over_time
        .iter()
        .filter(|row| row.is_growing)
        .try_for_each(|row| lines(out, &growth_words(row)))?;
    named(out, "Requests", (&tasks.requests, "ROUTE"))?;
    named(out, "Spans of the program", (&tasks.user_spans, "SPAN"))?;
    section(out, "Marks of the program", &marks(tasks))?;
    tasks.buffers.iter().try_for_each(|pool| buffers(out, pool))?;
    section(out, "Allocations by task, estimated from samples", &allocations(&tasks.allocations))
}

/// A remark below a table.
fn lines(out: &mut String, text: &str) -> Result {
    for (number, line) in wrap(text).iter().enumerate() {
        writeln!(out, "{}{line}", if number == 0 { "  " } else { "    " })?;
    }
    Ok(())
}

fn io_waits(waits: &[IoWait]) -> Table {
    let mut table =
        Table::new(&["TASK", ">ID", "WAITS TO", "PEER", ">TIMES", ">WAITED", ">LONGEST"]);
    for wait in waits {
        let to = match wait.to {
            "file" => format!("file {}", wait.fd),
            to => format!("{to} fd {}", wait.fd),
        };
        table.row(vec![
            cut(&wait.name),
            wait.task.to_string(),
            to,
            wait.peer.clone().or_else(|| wait.local.clone()).unwrap_or_default(),
            count(wait.waits),
            duration(wait.waited_ns),
            duration(wait.longest_ns),
        ]);
    }
    table
}

/// How many lived at the beginning, the quarters and the end of the recording.
fn over_time(rows: &[TasksOverTime]) -> Table {
    let mut table = Table::new(&[
        "NAME",
        ">BEGIN",
        ">25 %",
        ">50 %",
        ">75 %",
        ">END",
        "PARKED IN",
        "SPAWNED AT",
    ]);
    for row in rows {
        let at = |quarter: usize| row.alive.get(quarter * (row.alive.len() - 1) / 4).copied();
        let mut cells = vec![cut(&row.name)];
        cells.extend((0..5).map(|quarter| count(at(quarter).unwrap_or(0))));
        cells.push(row.parked.first().map_or_else(String::new, |most| most.parked.clone()));
        let place = row.spawned_at.as_deref().unwrap_or_default();
        cells.push(place.rsplit('/').next().unwrap_or_default().to_owned());
        table.row(cells);
    }
    table
}

/// What a leak looks like, in a sentence.
fn growth_words(row: &TasksOverTime) -> String {
    let [first, .., last] = row.alive[..] else { return String::new() };
    let place = row.spawned_at.as_deref().unwrap_or("a place that is not known");
    let parked = row.parked.first().map_or_else(String::new, |most| {
        format!("; {} of them parked in {}", count(most.tasks), most.parked)
    });
    format!(
        "`{}`, spawned at {place}, grows by {:.1} a second: {} at the beginning, {} at the end{parked}",
        row.name,
        row.per_second,
        count(first),
        count(last),
    )
}

fn named(out: &mut String, what: &str, (spans, name): (&[NamedSpans], &str)) -> Result {
    let mut table = Table::new(&[name, ">COUNT", ">P50", ">P99", ">MAX", ">TOTAL", ">UNFINISHED"]);
    for span in spans {
        let Distribution { count: number, total_ns, p50_ns, p99_ns, max_ns } = span.duration;
        let mut cells = vec![cut(&span.name), count(number)];
        cells.extend([p50_ns, p99_ns, max_ns, total_ns].map(duration));
        cells.push(count(span.unfinished));
        table.row(cells);
    }
    section(out, what, &table)?;
    let ended = || spans.iter().filter(|span| span.duration.count > 0);
    let mut table = Table::new(&[
        name, ">ON CPU", ">NO CPU", ">BLOCKED", ">READY", ">IDLE", ">UNKNOWN", "IDLE ON",
    ]);
    for span in ended() {
        let mut cells = vec![cut(&span.name)];
        cells.extend(shares(&span.spent, span.duration.total_ns));
        cells.push(idle_words(&span.spent, span.duration.total_ns));
        table.row(cells);
    }
    section(out, &format!("Where the time of {} went", what.to_lowercase()), &table)?;
    ended()
        .filter_map(|span| Some((&span.name, span.slowest.as_ref()?)))
        .try_for_each(|(name, slowest)| lines(out, &slowest_words(name, slowest)))
}

fn shares(spent: &Spent, total_ns: u64) -> [String; 6] {
    let polls = &spent.in_polls;
    [
        polls.on_cpu_ns,
        polls.waiting_ns,
        polls.blocked_ns(),
        spent.ready_ns,
        spent.idle_ns,
        polls.not_recorded_ns + spent.not_recorded_ns,
    ]
    .map(|ns| share(ns, total_ns))
}

fn idle_words(spent: &Spent, total_ns: u64) -> String {
    let named = spent.idle.iter().take(NAMED);
    let named: Vec<String> =
        named.map(|each| format!("{} {}", each.on, share(each.idle_ns, total_ns))).collect();
    named.join(", ")
}

/// The longest request of a route, and the largest parts of its time.
fn slowest_words(name: &str, slowest: &Slowest) -> String {
    let Slowest { id, task, start_ns, duration_ns, spent, .. } = slowest;
    let task = task.map_or_else(|| "no task".to_owned(), |task| format!("task {task}"));
    let polls = &spent.in_polls;
    let mut parts = vec![
        (polls.on_cpu_ns, "on a CPU".to_owned()),
        (polls.waiting_ns, "waiting for a CPU in a poll".to_owned()),
        (polls.blocked_ns(), "blocked in a poll".to_owned()),
        (spent.ready_ns, "in the ready queue".to_owned()),
        (polls.not_recorded_ns + spent.not_recorded_ns, "not recorded".to_owned()),
    ];
    parts.extend(spent.idle.iter().map(|idle| (idle.idle_ns, format!("idle on {}", idle.on))));
    parts.retain(|(ns, _)| *ns > 0 && *ns * 50 >= *duration_ns);
    parts.sort_by_key(|(ns, _)| std::cmp::Reverse(*ns));
    let parts: Vec<String> =
        parts.into_iter().map(|(ns, words)| format!("{} {words}", duration(ns))).collect();
    format!(
        "the longest `{name}` ({id}, in {task}) took {}, at {}: {}",
        duration(*duration_ns),
        duration(*start_ns),
        parts.join(", ")
    )
}

fn marks(tasks: &TaskSummary) -> Table {
    let mut table = Table::new(&["MARK", ">COUNT", ">LAST VALUE", ">LAST AT"]);
    for mark in &tasks.marks {
        let cells = [count(mark.count), mark.last_value.to_string(), duration(mark.last_ns)];
        table.row(std::iter::once(cut(&mark.name)).chain(cells).collect());
    }
    table
}

fn buffers(out: &mut String, pool: &BufferPoolUse) -> Result {
    writeln!(
        out,
        "\nBuffer pool of process {}: {} taken, {}; at most {} out at once, {}; {} out at the end",
        pool.pid,
        plural(pool.taken, "buffer"),
        bytes(pool.taken_bytes),
        count(pool.most_out),
        bytes(pool.most_out_bytes),
        count(pool.out_at_end),
    )?;
    times(out, "Held", &pool.held)?;
    times(out, "Tasks idle until they got one", &pool.waits)?;
    let pages: Vec<String> = pool
        .by_page_bytes
        .iter()
        .map(|(page, number)| format!("{} on pages of {}", count(*number), bytes(*page)))
        .collect();
    if pages.is_empty() { Ok(()) } else { writeln!(out, "  {}", pages.join(", ")) }
}

fn allocations(rows: &[TaskAllocations]) -> Table {
    let mut table = Table::new(&["TASK", ">PID", ">ALLOCATED", ">LIVE", ">SAMPLES"]);
    for row in rows {
        let cells = [row.pid.to_string(), bytes(row.allocated_bytes), bytes(row.live_bytes)];
        let name = row.name.as_deref().map_or_else(|| "outside of tasks".to_owned(), cut);
        table.row(std::iter::once(name).chain(cells).chain([count(row.samples)]).collect());
    }
    table
}
