//! Flame graphs as SVG, drawn by inferno.

mod beside;
mod caption;
mod range;

pub use beside::{FlameGraph, FlameLink};
pub use caption::Caption;

use super::About;
use crate::{
    analyze::{Diff, Flame, FrameKind, Unit, annotated, folded_lines},
    model::is_unshowable,
    text,
};
use inferno::flamegraph::{
    self, Options, TextTruncateDirection,
    color::{BackgroundColor, Color, PaletteMap},
};
use std::{
    fmt::Write as _,
    io::{self, Write},
};

/// Frames narrower than this are left out, percent of the whole. They have no place on a screen.
const NARROWEST_PCT: f64 = 0.02;

/// Height of a line of the footer.
const LINE: usize = 16;

/// What the colours of frames are.
fn colour(kind: FrameKind) -> Color {
    let (r, g, b) = match kind {
        FrameKind::User => (0xf0, 0x8a, 0x4b),
        FrameKind::Inlined => (0xf7, 0xc0, 0x8a),
        FrameKind::Runtime => (0x7f, 0xb3, 0xd9),
        FrameKind::Allocator => (0xc9, 0x9a, 0xd8),
        FrameKind::Kernel => (0x86, 0xc2, 0x8b),
        FrameKind::Unknown => (0xc4, 0xc9, 0xd0),
        FrameKind::Root => (0xf2, 0xd1, 0x4e),
    };
    Color { r, g, b }
}

/// Draws a flame graph.
///
/// # Errors
///
/// Those of `out`; an empty flame graph cannot be drawn.
pub fn draw_flame(flame: &Flame, caption: &Caption, out: &mut dyn Write) -> io::Result<()> {
    draw_timed(flame, caption, "", out)
}

/// The same with what else is to be in the file.
fn draw_timed(
    flame: &Flame,
    caption: &Caption,
    embedded: &str,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut palette = PaletteMap::default();
    for frame in flame.frames.iter() {
        palette.insert(annotated(frame), colour(frame.kind));
    }
    let lines = folded_lines(flame);
    let mut options = options(caption, flame.unit);
    options.palette_map = Some(&mut palette);
    draw(options, &lines, caption, Beside { unit: flame.unit, has_legend: true, embedded }, out)
}

/// Draws what changed: red took more than before, blue less; widths are those after.
///
/// # Errors
///
/// As [`draw_flame`].
pub fn draw_diff(
    diff: &Diff,
    unit: Unit,
    caption: &Caption,
    out: &mut dyn Write,
) -> io::Result<()> {
    let stacks = diff.stacks.iter();
    let lines: Vec<String> =
        stacks.map(|(stack, (before, after))| format!("{stack} {before} {after}")).collect();
    let beside = Beside { unit, has_legend: false, embedded: "" };
    draw(options(caption, unit), &lines, caption, beside, out)
}

fn options<'a>(caption: &Caption, unit: Unit) -> Options<'a> {
    let mut options = Options::default();
    options.title = showable(&caption.title);
    options.subtitle = Some(showable(&caption.subtitle)).filter(|subtitle| !subtitle.is_empty());
    options.count_name = word(unit).to_owned();
    options.name_type = "Function:".to_owned();
    options.bgcolors = Some(BackgroundColor::Flat(Color { r: 255, g: 255, b: 255 }));
    options.font_type = "sans-serif".to_owned();
    options.min_width = NARROWEST_PCT;
    options.deterministic = true;
    options.text_truncate_direction = TextTruncateDirection::Right;
    options
}

/// The unit in a frame's text, by which it is found again.
const fn word(unit: Unit) -> &'static str {
    match unit {
        Unit::Nanoseconds => "ns",
        Unit::Bytes => "bytes",
        Unit::Cycles => "cycles",
        Unit::Samples => "samples",
    }
}

/// An amount as people read it.
#[must_use]
pub fn amount(unit: Unit, value: u64) -> String {
    match unit {
        Unit::Nanoseconds => text::duration(value),
        Unit::Bytes => text::bytes(value),
        Unit::Cycles => format!("{} cycles", text::count(value)),
        Unit::Samples => text::plural(value, "sample"),
    }
}

/// What is to be in the file beside the frames.
#[derive(Clone, Copy)]
struct Beside<'a> {
    unit: Unit,
    has_legend: bool,
    embedded: &'a str,
}

fn draw(
    mut options: Options<'_>,
    lines: &[String],
    caption: &Caption,
    beside: Beside<'_>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut drawn = Vec::new();
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut drawn)?;
    let drawn = String::from_utf8(drawn).map_err(io::Error::other)?;
    let drawn = with_units(&drawn, beside.unit);
    let drawn = with_foot(&drawn, caption, beside).unwrap_or(drawn);
    out.write_all(drawn.as_bytes())
}

/// Frames' texts with amounts as people read them: `f (1,234,567 ns, 3.00%)` is `f (1.23 ms, 3.00%)`.
fn with_units(drawn: &str, unit: Unit) -> String {
    let marker = format!(" {}, ", word(unit));
    let mut out = String::with_capacity(drawn.len());
    for (place, part) in drawn.split("<title>").enumerate() {
        if place > 0 {
            out.push_str("<title>");
        }
        let end = part.find("</title>").filter(|_| place > 0).unwrap_or(0);
        let (title, rest) = part.split_at(end);
        let found = title.rfind(&marker).and_then(|behind| {
            let open = title[..behind].rfind('(')?;
            let digits: String =
                title[open + 1..behind].chars().filter(|each| *each != ',').collect();
            Some((open, behind, digits.parse::<u64>().ok()?))
        });
        match found {
            Some((open, behind, value)) => {
                let after = &title[behind + marker.len()..];
                let _ = write!(out, "{}({}, {after}", &title[..open], amount(unit, value));
            }
            None => out.push_str(title),
        }
        out.push_str(rest);
    }
    out
}

/// The picture with its legend and footer below, and with colours for the dark; `None` if inferno does
/// not write as this expects.
fn with_foot(drawn: &str, caption: &Caption, beside: Beside<'_>) -> Option<String> {
    let has_legend = beside.has_legend;
    let height: usize = {
        let rest = drawn.split_once(" height=\"")?.1;
        rest.split_once('"')?.0.parse().ok()?
    };
    let has_links = !caption.links.is_empty();
    let lines = caption.footer.len() + usize::from(has_legend) + usize::from(has_links);
    let taller = height + lines * LINE + 8;
    let mut foot = String::from("<g id=\"foot\">");
    let mut y = height + LINE / 2;
    if has_legend {
        legend(&mut foot, y);
        y += LINE;
    }
    for line in &caption.footer {
        let line = escaped(&showable(line));
        let _ = write!(
            foot,
            "<text class=\"hz-note\" x=\"10\" y=\"{y}\" fill=\"rgb(90,90,90)\">{line}</text>"
        );
        y += LINE;
    }
    if has_links {
        links(&mut foot, y, &caption.links);
    }
    foot.push_str("</g>");
    foot.push_str(beside.embedded);
    foot.push_str("</svg>");
    let drawn = drawn
        .replacen(&format!(" height=\"{height}\""), &format!(" height=\"{taller}\""), 2)
        .replacen(&format!(" {height}\""), &format!(" {taller}\""), 1)
        .replacen("</style>", &format!("{DARK}</style>"), 1);
    Some(format!("{}{foot}", drawn.strip_suffix("</svg>")?))
}

const DARK: &str = "#subtitle, .hz-whole { fill:rgb(90,90,90); }
@media (prefers-color-scheme: dark) {
  svg > rect { fill:#14181d; }
  text, #subtitle, #foot text { fill:#d7dde4; }
  #frames text { fill:#101316; }
  #frames rect { fill-opacity:0.85; }
}
";

fn links(out: &mut String, y: usize, links: &[(String, String)]) {
    let _ = write!(out, "<text x=\"10\" y=\"{y}\" fill=\"rgb(90,90,90)\">Beside this:");
    for (name, address) in links {
        let (name, address) = (escaped(&showable(name)), escaped(address));
        let _ = write!(
            out,
            " <a href=\"{address}\"><tspan fill=\"#0072b2\" text-decoration=\"underline\">{name}</tspan></a>"
        );
    }
    out.push_str("</text>");
}

fn legend(out: &mut String, y: usize) {
    let mut x = 10;
    for kind in FrameKind::ALL {
        let Color { r, g, b } = colour(kind);
        let (top, right, name) = (y - 10, x + 16, kind.name());
        let _ = write!(
            out,
            "<rect x=\"{x}\" y=\"{top}\" width=\"12\" height=\"12\" rx=\"2\" fill=\"rgb({r},{g},{b})\"/>\
             <text x=\"{right}\" y=\"{y}\" fill=\"rgb(90,90,90)\">{name}</text>"
        );
        x += 36 + 7 * name.len();
    }
}

fn showable(text: &str) -> String {
    text.chars().map(|each| if is_unshowable(each) { '\u{fffd}' } else { each }).collect()
}

fn escaped(text: &str) -> String {
    quick_xml::escape::escape(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::{diff, read_folded};

    fn caption() -> Caption {
        Caption {
            title: "shop <1>".to_owned(),
            subtitle: "10 s".to_owned(),
            footer: vec!["lost: 3 & more".to_owned()],
            links: Vec::new(),
        }
    }

    fn drawn(unit: Unit) -> String {
        let (mut flame, _) = read_folded(
            "checkout;main;f<[u8: 4]> 7000000\ncheckout;main;do_sys_read_[k] 3000000\n",
        );
        flame.unit = unit;
        let mut out = Vec::new();
        draw_flame(&flame, &caption(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn read_to_the_end(svg: &str) {
        let mut reader = quick_xml::Reader::from_str(svg);
        while reader.read_event().unwrap() != quick_xml::events::Event::Eof {}
    }

    #[test]
    fn amounts_have_units() {
        let svg = drawn(Unit::Nanoseconds);
        read_to_the_end(&svg);
        assert!(svg.contains("do_sys_read (3.00 ms, 30.00%)"), "{svg}");
        assert!(svg.contains("all (10.0 ms, 100%)"));
        assert!(drawn(Unit::Bytes).contains("do_sys_read (3.00 MB, 30.00%)"));
    }

    #[test]
    fn kinds_have_their_colours_and_a_legend() {
        let svg = drawn(Unit::Nanoseconds);
        let Color { r, g, b } = colour(FrameKind::Kernel);
        assert!(svg.matches(&format!("rgb({r},{g},{b})")).count() == 2, "{svg}");
        assert!(svg.contains(">program</text>"));
    }

    #[test]
    fn the_footer_has_room_and_says_what_is_missing() {
        let svg = drawn(Unit::Nanoseconds);
        assert!(svg.contains("lost: 3 &amp; more</text>"));
        let heights: Vec<usize> = svg
            .match_indices(" height=\"")
            .filter_map(|(at, found)| svg[at + found.len()..].split('"').next()?.parse().ok())
            .collect();
        assert_eq!(heights[0], heights[1], "picture and background");
        let last = svg.rfind(" y=\"").unwrap();
        let last: usize = svg[last + 4..].split('"').next().unwrap().parse().unwrap();
        assert!(last < heights[0], "{last} {heights:?}");
    }

    #[test]
    fn a_difference_is_red_where_more_and_blue_where_less() {
        let (before, _) = read_folded("main;f 50\nmain;g 50\n");
        let (after, _) = read_folded("main;f 90\nmain;g 10\n");
        let mut out = Vec::new();
        draw_diff(&diff(&before, &after), Unit::Nanoseconds, &caption(), &mut out).unwrap();
        let svg = String::from_utf8(out).unwrap();
        read_to_the_end(&svg);
        assert!(svg.contains("f (90 ns, 90.00%; +40.00%)"), "{svg}");
        assert!(svg.contains("rgb(255,"), "{svg}");
    }
}
