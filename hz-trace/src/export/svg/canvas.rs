//! plotters' drawing areas over our backend, with the few strokes that the timeline needs.

use super::axis::TimeAxis;
use super::backend::SvgBackend;
use super::style::{Paint, Type};
use plotters::coord::Shift;
use plotters::coord::cartesian::{Cartesian2d, MeshLine};
use plotters::coord::types::RangedCoordi32;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind};
use plotters::element::{PathElement, Rectangle, Text};
use plotters_backend::BackendCoord;
use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::rc::Rc;

/// Where everything is drawn: `x` of the page is in units, that of the plot in nanoseconds of
/// `CLOCK_MONOTONIC`; `y` is in units from the top in both.
pub(super) struct Canvas {
    backend: Rc<RefCell<SvgBackend>>,
    page: DrawingArea<SvgBackend, Shift>,
    plot: DrawingArea<SvgBackend, Cartesian2d<TimeAxis, RangedCoordi32>>,
}

impl Canvas {
    /// A canvas of `size` units whose plot is `axis` drawn over `plot_x`.
    pub(super) fn new(size: (i32, i32), axis: TimeAxis, plot_x: Range<i32>) -> Self {
        let backend = Rc::new(RefCell::new(SvgBackend::new(size)));
        let page = DrawingArea::from(&backend);
        let height = 0..size.1.max(1);
        let plot =
            page.clone().apply_coord_spec(Cartesian2d::new(axis, height.clone(), (plot_x, height)));
        Self { backend, page, plot }
    }

    /// Does something that plotters cannot.
    pub(super) fn backend<T>(
        &self,
        with: impl FnOnce(&mut SvgBackend) -> io::Result<T>,
    ) -> io::Result<T> {
        with(&mut self.backend.borrow_mut())
    }

    /// Where a moment is drawn, in units.
    pub(super) fn x(&self, time_ns: u64) -> i32 {
        self.plot.map_coordinate(&(time_ns, 0)).0
    }

    /// Fills a rectangle of the page.
    pub(super) fn rect(&self, x: Range<i32>, y: Range<i32>, paint: Paint) -> io::Result<()> {
        if x.is_empty() || y.is_empty() {
            return Ok(());
        }
        let corners = [(x.start, y.start), (x.end, y.end)];
        self.page.draw(&Rectangle::new(corners, paint.filled())).map_err(into_io)
    }

    /// Outlines a rectangle of the page with a line of `width` units.
    pub(super) fn outline(
        &self,
        x: Range<i32>,
        y: Range<i32>,
        (paint, width): (Paint, u32),
    ) -> io::Result<()> {
        let corners = [(x.start, y.start), (x.end, y.end)];
        self.page.draw(&Rectangle::new(corners, paint.stroked(width))).map_err(into_io)
    }

    /// Fills a rectangle that spans `time` (nanoseconds of `CLOCK_MONOTONIC`).
    pub(super) fn span(&self, time: Range<u64>, y: Range<i32>, paint: Paint) -> io::Result<()> {
        if time.is_empty() || y.is_empty() {
            return Ok(());
        }
        let corners = [(time.start, y.start), (time.end, y.end)];
        self.plot.draw(&Rectangle::new(corners, paint.filled())).map_err(into_io)
    }

    /// Draws a vertical line, `width` units wide, with its middle at `x`.
    pub(super) fn bar(
        &self,
        x: i32,
        y: Range<i32>,
        (paint, width): (Paint, u32),
    ) -> io::Result<()> {
        if y.is_empty() {
            return Ok(());
        }
        let ends = vec![(x, y.start), (x, y.end)];
        self.page.draw(&PathElement::new(ends, paint.stroked(width))).map_err(into_io)
    }

    /// Writes a line of text, its baseline at `at`.
    pub(super) fn text(&self, text: &str, at: BackendCoord, look: Type) -> io::Result<()> {
        self.page.draw(&Text::new(text, at, look.style())).map_err(into_io)
    }

    /// Moments that the axis names, at most `most`, with where they are in units.
    pub(super) fn ticks(&self, most: usize) -> io::Result<Vec<(u64, i32)>> {
        let mut ticks = Vec::new();
        let found = self.plot.draw_mesh(
            |_, line| {
                if let MeshLine::XMesh((x, _), _, time_ns) = line {
                    ticks.push((*time_ns, x));
                }
                Ok(())
            },
            1,
            most,
        );
        found.map_err(into_io)?;
        Ok(ticks)
    }

    /// What was drawn.
    pub(super) fn finish(&self) -> io::Result<Vec<u8>> {
        self.page.present().map_err(into_io)?;
        self.backend.borrow_mut().finish()
    }
}

fn into_io(error: DrawingAreaErrorKind<io::Error>) -> io::Error {
    match error {
        DrawingAreaErrorKind::BackendError(plotters_backend::DrawingErrorKind::DrawingError(
            error,
        )) => error,
        other => io::Error::other(other.to_string()),
    }
}
