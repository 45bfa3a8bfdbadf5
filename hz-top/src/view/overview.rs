//! Everything at a glance.

use super::{boxed, tasks, threads};
use crate::{app::App, table::fit};
use hz_trace::text;
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    text::{Line, Span},
    widgets::Paragraph,
};
use std::collections::BTreeMap;

pub(super) fn draw(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let [upper, middle, lower] =
        Layout::vertical([Constraint::Length(9), Constraint::Min(4), Constraint::Percentage(40)])
            .areas(area);
    let [left, right] =
        Layout::horizontal([Constraint::Percentage(42), Constraint::Percentage(58)]).areas(upper);
    cpus(app, frame, left);
    waits(app, frame, right);
    if app.window.groups.is_empty() {
        return threads::draw(app, frame, middle.union(lower));
    }
    tasks::draw(app, frame, middle);
    threads::draw(app, frame, lower);
}

fn cpus(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let window = &app.window;
    let bar = usize::from(area.width).saturating_sub(24).min(30);
    let mut lines = Vec::new();
    for cpu in &window.cpus {
        let share = (cpu.busy_ns as f64 / window.length_ns() as f64).clamp(0.0, 1.0);
        let full = (share * bar as f64).round() as usize;
        let steal = if cpu.steal_ns > 0 {
            format!(" steal {}", text::share(cpu.steal_ns, window.length_ns()))
        } else {
            String::new()
        };
        lines.push(Line::from(vec![
            Span::raw(format!("{:>3} ", cpu.cpu)),
            Span::styled("█".repeat(full) + &"░".repeat(bar - full), app.theme.heat(share)),
            Span::raw(format!(" {:>5}{steal}", text::percent(share * 100.0))),
        ]));
        lines.push(Line::styled(format!("    {}", who(app, cpu.cpu)), app.theme.dim()));
    }
    let moves: u64 = window.moves.iter().map(|moved| moved.count).sum();
    let steals: u64 = window
        .runtimes
        .iter()
        .flat_map(|runtime| &runtime.workers)
        .map(|worker| worker.steals)
        .sum();
    lines.push(Line::from(format!(
        "migrations {:.0}/s  steals {:.0}/s",
        window.per_second(moves),
        window.per_second(steals)
    )));
    frame.render_widget(Paragraph::new(lines).block(boxed(app, "CPU")), area);
}

/// Processes on a CPU, with their shares.
fn who(app: &App, cpu: u32) -> String {
    let mut by_process: BTreeMap<&str, u64> = BTreeMap::new();
    for thread in &app.window.threads {
        let name = if thread.process.is_empty() { &thread.name } else { &thread.process };
        *by_process.entry(name).or_default() +=
            thread.place_ns.get(cpu as usize).copied().unwrap_or(0);
    }
    let mut all: Vec<_> = by_process.into_iter().filter(|(_, ns)| *ns > 0).collect();
    all.sort_by_key(|(_, ns)| std::cmp::Reverse(*ns));
    let shares = all
        .iter()
        .take(3)
        .map(|(name, ns)| format!("{name} {}", text::share(*ns, app.window.length_ns())));
    shares.collect::<Vec<_>>().join("  ")
}

/// Time against length: how often threads waited how long for a CPU.
fn waits(app: &App, frame: &mut Frame<'_>, area: Rect) {
    const NAMES: [&str; 6] = ["≤ 10 µs", "≤100 µs", "≤  1 ms", "≤ 10 ms", "≤100 ms", "longer "];
    const SHADES: [&str; 5] = [" ", "░", "▒", "▓", "█"];
    let block = boxed(app, "Run-queue wait");
    if let Some(why) = app.window.why_not("waits for a CPU by length") {
        return frame
            .render_widget(Paragraph::new(format!("not collected: {why}")).block(block), area);
    }
    let columns = usize::from(area.width).saturating_sub(11);
    let points: Vec<_> = app.history.points(app.back).rev().take(columns).collect();
    let mut lines = Vec::new();
    for decade in (0..NAMES.len()).rev() {
        let mut spans = vec![Span::styled(format!("{} ", NAMES[decade]), app.theme.dim())];
        spans.extend(points.iter().rev().map(|point| {
            let count = point.waits[decade];
            let shade = if count == 0 { 0 } else { (1 + count.ilog10() as usize).min(4) };
            Span::styled(SHADES[shade], app.theme.heat(decade as f64 / 5.0))
        }));
        lines.push(Line::from(spans));
    }
    let waits = &app.window.waits;
    let worst = app.window.worst_wait().map_or_else(String::new, |(row, wait)| {
        format!("  max {}  {} ← {}", text::duration(wait.wait_ns), row.name, wait.by)
    });
    let figures = format!(
        "p50 {}  p99 {}{worst}",
        text::duration(waits.quantile_ns(0.5)),
        text::duration(waits.quantile_ns(0.99))
    );
    lines.push(Line::from(fit(&figures, usize::from(area.width).saturating_sub(2), false)));
    frame.render_widget(Paragraph::new(lines).block(block), area);
}
