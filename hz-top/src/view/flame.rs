//! A live flame graph: where time on a CPU goes, or time off it.

use super::boxed;
use crate::{app::App, table::fit};
use hz_trace::{model::window::FlameGraph, text};
use ratatui::{
    Frame,
    layout::{Position, Rect},
    style::Style,
    text::Line,
    widgets::{Paragraph, Wrap},
};

pub(super) fn draw(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let kind = if app.flame.is_off { "time off a CPU" } else { "time on a CPU" };
    let Some(graph) = app.flame_graph() else {
        let why = app.window.why_not("stacks");
        let text = why
            .map_or_else(|| "gathering stacks …".to_owned(), |why| format!("not collected: {why}"));
        let page = Paragraph::new(text).wrap(Wrap { trim: true });
        return frame.render_widget(page.block(boxed(app, format!("Flame · {kind}"))), area);
    };
    let sampled =
        if graph.one_in > 1 { format!(", one in {}", graph.one_in) } else { String::new() };
    let title = format!(
        "Flame · {kind} · {} in {} ({} samples{sampled}) · o the other",
        text::duration(graph.total_ns),
        text::duration(graph.length_ns),
        text::count(graph.samples),
    );
    frame.render_widget(boxed(app, title), area);
    let inside = inside(area);
    for tile in app.flame.tiles(graph, inside.width, inside.height) {
        let node = &graph.nodes[tile.node];
        let is_chosen = app.flame.cursor(graph) == Some(tile.node);
        let share = node.total_ns as f64 / graph.total_ns.max(1) as f64;
        let style =
            if is_chosen { app.theme.chosen() } else { app.theme.frame(share, node.is_kernel) };
        let label = fit(&format!("▏{}", node.name), tile.width.into(), false);
        let (x, y) = (inside.x + tile.left, inside.y + tile.line);
        frame.buffer_mut().set_stringn(x, y, label, tile.width.into(), style);
    }
    let foot = Rect {
        y: inside.bottom(),
        height: area.height.saturating_sub(inside.height + 2).min(1),
        ..inside
    };
    frame.render_widget(Line::styled(chosen(app, graph), Style::new()), foot);
}

/// What is inside of the frame, without the line that tells of the chosen one.
fn inside(area: Rect) -> Rect {
    let inner = ratatui::widgets::Block::bordered().inner(area);
    Rect { height: inner.height.saturating_sub(1), ..inner }
}

fn chosen(app: &App, graph: &FlameGraph) -> String {
    let Some(node) = app.flame.cursor(graph).map(|node| &graph.nodes[node]) else {
        return "arrows choose, Enter zooms in, Esc out".to_owned();
    };
    let kernel = if node.is_kernel { " (kernel)" } else { "" };
    format!(
        "{}{kernel}: {}, {} of all",
        node.name,
        text::duration(node.total_ns),
        text::share(node.total_ns, graph.total_ns)
    )
}

/// The frame at a place of the screen, whose body is `area`.
pub(crate) fn node_at(app: &App, area: Rect, place: Position) -> Option<usize> {
    let graph = app.flame_graph()?;
    let inside = inside(area);
    let (x, y) = (place.x.checked_sub(inside.x)?, place.y.checked_sub(inside.y)?);
    let tiles = app.flame.tiles(graph, inside.width, inside.height);
    let found = tiles
        .iter()
        .find(|tile| tile.line == y && (tile.left..tile.left + tile.width).contains(&x));
    found.map(|tile| tile.node)
}
