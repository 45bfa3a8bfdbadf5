//! Who runs where: threads and groups of tasks by CPU, and moves between CPUs.

use super::boxed;
use crate::{app::App, table::fit};
use hz_trace::text;
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    text::{Line, Span},
    widgets::Paragraph,
};

pub(super) fn draw(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let [left, right] =
        Layout::horizontal([Constraint::Percentage(60), Constraint::Percentage(40)]).areas(area);
    let threads = app.threads.order.iter().filter_map(|row| app.window.threads.get(*row as usize));
    let rows = threads.map(|row| (format!("{} {}", row.name, row.tid), row.place_ns.as_slice()));
    matrix(app, frame, left, "Threads × CPU", rows);
    let [upper, lower] =
        Layout::vertical([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(right);
    let groups = app.groups.order.iter().filter_map(|row| app.window.groups.get(*row as usize));
    let rows = groups.map(|row| (row.name.clone(), row.place_ns.as_slice()));
    matrix(app, frame, upper, "Tasks × CPU", rows);
    let mut lines: Vec<Line<'_>> = app
        .window
        .runtimes
        .iter()
        .flat_map(|runtime| &runtime.workers)
        .map(|worker| {
            let busy = text::share(worker.busy_ns, app.window.length_ns());
            format!(
                "worker-{}  busy {busy}  polls {}  stole {}",
                worker.worker,
                text::count(worker.polls),
                worker.steals
            )
            .into()
        })
        .collect();
    lines.extend(app.window.moves.iter().map(|moved| {
        Line::from(format!("CPU {} → {}: {} moves", moved.from, moved.to, text::count(moved.count)))
    }));
    frame.render_widget(
        Paragraph::new(lines).block(boxed(app, "Workers, and moves between CPUs")),
        lower,
    );
}

fn matrix<'a>(
    app: &App,
    frame: &mut Frame<'_>,
    area: Rect,
    title: &str,
    rows: impl Iterator<Item = (String, &'a [u64])>,
) {
    let lines = rows.take(area.height.into()).map(|(name, places)| {
        let mut spans = vec![Span::raw(fit(&name, 22, false) + " ")];
        spans.extend(places.iter().map(|ns| {
            let share = *ns as f64 / app.window.length_ns() as f64;
            Span::styled(
                format!("{:>5} ", text::share(*ns, app.window.length_ns())),
                app.theme.heat(share),
            )
        }));
        Line::from(spans)
    });
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()).block(boxed(app, title)), area);
}
