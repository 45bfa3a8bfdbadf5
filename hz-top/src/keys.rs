//! Keys and the mouse, as people know them from top, htop and vim.

use crate::{
    app::{App, Effect, Panel},
    flame::Step,
    view,
};
use ratatui::{
    crossterm::event::{
        KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
    },
    layout::Position,
};

/// Rows of a page.
const PAGE: isize = 20;

/// Keys, and what they do, as the help shows them.
pub(crate) const HELP: &[(&str, &str)] = &[
    ("1 … 9, Tab", "panels"),
    ("↑ ↓ j k PgUp PgDn g G", "choose a row"),
    ("← → h l < >", "sort by another column"),
    ("i", "sort the other way round"),
    (
        "Enter",
        "look closely: tasks → task → its polls, sockets, stack; thread → its waits, culprits",
    ),
    ("Esc", "back; clear the filter"),
    ("/", "filter by name, pid, place or address: a regular expression"),
    ("Space", "pause; go on"),
    ("[ ]", "a second back, forward; { } ten"),
    ("s", "save the screen as SVG and text"),
    ("r", "start or stop a recording, which hz-trace opens"),
    ("+ -", "replay faster, slower"),
    ("?", "these keys"),
    ("q", "leave"),
];

/// Keys of the flame graph, beside those.
pub(crate) const FLAME_HELP: &[(&str, &str)] = &[
    ("← → ↑ ↓ h j k l", "choose a frame; a click does too"),
    ("Enter", "zoom in; a second click does too"),
    ("Esc", "zoom out"),
    ("o", "time on a CPU, time off it"),
];

/// A key was pressed.
pub(crate) fn press(app: &mut App, key: KeyEvent) -> Option<Effect> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return matches!(key.code, KeyCode::Char('c' | 'd')).then_some(Effect::Quit);
    }
    if app.typing.is_some() {
        type_filter(app, key.code);
        return None;
    }
    app.notice.clear();
    if app.shows_help {
        app.shows_help = false;
        return None;
    }
    if let Some(effect) = ask(app, key.code) {
        return Some(effect);
    }
    choose(app, key.code);
    None
}

/// Keys that do something outside of the state.
fn ask(app: &App, code: KeyCode) -> Option<Effect> {
    match code {
        KeyCode::Char('q') => Some(Effect::Quit),
        KeyCode::Char('s') => Some(Effect::Save),
        KeyCode::Char('r') => Some(Effect::Record),
        KeyCode::Char('+') if app.is_replay => Some(Effect::Speed(1)),
        KeyCode::Char('-') if app.is_replay => Some(Effect::Speed(-1)),
        KeyCode::Char('}') if app.is_replay && app.back == 0 => Some(Effect::Seek(10)),
        _ => None,
    }
}

fn choose(app: &mut App, code: KeyCode) {
    if app.panel == Panel::Flame && look_at_flame(app, code) {
        return;
    }
    match code {
        KeyCode::Char(digit @ '1'..='9') => app.show(Panel::ALL[digit as usize - '1' as usize]),
        KeyCode::Tab => turn(app, 1),
        KeyCode::BackTab => turn(app, Panel::ALL.len() - 1),
        KeyCode::Char('?') => app.shows_help = true,
        KeyCode::Char('/') => app.typing = Some(app.filter.clone()),
        KeyCode::Char(' ') => app.pause(),
        KeyCode::Char('[') => app.step_time(1),
        KeyCode::Char(']') => app.step_time(-1),
        KeyCode::Char('{') => app.step_time(10),
        KeyCode::Char('}') => app.step_time(-10),
        KeyCode::Enter => app.drill(),
        KeyCode::Esc | KeyCode::Backspace => leave(app),
        _ => walk(app, code),
    }
}

/// Keys of the flame graph; false: it is none of them.
fn look_at_flame(app: &mut App, code: KeyCode) -> bool {
    let step = match code {
        KeyCode::Char('o') => {
            app.flame.turn();
            return true;
        }
        KeyCode::Enter => {
            app.flame.zoom();
            return true;
        }
        KeyCode::Esc | KeyCode::Backspace => return app.flame.zoom_out(),
        KeyCode::Up | KeyCode::Char('k') => Step::Out,
        KeyCode::Down | KeyCode::Char('j') => Step::In,
        KeyCode::Left | KeyCode::Char('h') => Step::Left,
        KeyCode::Right | KeyCode::Char('l') => Step::Right,
        _ => return false,
    };
    let App { window, flame, .. } = app;
    if let Some(graph) = window.flames.iter().find(|graph| graph.kind == flame.kind()) {
        flame.step(graph, step);
    }
    true
}

fn turn(app: &mut App, by: usize) {
    let place = Panel::ALL.iter().position(|panel| *panel == app.panel).unwrap_or(0);
    app.show(Panel::ALL[(place + by) % Panel::ALL.len()]);
}

fn leave(app: &mut App) {
    if app.drills.pop().is_none() && !app.filter.is_empty() {
        app.set_filter(String::new());
    }
    app.arrange();
}

/// Keys that move in a table.
fn walk(app: &mut App, code: KeyCode) {
    let Some((table, columns)) = app.table() else { return };
    match code {
        KeyCode::Down | KeyCode::Char('j') => table.step(1),
        KeyCode::Up | KeyCode::Char('k') => table.step(-1),
        KeyCode::PageDown => table.step(PAGE),
        KeyCode::PageUp => table.step(-PAGE),
        KeyCode::Home | KeyCode::Char('g') => table.step(isize::MIN),
        KeyCode::End | KeyCode::Char('G') => table.step(isize::MAX),
        KeyCode::Right | KeyCode::Char('l' | '>') => table.sort = (table.sort + 1) % columns,
        KeyCode::Left | KeyCode::Char('h' | '<') => {
            table.sort = (table.sort + columns - 1) % columns;
        }
        KeyCode::Char('i') => table.is_ascending = !table.is_ascending,
        _ => return,
    }
    app.arrange();
}

fn type_filter(app: &mut App, code: KeyCode) {
    let mut text = app.typing.take().unwrap_or_default();
    match code {
        KeyCode::Enter => return app.set_filter(text),
        KeyCode::Esc => return,
        KeyCode::Backspace => _ = text.pop(),
        KeyCode::Char(each) if text.len() < 200 => text.push(each),
        _ => {}
    }
    app.typing = Some(text);
}

/// The mouse was used: the wheel chooses a row, a click a panel in the last line, a frame of the flame
/// graph or a row of the table.
pub(crate) fn mouse(app: &mut App, event: MouseEvent) {
    let by = match event.kind {
        MouseEventKind::ScrollDown => 3,
        MouseEventKind::ScrollUp => -3,
        MouseEventKind::Down(MouseButton::Left) => {
            return click(app, Position::new(event.column, event.row));
        }
        _ => return,
    };
    if let Some((table, _)) = app.table() {
        table.step(by);
    }
}

fn click(app: &mut App, place: Position) {
    if let Some(panel) = view::panel_at(app, place) {
        return app.show(panel);
    }
    if app.panel == Panel::Flame
        && let Some(node) = view::flame_node_at(app, place)
    {
        let App { window, flame, .. } = app;
        if let Some(graph) = window.flames.iter().find(|graph| graph.kind == flame.kind()) {
            flame.choose(graph, node);
        }
    }
}
