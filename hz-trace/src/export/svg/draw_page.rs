//! Draws what is around the lanes: title, axis, headings, legend, remarks.

use super::axis::tick_label;
use super::backend::{SvgBackend, units};
use super::canvas::Canvas;
use super::columns::place;
use super::layout::{MARGIN, PLOT, WIDTH};
use super::style::{Paint, Type};
use super::words;
use super::{PX, Scene};
use crate::export::Subject;
use crate::model::State;
use crate::text::duration;
use plotters::style::text_anchor::HPos;
use std::io;

/// Ticks that the axis may have.
const TICKS: usize = 10;

/// The sheet of styles. Everything looks right without it, on a light page.
const STYLE: &str = include_str!("timeline.css");

/// Height of what is below the plot, in units.
pub(super) fn footer_height(subject: &Subject<'_>) -> i32 {
    let remarks = subject.about.not_collected.len() as i32;
    // With tasks the legend may take a second line.
    let legend = i32::from(!subject.model.tasks.is_empty());
    let flames = i32::from(!subject.about.flames.is_empty());
    (52 + (legend + remarks + flames) * 16) * PX
}

/// Opens the picture: its size, styles and page.
pub(super) fn open(scene: &Scene<'_>, canvas: &Canvas) -> io::Result<()> {
    let (width, height) = (units(WIDTH), units(scene.layout.height));
    let view = format!("0 0 {width} {height}");
    let title = words::printable(&scene.subject.about.title);
    let title = format!("{title}: timeline by hz");
    canvas.backend(|backend| {
        let attributes = [
            ("xmlns", "http://www.w3.org/2000/svg"),
            ("viewBox", view.as_str()),
            ("width", width.as_str()),
            ("height", height.as_str()),
            ("class", "hz-timeline"),
            ("role", "img"),
            ("font-family", "system-ui, 'DejaVu Sans', sans-serif"),
        ];
        backend.open("svg", &attributes)?;
        backend.text_element("title", &[], &title)?;
        backend.text_element("desc", &[], &scene.verdict)?;
        backend.cdata_element("style", &[], STYLE)?;
        hatch(backend)
    })?;
    canvas.rect(0..WIDTH, 0..scene.layout.height, Paint::PAGE)
}

/// The pattern of what is not known.
fn hatch(backend: &mut SvgBackend) -> io::Result<()> {
    backend.open("defs", &[])?;
    let pattern =
        [("id", "hz-hatch"), ("width", "6"), ("height", "6"), ("patternUnits", "userSpaceOnUse")];
    backend.open("pattern", &pattern)?;
    let line = [
        ("d", "M-1.5 1.5l3-3M0 6l6-6M4.5 7.5l3-3"),
        ("class", "hatch"),
        ("stroke", "#b3bcc8"),
        ("stroke-width", "1"),
        ("fill", "none"),
    ];
    backend.empty("path", &line)?;
    backend.close()?;
    backend.close()
}

/// Title, what was recorded, what was lost, the verdict.
pub(super) fn header(scene: &Scene<'_>, canvas: &Canvas) -> io::Result<()> {
    let subject = scene.subject;
    let title = shortened(&words::printable(&subject.about.title), 48);
    canvas.text(&title, (MARGIN, 30 * PX), Type::TITLE)?;
    let x = MARGIN + Type::TITLE.width(&title) + 10 * PX;
    canvas.text(&words::subtitle(subject), (x, 30 * PX), Type::SUBTITLE)?;
    let cost = words::own_cost(subject);
    let mut right = PLOT.end;
    if let Some(cost) = cost {
        let cost = format!(" · {cost}");
        canvas.text(&cost, (right, 30 * PX), Type::SUBTITLE.anchored(HPos::Right))?;
        right -= Type::SUBTITLE.width(&cost);
    }
    let look = if subject.about.lost > 0 { Type::ALARM.sized(115) } else { Type::SUBTITLE };
    canvas.text(&words::loss(subject), (right, 30 * PX), look.anchored(HPos::Right))?;
    canvas.backend(|backend| backend.open("g", &[("class", "verdict")]))?;
    canvas.text(&scene.verdict, (MARGIN, 51 * PX), Type::SENTENCE)?;
    canvas.backend(SvgBackend::close)
}

/// The axis, the grid and the headings.
pub(super) fn axis(scene: &Scene<'_>, canvas: &Canvas) -> io::Result<()> {
    let origin_ns = scene.subject.model.start_ns;
    let ticks = canvas.ticks(TICKS)?;
    let step_ns = ticks.windows(2).next().map_or(1, |pair| pair[1].0 - pair[0].0);
    canvas.backend(|backend| backend.open("g", &[("class", "axis")]))?;
    let plot_y = scene.layout.plot_y.clone();
    for (time_ns, x) in &ticks {
        canvas.bar(*x, plot_y.clone(), (Paint::GRID, PX.unsigned_abs()))?;
        let label = tick_label(time_ns.saturating_sub(origin_ns), step_ns);
        // At the edge of the page a centred label would be cut.
        let anchor = if *x > PLOT.end - 8 * PX { HPos::Right } else { HPos::Center };
        let at = if *x > PLOT.end - 8 * PX { PLOT.end } else { *x };
        canvas.text(&label, (at, plot_y.start - 7 * PX), Type::AXIS.anchored(anchor))?;
    }
    canvas.backend(SvgBackend::close)?;
    for heading in &scene.layout.headings {
        let look = if heading.is_process { Type::AXIS.painted(Paint::TEXT) } else { Type::SECTION };
        let text = shortened(&heading.text, 32);
        canvas.text(&text, (MARGIN, heading.baseline), look)?;
        let x = MARGIN + look.width(&text) + 6 * PX;
        canvas.text(&heading.aside, (x, heading.baseline), Type::AXIS)?;
    }
    Ok(())
}

/// Opens a lane's group; the script knows it by its number.
pub(super) fn open_lane(canvas: &Canvas, number: usize, about: &str) -> io::Result<()> {
    let number = number.to_string();
    canvas.backend(|backend| {
        backend.open("g", &[("class", "lane"), ("data-lane", &number)])?;
        backend.text_element("title", &[], about)
    })
}

/// Closes a lane's tiles and the lane.
pub(super) fn close_lane(canvas: &Canvas) -> io::Result<()> {
    canvas.backend(SvgBackend::close)?;
    canvas.backend(SvgBackend::close)
}

/// The legend and the remarks.
pub(super) fn footer(scene: &Scene<'_>, canvas: &Canvas) -> io::Result<()> {
    let mut y = scene.layout.plot_y.end + 18 * PX;
    canvas.backend(|backend| backend.open("g", &[("class", "legend")]))?;
    let mut x = PLOT.start;
    for (mark, text) in legend(scene) {
        if x + 19 * PX + Type::AXIS.width(text) > WIDTH - MARGIN {
            (x, y) = (PLOT.start, y + 16 * PX);
        }
        key(canvas, (x, y), mark)?;
        canvas.text(text, (x + 19 * PX, y), Type::AXIS)?;
        x += 19 * PX + Type::AXIS.width(text) + 14 * PX;
    }
    canvas.backend(SvgBackend::close)?;
    y += 20 * PX;
    canvas.backend(|backend| backend.open("g", &[("class", "remark")]))?;
    canvas.text(&remark(scene), (PLOT.start, y), Type::SMALL)?;
    canvas.backend(SvgBackend::close)?;
    if !scene.subject.about.flames.is_empty() {
        y += 16 * PX;
        flame_links(scene, canvas, y)?;
    }
    for missing in &scene.subject.about.not_collected {
        y += 16 * PX;
        let text = format!("Not collected: {}", words::printable(missing));
        canvas.text(&text, (PLOT.start, y), Type::SMALL.painted(Paint::LOST))?;
    }
    Ok(())
}

/// Where the flame graphs are; the script makes them links to the part in sight.
fn flame_links(scene: &Scene<'_>, canvas: &Canvas, y: i32) -> io::Result<()> {
    let look = Type::SMALL;
    let mut x = PLOT.start;
    let words = "Flame graphs:";
    canvas.text(words, (x, y), look)?;
    x += look.width(words) + 6 * PX;
    for flame in &scene.subject.about.flames {
        let title = flame.kind.title();
        let attributes =
            [("href", flame.address.as_str()), ("class", "flame-link"), ("target", "hz-flame")];
        canvas.backend(|backend| backend.open("a", &attributes))?;
        canvas.text(title, (x, y), look.painted(Paint::RUN))?;
        canvas.backend(SvgBackend::close)?;
        x += look.width(title) + 14 * PX;
    }
    canvas.backend(|backend| backend.open("g", &[("class", "flame-remark")]))?;
    canvas.text(" ", (x, y), look)?;
    canvas.backend(SvgBackend::close)
}

/// How a meaning is shown in the legend.
#[derive(Clone, Copy, Debug)]
enum Mark {
    /// A block of a colour, that many units high.
    Block(Paint, i32),
    /// A tick.
    Tick,
}

fn key(canvas: &Canvas, (x, baseline): (i32, i32), mark: Mark) -> io::Result<()> {
    let middle = baseline - 4 * PX;
    match mark {
        Mark::Block(paint, height) => {
            canvas.rect(x..x + 14 * PX, middle - height / 2..middle + height / 2, paint)
        }
        Mark::Tick => canvas.bar(x + 7 * PX, middle - 4 * PX..middle + 4 * PX, (Paint::MOVED, 10)),
    }
}

/// What there is in this picture.
fn legend(scene: &Scene<'_>) -> Vec<(Mark, &'static str)> {
    let model = scene.subject.model;
    let has = |state: State| scene.survey.total[place(state)] > 0;
    let has_lost = model.cpus.iter().any(|cpu| !cpu.lost.is_empty());
    let has_moved = model.threads.iter().any(|thread| thread.migrations > 0);
    let is_unknown = |run: &crate::model::Run| run.who == crate::model::Who::Unknown;
    let has_unknown =
        has(State::Unknown) || model.cpus.iter().any(|cpu| cpu.runs.iter().any(is_unknown));
    let has_tasks = !model.tasks.is_empty();
    let strips = &scene.strips;
    let has_socket_waits = scene.lanes.tasks.own.iter().any(|own| !own.waits.is_empty());
    let (waits, blocked, new) = if has_tasks {
        ("ready or runnable", "blocked, in a poll or the kernel", "polled, not recorded")
    } else {
        ("runnable: waits for a CPU", "blocked, uninterruptibly", "new")
    };
    let all = [
        (has(State::Running), Mark::Block(Paint::RUN, 100), "running"),
        (has(State::Woken) || has(State::Preempted), Mark::Block(Paint::WAIT, 100), waits),
        (has(State::Sleeping), Mark::Block(Paint::SLEEP, 14), "asleep"),
        (has(State::Uninterruptible) || has_tasks, Mark::Block(Paint::BLOCKED, 60), blocked),
        (has(State::Stopped), Mark::Block(Paint::STOPPED, 40), "stopped"),
        (has(State::New) || has_tasks, Mark::Block(Paint::NEW, 30), new),
        (has_unknown, Mark::Block(Paint::UNKNOWN, 100), "not recorded"),
        (has_moved, Mark::Tick, "came to another CPU"),
        (strips.has(Paint::CALL), Mark::Block(Paint::CALL, 50), "call"),
        (strips.has(Paint::REQUEST), Mark::Block(Paint::REQUEST, 50), "request"),
        (strips.has(Paint::SPAN), Mark::Block(Paint::SPAN, 50), "span"),
        (strips.has(Paint::MARK), Mark::Block(Paint::MARK, 50), "mark"),
        (has_socket_waits, Mark::Block(Paint::LOST, 30), "idle: its socket waited"),
        (has_lost, Mark::Block(Paint::LOST, 100), "records lost"),
    ];
    all.into_iter().filter(|(is_there, ..)| *is_there).map(|(_, mark, text)| (mark, text)).collect()
}

/// What a pixel is, and where this was.
fn remark(scene: &Scene<'_>) -> String {
    let column = duration(scene.grid.column_ns());
    let about = &scene.subject.about;
    let mut parts = vec![format!(
        "A column of {} px is {column}; what is shorter is shown as its share of the column, never left out",
        scene.column_px
    )];
    if !about.host.is_empty() {
        parts.push(words::printable(&about.host));
    }
    if !about.kernel.is_empty() {
        parts.push(format!("Linux {}", words::printable(&about.kernel)));
    }
    parts.push(concat!("hz ", env!("CARGO_PKG_VERSION")).to_owned());
    parts.join(" · ")
}

/// At most `most` characters of `text`.
pub(super) fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}
