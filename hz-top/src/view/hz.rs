//! What hz itself costs and loses, and what it does not collect.

use super::boxed;
use crate::{app::App, table::fit};
use hz_trace::text;
use ratatui::{Frame, layout::Rect, text::Line, widgets::Paragraph};

pub(super) fn draw(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let window = &app.window;
    let own = &window.own;
    let mut lines = vec![Line::from(format!(
        "hz-top: {} of CPU, {} in the kernel (estimated), {} of memory; gathering took {}; history {} windows, {}",
        text::duration(own.cpu_ns),
        text::duration(own.bpf_ns),
        text::bytes(own.memory_bytes),
        text::duration(own.gather_ns),
        app.history.len(),
        text::bytes(app.history.bytes() as u64),
    ))];
    lines.push(Line::styled(
        "\nSITE                      SEEN     COUNTED        LOST",
        app.theme.dim(),
    ));
    lines.extend(window.ledger.iter().map(|row| {
        let figures = [row.seen, row.submitted, row.lost()];
        let figures = figures.map(|figure| fit(&text::count(figure), 11, true)).join(" ");
        Line::from(format!("{} {figures}", fit(&row.site, 18, false)))
    }));
    lines.extend(window.programs.iter().filter(|program| program.measured_runs > 0).map(
        |program| {
            let mean = text::duration(program.measured_ns / program.measured_runs.max(1));
            Line::from(format!(
                "{} {mean} a run, {} runs skipped",
                fit(&program.program, 18, false),
                program.skipped
            ))
        },
    ));
    lines.extend(window.not_collected.iter().map(|missing| {
        Line::styled(format!("{}: not collected: {}", missing.what, missing.why), app.theme.dim())
    }));
    frame.render_widget(Paragraph::new(lines).block(boxed(app, "hz itself")), area);
}
