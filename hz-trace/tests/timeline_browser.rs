//! The timeline in a browser: headless Chromium uses it as a person would.
//!
//! Needs `chromium` in the path (scripts/setup installs it); without it the tests say that they
//! are skipped.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test dies where it fails, its helpers too"
)]

use browser::{has_browser, text};
use hz_trace as hz;
use hz_trace::decode::decode;
use hz_trace::export::{About, EXPORTERS, Subject};
use hz_trace::model::{Folder, Model, TaskState, TaskTile};
use serde_json::Value;

#[path = "support/browser.rs"]
mod browser;
#[path = "support/runtime.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod runtime;
#[path = "support/scheduler.rs"]
mod scheduler;
#[path = "support/simulate.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod simulate;
#[path = "support/story.rs"]
mod story;

const DRIVER: &str = include_str!("support/drive.js");

/// What the driver has to know: points to hover over, in pixels of the picture.
const FACTS: &str = r#"{
    "box": [600, 248],
    "labels": {"search": "worker"},
    "points": {
        "wait": [600, 248], "cpu": [560, 200], "density": [560, 130],
        "call": [600, 259], "lost": [1070, 176], "asleep": [765, 248]
    }
}"#;

fn svg(model: &Model) -> String {
    let about = About {
        title: "shop-api".to_owned(),
        recorded_ns: 0,
        probes: vec!["libssl.so:SSL_read".to_owned(), "checkout".to_owned()],
        ..About::default()
    };
    let mut bytes = Vec::new();
    EXPORTERS[0].export(&Subject::new(model, &about), &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Opens a page with `body` and returns what the driver saw.
fn drive(files: &[(&str, &str)], body: &str) -> Value {
    drive_at(files, body, FACTS)
}

/// The same with points of the test's own.
fn drive_at(files: &[(&str, &str)], body: &str, facts: &str) -> Value {
    browser::drive(files, body, (DRIVER, facts))
}

/// The part of the time in sight: start and end in nanoseconds.
fn view(seen: &Value, path: &str) -> (u64, u64) {
    let (start, end) = text(seen, path).split_once('-').unwrap();
    (start.parse().unwrap(), end.parse().unwrap())
}

fn check_hover(seen: &Value) {
    let wait = text(seen, "/tips/wait");
    assert!(
        wait.starts_with(
            "worker-0 (tid 4712): runnable 8.11 ms on CPU 1, woken by worker-1 (tid 4713)\n\
            CPU 1 was held by rustc (pid 991) 8.11 ms, hard irq 122 µs, soft irq 223 µs\n"
        ),
        "{wait}"
    );
    assert_eq!(seen.pointer("/tips/wait arrows").and_then(Value::as_u64), Some(3));
    let cpu = text(seen, "/tips/cpu");
    assert!(cpu.starts_with("CPU 1: rustc (pid 991) ran 8.31 ms"), "{cpu}");
    let density = text(seen, "/tips/density");
    assert!(density.starts_with("CPU 1: 100 % busy, by 1 thread"), "{density}");
    let call = text(seen, "/tips/call");
    assert!(call.starts_with("worker-0 (tid 4712): libssl.so:SSL_read 430 µs"), "{call}");
    let lost = text(seen, "/tips/lost");
    assert!(lost.starts_with("1,204 records lost on CPU 0"), "{lost}");
    let asleep = text(seen, "/tips/asleep");
    assert!(asleep.starts_with("worker-0 (tid 4712): asleep "), "{asleep}");
}

fn check_zoom(seen: &Value) {
    assert_ne!(seen["axis"], seen["zoomedAxis"], "the wheel changes the axis");
    let (start, end) = view(seen, "/zoomedView");
    assert_eq!(end - start, 25_600_000, "two steps of the wheel");
    assert_eq!(
        text(seen, "/zoomedTip"),
        text(seen, "/tips/wait"),
        "the wheel zooms at the pointer"
    );
    assert!(seen["zoomedPaths"].as_u64() > Some(20), "{seen:#}");
    let (panned_start, panned_end) = view(seen, "/pannedView");
    assert!(panned_start > start && panned_end - panned_start == end - start, "{seen:#}");
    assert_eq!(seen["isReset"], true);
    let (marked_start, marked_end) = view(seen, "/markedView");
    assert_eq!((marked_start / 1_000, marked_end / 1_000), (8_529, 15_882));
    let (deep_start, deep_end) = view(seen, "/deepestView");
    assert_eq!(deep_end - deep_start, 1_000, "it stops at a microsecond");
}

fn check_focus(seen: &Value) {
    assert_eq!((&seen["dimmedByClick"], &seen["dimmedBySecondClick"]), (&3.into(), &0.into()));
    assert_eq!(seen["isSearching"], true, "/ goes to the search box");
    assert_eq!((text(seen, "/tally"), &seen["hits"]), ("2 found", &2.into()));
    assert_eq!((&seen["dimmedBySearch"], &seen["dimmedAfterEscape"]), (&2.into(), &0.into()));
    assert!(text(seen, "/firstMatch").starts_with("worker-0 (tid 4712): "), "{seen:#}");
    assert!(text(seen, "/secondMatch").starts_with("worker-1 (tid 4713): "), "{seen:#}");
    assert!(text(seen, "/byKeys").contains("(tid 47"), "{seen:#}");
    assert_eq!(seen["dimmedByEnter"], 3);
    assert_eq!(seen["isHelpShown"], true);
    let (start, end) = view(seen, "/keyedView");
    assert!(start > 0 && end - start < 40_000_000, "{seen:#}");
}

fn check(seen: &Value) {
    assert_eq!(seen["errors"], Value::Array(Vec::new()), "{seen:#}");
    assert_eq!(seen["isLive"], true);
    check_hover(seen);
    check_zoom(seen);
    check_focus(seen);
}

#[test]
fn a_timeline_in_a_page_can_be_used() {
    if has_browser() {
        check(&drive(&[], &svg(&simulate::service())));
    }
}

#[test]
fn a_timeline_by_itself_can_be_used() {
    if has_browser() {
        let svg = svg(&simulate::service());
        let frame = "<iframe src='timeline.svg' width=1300 height=700 style='border:0'></iframe>";
        check(&drive(&[("timeline.svg", &svg)], frame));
    }
}

#[test]
fn names_of_a_hostile_process_stay_text() {
    if has_browser() {
        let mut model = simulate::service();
        let names: [&[u8]; 4] = [
            b"</script><img s",
            b"]]><b onload=x ",
            b"\"'<a href=x>&am",
            b"\x1b\xe2\x80\xae\xff\x07evil",
        ];
        for (thread, name) in model.threads.iter_mut().zip(names) {
            thread.comm = [0; 16];
            thread.comm[..name.len()].copy_from_slice(name);
        }
        let seen = drive(&[], &svg(&model));
        assert_eq!(seen["errors"], Value::Array(Vec::new()), "{seen:#}");
        assert_eq!(seen["foreign"], 0, "{seen:#}");
        assert!(
            text(&seen, "/tips/wait").starts_with("]]><b onload=x  (tid 4712): runnable"),
            "{seen:#}"
        );
    }
}

#[test]
fn a_large_recording_can_be_used_and_says_what_it_leaves_out() {
    if has_browser() {
        let seen = drive(&[], &svg(&simulate::busy_machine(8, 2_000_000_000, 80)));
        assert_eq!(seen["errors"], Value::Array(Vec::new()), "{seen:#}");
        let remark = text(&seen, "/remark");
        assert!(remark.starts_with("Shorter than ") && remark.contains("--from/--to"), "{remark}");
    }
}

fn model_with_tasks() -> Model {
    let choices: Vec<u32> =
        (0..3_000_u32).map(|number| number.wrapping_mul(2_654_435_761).rotate_left(7)).collect();
    let runtime = runtime::simulated(2, false, &choices);
    let mut folder = Folder::new(scheduler::START_NS, false);
    for (_, record) in &runtime.scheduler.records {
        folder.fold(&decode(record).unwrap());
    }
    folder.finish(runtime.scheduler.now_ns)
}

/// The name of the first task with a lane, and the middle of its longest time ready in pixels.
fn first_task(model: &Model, svg: &str) -> (String, (f64, f64), f64) {
    let (_, rest) = svg.split_once("class=\"hz-data\"").unwrap();
    let (_, rest) = rest.split_once("<![CDATA[").unwrap();
    let data: Value = serde_json::from_str(rest.split_once("]]>").unwrap().0).unwrap();
    let lanes = data["lanes"].as_array().unwrap();
    let middle =
        |lane: &Value| lane["y"][0].as_f64().unwrap() + lane["y"][1].as_f64().unwrap() / 2.0;
    let lane = lanes.iter().find(|lane| lane["kind"] == "task").unwrap();
    let queue = lanes.iter().find(|lane| lane["kind"] == "queue").unwrap();
    let name = data["actors"][lane["actor"].as_u64().unwrap() as usize][2].as_str().unwrap();
    let id: u64 = name.rsplit_once("(task ").unwrap().1.trim_end_matches(')').parse().unwrap();
    let task = model.tasks.iter().find(|task| task.id == id).unwrap();
    let ready = task.tiles().filter(|tile| tile.span.state == TaskState::Ready);
    let tile = ready.max_by_key(TaskTile::duration_ns).unwrap();
    let middle_ns = (tile.span.start_ns + tile.end_ns) / 2 - model.start_ns;
    let x = 168.0 + 1_088.0 * middle_ns as f64 / (model.end_ns - model.start_ns) as f64;
    (name.to_owned(), (x, middle(lane)), middle(queue))
}

#[test]
fn tasks_can_be_looked_at_searched_for_and_isolated() {
    if !has_browser() {
        return;
    }
    let model = model_with_tasks();
    let svg = svg(&model);
    let (name, (x, y), queue) = first_task(&model, &svg);
    let facts = format!(
        r#"{{"box": [{x}, {y}], "labels": {{"search": "{name}"}},
            "points": {{"task": [{x}, {y}], "queue": [{x}, {queue}]}}}}"#
    );
    let seen = drive_at(&[], &svg, &facts);
    assert_eq!(seen["errors"], Value::Array(Vec::new()), "{seen:#}");
    let task = text(&seen, "/tips/task");
    assert!(task.starts_with(&format!("{name}: ready ")), "{task}");
    assert_eq!(task, text(&seen, "/zoomedTip"), "the wheel zooms at the pointer");
    let queue = text(&seen, "/tips/queue");
    assert!(queue.starts_with("Queues of process 4711: at most "), "{queue}");
    assert_eq!(seen["isReset"], true, "{seen:#}");
    assert_eq!((text(&seen, "/tally"), &seen["hits"]), ("1 found", &1.into()));
    assert!(seen["dimmedByClick"].as_u64() > Some(20), "{seen:#}");
    assert!(text(&seen, "/firstMatch").starts_with(&format!("{name}: ")), "{seen:#}");
}

#[test]
fn requests_marks_and_reasons_of_a_task_can_be_looked_at() {
    if !has_browser() {
        return;
    }
    let svg = svg(&story::story());
    let (_, rest) = svg.split_once("class=\"hz-data\"").unwrap();
    let (_, rest) = rest.split_once("<![CDATA[").unwrap();
    let data: Value = serde_json::from_str(rest.split_once("]]>").unwrap().0).unwrap();
    let name = |lane: &Value| data["actors"][lane["actor"].as_u64().unwrap() as usize][2].clone();
    let mut lanes = data["lanes"].as_array().unwrap().iter();
    let lane =
        lanes.find(|lane| lane["kind"] == "task" && name(lane) == "upload (task 1)").unwrap();
    let (top, height) = (lane["y"][0].as_f64().unwrap(), lane["y"][1].as_f64().unwrap());
    let at = |ms: f64, below: f64| format!("[{}, {}]", 168.0 + 1.088 * ms, top + below);
    let idle = at(150.0, height / 2.0);
    let facts = format!(
        r#"{{"box": {idle}, "labels": {{"search": "upload"}}, "points": {{
            "idle": {idle}, "request": {}, "span": {}, "mark": {}}}}}"#,
        at(150.0, height + 3.0),
        at(24.0, height + 10.0),
        at(27.5, height + 10.0),
    );
    let seen = drive_at(&[], &svg, &facts);
    assert_eq!(seen["errors"], Value::Array(Vec::new()), "{seen:#}");
    let idle = text(&seen, "/tips/idle");
    let why = "idle 300 ms on writing 10.77.0.2:5000: 250 ms for the peer's closed window";
    assert!(
        idle.starts_with(
            "upload (task 1): idle 300 ms, waits for socket 7 (→ 10.77.0.2:5000) to write\n"
        ),
        "{idle}"
    );
    assert!(idle.contains(why), "{idle}");
    let request = text(&seen, "/tips/request");
    assert!(
        request.starts_with("upload (task 1): request 90 /files, status 200 320 ms"),
        "{request}"
    );
    let span = text(&seen, "/tips/span");
    assert!(span.starts_with("upload (task 1): parse 4.00 ms"), "{span}");
    let mark = text(&seen, "/tips/mark");
    assert!(mark.starts_with("upload (task 1): mark checked: 1,234"), "{mark}");
    assert_eq!(seen["isReset"], true, "{seen:#}");
}
