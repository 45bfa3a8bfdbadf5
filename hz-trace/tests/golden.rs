//! Small recordings, and what hz says of them. `HZ_BLESS=1` accepts what it says now.

#![expect(clippy::unwrap_used, reason = "a test dies where it fails, its helpers too")]

use hz_trace::{
    decode::decode,
    recording::{Batch, Meta, Recording, State, Target, Writer, schema},
};
use scheduler::{START_NS, Scheduler, TARGET_PID};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

#[path = "support/runtime.rs"]
#[expect(dead_code, reason = "what really happened is for the tests of the model")]
mod runtime;
#[path = "support/scheduler.rs"]
mod scheduler;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/recordings").join(name)
}

fn is_blessing() -> bool {
    std::env::var_os("HZ_BLESS").is_some()
}

/// What a command prints on standard output.
fn printed(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_hz-trace")).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn assert_golden(name: &str, now: &str) {
    let path = fixture(name);
    if is_blessing() {
        fs::write(&path, now).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    let lines = golden.lines().zip(now.lines()).enumerate();
    let differs = lines.map(|(at, pair)| (at + 1, pair)).find(|(_, (was, is))| was != is);
    assert!(
        golden == now,
        "{} differs, first at {differs:?}: look at it, then HZ_BLESS=1",
        path.display()
    );
}

/// The picture without the script, which has tests of its own, and without the version.
fn exported(recording: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let svg = directory.path().join("x.svg");
    printed(&["export", recording, "--output", svg.to_str().unwrap()]);
    let svg = fs::read_to_string(svg).unwrap();
    let svg = svg.replace(concat!("hz ", env!("CARGO_PKG_VERSION")), "hz");
    let (still, _) = svg.rsplit_once("<script>").unwrap();
    format!("{still}</svg>")
}

fn assert_says_what_it_said(name: &str) {
    let recording = fixture(&format!("{name}.hzt"));
    let recording = recording.to_str().unwrap();
    let report = printed(&["report", recording]);
    let widest = report.lines().skip(1).map(|line| line.chars().count()).max().unwrap();
    assert!(widest <= 100, "{widest} columns:\n{report}");
    assert_golden(&format!("{name}.report.txt"), &report);
    assert_golden(&format!("{name}.report.json"), &printed(&["report", "--json", recording]));
    assert_golden(&format!("{name}.svg"), &exported(recording));
}

#[test]
fn a_recording_of_the_real_kernel_says_what_it_said() {
    assert_says_what_it_said("pipeline");
}

#[test]
fn a_simulated_recording_says_what_it_said() {
    assert_says_what_it_said("simulated");
}

#[test]
fn a_recording_with_tasks_says_what_it_said() {
    assert_says_what_it_said("tasks");
}

/// Tasks on the workers of such a simulation.
fn simulation_with_tasks() -> Scheduler {
    let choices: Vec<u32> =
        (0..3_000_u32).map(|number| number.wrapping_mul(2_654_435_761).rotate_left(7)).collect();
    runtime::simulated(2, true, &choices).scheduler
}

/// 2 CPUs, a filter, and numbers from a fixed sequence.
fn simulation() -> Scheduler {
    let mut scheduler = Scheduler::new(2, true);
    for number in 0..400_u32 {
        scheduler.step(number.wrapping_mul(2_654_435_761).rotate_left(7));
    }
    scheduler.finish();
    scheduler
}

fn write(scheduler: &Scheduler) -> Vec<u8> {
    let meta = Meta {
        hz_version: "0.1.0".to_owned(),
        host: "simulated".to_owned(),
        kernel: "6.0".to_owned(),
        cpus: 2,
        start_ns: START_NS,
        start_realtime_ns: 1_700_000_000_000_000_000,
        target: Target::Processes { pids: vec![TARGET_PID], with_children: true },
        probes: vec!["sched (simulated)".to_owned()],
        schema: schema(),
        ..Meta::default()
    };
    let mut batches: BTreeMap<u16, Batch> = BTreeMap::new();
    for (cpu, record) in &scheduler.records {
        assert!(batches.entry(*cpu).or_insert_with(|| Batch::new(*cpu)).push(record));
    }
    let mut writer = Writer::new(Vec::new(), &meta).unwrap();
    batches.values().for_each(|batch| writer.records(batch).unwrap());
    let state = State {
        time_ns: scheduler.now_ns,
        is_final: true,
        ended_because: "interrupted".to_owned(),
        received: scheduler.records.len() as u64,
        ..State::default()
    };
    writer.finish(&state).unwrap()
}

#[test]
fn an_old_recording_holds_what_is_written_today() {
    assert_holds("simulated.hzt", &simulation());
    assert_holds("tasks.hzt", &simulation_with_tasks());
}

fn assert_holds(name: &str, scheduler: &Scheduler) {
    let path = fixture(name);
    if is_blessing() && !path.exists() {
        fs::write(&path, write(scheduler)).unwrap();
    }
    let recording = Recording::open(&path).unwrap();
    let events: Vec<_> = recording.events().map(Result::unwrap).collect();
    let mut expected: Vec<_> =
        scheduler.records.iter().map(|(_, record)| decode(record).unwrap()).collect();
    // Records of one moment come in the order of the rings.
    expected.sort_by_key(|event| (event.header().time_ns, event.header().cpu));
    assert_eq!(events, expected);
}

#[test]
fn a_recording_cut_anywhere_is_reported_or_refused_in_one_line() {
    let whole = fs::read(fixture("pipeline.hzt")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let cut = directory.path().join("cut.hzt.partial");
    for length in (0..whole.len()).step_by(211) {
        fs::write(&cut, &whole[..length]).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_hz-trace"))
            .args(["report", cut.to_str().unwrap()])
            .output()
            .unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        let lines = errors.lines().count();
        match output.status.code() {
            Some(0) => assert!((1..=2).contains(&lines) && !output.stdout.is_empty(), "{errors}"),
            Some(1) => assert!(lines == 1 && output.stdout.is_empty(), "{errors}"),
            other => panic!("cut at {length}: {other:?}: {errors}"),
        }
        assert!(errors.contains("cut.hzt.partial"), "cut at {length}: {errors}");
    }
}
