//! What is said of requests, spans, marks, buffers, waits for sockets and tasks that become more: of
//! records whose truth is written beside them.

#![expect(clippy::unwrap_used, reason = "a test dies where it fails, its helpers too")]

#[path = "support/story.rs"]
mod story;

use hz_probes_ebpf::{
    Kind,
    runtime::{IO_READ, POLL_PENDING, WAKE_IO, WAKE_TIMER},
};
use hz_trace::{
    analyze::{POLL_OVER_NS, SocketWaitKind, Spent, TaskSummary, summarize_tasks},
    export::{About, EXPORTERS, Subject},
    model::{TaskState, Why},
};
use story::{FETCH, MS, PID, Story, UPLOAD, story};

fn summary() -> TaskSummary {
    summarize_tasks(&story(), POLL_OVER_NS).unwrap()
}

fn sum(spent: &Spent) -> u64 {
    spent.in_polls.total_ns() + spent.ready_ns + spent.idle_ns + spent.not_recorded_ns
}

#[test]
fn the_time_of_requests_is_told_apart_and_sums_to_it() {
    let summary = summary();
    let [files] = &summary.requests[..] else { unreachable!("{:?}", summary.requests) };
    assert_eq!((&*files.name, files.duration.count, files.unfinished), ("/files", 2, 0));
    assert_eq!((files.duration.max_ns, files.duration.total_ns), (455 * MS, 775 * MS));
    assert_eq!(sum(&files.spent), files.duration.total_ns);
    assert_eq!(files.spent.ready_ns, 5 * MS);
    assert_eq!(files.spent.in_polls.total_ns(), 30 * MS);
    let idle = files.spent.idle.iter().map(|idle| (&*idle.on, idle.idle_ns / MS));
    assert_eq!(
        idle.collect::<Vec<_>>(),
        [
            ("writing: the peer's closed window", 250),
            ("reading", 200),
            ("reading: a retransmission timeout", 200),
            ("writing", 50),
            ("a channel", 40),
        ]
    );
    let slowest = files.slowest.as_ref().unwrap();
    assert_eq!((slowest.id, slowest.task, slowest.duration_ns), (92, Some(2), 455 * MS));
    assert_eq!(sum(&slowest.spent), slowest.duration_ns);
    let [parse] = &summary.user_spans[..] else { unreachable!("{:?}", summary.user_spans) };
    assert_eq!((&*parse.name, parse.spent.in_polls.total_ns()), ("parse", 4 * MS));
    let [checked] = &summary.marks[..] else { unreachable!("{:?}", summary.marks) };
    assert_eq!((&*checked.name, checked.count, checked.last_value), ("checked", 1, 1_234));
}

#[test]
fn a_wait_for_a_socket_names_it_and_says_what_it_waited_for() {
    let summary = summary();
    let [upload, fetch] = &summary.io_waits[..] else { unreachable!("{:?}", summary.io_waits) };
    assert_eq!((&*upload.name, upload.to, upload.waited_ns), ("upload", "write", 300 * MS));
    assert_eq!(upload.peer.as_deref(), Some("10.77.0.2:5000"));
    let causes = |wait: &hz_trace::analyze::IoWait| -> Vec<_> {
        wait.causes.iter().map(|cause| (cause.kind, cause.duration_ns / MS)).collect()
    };
    assert_eq!(causes(upload), [(SocketWaitKind::ClosedWindow, 250)]);
    assert_eq!(causes(fetch), [(SocketWaitKind::Timeout, 200)]);
    assert_eq!(
        upload.sentence.as_deref(),
        Some(
            "task `upload` (1) was idle 300 ms waiting to write to 10.77.0.2:5000, of it 250 ms for \
             the peer's closed window"
        )
    );
}

#[test]
fn a_task_that_waits_for_several_things_was_idle_for_the_one_that_ended_it() {
    let mut story = Story::new();
    story.tell(10, Kind::TaskSpawn, 1, (1, 0, 2));
    for (from_ms, arg, cookie, cause) in
        [(20, 0, 0, WAKE_TIMER), (40, 7, UPLOAD, WAKE_IO), (60, 8, FETCH, WAKE_IO)]
    {
        story.tell(from_ms, Kind::PollBegin, 1, (0, 0, 2));
        // hyper reads beside whatever its service waits for.
        story.tell(from_ms, Kind::IoWaitBegin, 1, (7, UPLOAD, IO_READ));
        story.tell(from_ms + 1, Kind::PollEnd, 1, (0, 0, POLL_PENDING));
        story.tell(from_ms + 11, Kind::TaskWake, 1, (arg, cookie, cause));
    }
    let model = story.0.finish(100 * MS);
    let idle = model.tasks[0].tiles().filter(|tile| tile.span.state == TaskState::Idle);
    let whys: Vec<Why> = idle.map(|tile| tile.span.why).collect();
    assert_eq!(whys, [Why::Timer, Why::Read, Why::File]);
}

#[test]
fn the_pool_is_told_by_what_was_out_at_once() {
    let summary = summary();
    let [pool] = &summary.buffers[..] else { unreachable!("{:?}", summary.buffers) };
    assert_eq!((pool.taken, pool.taken_bytes, pool.most_out), (2, 12_288, 2));
    assert_eq!((pool.most_out_bytes, pool.out_at_end), (12_288, 1));
    assert_eq!((pool.held.count, pool.held.max_ns), (1, 5 * MS));
    assert_eq!(pool.by_page_bytes.iter().collect::<Vec<_>>(), [(&4_096, &1), (&2_097_152, &1)]);
}

#[test]
fn tasks_that_become_more_are_named_and_others_are_not() {
    let summary = summary();
    let growing: Vec<&str> = summary
        .over_time
        .iter()
        .filter(|row| row.is_growing)
        .map(|row| row.name.as_str())
        .collect();
    assert_eq!(growing, ["leak"], "{:?}", summary.over_time);
    let leak = &summary.over_time[0];
    assert_eq!(leak.spawned_at.as_deref(), Some("/src/main.rs:30"));
    assert_eq!((leak.alive[0], leak.alive.last()), (0, Some(&20)));
    assert!((leak.per_second - 20.0).abs() < 1e-9, "{leak:?}");
    assert_eq!(leak.parked[0].tasks, 20, "{leak:?}");
}

#[test]
fn the_picture_has_it_in_the_lanes_of_the_tasks() {
    let model = story();
    let about = About { target: format!("pid {PID}"), ..About::default() };
    let mut bytes = Vec::new();
    EXPORTERS[0].export(&Subject::new(&model, &about), &mut bytes).unwrap();
    let svg = String::from_utf8(bytes).unwrap();
    for words in [
        "idle 300 ms on writing 10.77.0.2:5000: 250 ms for the peer's closed window",
        "idle 400 ms on reading 10.77.0.2:5000: 200 ms for a retransmission timeout",
        ">request</text>",
        ">span</text>",
        ">mark</text>",
        ">idle: its socket waited</text>",
    ] {
        assert!(svg.contains(words), "{words}");
    }
    let (_, data) = svg.split_once("class=\"hz-data\"").unwrap();
    let data = data.split_once("<![CDATA[").unwrap().1.split_once("]]>").unwrap().0;
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    let names: Vec<&str> =
        data["names"].as_array().unwrap().iter().map(|name| name[0].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "request \u{1} /files, status 200",
            "request \u{1} /files, status 500",
            "parse",
            "mark checked: \u{1}"
        ]
    );
    let lanes = data["lanes"].as_array().unwrap();
    let lane = lanes.iter().find(|lane| lane["waits"].is_array()).unwrap();
    assert_eq!(lane["kind"], "task", "{lane}");
}
