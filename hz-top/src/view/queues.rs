//! Queues: how deep, of how much, how long what comes now waits, and which way it goes.

use super::{boxed, tasks::sparks};
use crate::{
    app::App,
    queues::{QueueRow, Unit},
    table::{Cell, Column, Show, alarm, lines},
};
use hz_trace::text;
use ratatui::{Frame, layout::Rect, text::Line, widgets::Paragraph};

/// The column that queues are sorted by at first: how full they are.
pub(crate) const SORT: usize = 4;

/// Queues.
pub(crate) const COLUMNS: &[Column<QueueRow>] = &[
    Column::new("KIND", 7, 0, Show::Text(|row| row.kind.to_owned())),
    Column::new("QUEUE", 26, 0, Show::Text(|row| row.name.clone())),
    Column::new("DEPTH", 10, 0, Show::Own(depth, |row| row.depth as f64)),
    Column::new("LIMIT", 8, 2, Show::Own(limit, |row| row.limit.unwrap_or(0) as f64)),
    Column::new("FULL", 5, 1, Show::Own(full, order)),
    Column::new("WAIT", 8, 0, Show::Own(wait, |row| row.wait_ns.unwrap_or(0) as f64)),
    Column::new("DROPPED", 8, 3, Show::Count(|row| row.dropped)),
    Column::new("TREND", 10, 0, Show::Own(|row| sparks(&row.trend).into(), rise)),
];

/// A depth in its unit.
pub(crate) fn amount(value: u64, unit: Unit) -> String {
    match unit {
        Unit::Bytes => text::bytes(value),
        _ => text::count(value),
    }
}

fn depth(row: &QueueRow) -> Cell {
    alarm(amount(row.depth, row.unit), row.is_alarming())
}

fn limit(row: &QueueRow) -> Cell {
    row.limit.map_or_else(|| "-".to_owned(), |limit| amount(limit, row.unit)).into()
}

fn full(row: &QueueRow) -> Cell {
    let share = row.share().map(|share| text::percent(share * 100.0));
    share.unwrap_or_else(|| "-".to_owned()).into()
}

/// By how full they are; what has no limit by its depth, behind.
fn order(row: &QueueRow) -> f64 {
    let without_limit = || 1e-3 * (1.0 - 1.0 / (1.0 + row.depth as f64)) - 1e-3;
    row.share().unwrap_or_else(without_limit) + f64::from(u8::from(row.dropped > 0))
}

fn wait(row: &QueueRow) -> Cell {
    match row.wait_ns {
        Some(wait_ns) => alarm(text::duration(wait_ns), wait_ns >= 100_000_000),
        None if row.depth > 0 && row.unit == Unit::Bytes => alarm("stands".to_owned(), true),
        None => "-".to_owned().into(),
    }
}

/// How much deeper it is than it was.
fn rise(row: &QueueRow) -> f64 {
    let first = row.trend.first().copied().unwrap_or(0);
    row.depth as f64 - first as f64
}

pub(super) fn draw(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let title = format!("Queues · {}{}", app.queues.order.len(), super::filter(app));
    let (width, height) = super::inner(area);
    let missing = app.window.why_not("sockets");
    let height = height.saturating_sub(u16::from(missing.is_some()));
    let mut rows = lines(&app.queue_rows, COLUMNS, &app.queues, (width, height), app.theme);
    rows.extend(missing.map(|why| {
        Line::styled(format!("accept, send, qdisc: not collected: {why}"), app.theme.dim())
    }));
    frame.render_widget(Paragraph::new(rows).block(boxed(app, title)), area);
}

/// The fullest queues, a line each.
pub(super) fn glance(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let (width, height) = super::inner(area);
    let mut rows: Vec<&QueueRow> = app.queue_rows.iter().collect();
    rows.sort_by(|a, b| order(b).total_cmp(&order(a)));
    let room = usize::from(width).saturating_sub(30).max(8);
    let lines = rows.into_iter().take(height.into()).map(|row| {
        let of =
            row.limit.map_or_else(String::new, |limit| format!(" / {}", amount(limit, row.unit)));
        let mark = if row.is_alarming() { " ▲" } else { "" };
        let text = format!(
            "{:<7} {} {:>18}{mark}",
            row.kind,
            crate::table::fit(&row.name, room, false),
            format!("{}{of}", amount(row.depth, row.unit)),
        );
        let style =
            if row.is_alarming() { app.theme.alarm() } else { ratatui::style::Style::new() };
        Line::styled(text, style)
    });
    let block = boxed(app, "Queues · depth / limit");
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()).block(block), area);
}
