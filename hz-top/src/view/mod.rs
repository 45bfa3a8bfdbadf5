//! What is drawn, from the state alone: one file a panel.

mod drill;
mod flame;
mod hz;
pub(crate) mod memory;
mod overview;
mod placement;
pub(crate) mod queues;
pub(crate) mod sockets;
pub(crate) mod tasks;
pub(crate) mod threads;

#[cfg(test)]
pub(crate) mod tests;

use crate::app::{App, Drill, Panel};
use hz_trace::text as words;
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Position, Rect},
    text::{Line, Span},
    widgets::{Block, Paragraph},
};

/// Draws everything.
pub fn draw(app: &App, frame: &mut Frame<'_>) {
    let [head, alarms, body, foot] = areas(app, frame.area());
    frame.render_widget(Paragraph::new(heading(app, head.width)), head);
    let lines = app.findings.iter().take(alarms.height.into());
    let lines =
        lines.map(|finding| Line::styled(format!(" ▲ {}", finding.sentence), app.theme.alarm()));
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), alarms);
    if app.shows_help {
        help(app, frame, body);
    } else if app.has_window {
        panel(app, frame, body);
    } else {
        frame.render_widget(Paragraph::new(" gathering the first figures …"), body);
    }
    frame.render_widget(Paragraph::new(footer(app, foot.width)), foot);
}

/// Heading, warnings, body and footer.
fn areas(app: &App, area: Rect) -> [Rect; 4] {
    let most = if area.height < 30 { 2 } else { 4 };
    let warnings = u16::try_from(app.findings.len()).unwrap_or(u16::MAX).min(most);
    let areas = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(warnings),
        Constraint::Min(0),
        Constraint::Length(1),
    ]);
    areas.areas(area)
}

fn panel(app: &App, frame: &mut Frame<'_>, area: Rect) {
    if let Some(drill @ (Drill::Task(..) | Drill::Thread(_) | Drill::Socket(_))) = app.drills.last()
    {
        return drill::draw(app, drill, frame, area);
    }
    match app.panel {
        Panel::Overview => overview::draw(app, frame, area),
        Panel::Tasks => tasks::draw(app, frame, area),
        Panel::Threads => threads::draw(app, frame, area),
        Panel::Placement => placement::draw(app, frame, area),
        Panel::Sockets => sockets::draw(app, frame, area),
        Panel::Queues => queues::draw(app, frame, area),
        Panel::Memory => memory::draw(app, frame, area),
        Panel::Flame => flame::draw(app, frame, area),
        Panel::Hz => hz::draw(app, frame, area),
    }
}

/// A frame with a title.
fn boxed<'a>(app: &App, title: impl Into<String>) -> Block<'a> {
    Block::bordered()
        .border_style(app.theme.dim())
        .title(Span::styled(format!(" {} ", title.into()), app.theme.title()))
}

/// Columns and rows inside of a frame.
fn inner(area: Rect) -> (u16, u16) {
    (area.width.saturating_sub(2), area.height.saturating_sub(2))
}

/// The filter, for a title.
fn filter(app: &App) -> String {
    if app.filter.is_empty() { String::new() } else { format!(" · /{}", app.filter) }
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

/// What a panel is called in the last line.
fn tab(number: usize, panel: Panel, width: u16) -> String {
    // All nine and the most needed key have to be seen in 80 columns.
    let space = if width < 120 { "" } else { " " };
    format!(" {number}{space}{}", panel.name())
}

fn footer(app: &App, width: u16) -> Line<'static> {
    if let Some(typed) = &app.typing {
        return Line::raw(format!(" /{typed}▏  Enter filters, Esc forgets it"));
    }
    if !app.notice.is_empty() {
        return Line::styled(format!(" {}", words::showable(&app.notice)), app.theme.accent());
    }
    let mut spans = Vec::new();
    for (number, panel) in (1..).zip(Panel::ALL) {
        let style = if panel == app.panel {
            app.theme.accent().patch(app.theme.title()).patch(app.theme.marked())
        } else {
            app.theme.dim()
        };
        spans.push(Span::styled(tab(number, panel, width), style));
    }
    let more =
        if width < 120 { " ? keys" } else { "  / filter  ␣ pause  [ ] time  ? keys  q leave" };
    spans.push(Span::raw(more));
    Line::from(spans)
}

/// The panel whose name is at this place of the screen, if it is in the last line.
pub(crate) fn panel_at(app: &App, place: Position) -> Option<Panel> {
    let [.., foot] = areas(app, app.screen);
    if !foot.contains(place) {
        return None;
    }
    let mut end = 0;
    let mut panels = (1..).zip(Panel::ALL);
    let found = panels.find(|(number, panel)| {
        end += tab(*number, *panel, foot.width).len();
        usize::from(place.x) < end
    });
    found.map(|(_, panel)| panel)
}

/// The frame of the flame graph at this place of the screen.
pub(crate) fn flame_node_at(app: &App, place: Position) -> Option<usize> {
    let [_, _, body, _] = areas(app, app.screen);
    flame::node_at(app, body, place)
}

fn help(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let own = if app.panel == Panel::Flame { crate::keys::FLAME_HELP } else { &[] };
    let keys = own.iter().chain(crate::keys::HELP).map(|(keys, what)| {
        Line::from(vec![Span::styled(format!(" {keys:<24}"), app.theme.accent()), Span::raw(*what)])
    });
    let block = boxed(app, format!("Keys of {}: any key goes back", app.panel.name()));
    frame.render_widget(Paragraph::new(keys.collect::<Vec<_>>()).block(block), area);
}
