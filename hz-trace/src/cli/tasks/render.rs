//! Live tasks as text, for screens of 80 columns.

use super::{Look, comm, stacks::StackGroup};
use crate::cli::table::Table;
use hz_trace::{
    analyze::{Awaited, Group, GroupKey, Growing, Growth, LiveTask},
    host::clock,
    source::RuntimeMemory,
    text,
};
use std::fmt::Write as _;
use unicode_width::UnicodeWidthStr as _;

/// Columns of the screen.
const COLUMNS: usize = 80;
/// The longest name of a task that is shown whole.
const NAME_COLUMNS: usize = 16;
/// Less of a place of spawn says nothing.
const PLACE_COLUMNS: usize = 8;
/// Room for where tasks are parked.
const PARKED_COLUMNS: usize = 42;
/// Groups that are listed.
const GROUPS: usize = 20;

/// One look: what there is, its groups, its tasks.
pub(super) fn page(look: &Look, growth: Option<&Growth>, limit: usize) -> String {
    let mut out = heading(look);
    // Writing to a string cannot fail.
    if let Some(growing) = &look.growing {
        let by_spawn = growing.iter().filter(|group| group.key.parked.is_none());
        by_spawn.for_each(|group| _ = writeln!(out, "{}", sentence(group, growing, growth)));
    }
    if look.tasks.is_empty() {
        return out;
    }
    let spawned = group_table(&look.groups, growth);
    let _ = write!(out, "\nBy where they were spawned\n{}", spawned.render());
    more(&mut out, look.groups.len(), GROUPS, "group");
    let parked = parked_table(&look.parked, growth);
    let _ = write!(out, "\nBy where they are parked\n{}", parked.render());
    more(&mut out, look.parked.len(), GROUPS, "group");
    if growth.is_some() {
        return out;
    }
    let limit = if limit == 0 { usize::MAX } else { limit };
    if let Some(stacks) = &look.stacks {
        let _ = writeln!(out, "\nWhere they are suspended");
        stacks.iter().take(limit).for_each(|group| stack(&mut out, group));
        more(&mut out, stacks.len(), limit, "stack");
        return out;
    }
    let _ = write!(out, "\nTasks\n{}", task_table(&look.tasks, limit).render());
    more(&mut out, look.tasks.len(), limit, "task");
    out
}

fn heading(look: &Look) -> String {
    let count = |state: &str| look.tasks.iter().filter(|task| task.state == state).count() as u64;
    let states = ["idle", "ready", "polling", "done"].map(|state| (count(state), state));
    let states = states.into_iter().filter(|(count, _)| *count > 0);
    let states: Vec<String> =
        states.map(|(number, state)| format!("{} {state}", text::count(number))).collect();
    let mut out = format!(
        "{} (pid {}) · {} · {} alive",
        look.comm,
        look.pid,
        text::plural(look.workers.into(), "worker"),
        text::plural(look.tasks.len() as u64, "task"),
    );
    if !states.is_empty() {
        let _ = write!(out, ": {}", states.join(", "));
    }
    out.push('\n');
    if look.overflow > 0 {
        let count = text::plural(look.overflow, "task");
        let _ = writeln!(
            out,
            "{count} had no room in the directory since the process began and may be missing;\n\
             HZ_TASK_DIRECTORY_SLOTS makes room"
        );
    }
    if look.unreadable > 0 {
        let count = text::plural(look.unreadable, "slot");
        let _ = writeln!(out, "{count} of the directory could not be read");
    }
    out
}

/// What a leak looks like, in a sentence.
fn sentence(group: &Growing, growing: &[Growing], growth: Option<&Growth>) -> String {
    let seconds = growth.map_or(0.0, Growth::seconds);
    let rate = group.per_second;
    let rate = if rate < 9.95 { format!("{rate:.1}") } else { format!("{rate:.0}") };
    let is_part = |each: &&Growing| {
        let (own, its) = (&group.key, &each.key);
        its.parked.is_some() && (&own.name, &own.spawned_at) == (&its.name, &its.spawned_at)
    };
    // The fastest comes first.
    let parked = growing.iter().find(is_part).map_or_else(String::new, |part| {
        let place = part.key.parked.as_deref().unwrap_or("?");
        format!("; {} of them parked in {place}", text::count(part.tasks))
    });
    format!(
        "{} grows by {rate} a second: {} now, {} {seconds:.0} s ago{parked}",
        group_name(&group.key),
        text::count(group.tasks),
        text::count(group.tasks_before),
    )
}

fn group_name(key: &GroupKey) -> String {
    match &key.name {
        Some(name) => format!("{name} ({})", key.spawned_at),
        None => key.spawned_at.clone(),
    }
}

fn group_table(groups: &[Group], growth: Option<&Growth>) -> Table {
    let mut columns = vec![">TASKS", ">READY", ">POLLING", ">OLDEST", ">POLLS", "NAME"];
    if growth.is_some() {
        columns.insert(1, ">PER SECOND");
    }
    let mut table = Table::new(&columns);
    let groups: Vec<&Group> = groups.iter().take(GROUPS).collect();
    for group in &groups {
        let mut cells = vec![text::count(group.tasks)];
        cells.extend(growth.map(|growth| format!("{:+.1}", growth.per_second(&group.key))));
        cells.extend([group.ready, group.polling].map(text::count));
        cells.extend([text::duration(group.oldest_ns), text::count(group.polls)]);
        cells.push(name(group.key.name.as_deref()));
        table.row(cells);
    }
    add_places(&mut table, columns.len(), groups.iter().map(|group| &*group.key.spawned_at));
    table
}

/// Groups by where they are parked: the place is the end of the line, whatever its length.
fn parked_table(groups: &[Group], growth: Option<&Growth>) -> Table {
    let mut columns = vec![">TASKS", ">OLDEST", "NAME", "PARKED IN"];
    if growth.is_some() {
        columns.insert(1, ">PER SECOND");
    }
    let mut table = Table::new(&columns);
    for group in groups.iter().take(GROUPS) {
        let mut cells = vec![text::count(group.tasks)];
        cells.extend(growth.map(|growth| format!("{:+.1}", growth.per_second(&group.key))));
        cells.push(text::duration(group.oldest_ns));
        cells.push(match &group.key.name {
            Some(own) => name(Some(own)),
            None => end_of(&group.key.spawned_at, NAME_COLUMNS),
        });
        cells.push(end_of(
            &without_folders(group.key.parked.as_deref().unwrap_or("?")),
            PARKED_COLUMNS,
        ));
        table.row(cells);
    }
    table
}

/// `api::serve at /src/api/main.rs:12` without the folders.
fn without_folders(parked: &str) -> String {
    match parked.rsplit_once(" at ") {
        Some((future, place)) => {
            format!("{future} at {}", place.rsplit('/').next().unwrap_or_default())
        }
        None => parked.to_owned(),
    }
}

/// One stack: whose, then future by future, each further in than what awaits it.
fn stack(out: &mut String, group: &StackGroup) {
    let tasks = match &group.tasks[..] {
        [one] => format!("task {one}"),
        several => text::plural(several.len() as u64, "task"),
    };
    let whose = match &group.name {
        Some(name) => format!("{name} ({})", group.spawned_at),
        None => group.spawned_at.clone(),
    };
    let _ = writeln!(out, "\n{tasks}: {whose}");
    if let Some(reason) = &group.reason {
        let _ = writeln!(out, "  {reason}");
    }
    for frame in &group.frames {
        let indent = "  ".repeat(frame.depth as usize + 1);
        let field = frame.field.as_ref().map_or_else(String::new, |field| format!("{field}: "));
        let mut line = format!("{indent}{field}{}", frame.future);
        if let (Some(file), Some(number)) = (&frame.file, frame.line) {
            let _ = write!(line, "  {file}:{number}");
        }
        if let Some(note) = &frame.note {
            let _ = write!(line, "  ({note})");
        }
        let _ = writeln!(out, "{line}");
    }
    if let Some(waits_for) = group.waits_for.as_ref().filter(|_| !group.frames.is_empty()) {
        let _ = writeln!(out, "  waits for: {waits_for}");
    }
}

fn task_table(tasks: &[LiveTask], limit: usize) -> Table {
    let columns = [">TASK", "NAME", "STATE", ">AGE", ">POLLED", ">POLLS", "PRIO", ">W"];
    let mut table = Table::new(&columns);
    for task in tasks.iter().take(limit) {
        table.row(vec![
            task.task.to_string(),
            name(task.name.as_deref()),
            task.waits_for.as_ref().map_or_else(|| task.state.to_owned(), awaited),
            text::duration(task.age_ns),
            task.last_poll_ago_ns.map_or_else(|| "never".to_owned(), text::duration),
            text::count(task.polls),
            task.priority.chars().take(4).collect(),
            task.worker.map_or_else(String::new, |worker| worker.to_string()),
        ]);
    }
    let places = tasks.iter().take(limit).map(|task| &*task.spawned_at);
    add_places(&mut table, columns.len(), places);
    table
}

/// Adds the last column: the end of each place, as much of it as there is room for, if there is any
/// to speak of.
fn add_places<'a>(table: &mut Table, columns: usize, places: impl Iterator<Item = &'a str>) {
    let room = COLUMNS.saturating_sub(table.width(columns) + 2);
    if room < PLACE_COLUMNS {
        return;
    }
    table.extend(0, if room < 10 { "FROM" } else { "SPAWNED AT" }.to_owned());
    for (row, place) in places.enumerate() {
        table.extend(row + 1, end_of(place, room));
    }
}

/// The end of a text that is longer than `room`.
fn end_of(text: &str, room: usize) -> String {
    if text.width() <= room {
        return text.to_owned();
    }
    let mut end: Vec<char> = Vec::new();
    for each in text.chars().rev() {
        end.push(each);
        if end.iter().rev().collect::<String>().width() >= room {
            end.pop();
            break;
        }
    }
    std::iter::once('…').chain(end.into_iter().rev()).collect()
}

/// A task's name, its beginning if it is long.
fn name(name: Option<&str>) -> String {
    let name = name.unwrap_or("-");
    if name.width() <= NAME_COLUMNS {
        return name.to_owned();
    }
    name.chars().take(NAME_COLUMNS - 1).chain(std::iter::once('…')).collect()
}

/// What a task waits for.
fn awaited(wait: &Awaited) -> String {
    let Awaited { kind, fd, in_ns, address, task, call, .. } = wait;
    if let Some(fd) = fd {
        return format!("{kind} fd {fd}");
    }
    if let Some(in_ns) = in_ns {
        let time = text::duration(in_ns.unsigned_abs());
        return if *in_ns < 0 { format!("timer {time} late") } else { format!("timer in {time}") };
    }
    if let Some(address) = address {
        return format!("{kind} {address}");
    }
    match (task, call) {
        (Some(task), _) => format!("join of task {task}"),
        (_, Some(call)) => format!("blocking call {call}"),
        _ => (*kind).to_owned(),
    }
}

fn more(out: &mut String, count: usize, shown: usize, noun: &str) {
    if count > shown {
        let rest = text::plural((count - shown) as u64, noun);
        let hint = if noun != "group" { "; --limit 0 shows all" } else { "" };
        let _ = writeln!(out, "  … and {rest} more{hint}");
    }
}

/// The processes that show tasks.
pub(super) fn processes(found: &mut [RuntimeMemory]) -> String {
    let mut table = Table::new(&[">PID", "PROCESS", ">WORKERS", ">TASKS", ">UP"]);
    for memory in found {
        let tasks = memory.tasks().entries.len() as u64;
        let up_ns = clock::monotonic_ns().saturating_sub(memory.start_ns());
        table.row(vec![
            memory.pid().to_string(),
            comm(memory.pid()),
            memory.workers().to_string(),
            text::count(tasks),
            text::duration(up_ns),
        ]);
    }
    format!("Several processes show tasks; -p PID says whose\n{}", table.render())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(number: u64, name: &str, waits_for: Option<Awaited>) -> LiveTask {
        LiveTask {
            task: number,
            name: Some(name.to_owned()),
            state: "idle",
            waits_for,
            age_ns: 12_000_000_000,
            last_poll_ago_ns: Some(3_210_000),
            polls: 81_234,
            priority: "background",
            worker: Some(1),
            parent: None,
            spawned_at: "/home/somebody/a/long/way/to/the/source/of/server.rs:1088".to_owned(),
            future: None,
            future_bytes: 64,
            parked_at: None,
        }
    }

    fn look(tasks: Vec<LiveTask>) -> Look {
        Look {
            pid: 4711,
            comm: "service".to_owned(),
            workers: 2,
            time_ns: 0,
            groups: hz_trace::analyze::groups(&tasks),
            parked: hz_trace::analyze::parked_groups(&tasks),
            stacks: None,
            growing: None,
            tasks,
            overflow: 0,
            unreadable: 0,
        }
    }

    #[test]
    fn a_page_fits_the_screen_and_says_what_tasks_wait_for() {
        let channel = Awaited {
            kind: "channel",
            address: Some("0x7f0012345678".to_owned()),
            ..Awaited::default()
        };
        let timer = Awaited { kind: "timer", in_ns: Some(-3_200_000), ..Awaited::default() };
        let join = Awaited { kind: "join", task: Some(12), ..Awaited::default() };
        let read = Awaited { kind: "read", fd: Some(7), ..Awaited::default() };
        let waits = [Some(timer), Some(join), Some(read), None];
        let tasks = (1..).zip(waits).map(|(number, wait)| task(number, "connection", wait));
        let page = page(&look(tasks.collect()), None, 3);
        assert!(page.lines().all(|line| line.width() <= COLUMNS), "{page}");
        for words in ["timer 3.20 ms late", "join of task 12", "read fd 7", "server.rs:1088"] {
            assert!(page.contains(words), "{words}: {page}");
        }
        assert!(page.ends_with("  … and 1 task more; --limit 0 shows all\n"), "{page}");
        assert!(
            page.starts_with("service (pid 4711) · 2 workers · 4 tasks alive: 4 idle\n"),
            "{page}"
        );
        assert_eq!(awaited(&channel), "channel 0x7f0012345678");
    }

    #[test]
    fn nothing_alive_is_a_line() {
        assert_eq!(
            page(&look(Vec::new()), None, 40),
            "service (pid 4711) · 2 workers · 0 tasks alive\n"
        );
    }

    #[test]
    fn a_leak_is_a_sentence() {
        let mut growth = Growth::default();
        let mut last = look(Vec::new());
        for second in 0..6_u64 {
            last = look((0..10 * second).map(|number| task(number, "conn", None)).collect());
            growth.add(second * 1_000_000_000, &last.groups);
        }
        last.growing = Some(growth.growing());
        let page = page(&last, Some(&growth), 40);
        let sentence = "conn (/home/somebody/a/long/way/to/the/source/of/server.rs:1088) grows by \
                        10 a second: 50 now, 0 5 s ago";
        assert!(page.contains(sentence), "{page}");
        assert!(page.contains("+10.0"), "{page}");
    }
}
