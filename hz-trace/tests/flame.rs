//! `hz-trace flame` and `hz-trace symbolize`, of a recording that the test writes: no kernel is needed.

#![expect(clippy::unwrap_used, reason = "a test dies where it fails, its helpers too")]

use hz_probes_ebpf::{CpuSample, Header, Kind, MappedFile, Mapping, STACK_PART, StackTrace};
use hz_trace::{
    recording::{Batch, Meta, State, Target, Writer, schema},
    symbol::build_id,
};
use serde_json::Value;
use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};
use zerocopy::IntoBytes as _;

const PID: u32 = 4_000_011;
const START_NS: u64 = 1_000;

/// What the samples are of.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn hz_flame_test_work(x: u64) -> u64 {
    std::hint::black_box(x.wrapping_mul(3))
}

fn header(kind: Kind, time_ns: u64, arg: u32) -> Header {
    Header { time_ns: START_NS + time_ns, kind: kind as u16, cpu: 1, tid: PID, pid: PID, arg }
}

/// This program, as if it were mapped where it is.
fn mapped_here(batch: &mut Batch) {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let exe = std::env::current_exe().unwrap();
    let name = exe.to_str().unwrap();
    let mut path = [0; 192];
    path[..name.len()].copy_from_slice(name.as_bytes());
    let id = build_id(&exe).unwrap_or_default();
    let mut known_id = [0; 20];
    known_id[..id.len()].copy_from_slice(&id);
    let file = MappedFile {
        header: header(Kind::MappedFile, 0, 1),
        inode: fs::metadata(&exe).unwrap().ino(),
        device_major: 0,
        device_minor: 0,
        build_id: known_id,
        build_id_bytes: id.len() as u16,
        path_bytes: name.len() as u16,
        path_from: 0,
        reserved: 0,
        path,
    };
    assert!(batch.push(file.as_bytes()));
    for line in maps.lines().filter(|line| line.contains("r-xp") && line.ends_with(name)) {
        let mut words = line.split_whitespace();
        let hex = |word: &str| u64::from_str_radix(word, 16).unwrap();
        let (start, end) = words.next().unwrap().split_once('-').unwrap();
        let offset = hex(words.nth(1).unwrap());
        let header = header(Kind::Mapping, 0, 1);
        let mapping =
            Mapping { header, start: hex(start), end: hex(end), offset, flags: 0, reserved: 0 };
        assert!(batch.push(mapping.as_bytes()));
    }
}

/// `work` samples of 1 ms in the function above, and `other` in what no file has.
fn recording(path: &Path, (work, other): (u64, u64)) {
    let meta = Meta {
        start_ns: START_NS,
        target: Target::Processes { pids: vec![PID], with_children: false },
        probes: vec!["oncpu (cpu-clock)".to_owned()],
        schema: schema(),
        ..Meta::default()
    };
    let mut batch = Batch::new(0);
    mapped_here(&mut batch);
    let here = hz_flame_test_work as extern "C" fn(u64) -> u64 as usize as u64;
    for (id, address) in [(1, here), (2, 16)] {
        let mut addresses = [0; STACK_PART];
        addresses[0] = address;
        let stack = StackTrace {
            header: header(Kind::StackTrace, 1, 0),
            id,
            kernel_frames: 0,
            user_frames: 1,
            kernel_end: 0,
            user_end: if id == 1 { 1 } else { 4 },
            guessed_frames: 0,
            reserved: 0,
            addresses,
        };
        assert!(batch.push(stack.as_bytes()));
    }
    for number in 0..work + other {
        let header = header(Kind::CpuSample, 10 + number, 0);
        let stack = if number < work { 1 } else { 2 };
        let sample = CpuSample { header, stack, period: 1_000_000, event: 0, reserved: 0 };
        assert!(batch.push(sample.as_bytes()));
    }
    let mut writer = Writer::new(File::create(path).unwrap(), &meta).unwrap();
    writer.records(&batch).unwrap();
    let state = State { is_final: true, time_ns: START_NS + 10_000, ..State::default() };
    writer.finish(&state).unwrap();
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hz-trace")).args(arguments).output().unwrap()
}

#[track_caller]
fn printed(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn made(dir: &Path, name: &str, samples: (u64, u64)) -> PathBuf {
    let path = dir.join(name);
    recording(&path, samples);
    path
}

#[test]
fn names_are_added_to_a_recording_and_stay_when_the_process_is_gone() {
    assert_eq!(hz_flame_test_work(2), 6);
    let dir = tempfile::tempdir().unwrap();
    let path = made(dir.path(), "app.hzt", (3, 1));
    let path = path.to_str().unwrap();
    let exe = std::env::current_exe().unwrap();
    let exe = exe.file_name().unwrap().to_str().unwrap();
    let thread = format!("thread {PID} ({PID})");
    let flame = ["flame", path, "--folded", "--group-by", "thread"];
    assert_eq!(
        printed(&flame),
        format!("{thread};[cut: no rule];[no file] 1000000\n{thread};[{exe}] 3000000\n")
    );
    let said = run(&["symbolize", path]);
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(said.contains("1 of 2 addresses have names"), "{said}");
    assert_eq!(
        printed(&flame),
        format!("{thread};[cut: no rule];[no file] 1000000\n{thread};hz_flame_test_work 3000000\n")
    );
}

#[test]
fn the_picture_and_the_list_say_what_took_most_and_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let path = made(dir.path(), "app.hzt", (3, 1));
    let picture = dir.path().join("flame.svg");
    let (path, svg) = (path.to_str().unwrap(), picture.to_str().unwrap());
    printed(&["symbolize", path]);
    let text = printed(&["flame", path, "--output", svg]);
    assert!(text.contains("3.00 ms  75 %  3.00 ms  75 %  hz_flame_test_work"), "{text}");
    assert!(text.contains("stack cut short: 25 % (no rule 25 %)"), "{text}");
    assert!(text.contains("without a symbol: 25 %"), "{text}");
    let svg = fs::read_to_string(picture).unwrap();
    assert!(svg.contains("hz_flame_test_work (3.00 ms, 75.00%)"), "{svg}");
    let json: Value = serde_json::from_str(&printed(&["flame", path, "--json"])).unwrap();
    assert_eq!((json["total"].as_u64(), json["samples"].as_u64()), (Some(4_000_000), Some(4)));
    assert_eq!(json["functions"][0]["name"], "hz_flame_test_work");
    assert_eq!(json["missing"]["cut"]["no_rule"], 1_000_000);
}

#[test]
fn two_recordings_are_compared_whatever_their_length_and_folded_stacks_too() {
    let dir = tempfile::tempdir().unwrap();
    let before = made(dir.path(), "before.hzt", (1, 1));
    let after = made(dir.path(), "after.hzt", (90, 10));
    let (before, after) = (before.to_str().unwrap(), after.to_str().unwrap());
    printed(&["symbolize", after]);
    printed(&["symbolize", before]);
    let folded = dir.path().join("before.folded");
    fs::write(&folded, printed(&["flame", before, "--folded"])).unwrap();
    for before in [before, folded.to_str().unwrap()] {
        let text = printed(&["flame", after, "--against", before, "--json"]);
        let json: Value = serde_json::from_str(&text).unwrap();
        let change = json["changes"].as_array().unwrap();
        let change = change.iter().find(|each| each["name"] == "hz_flame_test_work").unwrap();
        assert_eq!(
            (change["own_before_pct"].as_f64(), change["own_after_pct"].as_f64()),
            (Some(50.0), Some(90.0))
        );
    }
}

#[test]
fn what_is_not_in_a_recording_is_said_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = made(dir.path(), "app.hzt", (1, 0));
    let path = path.to_str().unwrap();
    let output = run(&["flame", path, "--kind", "off-cpu", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("record with --probes sched,runtime,offcpu"), "{said}");
    let output = run(&["flame", path, "--from", "2s", "--to", "1s", "--json"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_timeline_and_a_flame_graph_are_made_together_and_the_first_leads_to_the_second() {
    let dir = tempfile::tempdir().unwrap();
    let path = made(dir.path(), "app.hzt", (3, 1));
    let path = path.to_str().unwrap();
    printed(&["symbolize", path]);
    let stem = dir.path().join("my app.svg");
    let stem = stem.to_str().unwrap();
    printed(&["export", path, "--export=flame,svg", "--output", stem]);
    let file = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    let (timeline, flame) = (file("my app.svg"), file("my app.flame.svg"));
    assert!(timeline.contains("<a href=\"my%20app.flame.svg\" class=\"flame-link\""), "{timeline}");
    assert!(flame.contains("hz_flame_test_work (3.00 ms, 75.00%)"), "{flame}");
    assert!(flame.contains("class=\"hz-parts\""), "{flame}");
    // Alone, neither leads to what is not there.
    printed(&["export", path, "--output", stem]);
    assert!(!file("my app.svg").contains("flame-link\""));
    let alone = dir.path().join("alone.svg");
    printed(&["export", path, "--export=flame", "--output", alone.to_str().unwrap()]);
    assert!(!file("alone.svg").contains("Beside this"));

    let output = run(&["export", path, "--export=svg,off-cpu", "--output", stem]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("my app.off-cpu.svg: no time off a CPU was recorded; the probe offcpu does"),
        "{said}"
    );
    assert!(said.contains("wrote ") && !dir.path().join("my app.off-cpu.svg").exists(), "{said}");
}
