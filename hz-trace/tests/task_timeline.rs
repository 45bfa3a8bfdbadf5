//! Tasks in the timeline: who has a lane, who had the CPU, and what the picture opens on.

#![expect(clippy::unwrap_used, reason = "a test dies where it fails, its helpers too")]

use hz_trace::{
    decode::decode,
    export::{About, EXPORTERS, Subject},
    model::{Folder, Model},
    recording::Target,
};
use scheduler::START_NS;
use serde_json::Value;

#[path = "support/runtime.rs"]
#[expect(dead_code, reason = "what really happened is for the tests of the model")]
mod runtime;
#[path = "support/scheduler.rs"]
mod scheduler;

/// Lanes of tasks of their own, at most.
const OWN: usize = 24;

fn model(choices: u32) -> Model {
    let choices: Vec<u32> =
        (0..choices).map(|number| number.wrapping_mul(2_654_435_761).rotate_left(7)).collect();
    let runtime = runtime::simulated(2, false, &choices);
    let mut folder = Folder::new(START_NS, false);
    for (_, record) in &runtime.scheduler.records {
        folder.fold(&decode(record).unwrap());
    }
    folder.finish(runtime.scheduler.now_ns)
}

fn svg(model: &Model, target: &str) -> String {
    let about = About { target: target.to_owned(), ..About::default() };
    let mut bytes = Vec::new();
    EXPORTERS[0].export(&Subject::new(model, &about), &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// What the script is given.
fn data(svg: &str) -> Value {
    let (_, rest) = svg.split_once("class=\"hz-data\"").unwrap();
    let (_, rest) = rest.split_once("<![CDATA[").unwrap();
    serde_json::from_str(rest.split_once("]]>").unwrap().0).unwrap()
}

/// The lanes of a kind.
fn lanes<'a>(data: &'a Value, kind: &str) -> Vec<&'a Value> {
    data["lanes"].as_array().unwrap().iter().filter(|lane| lane["kind"] == kind).collect()
}

fn actor_name<'a>(data: &'a Value, actor: &Value) -> &'a str {
    data["actors"][actor.as_u64().unwrap() as usize][2].as_str().unwrap()
}

#[test]
fn the_busiest_tasks_have_lanes_and_the_rest_share_them_by_name() {
    let model = model(3_000);
    let svg = svg(&model, "pid 4711");
    let data = data(&svg);
    let own = lanes(&data, "task");
    assert_eq!(own.len(), OWN, "{svg:.2000}");
    let named = own.iter().all(|lane| actor_name(&data, &lane["actor"]).contains(" (task "));
    assert!(named, "{own:?}");
    let folded: Vec<&str> =
        lanes(&data, "rest").iter().filter_map(|lane| lane["name"].as_str()).collect();
    let count: usize =
        folded.iter().map(|name| name.rsplit_once('×').unwrap().1.parse::<usize>().unwrap()).sum();
    let seen = model.tasks.iter().filter(|task| !task.spans.is_empty()).count();
    assert_eq!(count + OWN, seen, "{folded:?}");
    let mut names: Vec<&str> = folded.iter().map(|name| name.rsplit_once(' ').unwrap().0).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "connection", "src/main.rs:44"]);
}

#[test]
fn queues_steals_and_wake_ups_are_drawn_and_say_what_they_are() {
    let model = model(3_000);
    let svg = svg(&model, "pid 4711");
    let data = data(&svg);
    let queue = lanes(&data, "queue")[0]["queue"].as_array().unwrap();
    let deepest = queue.iter().filter_map(|column| column[0].as_u64()).max().unwrap();
    let stolen: u64 = queue.iter().filter_map(|column| column[1].as_u64()).sum();
    let told: u64 = model.runtimes[0].steals.iter().map(|steal| steal.count).sum();
    assert!(deepest > 3 && stolen == told, "{deepest} {stolen} {told}");
    let arrows = data["arrows"].as_array().unwrap();
    assert!((1..=12).contains(&arrows.len()), "{arrows:?}");
    let says = |arrow: &Value| arrow["words"].as_str().unwrap().contains(" woke ");
    assert!(arrows.iter().all(says), "{arrows:?}");
    assert_eq!(svg.matches("class=\"wake\"").count(), arrows.len());
}

/// Numbers of seven bits a byte in base 64.
fn numbers(text: &str) -> Vec<u64> {
    let digit = |each: u8| match each {
        b'A'..=b'Z' => each - b'A',
        b'a'..=b'z' => each - b'a' + 26,
        b'0'..=b'9' => each - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.bytes().filter(|each| *each != b'=').map(digit).collect();
    let bits = digits.iter().flat_map(|digit| (0..6).rev().map(move |bit| digit >> bit & 1));
    let bits: Vec<u8> = bits.collect();
    let bytes = bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |sum, bit| sum << 1 | bit));
    let (mut numbers, mut number, mut shift) = (Vec::new(), 0, 0);
    for byte in bytes {
        number |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            numbers.push(number);
            (number, shift) = (0, 0);
        }
    }
    numbers
}

#[test]
fn whoever_has_a_cpu_is_the_task_that_its_thread_polls() {
    let model = model(400);
    let svg = svg(&model, "pid 4711");
    let data = data(&svg);
    assert_eq!(data["resolution"], 0, "every piece is one run");
    let mut on_cpu_ns = 0;
    for lane in lanes(&data, "cpu") {
        let mut pieces = numbers(lane["pieces"].as_str().unwrap()).into_iter();
        while let Some(head) = pieces.next() {
            if head & 3 == 2 {
                let name = actor_name(&data, &Value::from(pieces.next().unwrap()));
                on_cpu_ns += if name.contains(" (task ") { head >> 2 } else { 0 };
            }
        }
    }
    let tasks = hz_trace::analyze::summarize_tasks(&model, u64::MAX).unwrap();
    assert!(on_cpu_ns > 0, "tasks ran");
    assert_eq!(on_cpu_ns, tasks.in_polls.on_cpu_ns);
    let colours: std::collections::BTreeSet<&str> = data["actors"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|actor| actor[2].as_str().is_some_and(|name| name.contains(" (task ")))
        .map(|actor| actor[3].as_str().unwrap())
        .collect();
    assert!(colours.len() > 3, "{colours:?}");
}

#[test]
fn a_picture_of_the_whole_system_opens_on_the_only_process_with_tasks_and_says_so() {
    let model = model(3_000);
    let whole = svg(&model, &Target::WholeSystem.to_string());
    assert!(whole.contains("opens on pid 4711, the only one with tasks"), "{whole:.3000}");
    let first = data(&whole);
    let thread = lanes(&first, "thread")[0]["actor"].as_u64().unwrap() as usize;
    assert_eq!(first["actors"][thread][1], 4711, "its threads come first");
    let one = svg(&model, "pid 4711");
    assert!(!one.contains("opens on pid"), "{one:.3000}");
    let none = svg(&Model { runtimes: Vec::new(), tasks: Vec::new(), ..model }, "whole system");
    assert!(!none.contains("opens on") && !none.contains(">Tasks<"), "{none:.3000}");
}

#[test]
fn many_polls_make_no_large_picture() {
    let svg = svg(&model(200_000), "pid 4711");
    assert!(svg.len() < 2_500_000, "{} bytes", svg.len());
}
