//! What is drawn, from the state alone: one file a panel.

mod hz;
mod overview;
mod placement;
pub(crate) mod tasks;
mod text;
pub(crate) mod threads;

#[cfg(test)]
mod tests;

use crate::app::{App, Drill, Panel};
use hz_trace::text as words;
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    text::{Line, Span},
    widgets::{Block, Paragraph},
};

/// Draws everything.
pub fn draw(app: &App, frame: &mut Frame<'_>) {
    let warnings = u16::try_from(app.findings.len().min(4)).unwrap_or(0);
    let areas = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(warnings),
        Constraint::Min(0),
        Constraint::Length(1),
    ]);
    let [head, alarms, body, foot] = areas.areas(frame.area());
    frame.render_widget(Paragraph::new(heading(app, head.width)), head);
    let lines = app
        .findings
        .iter()
        .take(4)
        .map(|finding| Line::styled(format!(" ▲ {}", finding.sentence), app.theme.alarm()));
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), alarms);
    if app.shows_help {
        help(app, frame, body);
    } else if app.has_window {
        panel(app, frame, body);
    } else {
        frame.render_widget(Paragraph::new(" gathering the first figures …"), body);
    }
    frame.render_widget(Paragraph::new(footer(app)), foot);
}

fn panel(app: &App, frame: &mut Frame<'_>, area: Rect) {
    if let Some(drill @ (Drill::Task(..) | Drill::Thread(_))) = app.drills.last() {
        return text::drill(app, drill, frame, area);
    }
    match app.panel {
        Panel::Overview => overview::draw(app, frame, area),
        Panel::Tasks => tasks::draw(app, frame, area),
        Panel::Threads => threads::draw(app, frame, area),
        Panel::Placement => placement::draw(app, frame, area),
        Panel::Queues => text::queues(app, frame, area),
        Panel::Memory => text::memory(app, frame, area),
        Panel::Hz => hz::draw(app, frame, area),
        Panel::Sockets => missing(
            app,
            frame,
            area,
            "Sockets: not collected: hz-top does not read sockets yet; hz-trace record --probes net does",
        ),
        Panel::Flame => {
            missing(app, frame, area, "Flame: not collected: hz-top draws no stacks yet");
        }
    }
}

fn missing(app: &App, frame: &mut Frame<'_>, area: Rect, why: &str) {
    let block = boxed(app, app.panel.name());
    frame.render_widget(
        Paragraph::new(why.to_owned()).wrap(ratatui::widgets::Wrap { trim: true }).block(block),
        area,
    );
}

/// A frame with a title.
fn boxed<'a>(app: &App, title: impl Into<String>) -> Block<'a> {
    Block::bordered()
        .border_style(app.theme.dim())
        .title(Span::styled(format!(" {} ", title.into()), app.theme.title()))
}

fn heading(app: &App, width: u16) -> Line<'static> {
    let window = &app.window;
    let seconds = window.end_realtime_ns / 1_000_000_000 % 86_400;
    let clock = format!("{:02}:{:02}:{:02} UTC", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let share = |ns: u64| words::percent(ns as f64 * 100.0 / window.length_ns() as f64);
    let state = match (app.back, app.is_paused) {
        (0, false) => String::new(),
        (0, true) => "PAUSED  ".to_owned(),
        (back, _) => format!("PAST: {back} windows back  "),
    };
    let recording = if app.is_recording { "REC  " } else { "" };
    let left = format!(" hz-top  {}", app.title);
    let right = if app.has_window {
        format!(
            "{state}{recording}lost {} · hz {} CPU {}  {clock} ",
            words::count(window.lost()),
            share(window.own.cpu_ns),
            words::bytes(window.own.memory_bytes),
        )
    } else {
        String::new()
    };
    let room = usize::from(width).saturating_sub(right.chars().count());
    Line::from(vec![
        Span::styled(crate::table::fit(&left, room, false), app.theme.title()),
        Span::raw(right),
    ])
}

fn footer(app: &App) -> Line<'static> {
    if let Some(typed) = &app.typing {
        return Line::raw(format!(" /{typed}▏  Enter filters, Esc forgets it"));
    }
    if !app.notice.is_empty() {
        return Line::styled(format!(" {}", words::showable(&app.notice)), app.theme.accent());
    }
    let mut spans = Vec::new();
    for (number, panel) in (1..).zip(Panel::ALL) {
        let style = if panel == app.panel { app.theme.accent() } else { app.theme.dim() };
        let text = format!(" {number} {}", panel.name());
        let style = if panel == app.panel { style.patch(app.theme.title()) } else { style };
        spans.push(Span::styled(text, style));
    }
    spans.push(Span::raw("  / filter  ␣ pause  [ ] time  ? keys  q leave"));
    Line::from(spans)
}

/// The panel whose name is at this place of the screen, if it is in the last line.
pub(crate) fn panel_at(_: &App, column: u16, row: u16) -> Option<Panel> {
    let last = ratatui::crossterm::terminal::size().ok()?.1.checked_sub(1)?;
    let mut end = 0;
    let mut panels = (1..).zip(Panel::ALL).filter(|_| row == last);
    let found = panels.find(|(number, panel)| {
        end += format!(" {number} {}", panel.name()).len();
        usize::from(column) < end
    });
    found.map(|(_, panel)| panel)
}

fn help(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let keys = crate::keys::HELP.iter().map(|(keys, what)| {
        Line::from(vec![Span::styled(format!(" {keys:<24}"), app.theme.accent()), Span::raw(*what)])
    });
    let block = boxed(app, format!("Keys of {}: any key goes back", app.panel.name()));
    frame.render_widget(Paragraph::new(keys.collect::<Vec<_>>()).block(block), area);
}
