//! Memory: who allocates, what lives, and what pools hold.

use super::boxed;
use crate::{
    app::App,
    table::{Column, Show, lines},
};
use hz_trace::{model::window::Site, text};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    text::Line,
    widgets::{Paragraph, Wrap},
};

/// The column that places are sorted by at first: what they allocate.
pub(crate) const SORT: usize = 0;

/// Places that allocate.
pub(crate) const COLUMNS: &[Column<Site>] = &[
    Column::new("ALLOCATED", 10, 0, Show::Bytes(|row| row.bytes)),
    Column::new("LIVE", 9, 0, Show::Bytes(|row| row.live_bytes)),
    Column::new("SAMPLES", 8, 2, Show::Count(|row| row.samples)),
    Column::new("PID", 7, 1, Show::Own(|row| row.pid.to_string().into(), |row| row.pid.into())),
    Column::new("WHERE", 20, 0, Show::Text(|row| row.place.clone())),
];

pub(super) fn draw(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let window = &app.window;
    if window.pools.is_empty() && window.sites.is_empty() {
        let text = "not collected: no runtime of the target has sampled allocations or a pool here. \
                    hz-runtime samples with HZ_ALLOC_SAMPLE, or as its allocator says";
        let page = Paragraph::new(text).wrap(Wrap { trim: true }).block(boxed(app, "Memory"));
        return frame.render_widget(page, area);
    }
    let pools = u16::try_from(window.pools.len()).unwrap_or(u16::MAX);
    let upper = if pools == 0 { 0 } else { pools.saturating_add(2).min(area.height / 2) };
    let [above, below] =
        Layout::vertical([Constraint::Length(upper), Constraint::Min(0)]).areas(area);
    let rows = window.pools.iter().map(|pool| {
        let page = text::bytes(pool.page_bytes);
        let line = format!(
            "{page} pages of pid {}: {} taken and not given back; {:.0} taken/s, {:.0} returned/s; {} wait",
            pool.pid,
            text::bytes(pool.used_bytes),
            window.per_second(pool.taken),
            window.per_second(pool.returned),
            text::plural(pool.waiting, "task"),
        );
        let style = if pool.waiting > 0 { app.theme.alarm() } else { ratatui::style::Style::new() };
        Line::styled(line, style)
    });
    let page = Paragraph::new(rows.collect::<Vec<_>>()).block(boxed(app, "Pools of buffers"));
    frame.render_widget(page, above);
    let (bytes, live) = window
        .sites
        .iter()
        .fold((0, 0), |(bytes, live), site| (bytes + site.bytes, live + site.live_bytes));
    let title = format!(
        "Memory · {}/s allocated, {} live (estimates){}",
        text::bytes(window.per_second(bytes) as u64),
        text::bytes(live),
        super::filter(app)
    );
    let rows = lines(&window.sites, COLUMNS, &app.sites, super::inner(below), app.theme);
    frame.render_widget(Paragraph::new(rows).block(boxed(app, title)), below);
}
