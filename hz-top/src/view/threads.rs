//! Threads: what they do, what they wait for, and where they run.

use super::{boxed, tasks::sparks};
use crate::{
    app::App,
    table::{Cell, Column, Key, alarm, lines},
};
use hz_trace::{model::window::ThreadRow, text};
use ratatui::{Frame, layout::Rect, widgets::Paragraph};

/// A wait as long as this is marked.
const LONG_NS: u64 = 5_000_000;

/// The column that threads are sorted by at first: the time on a CPU.
pub(crate) const SORT: usize = 2;

/// Threads.
pub(crate) const COLUMNS: &[Column<ThreadRow>] = &[
    Column {
        title: "THREAD",
        width: 16,
        is_number: false,
        cell: |row| row.name.clone().into(),
        key: |row| Key::Text(row.name.clone()),
    },
    Column {
        title: "TID",
        width: 8,
        is_number: true,
        cell: |row| row.tid.to_string().into(),
        key: |row| Key::Number(row.tid.into()),
    },
    Column {
        title: "ON CPU",
        width: 8,
        is_number: true,
        cell: |row| text::duration(row.run_ns).into(),
        key: |row| Key::Number(row.run_ns as f64),
    },
    Column {
        title: "RUNNABLE",
        width: 9,
        is_number: true,
        cell: |row| text::duration(row.wait_ns()).into(),
        key: |row| Key::Number(row.wait_ns() as f64),
    },
    Column {
        title: "LONGEST",
        width: 10,
        is_number: true,
        cell: longest,
        key: |row| Key::Number(longest_ns(row) as f64),
    },
    Column {
        title: "BLOCKED",
        width: 8,
        is_number: true,
        cell: |row| text::duration(row.block_ns).into(),
        key: |row| Key::Number(row.block_ns as f64),
    },
    Column {
        title: "SWITCHES",
        width: 9,
        is_number: true,
        cell: |row| text::count(row.yields + row.preemptions).into(),
        key: |row| Key::Number((row.yields + row.preemptions) as f64),
    },
    Column {
        title: "MOVES",
        width: 6,
        is_number: true,
        cell: |row| text::count(row.migrations).into(),
        key: |row| Key::Number(row.migrations as f64),
    },
    Column {
        title: "CPUs",
        width: 6,
        is_number: false,
        cell: |row| sparks(&row.place_ns).into(),
        key: |row| Key::Number(row.cpu.into()),
    },
    Column {
        title: "STATE",
        width: 0,
        is_number: false,
        cell: state,
        key: |row| Key::Text(row.state.word().to_owned()),
    },
];

fn longest_ns(row: &ThreadRow) -> u64 {
    row.wait.as_ref().map_or(0, |wait| wait.wait_ns)
}

fn longest(row: &ThreadRow) -> Cell {
    let ns = longest_ns(row);
    alarm(text::duration(ns), ns >= LONG_NS)
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
    let inner = (area.width.saturating_sub(2), area.height.saturating_sub(2));
    let filter = if app.filter.is_empty() { String::new() } else { format!(" · /{}", app.filter) };
    let active = text::count(app.threads.order.len() as u64);
    let title =
        format!("Threads · {active} active of {}{filter}", text::count(app.window.threads_alive));
    let lines = lines(&app.window.threads, COLUMNS, &app.threads, inner, app.theme);
    frame.render_widget(Paragraph::new(lines).block(boxed(app, title)), area);
}
