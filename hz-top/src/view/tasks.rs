//! Tasks of async runtimes.

use super::boxed;
use crate::{
    app::{App, Drill},
    table::{Cell, Column, Key, alarm, lines},
};
use hz_trace::{
    model::window::{GroupRow, TaskRow},
    text,
};
use ratatui::{Frame, layout::Rect, widgets::Paragraph};

/// A wait or poll as long as this is marked.
const LONG_NS: u64 = 5_000_000;

/// The column that groups are sorted by at first: the longest wait.
pub(crate) const GROUPS_SORT: usize = 4;

/// Groups of tasks.
pub(crate) const GROUPS: &[Column<GroupRow>] = &[
    Column {
        title: "TASK",
        width: 18,
        is_number: false,
        cell: |row| row.name.clone().into(),
        key: |row| Key::Text(row.name.clone()),
    },
    Column {
        title: "ALIVE",
        width: 7,
        is_number: true,
        cell: |row| text::count(row.alive).into(),
        key: |row| Key::Number(row.alive as f64),
    },
    Column {
        title: "POLLS",
        width: 8,
        is_number: true,
        cell: |row| text::count(row.polls).into(),
        key: |row| Key::Number(row.polls as f64),
    },
    Column {
        title: "BUSY",
        width: 9,
        is_number: true,
        cell: |row| text::duration(row.busy_ns).into(),
        key: |row| Key::Number(row.busy_ns as f64),
    },
    Column {
        title: "READY MAX",
        width: 11,
        is_number: true,
        cell: |row| duration(ready_ns(row)),
        key: |row| Key::Number(ready_ns(row) as f64),
    },
    Column {
        title: "READY p99",
        width: 10,
        is_number: true,
        cell: |row| text::duration(row.ready.quantile_ns(0.99)).into(),
        key: |row| Key::Number(row.ready.quantile_ns(0.99) as f64),
    },
    Column {
        title: "LONGEST POLL",
        width: 12,
        is_number: true,
        cell: |row| duration(poll_ns(row)),
        key: |row| Key::Number(poll_ns(row) as f64),
    },
    Column {
        title: "CPUs",
        width: 6,
        is_number: false,
        cell: |row| sparks(&row.place_ns).into(),
        key: |row| Key::Number(row.place_ns.iter().sum::<u64>() as f64),
    },
    Column {
        title: "STATE",
        width: 0,
        is_number: false,
        cell: group_state,
        key: |row| Key::Number(row.ready_now as f64),
    },
];

/// The column that single tasks are sorted by at first.
pub(crate) const TASKS_SORT: usize = 6;

/// Single tasks.
pub(crate) const TASKS: &[Column<TaskRow>] = &[
    Column {
        title: "TASK",
        width: 18,
        is_number: false,
        cell: |row| format!("{}#{}", row.name, row.task).into(),
        key: |row| Key::Text(row.name.clone()),
    },
    Column {
        title: "STATE",
        width: 8,
        is_number: false,
        cell: |row| row.state.clone().into(),
        key: |row| Key::Text(row.state.clone()),
    },
    Column {
        title: "FOR",
        width: 8,
        is_number: true,
        cell: |row| text::duration(row.state_ns).into(),
        key: |row| Key::Number(row.state_ns as f64),
    },
    Column {
        title: "AGE",
        width: 8,
        is_number: true,
        cell: |row| text::duration(row.age_ns).into(),
        key: |row| Key::Number(row.age_ns as f64),
    },
    Column {
        title: "POLLS",
        width: 7,
        is_number: true,
        cell: |row| text::count(row.polls).into(),
        key: |row| Key::Number(row.polls as f64),
    },
    Column {
        title: "BUSY",
        width: 8,
        is_number: true,
        cell: |row| text::duration(row.busy_ns).into(),
        key: |row| Key::Number(row.busy_ns as f64),
    },
    Column {
        title: "READY MAX",
        width: 11,
        is_number: true,
        cell: |row| duration(row.longest_ready_ns),
        key: |row| Key::Number(row.longest_ready_ns as f64),
    },
    Column {
        title: "LONGEST POLL",
        width: 12,
        is_number: true,
        cell: |row| duration(row.longest_poll_ns),
        key: |row| Key::Number(row.longest_poll_ns as f64),
    },
    Column {
        title: "WAITS FOR",
        width: 0,
        is_number: false,
        cell: |row| row.waits_for.clone().into(),
        key: |row| Key::Text(row.waits_for.clone()),
    },
];

fn ready_ns(row: &GroupRow) -> u64 {
    row.longest_ready.as_ref().map_or(0, |ready| ready.ready_ns)
}

fn poll_ns(row: &GroupRow) -> u64 {
    row.longest_poll.as_ref().map_or(0, |poll| poll.poll_ns)
}

fn duration(ns: u64) -> Cell {
    alarm(text::duration(ns), ns >= LONG_NS)
}

fn group_state(row: &GroupRow) -> Cell {
    let going_on =
        row.longest_poll.as_ref().filter(|poll| !poll.is_over && poll.poll_ns >= LONG_NS);
    if let Some(poll) = going_on {
        return alarm(format!("polling for {}", text::duration(poll.poll_ns)), true);
    }
    match (row.ready_now, row.polling_now) {
        (0, 0) if row.waits_for.is_empty() => "idle".to_owned().into(),
        (0, 0) => format!("waits: {}", row.waits_for).into(),
        (0, polling) => format!("{} polling", text::count(polling)).into(),
        (ready, _) => format!("{} ready", text::count(ready)).into(),
    }
}

/// Shares as bars of eighths.
pub(crate) fn sparks(values: &[u64]) -> String {
    const BARS: [char; 9] = ['·', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = values.iter().copied().max().unwrap_or(0).max(1);
    values.iter().map(|value| BARS[(value * 8).div_ceil(most) as usize]).collect()
}

pub(super) fn draw(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let window = &app.window;
    let inner = (area.width.saturating_sub(2), area.height.saturating_sub(2));
    let filter = if app.filter.is_empty() { String::new() } else { format!(" · /{}", app.filter) };
    let (title, lines) = if let Some(Drill::Group(_, name, place)) = app.drills.last() {
        let title = format!(
            "Tasks {name} · {} · spawned at {place}{filter}",
            text::count(app.tasks.order.len() as u64)
        );
        (title, lines(&window.tasks, TASKS, &app.tasks, inner, app.theme))
    } else if let (true, Some(why)) = (window.groups.is_empty(), window.why_not("tasks")) {
        let line = format!("not collected: {why}");
        ("Tasks".to_owned(), vec![line.into()])
    } else {
        let title = format!(
            "Tasks · {} alive, {} groups{filter}",
            text::count(window.tasks_alive),
            app.groups.order.len()
        );
        (title, lines(&window.groups, GROUPS, &app.groups, inner, app.theme))
    };
    frame.render_widget(Paragraph::new(lines).block(boxed(app, title)), area);
}
