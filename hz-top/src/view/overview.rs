//! Everything at a glance.

use super::{boxed, queues, sockets, tasks, threads};
use crate::{app::App, table::fit};
use hz_trace::text;
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::Style,
    text::{Line, Span},
    widgets::Paragraph,
};
use std::collections::BTreeMap;

/// Rows from which on sockets and queues have tables of their own here.
const ROOMY: u16 = 28;

pub(super) fn draw(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let is_roomy = area.height >= ROOMY;
    let bottom = if is_roomy { (area.height / 4).max(7) } else { 2 };
    let [upper, middle, lower] = Layout::vertical([
        Constraint::Length(9.min(area.height / 2)),
        Constraint::Min(3),
        Constraint::Length(bottom),
    ])
    .areas(area);
    let [left, right] =
        Layout::horizontal([Constraint::Percentage(42), Constraint::Percentage(58)]).areas(upper);
    cpus(app, frame, left);
    waits(app, frame, right);
    loudest(app, frame, middle);
    match &app.window.network {
        Some(network) if is_roomy => {
            let [left, right] =
                Layout::horizontal([Constraint::Percentage(55), Constraint::Percentage(45)])
                    .areas(lower);
            sockets::table(app, network, frame, left);
            queues::glance(app, frame, right);
        }
        _ => frame.render_widget(Paragraph::new(glance(app)), lower),
    }
}

/// Tasks and threads, as far as there is room for both.
fn loudest(app: &App, frame: &mut Frame<'_>, area: Rect) {
    if app.window.groups.is_empty() {
        return threads::draw(app, frame, area);
    }
    if area.height < 12 {
        return tasks::draw(app, frame, area);
    }
    let [upper, lower] =
        Layout::vertical([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(area);
    tasks::draw(app, frame, upper);
    threads::draw(app, frame, lower);
}

/// The network and the queues in two lines.
fn glance(app: &App) -> Vec<Line<'static>> {
    let Some(network) = &app.window.network else {
        let why = app.window.why_not("sockets").unwrap_or("nothing here tells of sockets");
        let text = format!(" sockets: not collected: {why}");
        return vec![Line::styled(text, app.theme.dim())];
    };
    let again = network.per_second(network.counts.retransmitted);
    let unsent = network.sockets.iter().map(|socket| socket.unsent).sum();
    let first = format!(
        " {} sockets · sent again {again:.0}/s · unsent {} · TIME_WAIT {} · ports {} of {}",
        text::count(network.sockets_total),
        text::bytes(unsent),
        text::count(network.ports.time_wait),
        text::count(network.ports.used),
        text::count(network.ports.available),
    );
    let mut queues: Vec<_> = app.queue_rows.iter().filter(|row| row.depth > 0).collect();
    queues.sort_by(|a, b| b.share().unwrap_or(0.0).total_cmp(&a.share().unwrap_or(0.0)));
    let parts = queues.iter().take(3).map(|row| {
        let of = row
            .limit
            .map_or_else(String::new, |limit| format!(" of {}", queues::amount(limit, row.unit)));
        let mark = if row.is_alarming() { " ▲" } else { "" };
        format!("{} {} {}{of}{mark}", row.kind, row.name, queues::amount(row.depth, row.unit))
    });
    let parts: Vec<String> = parts.collect();
    let second = if parts.is_empty() {
        " queues: all empty".to_owned()
    } else {
        format!(" {}", parts.join(" · "))
    };
    let is_alarming = queues.iter().any(|row| row.is_alarming());
    let style = if is_alarming { app.theme.alarm() } else { Style::new() };
    vec![Line::from(first), Line::styled(second, style)]
}

fn cpus(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let window = &app.window;
    let (width, height) = super::inner(area);
    let room = usize::from(height).saturating_sub(1);
    let mut lines = match window.cpus.len() {
        count if count * 2 <= room => window
            .cpus
            .iter()
            .flat_map(|cpu| {
                let who = Line::styled(format!("    {}", who(app, cpu.cpu)), app.theme.dim());
                [bar(app, cpu, width), who]
            })
            .collect(),
        count if count <= room => window.cpus.iter().map(|cpu| bar(app, cpu, width)).collect(),
        _ => blocks(app, width, room),
    };
    let moves: u64 = window.moves.iter().map(|moved| moved.count).sum();
    let workers = window.runtimes.iter().flat_map(|runtime| &runtime.workers);
    let steals: u64 = workers.map(|worker| worker.steals).sum();
    lines.truncate(room);
    lines.push(Line::from(format!(
        "migrations {:.0}/s  steals {:.0}/s",
        window.per_second(moves),
        window.per_second(steals)
    )));
    frame.render_widget(Paragraph::new(lines).block(boxed(app, "CPU")), area);
}

fn bar(app: &App, cpu: &hz_trace::model::window::CpuRow, width: u16) -> Line<'static> {
    let length_ns = app.window.length_ns();
    let long = usize::from(width).saturating_sub(22).min(30);
    let share = (cpu.busy_ns as f64 / length_ns as f64).clamp(0.0, 1.0);
    let full = (share * long as f64).round() as usize;
    let steal = if cpu.steal_ns > 0 {
        format!(" steal {}", text::share(cpu.steal_ns, length_ns))
    } else {
        String::new()
    };
    Line::from(vec![
        Span::raw(format!("{:>3} ", cpu.cpu)),
        Span::styled("█".repeat(full) + &"░".repeat(long - full), app.theme.heat(share)),
        Span::raw(format!(" {:>5}{steal}", text::percent(share * 100.0))),
    ])
}

/// Many CPUs: a bar of an eighth each.
fn blocks(app: &App, width: u16, room: usize) -> Vec<Line<'static>> {
    const BARS: [&str; 9] = ["·", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];
    let length_ns = app.window.length_ns() as f64;
    let in_a_line = usize::from(width).saturating_sub(4).max(1);
    let lines = app.window.cpus.chunks(in_a_line).take(room).map(|cpus| {
        let first = cpus.first().map_or(0, |cpu| cpu.cpu);
        let mut spans = vec![Span::raw(format!("{first:>3} "))];
        spans.extend(cpus.iter().map(|cpu| {
            let share = (cpu.busy_ns as f64 / length_ns).clamp(0.0, 1.0);
            Span::styled(BARS[(share * 8.0).round() as usize], app.theme.heat(share))
        }));
        Line::from(spans)
    });
    lines.collect()
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
        let text = Paragraph::new(format!("not collected: {why}"));
        let text = text.wrap(ratatui::widgets::Wrap { trim: true });
        return frame.render_widget(text.block(block), area);
    }
    let columns = usize::from(area.width).saturating_sub(10);
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
