//! What plotters draws on: SVG, written through quick-xml so that escaping is the library's.
//!
//! plotters' coordinates are whole numbers; here [`PX`] of them are a pixel, which gives the
//! precision of a tenth. What plotters draws is gathered into one compact path per colour, until
//! something else has to be written: a timeline of a hundred thousand rectangles is small.

use super::PX;
use super::style::Paint;
use plotters_backend::text_anchor::HPos;
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind,
    FontStyle,
};
use quick_xml::Writer;
use quick_xml::events::{BytesCData, BytesEnd, BytesStart, BytesText, Event};
use std::io;

type Drawn = Result<(), DrawingErrorKind<io::Error>>;

/// Writes SVG.
pub(super) struct SvgBackend {
    writer: Writer<Vec<u8>>,
    size: (i32, i32),
    paths: Vec<GatheredPath>,
    open: Vec<&'static str>,
}

/// Shapes of one colour that became one path.
#[derive(Debug)]
struct GatheredPath {
    paint: Paint,
    /// Width of the line in units; `None` if filled.
    stroke: Option<u32>,
    data: String,
    /// Where the pen is, in units.
    at: BackendCoord,
    /// The last rectangle, not yet in `data` since the next may continue it.
    last: Option<(BackendCoord, BackendCoord)>,
}

impl SvgBackend {
    /// A picture of `size` units.
    pub(super) fn new(size: (i32, i32)) -> Self {
        Self { writer: Writer::new(Vec::new()), size, paths: Vec::new(), open: Vec::new() }
    }

    /// Opens an element; everything drawn until [`Self::close`] is in it.
    pub(super) fn open(
        &mut self,
        name: &'static str,
        attributes: &[(&str, &str)],
    ) -> io::Result<()> {
        self.flush()?;
        let start = BytesStart::new(name).with_attributes(attributes.iter().copied());
        self.writer.write_event(Event::Start(start))?;
        self.open.push(name);
        Ok(())
    }

    /// Closes the element opened last.
    pub(super) fn close(&mut self) -> io::Result<()> {
        self.flush()?;
        match self.open.pop() {
            Some(name) => self.writer.write_event(Event::End(BytesEnd::new(name))),
            None => Ok(()),
        }
    }

    /// Writes an element with nothing in it.
    pub(super) fn empty(&mut self, name: &str, attributes: &[(&str, &str)]) -> io::Result<()> {
        self.flush()?;
        let start = BytesStart::new(name).with_attributes(attributes.iter().copied());
        self.writer.write_event(Event::Empty(start))
    }

    /// Writes an element with `text` in it, escaped.
    pub(super) fn text_element(
        &mut self,
        name: &'static str,
        attributes: &[(&str, &str)],
        text: &str,
    ) -> io::Result<()> {
        self.open(name, attributes)?;
        self.writer.write_event(Event::Text(BytesText::new(text)))?;
        self.close()
    }

    /// Writes an element with `text` in a CDATA section. A `]]>` in `text` does not end it.
    pub(super) fn cdata_element(
        &mut self,
        name: &'static str,
        attributes: &[(&str, &str)],
        text: &str,
    ) -> io::Result<()> {
        self.open(name, attributes)?;
        for section in BytesCData::escaped(text) {
            self.writer.write_event(Event::CData(section))?;
        }
        self.close()
    }

    /// What was written, all elements closed.
    pub(super) fn finish(&mut self) -> io::Result<Vec<u8>> {
        while !self.open.is_empty() {
            self.close()?;
        }
        self.flush()?;
        Ok(std::mem::take(self.writer.get_mut()))
    }

    /// Writes the gathered paths, those begun first below.
    fn flush(&mut self) -> io::Result<()> {
        for mut path in std::mem::take(&mut self.paths) {
            path.end_rect();
            let mut start = BytesStart::new("path");
            let class = path.paint.class();
            if !class.is_empty() {
                start.push_attribute(("class", class));
            }
            let colour = path.paint.hex();
            match path.stroke {
                None if path.paint == Paint::UNKNOWN => {
                    start.push_attribute(("fill", "url(#hz-hatch)"));
                }
                None => start.push_attribute(("fill", colour.as_str())),
                Some(width) => {
                    start.push_attribute(("fill", "none"));
                    start.push_attribute(("stroke", colour.as_str()));
                    if width != PX.unsigned_abs() {
                        start.push_attribute(("stroke-width", units(width.cast_signed()).as_str()));
                    }
                }
            }
            start.push_attribute(("d", path.data.as_str()));
            self.writer.write_event(Event::Empty(start))?;
        }
        Ok(())
    }

    fn path(&mut self, paint: Paint, stroke: Option<u32>) -> &mut GatheredPath {
        let known = self.paths.iter().position(|each| each.paint == paint && each.stroke == stroke);
        let place = known.unwrap_or_else(|| {
            let data = String::new();
            self.paths.push(GatheredPath { paint, stroke, data, at: (0, 0), last: None });
            self.paths.len() - 1
        });
        &mut self.paths[place]
    }
}

impl GatheredPath {
    fn rect(&mut self, from: BackendCoord, to: BackendCoord) {
        if let Some((start, end)) = self.last
            && start.1 == from.1
            && end.1 == to.1
            && end.0 == from.0
        {
            self.last = Some((start, to));
            return;
        }
        self.end_rect();
        self.last = Some((from, to));
    }

    fn end_rect(&mut self) {
        let Some((from, to)) = self.last.take() else { return };
        self.go(from);
        self.push('h', to.0 - from.0);
        self.push('v', to.1 - from.1);
        self.push('h', from.0 - to.0);
        self.data.push('z');
    }

    /// Moves the pen without drawing.
    fn go(&mut self, to: BackendCoord) {
        let (dx, dy) = (to.0 - self.at.0, to.1 - self.at.1);
        self.push('m', dx);
        self.separate(dy);
        push_units(&mut self.data, dy);
        self.at = to;
    }

    fn line_to(&mut self, to: BackendCoord) {
        let (dx, dy) = (to.0 - self.at.0, to.1 - self.at.1);
        if dx == 0 {
            self.push('v', dy);
        } else if dy == 0 {
            self.push('h', dx);
        } else {
            self.push('l', dx);
            self.separate(dy);
            push_units(&mut self.data, dy);
        }
        self.at = to;
    }

    fn push(&mut self, command: char, length: i32) {
        self.data.push(command);
        push_units(&mut self.data, length);
    }

    /// A minus separates two numbers as well as a space.
    fn separate(&mut self, next: i32) {
        if next >= 0 {
            self.data.push(' ');
        }
    }
}

/// Appends a length in units as pixels: `-3.5`, `.4`, `12`.
fn push_units(text: &mut String, length: i32) {
    if length < 0 {
        text.push('-');
    }
    let length = length.unsigned_abs();
    let (whole, tenths) = (length / PX.unsigned_abs(), length % PX.unsigned_abs());
    if whole > 0 || tenths == 0 {
        push_number(text, whole);
    }
    if tenths > 0 {
        text.push('.');
        push_number(text, tenths);
    }
}

/// Appends a whole number: a timeline has a hundred thousand of them, and formatting machinery
/// costs ten times this.
fn push_number(text: &mut String, number: u32) {
    if number >= 10 {
        push_number(text, number / 10);
    }
    text.push(char::from(b'0' + (number % 10) as u8));
}

/// A length in units as pixels.
pub(super) fn units(length: i32) -> String {
    let mut text = String::new();
    push_units(&mut text, length);
    text
}

fn paint_of(color: BackendColor) -> Paint {
    let (red, green, blue) = color.rgb;
    Paint(red, green, blue)
}

impl DrawingBackend for SvgBackend {
    type ErrorType = io::Error;

    fn get_size(&self) -> (u32, u32) {
        (self.size.0.unsigned_abs(), self.size.1.unsigned_abs())
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        self.flush().map_err(DrawingErrorKind::DrawingError)
    }

    fn draw_pixel(&mut self, point: BackendCoord, color: BackendColor) -> Drawn {
        self.path(paint_of(color), None).rect(point, (point.0 + PX, point.1 + PX));
        Ok(())
    }

    fn draw_line<S: BackendStyle>(
        &mut self,
        from: BackendCoord,
        to: BackendCoord,
        style: &S,
    ) -> Drawn {
        self.draw_path([from, to], style)
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        upper_left: BackendCoord,
        bottom_right: BackendCoord,
        style: &S,
        fill: bool,
    ) -> Drawn {
        let stroke = (!fill).then(|| style.stroke_width());
        self.path(paint_of(style.color()), stroke).rect(upper_left, bottom_right);
        Ok(())
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Drawn {
        let gathered = self.path(paint_of(style.color()), Some(style.stroke_width()));
        gathered.end_rect();
        for (place, point) in path.into_iter().enumerate() {
            if place == 0 { gathered.go(point) } else { gathered.line_to(point) }
        }
        Ok(())
    }

    fn draw_circle<S: BackendStyle>(
        &mut self,
        center: BackendCoord,
        radius: u32,
        style: &S,
        fill: bool,
    ) -> Drawn {
        let colour = paint_of(style.color()).hex();
        let (x, y) = (units(center.0), units(center.1));
        let radius = units(radius.cast_signed());
        let kind = if fill { "fill" } else { "stroke" };
        let attributes = [("cx", x.as_str()), ("cy", &y), ("r", &radius), (kind, colour.as_str())];
        self.empty("circle", &attributes).map_err(DrawingErrorKind::DrawingError)
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        vert: I,
        style: &S,
    ) -> Drawn {
        let gathered = self.path(paint_of(style.color()), None);
        gathered.end_rect();
        let mut first = None;
        for point in vert {
            match first {
                None => gathered.go(*first.insert(point)),
                Some(_) => gathered.line_to(point),
            }
        }
        if let Some(first) = first {
            gathered.data.push('z');
            gathered.at = first;
        }
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(
        &mut self,
        text: &str,
        style: &S,
        pos: BackendCoord,
    ) -> Drawn {
        let paint = paint_of(style.color());
        let (x, y, colour) = (units(pos.0), units(pos.1), paint.hex());
        let size = units((style.size() * f64::from(PX)).round() as i32);
        let mut attributes = vec![
            ("x", x.as_str()),
            ("y", &y),
            ("class", paint.class()),
            ("fill", &colour),
            ("font-size", &size),
        ];
        match style.anchor().h_pos {
            HPos::Left => {}
            HPos::Center => attributes.push(("text-anchor", "middle")),
            HPos::Right => attributes.push(("text-anchor", "end")),
        }
        if matches!(style.style(), FontStyle::Bold) {
            attributes.push(("font-weight", "600"));
        }
        self.text_element("text", &attributes, text).map_err(DrawingErrorKind::DrawingError)
    }

    /// Fonts are the viewer's; this is a guess.
    fn estimate_text_size<S: BackendTextStyle>(
        &self,
        text: &str,
        style: &S,
    ) -> Result<(u32, u32), DrawingErrorKind<io::Error>> {
        let size = style.size() * f64::from(PX);
        Ok(((size * 0.62 * text.chars().count() as f64) as u32, size as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plotters::prelude::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    fn drawn(draw: impl FnOnce(&DrawingArea<SvgBackend, plotters::coord::Shift>)) -> String {
        let backend = Rc::new(RefCell::new(SvgBackend::new((1_000, 1_000))));
        draw(&DrawingArea::from(&backend));
        String::from_utf8(backend.borrow_mut().finish().unwrap()).unwrap()
    }

    #[test]
    fn adjacent_rectangles_of_one_colour_become_one() {
        let text = drawn(|page| {
            for x in [0, 15, 30, 105] {
                let corners = [(x, 20), (x + 15, 160)];
                page.draw(&Rectangle::new(corners, Paint::RUN.filled())).unwrap();
            }
        });
        assert_eq!(
            text,
            r##"<path class="run" fill="#3a8f5c" d="m0 2h4.5v14h-4.5zm10.5 0h1.5v14h-1.5z"/>"##
        );
    }

    #[test]
    fn text_is_escaped_and_not_laid_out() {
        let text = drawn(|page| {
            let style = super::super::style::Type::NOTE.style();
            page.draw(&Text::new("a<b>&\"c", (10, 25), style)).unwrap();
        });
        assert!(text.contains("a&lt;b&gt;&amp;"), "{text}");
        assert!(text.starts_with(r#"<text x="1" y="2.5" class="text""#), "{text}");
    }

    #[test]
    fn a_cdata_section_cannot_be_ended_by_what_is_in_it() {
        let mut backend = SvgBackend::new((10, 10));
        backend.cdata_element("script", &[], "a]]><b/>").unwrap();
        let text = String::from_utf8(backend.finish().unwrap()).unwrap();
        let mut reader = quick_xml::Reader::from_str(&text);
        let mut elements = 0;
        loop {
            match reader.read_event().unwrap() {
                Event::Start(_) | Event::Empty(_) => elements += 1,
                Event::Eof => break,
                _ => {}
            }
        }
        assert_eq!(elements, 1, "{text}");
    }
}
