//! The timeline as one SVG file: a still picture, and in a browser more than that.
//!
//! plotters draws it on a backend of ours (`backend.rs`). One column of pixels is one span of time
//! in every lane, so that a cause stands above its effect. `columns.rs` sees to it that nothing
//! shorter than a pixel vanishes. What the script needs to zoom in is embedded, as fine as a budget
//! of bytes allows: see `data.rs`.

mod arrows;
mod axis;
mod backend;
mod canvas;
mod colour;
mod columns;
mod cpu_columns;
mod data;
mod draw_cpus;
mod draw_page;
mod draw_sockets;
mod draw_strips;
mod draw_tasks;
mod draw_threads;
mod encode;
mod encoder;
mod lanes;
mod layout;
mod mixes;
mod pieces;
mod sockets;
mod strips;
mod style;
mod survey;
mod tasks;
mod words;

pub(crate) use encode::safe_json;

use super::{Exporter, Subject};
use axis::TimeAxis;
use canvas::Canvas;
use colour::Colours;
use columns::Grid;
use lanes::Lanes;
use layout::{Layout, PLOT, WIDTH};
use std::io;
use strips::Strips;
use survey::{Survey, Wait, survey};

/// Units per pixel: plotters' coordinates are whole numbers, and a tenth of a pixel is as fine as
/// anybody sees.
const PX: i32 = 10;

/// Bytes that columns may take, by estimate; where there are more lanes they get wider.
const COLUMN_BYTES: usize = 700_000;

/// Bytes of the embedded lanes, in base 64.
const DATA_BYTES: usize = 900_000;

/// Bytes of the embedded calls, before base 64.
const CALL_BYTES: usize = 100_000;

/// The timeline as an SVG.
#[derive(Clone, Copy, Debug)]
pub struct Svg;

impl Exporter for Svg {
    fn name(&self) -> &'static str {
        "svg"
    }

    fn about(&self) -> &'static str {
        "A timeline to look at, with zoom and search in a browser"
    }

    fn export(&self, subject: &Subject<'_>, out: &mut dyn io::Write) -> io::Result<()> {
        out.write_all(&Scene::of(subject).draw()?)
    }
}

/// Everything that is drawn.
struct Scene<'a> {
    subject: &'a Subject<'a>,
    survey: Survey,
    colours: Colours,
    lanes: Lanes,
    layout: Layout,
    grid: Grid,
    /// Width of a column in pixels.
    column_px: i32,
    /// What is below the lanes.
    strips: Strips,
    /// Waits that are pointed out.
    notes: Vec<Wait>,
    /// The sentence on top.
    verdict: String,
}

impl<'a> Scene<'a> {
    fn of(subject: &'a Subject<'a>) -> Self {
        let model = subject.model;
        let survey = survey(model, &(subject.from_ns..subject.to_ns));
        let pixels = (PLOT.end - PLOT.start) / PX;
        let visible_ns = subject.duration_ns() / u64::from(pixels.unsigned_abs());
        let lanes = Lanes::of(subject, &survey, visible_ns);
        let strips = Strips::of(subject, &lanes);
        let notes = draw_threads::notes(&survey, &lanes, visible_ns);
        let layout = Layout::of(subject, &lanes, (&strips, &notes));
        let column_px = column_px(layout.lanes.len());
        let columns = pixels / column_px;
        let grid = Grid::new(subject.from_ns, subject.to_ns, columns.unsigned_abs() as usize);
        let colours = Colours::of(model, &survey, &lanes.tasks);
        let verdict = words::verdict(subject, &survey);
        Self { verdict, subject, colours, survey, lanes, layout, grid, column_px, strips, notes }
    }

    fn draw(&self) -> io::Result<Vec<u8>> {
        let axis = TimeAxis {
            from_ns: self.subject.from_ns,
            to_ns: self.subject.to_ns,
            origin_ns: self.subject.model.start_ns,
        };
        let canvas = Canvas::new((WIDTH, self.layout.height), axis, PLOT);
        draw_page::open(self, &canvas)?;
        draw_page::header(self, &canvas)?;
        draw_page::axis(self, &canvas)?;
        draw_cpus::draw(self, &canvas)?;
        draw_tasks::draw(self, &canvas)?;
        draw_sockets::draw(self, &canvas)?;
        draw_threads::draw(self, &canvas)?;
        draw_threads::worst_waits(self, &canvas)?;
        draw_page::footer(self, &canvas)?;
        data::embed(self, &canvas)?;
        canvas.finish()
    }
}

/// The narrowest columns that keep the picture small.
fn column_px(lanes: usize) -> i32 {
    const BYTES_PER_COLUMN: usize = 14;
    let pixels = ((PLOT.end - PLOT.start) / PX).unsigned_abs() as usize;
    let widths = [1, 2, 4];
    let fits = |width: &i32| {
        lanes * pixels * BYTES_PER_COLUMN / width.unsigned_abs() as usize <= COLUMN_BYTES
    };
    widths.into_iter().find(fits).unwrap_or(8)
}
