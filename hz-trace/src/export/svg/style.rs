//! The visual language: one colour and one class per meaning.
//!
//! Colours are Okabe and Ito's where they suffice, safe for colour-blind eyes. Every element has
//! its colour as a plain attribute, for viewers that know no style sheets, and a class, by which
//! `timeline.css` gives it another colour in the dark.

use super::PX;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontDesc, FontFamily, FontStyle, RGBColor, ShapeStyle, TextStyle};

/// A colour that means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Paint(pub(super) u8, pub(super) u8, pub(super) u8);

impl Paint {
    pub(super) const PAGE: Self = Self(0xff, 0xff, 0xff);
    pub(super) const TEXT: Self = Self(0x1c, 0x24, 0x30);
    pub(super) const MUTED: Self = Self(0x5d, 0x69, 0x79);
    pub(super) const LANE: Self = Self(0xf3, 0xf5, 0xf8);
    pub(super) const GRID: Self = Self(0xdf, 0xe4, 0xea);
    pub(super) const SLEEP: Self = Self(0xb9, 0xc2, 0xcd);
    pub(super) const RUN: Self = Self(0x3a, 0x8f, 0x5c);
    pub(super) const WAIT: Self = Self(0xe6, 0x9f, 0x00);
    pub(super) const BLOCKED: Self = Self(0xc2, 0x25, 0x5c);
    pub(super) const STOPPED: Self = Self(0x7d, 0x6b, 0xa6);
    /// Not drawn in this colour but hatched: not recorded.
    pub(super) const UNKNOWN: Self = Self(0xe9, 0xed, 0xf1);
    pub(super) const NEW: Self = Self(0x93, 0x9e, 0xac);
    pub(super) const OTHER: Self = Self(0xaa, 0xb3, 0xbf);
    pub(super) const LOST: Self = Self(0xd0, 0x1c, 0x1c);
    /// Text on a ground of [`Self::LOST`].
    pub(super) const FLAG: Self = Self(0xff, 0xff, 0xfe);
    pub(super) const MOVED: Self = Self(0x2b, 0x34, 0x40);
    pub(super) const CALL: Self = Self(0x7a, 0x5c, 0xff);
    pub(super) const REQUEST: Self = Self(0x4f, 0xa9, 0xf0);
    pub(super) const SPAN: Self = Self(0xd0, 0x7f, 0xc4);
    pub(super) const MARK: Self = Self(0x8a, 0x2d, 0x6a);
    /// How many different threads ran in a column: 1, 2, 3 to 4, 5 to 8, 9 or more.
    pub(super) const DENSITY: [Self; 5] = [
        Self(0x86, 0xbc, 0xe0),
        Self(0x4d, 0x9b, 0xd0),
        Self(0x1c, 0x78, 0xb6),
        Self(0x00, 0x57, 0x94),
        Self(0x00, 0x35, 0x66),
    ];

    /// The class by which the style sheet and the script know it; empty for a process's colour.
    pub(super) fn class(self) -> &'static str {
        CLASSES.iter().find(|(paint, _)| *paint == self).map_or("", |(_, class)| class)
    }

    /// As `#rrggbb`.
    pub(super) fn hex(self) -> String {
        format!("#{:02x}{:02x}{:02x}", self.0, self.1, self.2)
    }

    /// Filled with it, for plotters.
    pub(super) fn filled(self) -> ShapeStyle {
        self.stroked(1).filled()
    }

    /// A line of it, `width` units wide, for plotters.
    pub(super) fn stroked(self, width: u32) -> ShapeStyle {
        ShapeStyle::from(&RGBColor(self.0, self.1, self.2)).stroke_width(width)
    }
}

/// Every meaning and its class. No two share a colour: the backend knows a class by its colour.
pub(super) const CLASSES: &[(Paint, &str)] = &[
    (Paint::PAGE, "page"),
    (Paint::TEXT, "text"),
    (Paint::MUTED, "muted"),
    (Paint::LANE, "lane-bg"),
    (Paint::GRID, "grid"),
    (Paint::SLEEP, "sleep"),
    (Paint::RUN, "run"),
    (Paint::WAIT, "wait"),
    (Paint::BLOCKED, "blocked"),
    (Paint::STOPPED, "stopped"),
    (Paint::UNKNOWN, "unknown"),
    (Paint::NEW, "new"),
    (Paint::OTHER, "other"),
    (Paint::LOST, "lost"),
    (Paint::FLAG, "flag"),
    (Paint::MOVED, "moved"),
    (Paint::CALL, "call"),
    (Paint::REQUEST, "request"),
    (Paint::SPAN, "span"),
    (Paint::MARK, "mark"),
    (Paint::DENSITY[0], "d1"),
    (Paint::DENSITY[1], "d2"),
    (Paint::DENSITY[2], "d3"),
    (Paint::DENSITY[3], "d4"),
    (Paint::DENSITY[4], "d5"),
];

/// How a piece of text looks.
#[derive(Clone, Copy)]
pub(super) struct Type {
    /// Height of the font in tenths of a pixel.
    size: i32,
    is_bold: bool,
    paint: Paint,
    anchor: HPos,
}

impl Type {
    pub(super) const TITLE: Self = Self::new(170, Paint::TEXT).bold();
    pub(super) const SUBTITLE: Self = Self::new(115, Paint::MUTED);
    pub(super) const SENTENCE: Self = Self::new(120, Paint::TEXT);
    pub(super) const SECTION: Self = Self::new(110, Paint::MUTED).bold();
    pub(super) const LABEL: Self = Self::new(120, Paint::TEXT);
    pub(super) const SMALL: Self = Self::new(95, Paint::MUTED);
    pub(super) const AXIS: Self = Self::new(110, Paint::MUTED);
    pub(super) const NOTE: Self = Self::new(110, Paint::TEXT);
    pub(super) const ALARM: Self = Self::new(105, Paint::LOST).bold();
    /// On a ground of [`Paint::LOST`].
    pub(super) const FLAG: Self = Self::new(105, Paint::FLAG).bold();

    const fn new(size: i32, paint: Paint) -> Self {
        Self { size, is_bold: false, paint, anchor: HPos::Left }
    }

    const fn bold(self) -> Self {
        Self { is_bold: true, ..self }
    }

    pub(super) const fn anchored(self, anchor: HPos) -> Self {
        Self { anchor, ..self }
    }

    /// The same `size` tenths of a pixel high.
    pub(super) const fn sized(self, size: i32) -> Self {
        Self { size, ..self }
    }

    /// The same in another colour.
    pub(super) const fn painted(self, paint: Paint) -> Self {
        Self { paint, ..self }
    }

    /// About how wide `text` will be, in units. Fonts differ; this is on the wide side.
    pub(super) fn width(self, text: &str) -> i32 {
        let ems: f64 = text.chars().map(em_width).sum();
        let weight = if self.is_bold { 1.1 } else { 1.0 };
        (ems * weight * f64::from(self.size) * f64::from(PX) / 10.0) as i32
    }

    /// For plotters. The baseline is where the text is drawn.
    pub(super) fn style(self) -> TextStyle<'static> {
        let weight = if self.is_bold { FontStyle::Bold } else { FontStyle::Normal };
        let size = f64::from(self.size) / 10.0;
        let font = FontDesc::new(FontFamily::SansSerif, size, weight);
        let color = RGBColor(self.paint.0, self.paint.1, self.paint.2);
        font.color(&color).pos(Pos::new(self.anchor, VPos::Bottom))
    }
}

/// Widths of the letters of `DejaVu Sans`, which is wider than most.
fn em_width(each: char) -> f64 {
    match each {
        'i' | 'j' | 'l' | '.' | ',' | ':' | '\'' | '|' | ' ' | '·' => 0.32,
        'm' | 'w' | 'M' | 'W' | '%' => 0.95,
        each if u32::from(each) >= 0x1100 => 1.0,
        _ => 0.62,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_meanings_share_a_colour() {
        for (place, (paint, class)) in CLASSES.iter().enumerate() {
            assert!(CLASSES[..place].iter().all(|(each, _)| each != paint), "{class}");
        }
    }
}
