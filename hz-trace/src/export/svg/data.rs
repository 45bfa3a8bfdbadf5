//! What the script needs to draw every lane at any zoom, as fine as a budget of bytes allows.
//!
//! A lane is a stream of numbers in base 64; each piece of it begins where the one before ended.
//! The times are in `unit` nanoseconds since the start of the picture. In a small recording every
//! tile is a piece; in a large one tiles shorter than `resolution` are gathered, and a piece says
//! what share each state or thread had. `timeline_data.js` reads what this file writes.

use super::arrows::{self, ArrowData};
use super::canvas::Canvas;
use super::encode::safe_json;
use super::encoder::{Actor, Encoder};
use super::layout::PLOT;
use super::style::CLASSES;
use super::{DATA_BYTES, PX, Scene};
use crate::export::FlameLink;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;

/// The script: reading the data, drawing it, and being interactive.
const SCRIPT: &str = concat!(
    "(function () {\n'use strict';\n",
    include_str!("timeline_data.js"),
    include_str!("timeline_draw.js"),
    include_str!("../quantity.js"),
    include_str!("timeline_words.js"),
    include_str!("timeline_flame.js"),
    include_str!("timeline.js"),
    "})();\n"
);

/// What is embedded.
#[derive(Debug, Serialize)]
struct Data {
    /// Start of the picture, nanoseconds since the start of the recording.
    from_ns: u64,
    /// Length of the picture in nanoseconds.
    span_ns: u64,
    /// Nanoseconds per unit of the lanes' times.
    unit: u64,
    /// Tiles shorter than this, in nanoseconds, are gathered; 0 if none are.
    resolution: u64,
    /// Left and right end of the plot, its top and its bottom, in pixels.
    plot: [i32; 4],
    /// Thread id, process id, name and colour of everybody who is mentioned. The first is nobody.
    actors: Vec<Actor>,
    /// Name and class of what is below lanes.
    names: Vec<(String, &'static str)>,
    /// The plain colour of every class.
    paints: BTreeMap<&'static str, String>,
    /// Flame graphs beside the picture.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    flames: Vec<FlameLink>,
    lanes: Vec<LaneData>,
    worst: Vec<WaitData>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    arrows: Vec<ArrowData>,
}

/// A lane.
#[derive(Debug, Default, Serialize)]
pub(super) struct LaneData {
    pub(super) kind: &'static str,
    /// Top and height in pixels.
    pub(super) y: (f64, f64),
    /// Number of the CPU, for lanes of CPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cpu: Option<u16>,
    /// Whose lane it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) actor: Option<usize>,
    /// The task's id, for lanes of tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) task: Option<String>,
    /// Start of the first piece, in units.
    pub(super) start: u64,
    pub(super) pieces: String,
    /// Start and end in nanoseconds since the start of the picture, and number of records lost.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) lost: Vec<(u64, u64, u64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) calls: Option<String>,
    /// Rows of `calls`.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) rows: u8,
    /// Of tasks: when their sockets waited, nanoseconds since the start of the picture, and for what.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) waits: Vec<(u64, u64, String)>,
    /// Which of `waits` the picture says beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<usize>,
    /// What shares the lane, if it is no threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// Of queues: how many tasks waited at most, and how many were stolen, in each column.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) queue: Vec<(u32, u64)>,
    /// Of connections: bytes in flight, unsent and unread, segments sent again by timers and else, and
    /// whether bytes waited, in each column.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) socket: Vec<[u32; 6]>,
    /// How many threads share the lane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) threads: Option<usize>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(rows: &u8) -> bool {
    *rows == 0
}

/// A wait with its culprits: times in nanoseconds since the start of the picture.
#[derive(Debug, Serialize)]
pub(super) struct WaitData {
    pub(super) actor: usize,
    pub(super) start: u64,
    pub(super) end: u64,
    /// Actors and how long they had the CPU, the longest first.
    pub(super) ran: Vec<(usize, u64)>,
    /// Nanoseconds idle, not recorded, in hard interrupts, in soft interrupts, stolen.
    pub(super) rest: [u64; 5],
    /// What the picture says beside it, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<String>,
}

/// Embeds the data and the script.
pub(super) fn embed(scene: &Scene<'_>, canvas: &Canvas) -> io::Result<()> {
    let json = serde_json::to_string(&data(scene))?;
    canvas.backend(|backend| {
        let attributes = [("type", "application/json"), ("class", "hz-data")];
        backend.cdata_element("script", &attributes, &safe_json(&json))?;
        backend.cdata_element("script", &[], SCRIPT)
    })
}

fn data(scene: &Scene<'_>) -> Data {
    let subject = scene.subject;
    let mut encoder = Encoder::new(scene, first_resolution(scene));
    let mut lanes = encoder.lanes();
    while lanes.iter().map(|lane| lane.pieces.len()).sum::<usize>() > DATA_BYTES {
        encoder = Encoder::new(scene, (encoder.resolution_ns * 3 / 2).max(1_000));
        lanes = encoder.lanes();
    }
    encoder.name_folded();
    let worst = scene.survey.worst.iter().map(|wait| encoder.wait(wait)).collect();
    let (top, bottom) = (scene.layout.plot_y.start, scene.layout.plot_y.end);
    Data {
        from_ns: subject.from_ns.saturating_sub(subject.model.start_ns),
        span_ns: subject.duration_ns(),
        unit: encoder.unit_ns,
        resolution: encoder.resolution_ns,
        plot: [PLOT.start / PX, PLOT.end / PX, top / PX, bottom / PX],
        actors: encoder.actors,
        names: scene
            .strips
            .names
            .iter()
            .map(|(name, paint)| (name.clone(), paint.class()))
            .collect(),
        paints: CLASSES.iter().map(|(paint, class)| (*class, paint.hex())).collect(),
        flames: subject.about.flames.clone(),
        lanes,
        worst,
        arrows: arrows::data(scene),
    }
}

/// The finest resolution that may do, by the number of tiles; 0 if all of them fit.
fn first_resolution(scene: &Scene<'_>) -> u64 {
    const BYTES_PER_PIECE: u64 = 8;
    let span_ns = scene.subject.duration_ns();
    let cpus = scene.subject.model.cpus.iter().map(|cpu| cpu.runs.len() as u64);
    let threads = scene.lanes.threads().map(|index| scene.survey.life(index).tiles);
    let tasks = &scene.lanes.tasks;
    let own = tasks.own.iter().map(|own| own.tiles.len() as u64);
    let tiles: Vec<u64> = cpus.chain(threads).chain(own).chain([2 * tasks.polls()]).collect();
    let fits = |resolution_ns: u64| {
        let most = span_ns.checked_div(resolution_ns).unwrap_or(u64::MAX);
        let pieces: u64 = tiles.iter().map(|tiles| *tiles.min(&most)).sum();
        pieces * BYTES_PER_PIECE <= DATA_BYTES as u64
    };
    if fits(0) {
        return 0;
    }
    // Quarter steps of a doubling: finer ones gain nothing that is seen.
    let steps = (0..200).map(|step| (1_000.0 * (f64::from(step) / 4.0).exp2()) as u64);
    steps.into_iter().find(|resolution_ns| fits(*resolution_ns)).unwrap_or(span_ns)
}
