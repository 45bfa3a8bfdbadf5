//! From a span of the timeline to its flame graph, in a browser.
//!
//! Needs `chromium` in the path (scripts/setup installs it); without it the tests say that they
//! are skipped.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test dies where it fails, its helpers too"
)]

use browser::{drive, has_browser, text};
use hz_trace as hz;
use hz_trace::{
    analyze::FlameKind,
    export::{About, EXPORTERS, FlameLink, Subject},
    model::{CpuSample, Model, OffCpu, OffReason, Stack, StackIndex, ThreadIndex},
    symbol::{SymbolChunk, SymbolTable},
};
use serde_json::Value;
use std::path::Path;

#[path = "support/browser.rs"]
mod browser;
#[path = "support/simulate.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod simulate;

const DRIVER: &str = include_str!("support/drive_flame.js");
const MS: u64 = 1_000_000;
const WORKER: u32 = 4_712;
const SAMPLES: u64 = 500;
const PERIOD_NS: u64 = 70_000;

/// Stacks `outer;inner;leaf…`, the deeper ones with more of `leaf`, in functions of the kernel.
fn with_stacks(model: &mut Model) {
    for depth in 0..3 {
        let leaves = std::iter::repeat_n(0x301, depth);
        let addresses: Box<[u64]> = leaves.chain([0x201, 0x101]).collect();
        let (told, frames) = (addresses.len() as u16, addresses.len() as u16);
        let is_all_returns = true;
        model.stacks.stacks.push(Stack {
            addresses,
            told,
            kernel_frames: frames,
            is_all_returns,
            ..Stack::default()
        });
    }
}

fn names() -> SymbolTable {
    let mut names = SymbolTable::default();
    names.add(&SymbolChunk {
        texts: ["outer", "inner", "<leaf> & \"co\" ]]>"].map(str::to_owned).to_vec(),
        places: vec![[0, 0, 0x100], [0, 0, 0x200], [0, 0, 0x300]],
        functions: vec![vec![[1, 0, 0]], vec![[2, 0, 0]], vec![[3, 0, 0]]],
        ..SymbolChunk::default()
    });
    names
}

/// A sample every 70 µs, of one thread after the other, and times off a CPU of the worker.
fn service() -> Model {
    let mut model = simulate::service();
    with_stacks(&mut model);
    let (start_ns, threads) = (model.start_ns, model.threads.len() as u64);
    for number in 0..SAMPLES {
        model.stacks.samples.push(CpuSample {
            time_ns: start_ns + number * PERIOD_NS,
            thread: ThreadIndex((number % threads) as u32),
            cpu: (number % 2) as u16,
            stack: Some(StackIndex((number % 3) as u32)),
            period: PERIOD_NS,
            is_cycles: false,
        });
    }
    let worker = model.threads.iter().position(|thread| thread.tid == WORKER).unwrap();
    for (place, from_ms) in [2, 9, 14, 30].into_iter().enumerate() {
        model.stacks.off_cpu.push(OffCpu {
            start_ns: start_ns + from_ms * MS,
            end_ns: start_ns + (from_ms + 4) * MS,
            runq_ns: MS,
            thread: ThreadIndex(worker as u32),
            cpu: 1,
            stack: Some(StackIndex(place as u32 % 3)),
            waker_stack: None,
            waker: None,
            is_by_interrupt: false,
            reason: OffReason::Lock,
            lock: None,
            weight: 1,
        });
    }
    model
}

fn pictures(model: &Model) -> Vec<(String, String)> {
    let names = names();
    let flames = [(FlameKind::OnCpu, "my flame.svg"), (FlameKind::OffCpu, "timeline.off-cpu.svg")];
    let flames = flames.map(|(kind, name)| FlameLink::to_file(kind, Path::new(name))).to_vec();
    let about = About { title: "shop-api".to_owned(), flames, ..About::default() };
    let subject = Subject::new(model, &about).named_by(&names);
    let made = EXPORTERS.iter().filter(|each| each.name() != "charts").map(|exporter| {
        let name = match exporter.name() {
            "flame" => "my flame.svg",
            "off-cpu" => "timeline.off-cpu.svg",
            _ => "timeline.svg",
        };
        let mut svg = Vec::new();
        exporter.export(&subject, &mut svg).unwrap();
        (name.to_owned(), String::from_utf8(svg).unwrap())
    });
    made.collect()
}

fn seen(model: &Model, facts: &str) -> Value {
    let pictures = pictures(model);
    let files: Vec<(&str, &str)> =
        pictures.iter().map(|(name, svg)| (name.as_str(), svg.as_str())).collect();
    let seen = drive(&files, "", (DRIVER, facts));
    assert_eq!(seen["errors"], Value::Array(Vec::new()), "{seen:#}");
    seen
}

/// Start and end that an address asks for.
fn asked(address: &str) -> (u64, u64) {
    let (_, rest) = address.split_once("#t=").unwrap();
    let (from, to) = rest.split('&').next().unwrap().split_once('-').unwrap();
    (from.parse().unwrap(), to.parse().unwrap())
}

#[test]
fn a_span_leads_to_its_flame_graph() {
    if !has_browser() {
        return;
    }
    let facts = r#"{"addresses": [], "points": {"wait": [600, 248], "cpu": [560, 200], "call": [600, 259]}}"#;
    let model = service();
    let seen = seen(&model, facts);
    let whole = format!("#t=0-{}", model.end_ns - model.start_ns);
    assert_eq!(seen["still"], serde_json::json!(["my%20flame.svg", "timeline.off-cpu.svg"]));
    assert_eq!(seen["back"], seen["still"]);
    assert!(text(&seen, "/remark").contains("f or Ctrl-click"), "{seen:#}");
    assert_eq!(text(&seen, "/opened/nowhere/0"), format!("my%20flame.svg{whole}"));
    assert_eq!(text(&seen, "/opened/nowhere/1"), "hz-flame");
    // What a thread waits in is asked of the time off a CPU.
    let wait = text(&seen, "/opened/wait/key/0");
    assert!(wait.starts_with("timeline.off-cpu.svg#t=") && wait.ends_with("&tid=4712"), "{wait}");
    assert_eq!(wait, text(&seen, "/opened/wait/click/0"));
    let (from, to) = asked(wait);
    // The tip says 8.11 ms: see timeline_browser.rs.
    assert!((to - from).abs_diff(8_110_000) < 5_000, "{wait}");
    let (left, right) = (168.0, 1_256.0);
    let at = (600.0 - left) / (right - left) * (model.end_ns - model.start_ns) as f64;
    assert!((from..to).contains(&(at as u64)), "{wait} {at}");
    let tip = seen["opened"]["wait"]["tip"].as_array().unwrap();
    assert_eq!(tip.last().unwrap(), "f or Ctrl-click: flame graph of this");
    assert_eq!(seen["opened"]["wait"]["plain"], Value::Null, "a click isolates");
    assert_eq!(
        text(&seen, "/opened/wait/isolated/1"),
        format!("timeline.off-cpu.svg{whole}&tid=4712"),
        "the links are of the thread that is isolated"
    );
    let cpu = text(&seen, "/opened/cpu/key/0");
    assert!(cpu.starts_with("my%20flame.svg#t=") && cpu.ends_with("&cpu=1"), "{cpu}");
    let (from, to) = asked(cpu);
    assert!((to - from).abs_diff(8_310_000) < 5_000, "{cpu}");
    let call = text(&seen, "/opened/call/key/0");
    assert!(call.starts_with("my%20flame.svg#t=") && call.ends_with("&tid=4712"), "{call}");
    let (from, to) = asked(call);
    assert!((to - from).abs_diff(430_000) < 1_000, "{call}");
}

/// The frame of a name; its text has its amount.
fn frame<'a>(look: &'a Value, name: &str) -> Option<&'a Value> {
    let mut frames = look["frames"].as_array().unwrap().iter();
    frames.find(|frame| frame["title"].as_str().unwrap().starts_with(name))
}

fn widths(look: &Value, name: &str) -> u64 {
    let frames = look["frames"].as_array().unwrap().iter();
    let own =
        frames.filter(|frame| frame["title"].as_str().unwrap().starts_with(&format!("{name} (")));
    own.map(|frame| frame["width"].as_u64().unwrap()).sum()
}

/// All is in what is below it, and no frame overlaps another.
fn assert_is_a_tree(look: &Value) {
    let frames = look["frames"].as_array().unwrap();
    let range = |frame: &Value| {
        let (x, width) = (frame["x"].as_u64().unwrap(), frame["width"].as_u64().unwrap());
        (x, x + width)
    };
    for frame in frames {
        let y = frame["y"].as_f64().unwrap();
        assert!(y > 0.0 && y < look["height"].as_f64().unwrap(), "{look:#}");
        let (start, end) = range(frame);
        let below = |other: &&Value| (other["y"].as_f64().unwrap() - y - 16.0).abs() < 0.1;
        let holds = |other: &Value| range(other).0 <= start && end <= range(other).1;
        let is_all = frame["title"].as_str().unwrap().starts_with("all (");
        assert!(is_all || frames.iter().filter(below).any(holds), "{frame} {look:#}");
        for other in frames.iter().filter(|other| other["y"] == frame["y"] && *other != frame) {
            assert!(range(other).1 <= start || end <= range(other).0, "{frame} {other}");
        }
    }
}

/// What the flame graphs show at their addresses.
fn at(addresses: &[&str]) -> Option<(Model, Value)> {
    if !has_browser() {
        return None;
    }
    let model = service();
    let facts = serde_json::json!({ "points": {}, "addresses": addresses });
    let seen = seen(&model, &facts.to_string());
    Some((model, seen))
}

#[test]
fn a_flame_graph_is_of_the_time_and_thread_that_its_address_asks_for() {
    let asked = "my%20flame.svg#t=7000000-14000000&tid=4712";
    let Some((model, seen)) = at(&["my%20flame.svg", asked]) else { return };
    let whole = &seen["flames"]["my%20flame.svg"]["first"];
    assert_is_a_tree(whole);
    assert_eq!(
        (widths(whole, "all"), &whole["isWholeOffered"]),
        (SAMPLES * PERIOD_NS, &false.into())
    );
    assert_eq!(whole["links"], serde_json::json!(["timeline.off-cpu.svg"]));

    let part = &seen["flames"][asked];
    let worker = model.threads.iter().position(|thread| thread.tid == WORKER).unwrap();
    let samples = model.stacks.samples.iter().filter(|sample| {
        let since_ns = sample.time_ns - model.start_ns;
        (7 * MS..14 * MS).contains(&since_ns) && sample.thread.0 as usize == worker
    });
    let samples: Vec<_> = samples.collect();
    let deep = samples.iter().filter(|sample| sample.stack.unwrap().0 > 0).count() as u64;
    assert!(deep > 0 && deep < samples.len() as u64, "{samples:?}");
    let (all, first) = (samples.len() as u64 * PERIOD_NS, &part["first"]);
    assert_is_a_tree(first);
    assert_eq!((widths(first, "all"), widths(first, "inner")), (all, all));
    let name = model.threads[worker].name();
    assert_eq!(frame(first, &format!("{name} (")).unwrap()["share"].as_f64(), Some(100.0));
    let leaf = frame(first, "<leaf> & \"co\" ]]> (").unwrap();
    assert_eq!(leaf["width"], deep * PERIOD_NS);
    let subtitle = text(first, "/subtitle");
    let count = samples.len();
    let expected =
        format!("in {count} samples · 0.00700 s to 0.01400 s (7.00 ms) · {name} (tid 4712)");
    assert!(subtitle.contains(&expected), "{subtitle}");
    let beside = "timeline.off-cpu.svg#t=7000000-14000000&tid=4712";
    assert_eq!(first["links"], serde_json::json!([beside]));
    assert_eq!(first["isWholeOffered"], true);
    let after = &part["whole"];
    assert_eq!(after["frames"], whole["frames"], "all of it is as it was");
    assert_eq!((&after["height"], &after["subtitle"]), (&whole["height"], &whole["subtitle"]));
}

#[test]
fn a_part_of_a_flame_graph_can_be_zoomed_and_searched_and_its_address_stays() {
    let asked = "my%20flame.svg#t=7000000-14000000";
    let Some((_, seen)) = at(&[asked]) else { return };
    let part = &seen["flames"][asked];
    let (first, zoomed) = (&part["first"], &part["zoomed"]);
    assert_is_a_tree(first);
    assert!(text(zoomed, "/address").ends_with("#t=7000000-14000000"), "{part:#}");
    let root = &zoomed["frames"][1];
    assert_eq!(
        (root["share"].as_f64(), &root["title"]),
        (Some(100.0), &first["frames"][1]["title"])
    );
    assert!(first["frames"][1]["share"].as_f64() < Some(100.0), "{first:#}");
    assert_eq!(part["unzoomed"]["frames"], first["frames"]);
    assert_eq!(text(part, "/searched/matched"), "Matched: 100%");
    assert!(text(part, "/searched/address").contains("s=inner#t="), "{part:#}");
}

#[test]
fn a_flame_graph_of_a_cpu_of_nothing_and_of_waits_that_reach_out_of_the_range() {
    let (cpu, none) = ("my%20flame.svg#t=0-20000000&cpu=1", "my%20flame.svg#t=100-200");
    let off = "timeline.off-cpu.svg#t=10000000-16000000&tid=4712";
    let Some((_, seen)) = at(&[cpu, none, off]) else { return };
    let first = |address: &str| &seen["flames"][address]["first"];
    let odd = (0..SAMPLES).filter(|number| number % 2 == 1 && number * PERIOD_NS < 20 * MS);
    assert_eq!(widths(first(cpu), "all"), odd.count() as u64 * PERIOD_NS);
    assert_is_a_tree(first(cpu));
    assert!(frame(first(none), "nothing (0, 100%)").is_some(), "{:#}", first(none));
    let subtitle = text(first(none), "/subtitle");
    assert!(subtitle.contains("no sample; one stands for 70.0 µs"), "{subtitle}");
    // Those have their part that is in it: 10 to 12, 12 to 13 and 14 to 16 ms.
    assert_is_a_tree(first(off));
    let found = (widths(first(off), "all"), widths(first(off), "waiting for a CPU"));
    assert_eq!(found, (5 * MS, MS));
}
