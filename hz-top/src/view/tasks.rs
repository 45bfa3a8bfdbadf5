//! Tasks of async runtimes.

use super::boxed;
use crate::{
    app::{App, Drill},
    table::{Cell, Column, LONG_NS, Show, alarm, lines},
};
use hz_trace::{
    model::window::{GroupRow, TaskRow},
    text,
};
use ratatui::{Frame, layout::Rect, widgets::Paragraph};

/// The column that groups are sorted by at first: the longest wait.
pub(crate) const GROUPS_SORT: usize = 4;

/// Groups of tasks.
pub(crate) const GROUPS: &[Column<GroupRow>] = &[
    Column::new("TASK", 16, 0, Show::Text(|row| row.name.clone())),
    Column::new("ALIVE", 6, 2, Show::Count(|row| row.alive)),
    Column::new("POLLS", 8, 5, Show::Count(|row| row.polls)),
    Column::new("BUSY", 7, 3, Show::Duration(|row| row.busy_ns)),
    Column::new("READY MAX", 10, 0, Show::Wait(ready_ns)),
    Column::new("READY p99", 9, 4, Show::Duration(|row| row.ready.quantile_ns(0.99))),
    Column::new("LONGEST POLL", 12, 1, Show::Wait(poll_ns)),
    Column::new(
        "CPUs",
        6,
        6,
        Show::Own(
            |row| sparks(&row.place_ns).into(),
            |row| row.place_ns.iter().sum::<u64>() as f64,
        ),
    ),
    Column::new("OLDEST", 7, 8, Show::Duration(|row| row.oldest_ns)),
    Column::new("SPAWNED AT", 22, 7, Show::Text(|row| tail(&row.spawned_at))),
    Column::new("STATE", 12, 0, Show::Own(group_state, |row| row.ready_now as f64)),
];

/// The column that single tasks are sorted by at first.
pub(crate) const TASKS_SORT: usize = 6;

/// Single tasks.
pub(crate) const TASKS: &[Column<TaskRow>] = &[
    Column::new("TASK", 16, 0, Show::Text(|row| format!("{}#{}", row.name, row.task))),
    Column::new("STATE", 8, 0, Show::Text(|row| row.state.clone())),
    Column::new("FOR", 7, 1, Show::Duration(|row| row.state_ns)),
    Column::new("AGE", 7, 4, Show::Duration(|row| row.age_ns)),
    Column::new("POLLS", 7, 5, Show::Count(|row| row.polls)),
    Column::new("BUSY", 7, 3, Show::Duration(|row| row.busy_ns)),
    Column::new("READY MAX", 10, 0, Show::Wait(|row| row.longest_ready_ns)),
    Column::new("LONGEST POLL", 12, 2, Show::Wait(|row| row.longest_poll_ns)),
    Column::new("WAITS FOR", 12, 0, Show::Text(|row| row.waits_for.clone())),
];

fn ready_ns(row: &GroupRow) -> u64 {
    row.longest_ready.as_ref().map_or(0, |ready| ready.ready_ns)
}

fn poll_ns(row: &GroupRow) -> u64 {
    row.longest_poll.as_ref().map_or(0, |poll| poll.poll_ns)
}

/// Folder, file and line of a place.
fn tail(place: &str) -> String {
    let from = place.rmatch_indices('/').nth(1).map_or(0, |(at, _)| at + 1);
    place[from..].to_owned()
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
    let bar = |value: &u64| BARS[(u128::from(*value) * 8).div_ceil(u128::from(most)) as usize];
    values.iter().map(bar).collect()
}

pub(super) fn draw(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let window = &app.window;
    let inner = super::inner(area);
    let filter = super::filter(app);
    let (title, lines) = if let Some(Drill::Group(_, name, place)) = app.drills.last() {
        let count = text::count(app.tasks.order.len() as u64);
        let title = format!("Tasks {name} · {count} · spawned at {place}{filter}");
        (title, lines(&window.tasks, TASKS, &app.tasks, inner, app.theme))
    } else if let (true, Some(why)) = (window.groups.is_empty(), window.why_not("tasks")) {
        ("Tasks".to_owned(), vec![format!("not collected: {why}").into()])
    } else {
        let alive = text::count(window.tasks_alive);
        let title = format!("Tasks · {alive} alive, {} groups{filter}", app.groups.order.len());
        (title, lines(&window.groups, GROUPS, &app.groups, inner, app.theme))
    };
    frame.render_widget(Paragraph::new(lines).block(boxed(app, title)), area);
}
