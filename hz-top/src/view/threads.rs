//! Threads: what they do, what they wait for, and where they run.

use super::{boxed, tasks::sparks};
use crate::{
    app::App,
    table::{Cell, Column, Show, lines},
};
use hz_trace::{model::window::ThreadRow, text};
use ratatui::{Frame, layout::Rect, widgets::Paragraph};

/// The column that threads are sorted by at first: the time on a CPU.
pub(crate) const SORT: usize = 2;

/// Threads.
pub(crate) const COLUMNS: &[Column<ThreadRow>] = &[
    Column::new("THREAD", 16, 0, Show::Text(|row| row.name.clone())),
    Column::new("TID", 7, 2, Show::Own(|row| row.tid.to_string().into(), |row| row.tid.into())),
    Column::new("ON CPU", 8, 0, Show::Duration(|row| row.run_ns)),
    Column::new("RUNNABLE", 8, 1, Show::Duration(ThreadRow::wait_ns)),
    Column::new("LONGEST", 10, 0, Show::Wait(longest_ns)),
    Column::new("ASLEEP", 8, 8, Show::Duration(|row| row.sleep_ns)),
    Column::new("BLOCKED", 8, 3, Show::Duration(|row| row.block_ns)),
    Column::new("SWITCHES", 8, 5, Show::Count(|row| row.yields + row.preemptions)),
    Column::new("MOVES", 6, 6, Show::Count(|row| row.migrations)),
    Column::new("CPUs", 6, 4, Show::Own(|row| sparks(&row.place_ns).into(), |row| row.cpu.into())),
    Column::new("PROCESS", 16, 7, Show::Text(|row| format!("{} {}", row.process, row.pid))),
    Column::new("STATE", 10, 0, Show::Own(state, |row| f64::from(row.state as u8))),
];

fn longest_ns(row: &ThreadRow) -> u64 {
    row.wait.as_ref().map_or(0, |wait| wait.wait_ns)
}

fn state(row: &ThreadRow) -> Cell {
    match &row.wait {
        Some(wait) if wait.wait_ns >= 1_000_000 && !wait.by.is_empty() => {
            format!("{} · waited for {}", row.state.word(), wait.by).into()
        }
        _ => row.state.word().to_owned().into(),
    }
}

pub(super) fn draw(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let active = text::count(app.threads.order.len() as u64);
    let alive = text::count(app.window.threads_alive);
    let title = format!("Threads · {active} active of {alive}{}", super::filter(app));
    let lines = lines(&app.window.threads, COLUMNS, &app.threads, super::inner(area), app.theme);
    frame.render_widget(Paragraph::new(lines).block(boxed(app, title)), area);
}
