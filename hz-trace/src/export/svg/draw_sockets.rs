//! Draws the lanes of connections.

use super::canvas::Canvas;
use super::draw_cpus::Bars;
use super::draw_page::{close_lane, open_lane, shortened};
use super::layout::{Lane, PLOT, Shows};
use super::sockets::{SocketColumn, socket_columns};
use super::style::{Paint, Type};
use super::{PX, Scene};
use crate::model::net::Socket;
use crate::text::{bytes, plural};
use plotters::style::text_anchor::HPos;
use std::io;
use std::ops::Range;

/// Height of the line on top of a lane that says that bytes waited, in units.
const WAITS_HEIGHT: i32 = 3 * PX;

/// Draws the lanes of connections.
pub(super) fn draw(scene: &Scene<'_>, canvas: &Canvas) -> io::Result<()> {
    for (number, lane) in scene.layout.lanes.iter().enumerate() {
        if let Shows::Socket(place) = lane.shows {
            let socket = &scene.subject.model.network.sockets[place];
            draw_socket(scene, canvas, (number, lane, socket))?;
        }
    }
    Ok(())
}

/// What a connection is called: both ends.
pub(super) fn socket_words(socket: &Socket) -> String {
    format!("{} → {}", socket.local(), socket.peer())
}

fn draw_socket(
    scene: &Scene<'_>,
    canvas: &Canvas,
    (number, lane, socket): (usize, &Lane, &Socket),
) -> io::Result<()> {
    let columns = socket_columns(scene, socket);
    let most = columns.iter().map(SocketColumn::bytes).max().unwrap_or(0).max(1);
    let again: u64 = columns.iter().map(|column| u64::from(column.again + column.timeouts)).sum();
    let about = format!(
        "{}: full height {}; {} sent again (ticks)",
        socket_words(socket),
        bytes(most),
        plural(again, "segment"),
    );
    open_lane(canvas, number, &about)?;
    let label = shortened(&format!("→ {}", socket.peer()), 24);
    let look = Type::LABEL.anchored(HPos::Right);
    canvas.text(&label, (PLOT.start - 10 * PX, lane.baseline()), look)?;
    canvas.rect(PLOT, lane.y(), Paint::LANE)?;
    canvas.backend(|backend| backend.open("g", &[("class", "tiles")]))?;
    let mut bars = Bars::new(scene.column_px);
    for (column, held) in columns.iter().enumerate() {
        for (y, paint) in areas(held, most, lane) {
            bars.add(canvas, column, (y, paint))?;
        }
    }
    bars.end(canvas)?;
    for (column, held) in columns.iter().enumerate() {
        let x = canvas.x(scene.grid.start_ns(column)) + scene.column_px * PX / 2;
        marks(canvas, (x, lane), held)?;
    }
    close_lane(canvas)
}

/// What a column held, from below: in flight, unsent, unread; and on top that bytes waited.
fn areas(held: &SocketColumn, most: u64, lane: &Lane) -> Vec<(Range<i32>, Paint)> {
    let room = lane.height - WAITS_HEIGHT;
    let height = |part: u32| {
        let share = f64::from(part) / most as f64 * f64::from(room / PX);
        (if part > 0 { share.round().max(1.0) } else { 0.0 }) as i32 * PX
    };
    let mut at = lane.y().end;
    let mut areas = Vec::new();
    for (part, paint) in
        [(held.in_flight, Paint::RUN), (held.unsent, Paint::WAIT), (held.unread, Paint::STOPPED)]
    {
        let top = (at - height(part)).max(lane.top + WAITS_HEIGHT);
        if top < at {
            areas.push((top..at, paint));
            at = top;
        }
    }
    if held.waits > 0 {
        let paint = if held.waits == 1 { Paint::BLOCKED } else { Paint::LOST };
        areas.push((lane.top..lane.top + WAITS_HEIGHT, paint));
    }
    areas
}

fn marks(canvas: &Canvas, (x, lane): (i32, &Lane), held: &SocketColumn) -> io::Result<()> {
    let width = PX.unsigned_abs();
    if held.timeouts > 0 {
        canvas.bar(x, lane.top - 3 * PX..lane.y().end, (Paint::LOST, width))?;
    } else if held.again > 0 {
        canvas.bar(x, lane.top - 2 * PX..lane.top + 4 * PX, (Paint::MOVED, width))?;
    }
    Ok(())
}
