//! A screen as SVG and as text.

use crate::{App, view};
use ratatui::{
    Terminal,
    backend::TestBackend,
    buffer::{Buffer, Cell},
    style::{Color, Modifier},
};
use std::fmt::Write as _;

/// Size of a character in the picture, in its units.
const CHARACTER: (u16, u16) = (9, 18);

/// Draws the screen into memory.
pub(crate) fn buffer(app: &App, width: u16, height: u16) -> Buffer {
    let Ok(mut terminal) = Terminal::new(TestBackend::new(width, height));
    let Ok(_) = terminal.draw(|frame| view::draw(app, frame));
    terminal.backend().buffer().clone()
}

/// The screen's lines, without what only fills them.
pub(crate) fn text(buffer: &Buffer) -> String {
    let mut text = String::new();
    for row in 0..buffer.area.height {
        let cells = (0..buffer.area.width).map(|column| buffer[(column, row)].symbol());
        let line: String = cells.collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The screen as a picture.
pub(crate) fn svg(buffer: &Buffer) -> String {
    let (wide, high) = CHARACTER;
    let (width, height) = (buffer.area.width * wide + 16, buffer.area.height * high + 16);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#11151a\"/>\n\
         <g font-family=\"DejaVu Sans Mono, Menlo, Consolas, monospace\" font-size=\"15\" fill=\"#d5dbe1\" xml:space=\"preserve\">\n"
    );
    for row in 0..buffer.area.height {
        let mut column = 0;
        while column < buffer.area.width {
            let first = &buffer[(column, row)];
            let end = (column..buffer.area.width)
                .find(|place| style(&buffer[(*place, row)]) != style(first))
                .unwrap_or(buffer.area.width);
            run(&mut out, buffer, (column, end), row);
            column = end;
        }
    }
    out.push_str("</g>\n</svg>\n");
    out
}

fn style(cell: &Cell) -> (Color, Color, Modifier) {
    (cell.fg, cell.bg, cell.modifier)
}

/// Characters of one style.
fn run(out: &mut String, buffer: &Buffer, (from, to): (u16, u16), row: u16) {
    let (wide, high) = CHARACTER;
    let text: String = (from..to).map(|column| buffer[(column, row)].symbol()).collect();
    let cell = &buffer[(from, row)];
    let is_reversed = cell.modifier.contains(Modifier::REVERSED);
    let (x, y) = (from * wide + 8, row * high + 8);
    let colour = colour(cell.fg);
    // Writing to a string cannot fail.
    if is_reversed {
        let width = (to - from) * wide;
        let fill = colour.clone().unwrap_or_else(|| "#d5dbe1".to_owned());
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{high}\" fill=\"{fill}\"/>"
        );
    }
    if text.trim().is_empty() {
        return;
    }
    let fill = if is_reversed { Some("#11151a".to_owned()) } else { colour };
    let fill = fill.map_or_else(String::new, |fill| format!(" fill=\"{fill}\""));
    let weight = if cell.modifier.contains(Modifier::BOLD) { " font-weight=\"bold\"" } else { "" };
    let length = (to - from) * wide;
    let _ = writeln!(
        out,
        "<text x=\"{x}\" y=\"{}\" textLength=\"{length}\" lengthAdjust=\"spacingAndGlyphs\"{fill}{weight}>{}</text>",
        y + high - 4,
        escape(&text),
    );
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for each in text.chars() {
        match each {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // A space that is not folded with its neighbours.
            ' ' => out.push('\u{a0}'),
            _ => out.push(each),
        }
    }
    out
}

fn colour(colour: Color) -> Option<String> {
    let (red, green, blue) = match colour {
        Color::Rgb(red, green, blue) => (red, green, blue),
        Color::Yellow | Color::LightYellow => (255, 150, 40),
        Color::Cyan => (86, 180, 233),
        Color::Blue => (0, 114, 178),
        Color::Gray | Color::DarkGray => (140, 150, 160),
        _ => return None,
    };
    Some(format!("#{red:02x}{green:02x}{blue:02x}"))
}
