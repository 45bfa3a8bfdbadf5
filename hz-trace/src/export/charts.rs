//! Charts of connections: round trips, congestion windows and queues over time, and how long connects and
//! accepts took.
//!
//! plotters draws them with its own charts, in the colours of the timeline.

use super::{Exporter, Subject};
use crate::{
    analyze::{accept_waits_ns, connect_times_ns, worst_connections},
    model::net::Socket,
    text,
};
use hz_probes_ebpf::net::NetSample;
use plotters::{
    coord::Shift,
    prelude::{
        ChartBuilder, DrawingArea, IntoDrawingArea as _, IntoLogRange as _, LineSeries,
        PathElement, RGBColor, Rectangle, SVGBackend, Text,
    },
    style::{Color as _, FontDesc, FontFamily, FontStyle, TextStyle},
};
use std::{error::Error, io};

/// Connections that have a line.
const CONNECTIONS: usize = 6;
/// Width of the picture, in pixels.
const WIDTH: u32 = 1_200;
/// Height of a chart, in pixels.
const CHART: u32 = 260;
/// Height of the heading, in pixels.
const HEADING: u32 = 64;
/// Bars of a histogram for each doubling of time.
const BARS_PER_DOUBLING: f64 = 2.0;

const INK: RGBColor = RGBColor(0x1c, 0x24, 0x30);
const MUTED: RGBColor = RGBColor(0x5d, 0x69, 0x79);
const GRID: RGBColor = RGBColor(0xdf, 0xe4, 0xea);
const PAGE: RGBColor = RGBColor(0xff, 0xff, 0xff);
/// Okabe and Ito's, one for each connection.
const LINES: [RGBColor; CONNECTIONS] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0xd5, 0x5e, 0x00),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn Error>>;

/// Charts as an SVG.
#[derive(Clone, Copy, Debug)]
pub struct Charts;

impl Exporter for Charts {
    fn name(&self) -> &'static str {
        "charts"
    }

    fn extension(&self) -> &'static str {
        "charts.svg"
    }

    fn about(&self) -> &'static str {
        "Round trips, windows and queues of connections over time, and how long connects took"
    }

    fn export(&self, subject: &Subject<'_>, out: &mut dyn io::Write) -> io::Result<()> {
        let mut svg = String::new();
        draw(subject, &mut svg).map_err(|error| io::Error::other(error.to_string()))?;
        out.write_all(svg.as_bytes())
    }
}

/// What of a sample a chart shows.
struct Quantity {
    title: &'static str,
    unit: &'static str,
    of: fn(&NetSample) -> f64,
}

const QUANTITIES: [Quantity; 5] = [
    Quantity {
        title: "Smoothed round trip",
        unit: "ms",
        of: |sample| f64::from(sample.srtt_us) / 1e3,
    },
    Quantity { title: "Congestion window", unit: "segments", of: |sample| sample.cwnd.into() },
    Quantity {
        title: "In flight: sent and not acknowledged",
        unit: "kB",
        of: |sample| f64::from(sample.unacked_bytes) / 1e3,
    },
    Quantity {
        title: "Unsent: queued by the process",
        unit: "kB",
        of: |sample| f64::from(sample.unsent_bytes) / 1e3,
    },
    Quantity {
        title: "Unread: left by the process",
        unit: "kB",
        of: |sample| f64::from(sample.unread_bytes) / 1e3,
    },
];

fn draw(subject: &Subject<'_>, svg: &mut String) -> Drawn {
    let sockets = chosen(subject);
    let histograms: Vec<(&str, Vec<u64>)> = [
        ("How long connects took", connect_times_ns(subject.model)),
        ("How long connections waited to be accepted", accept_waits_ns(subject.model)),
    ]
    .into_iter()
    .filter(|(_, times)| !times.is_empty())
    .collect();
    let charts = if sockets.is_empty() { 0 } else { QUANTITIES.len() };
    let legend = 18 * sockets.len() as u32;
    let height = HEADING + legend + CHART * (charts + histograms.len()) as u32;
    let root = SVGBackend::with_string(svg, (WIDTH, height.max(120))).into_drawing_area();
    root.fill(&PAGE)?;
    let (head, mut rest) = root.split_vertically(HEADING + legend);
    heading(&head, subject, &sockets)?;
    if charts > 0 {
        for quantity in &QUANTITIES {
            let (area, below) = rest.split_vertically(CHART);
            over_time(&area, subject, quantity, &sockets)?;
            rest = below;
        }
    }
    for (title, times) in &histograms {
        let (area, below) = rest.split_vertically(CHART);
        histogram(&area, title, times)?;
        rest = below;
    }
    root.present()?;
    Ok(())
}

/// Those with most reason to wait, then those that sent and received most.
fn chosen<'a>(subject: &Subject<'a>) -> Vec<&'a Socket> {
    let mut sockets = worst_connections(subject.model, CONNECTIONS);
    let mut others: Vec<&Socket> = subject
        .model
        .network
        .sockets
        .iter()
        .filter(|socket| !socket.is_listener() && socket.samples.len() > 1)
        .filter(|socket| sockets.iter().all(|worst| worst.cookie != socket.cookie))
        .collect();
    others.sort_by_key(|socket| {
        let last = socket.samples.last();
        let bytes =
            last.map_or(0, |sample| sample.sent_bytes.saturating_add(sample.received_bytes));
        std::cmp::Reverse((bytes, socket.cookie))
    });
    sockets.extend(others);
    sockets.truncate(CONNECTIONS);
    sockets
}

fn words(size: f64, ink: RGBColor, weight: FontStyle) -> TextStyle<'static> {
    FontDesc::new(FontFamily::SansSerif, size, weight).color(&ink)
}

fn heading(area: &Area<'_>, subject: &Subject<'_>, sockets: &[&Socket]) -> Drawn {
    let about = subject.about;
    let title = text::showable(&format!("{}: connections", about.title));
    area.draw(&Text::new(title, (24, 14), words(17.0, INK, FontStyle::Bold)))?;
    let line = format!(
        "{} · {} · Linux {} on {}",
        about.target,
        text::duration(subject.duration_ns()),
        about.kernel,
        about.host
    );
    let small = words(11.5, MUTED, FontStyle::Normal);
    area.draw(&Text::new(text::showable(&line), (24, 38), small.clone()))?;
    for (place, socket) in (0..).zip(sockets) {
        let y = HEADING.cast_signed() + 18 * place;
        let color = LINES[place.unsigned_abs() as usize];
        area.draw(&PathElement::new(vec![(24, y), (48, y)], color.stroke_width(3)))?;
        let name = format!("{} → {}", socket.local(), socket.peer());
        area.draw(&Text::new(name, (56, y - 8), small.clone()))?;
    }
    Ok(())
}

fn over_time(
    area: &Area<'_>,
    subject: &Subject<'_>,
    quantity: &Quantity,
    sockets: &[&Socket],
) -> Drawn {
    let since = |time_ns: u64| time_ns.saturating_sub(subject.model.start_ns) as f64 / 1e9;
    let (from, to) = (since(subject.from_ns), since(subject.to_ns));
    let points = |socket: &Socket| -> Vec<(f64, f64)> {
        let samples = socket.samples.iter();
        let within = samples
            .filter(|sample| (subject.from_ns..=subject.to_ns).contains(&sample.header.time_ns));
        within.map(|sample| (since(sample.header.time_ns), (quantity.of)(sample))).collect()
    };
    let lines: Vec<Vec<(f64, f64)>> = sockets.iter().map(|socket| points(socket)).collect();
    let most = lines.iter().flatten().map(|(_, value)| *value).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .caption(
            format!("{} ({})", quantity.title, quantity.unit),
            words(12.0, INK, FontStyle::Bold),
        )
        .x_label_area_size(28)
        .y_label_area_size(64)
        .build_cartesian_2d(from..to.max(from + 1e-6), 0.0..most * 1.05)?;
    chart
        .configure_mesh()
        .light_line_style(PAGE)
        .bold_line_style(GRID)
        .axis_style(MUTED)
        .x_labels(12)
        .y_labels(6)
        .label_style(words(11.0, MUTED, FontStyle::Normal))
        .x_label_formatter(&|x| format!("{x:.1} s"))
        .draw()?;
    for (line, color) in lines.into_iter().zip(LINES) {
        chart.draw_series(LineSeries::new(line, color.stroke_width(2)))?;
    }
    Ok(())
}

/// Which bar a time belongs to.
fn bar(ns: u64) -> i32 {
    ((ns.max(1) as f64).log2() * BARS_PER_DOUBLING).floor() as i32
}

fn histogram(area: &Area<'_>, title: &str, times_ns: &[u64]) -> Drawn {
    let mut counts = std::collections::BTreeMap::<i32, u32>::new();
    for time_ns in times_ns {
        *counts.entry(bar(*time_ns)).or_default() += 1;
    }
    let (Some(first), Some(last)) = (counts.keys().next(), counts.keys().last()) else {
        return Ok(());
    };
    let edge = |bar: i32| (f64::from(bar) / BARS_PER_DOUBLING).exp2();
    let most = counts.values().max().copied().unwrap_or(1);
    let caption = format!("{title}: {}", text::plural(times_ns.len() as u64, "time"));
    let range = (edge(first - 1)..edge(last + 2)).log_scale();
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .caption(caption, words(12.0, INK, FontStyle::Bold))
        .x_label_area_size(28)
        .y_label_area_size(64)
        .build_cartesian_2d(range, 0..most + most / 20 + 1)?;
    chart
        .configure_mesh()
        .light_line_style(PAGE)
        .bold_line_style(GRID)
        .axis_style(MUTED)
        .x_labels(12)
        .y_labels(6)
        .label_style(words(11.0, MUTED, FontStyle::Normal))
        .x_label_formatter(&|x| text::duration(x.round() as u64))
        .draw()?;
    let bars = counts.iter().map(|(bar, count)| {
        Rectangle::new([(edge(*bar), 0), (edge(bar + 1), *count)], LINES[0].filled())
    });
    chart.draw_series(bars)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode::Event, export::About, model::Folder};
    use hz_probes_ebpf::{
        Header,
        net::{NetSocket, NetState},
    };

    #[test]
    fn charts_have_a_line_for_each_connection_and_a_histogram_of_connects() {
        let mut folder = Folder::new(0, false);
        let header = |time_ns, arg| Header { time_ns, arg, ..Header::default() };
        let socket = NetSocket { cookie: 1, peer_port: 80, ..NetSocket::default() };
        folder.fold(&Event::NetSocket(socket));
        for (time_ns, arg) in [(1_000, 0x702), (1_501_000, 0x201)] {
            let header = header(time_ns, arg);
            folder.fold(&Event::NetState(NetState { header, cookie: 1, ..NetState::default() }));
        }
        for time_ns in (1..20).map(|tenth| tenth * 100_000_000) {
            folder.fold(&Event::NetSample(NetSample {
                header: header(time_ns, 0),
                cookie: 1,
                srtt_us: (time_ns / 1_000_000) as u32,
                cwnd: 10,
                ..NetSample::default()
            }));
        }
        let model = folder.finish(2_000_000_000);
        let about = About { title: "<a & b>".to_owned(), ..About::default() };
        let mut svg = Vec::new();
        Charts.export(&Subject::new(&model, &about), &mut svg).unwrap();
        let svg = String::from_utf8(svg).unwrap();
        assert!(svg.contains("&lt;a &amp; b&gt;: connections"), "escaped");
        for text in
            ["Smoothed round trip (ms)", "Congestion window", "How long connects took: 1 time"]
        {
            assert!(svg.contains(text), "{text}");
        }
        // Two quantities vary or stand; each has its line over all looks.
        let lines = svg.lines().filter(|line| line.starts_with("<polyline")).count();
        assert!(lines >= QUANTITIES.len(), "{lines}");
    }

    #[test]
    fn a_recording_without_connections_is_a_heading() {
        let model = Folder::new(0, false).finish(10);
        let about = About::default();
        let mut svg = Vec::new();
        Charts.export(&Subject::new(&model, &about), &mut svg).unwrap();
        assert!(String::from_utf8(svg).unwrap().ends_with("</svg>\n"));
    }

    #[test]
    fn bars_are_half_a_doubling_wide() {
        assert_eq!([bar(0), bar(1), bar(2), bar(3), bar(4)], [0, 0, 2, 3, 4]);
    }
}
