//! `hz-trace flame` of a program that runs now.

#![expect(clippy::unwrap_used, reason = "a test dies where it fails, its helpers too")]

#[path = "support/live.rs"]
#[expect(dead_code, reason = "other tests need the rest")]
mod live;
#[path = "support/recorder.rs"]
mod recorder;
#[path = "support/workload.rs"]
#[expect(dead_code, reason = "other tests need the rest")]
mod workload;

use live::{alone, hz_trace, last_cpu, pin};
use recorder::Recorder;
use serde_json::Value;
use std::{
    fs,
    path::Path,
    process::{Command, Output},
    thread,
};
use workload::Workload;

/// Bytes between two samples of hz-runtime's allocator.
const MEAN_BYTES: &str = "4096";
/// Allocations that are kept, and their bytes.
const KEPT: (u64, u64) = (40_000, 1_000);

fn flame(arguments: &[&str]) -> Output {
    Command::new(hz_trace()).arg("flame").args(arguments).output().unwrap()
}

/// A kind of graph of a recording, and its picture.
fn graph(recording: &str, kind: &str, directory: &Path) -> (Value, String) {
    let svg = directory.join(format!("{kind}.svg"));
    let output = flame(&[recording, "--kind", kind, "--json", "--output", svg.to_str().unwrap()]);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{kind}: {errors}");
    (serde_json::from_slice(&output.stdout).unwrap(), fs::read_to_string(svg).unwrap())
}

fn frames(stack: &Value) -> Vec<&str> {
    stack["frames"].as_array().unwrap().iter().map(|frame| frame.as_str().unwrap()).collect()
}

/// The part of a graph whose stacks stand on `root` and go through `function`.
fn part(graph: &Value, root: &str, function: &str) -> f64 {
    let stacks = graph["stacks"].as_array().unwrap().iter();
    let goes = stacks.filter(|stack| {
        let frames = frames(stack);
        frames[0] == root && frames.iter().any(|frame| frame.contains(function))
    });
    let sum: u64 = goes.map(|stack| stack["value"].as_u64().unwrap()).sum();
    sum as f64 / graph["total"].as_u64().unwrap() as f64
}

/// A workload whose two workers share a CPU, so that they wait for each other.
fn on_one_cpu() -> Workload {
    let start = || {
        pin(last_cpu());
        Workload::start_with(&[("HZ_ALLOC_SAMPLE_BYTES", MEAN_BYTES)])
    };
    thread::spawn(start).join().unwrap()
}

#[test]
#[ignore = "needs CAP_BPF"]
fn every_kind_of_graph_stands_on_the_tasks_of_a_program_and_has_its_functions() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (kept, svg) = (path("app.hzt"), path("flame.svg"));
    let mut workload = on_one_cpu();
    let pid = workload.pid().to_string();
    let probes = "sched,runtime,oncpu,offcpu";
    let arguments =
        ["flame", "-p", &pid, "--probes", probes, "--keep", &kept, "--output", &svg, "-d", "60"];
    let recorder = Recorder::start(&hz_trace(), &arguments);
    workload.ask("wait on");
    workload.ask("burn 1500");
    workload.ask("rest 300");
    workload.ask(&format!("leak {} {}", KEPT.0, KEPT.1));
    // Long before its time: what was recorded is drawn.
    let said = recorder.interrupt();
    assert_eq!(said.code, Some(0), "{}", said.errors);
    assert!(said.errors.contains("recording ended: interrupted"), "{}", said.errors);
    assert!(said.output.contains("runtime_workload::churn"), "{}", said.output);
    let picture = fs::read_to_string(&svg).unwrap();
    assert!(picture.contains("<title>busy ("), "no task at the root");
    assert!(picture.contains("<title>runtime_workload::churn ("), "no function of it");

    let (on_cpu, _) = graph(&kept, "on-cpu", dir.path());
    assert!(part(&on_cpu, "busy", "runtime_workload::churn") > 0.5, "{}", on_cpu["functions"]);
    let missing = &on_cpu["missing"];
    let total = on_cpu["total"].as_u64().unwrap() as f64;
    for what in ["without_stack", "without_symbol"] {
        assert!(missing[what].as_u64().unwrap() as f64 / total < 0.05, "{missing}");
    }
    let mangled = on_cpu["stacks"].as_array().unwrap().iter().flat_map(frames);
    let mangled: Vec<_> =
        mangled.filter(|name| name.starts_with("_ZN") || name.starts_with("_R")).collect();
    assert!(mangled.is_empty(), "{mangled:?}");

    let (off_cpu, _) = graph(&kept, "off-cpu", dir.path());
    assert!(part(&off_cpu, "sleepy", "runtime_workload::doze") > 0.0, "{}", off_cpu["blocking"]);
    let (run_queue, _) = graph(&kept, "run-queue", dir.path());
    assert!(
        part(&run_queue, "busy", "runtime_workload::churn") > 0.1,
        "{}",
        run_queue["functions"]
    );
    let (wakeups, _) = graph(&kept, "wakeups", dir.path());
    assert!(part(&wakeups, "sleepy", "") > 0.0, "{}", wakeups["functions"]);

    // As many bytes as were kept were freed again, by another function.
    let truth = (KEPT.0 * KEPT.1) as f64;
    let within = |value: f64| (value / truth - 1.0).abs() < 0.05;
    let (alloc, _) = graph(&kept, "alloc", dir.path());
    for function in ["runtime_workload::hoard", "runtime_workload::waste"] {
        let bytes = part(&alloc, "hoarder", function) * alloc["total"].as_u64().unwrap() as f64;
        assert!(within(bytes), "{function}: {bytes} for {truth}: {}", alloc["sites"]);
    }
    let (live, picture) = graph(&kept, "live", dir.path());
    let bytes =
        part(&live, "hoarder", "runtime_workload::hoard") * live["total"].as_u64().unwrap() as f64;
    assert!(within(bytes), "{bytes} live for {truth}: {}", live["sites"]);
    assert!(part(&live, "hoarder", "runtime_workload::waste") < 0.01, "{}", live["sites"]);
    assert!(picture.contains("<title>hoarder ("), "no task at the root");
}

#[test]
#[ignore = "needs CAP_BPF"]
fn it_says_what_it_cannot_record() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let svg = dir.path().join("x.svg");
    let output = ["--output", svg.to_str().unwrap(), "-d", "0.2"];
    let refused = |arguments: &[&str], code: i32| {
        let arguments: Vec<&str> = arguments.iter().chain(&output).copied().collect();
        let output = flame(&arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
        errors
    };
    let gone = refused(&["-p", "4194000"], 1);
    assert!(gone.contains("no process has pid 4194000"), "{gone}");
    let backwards = refused(&["-p", "1", "--from", "2s", "--to", "1s"], 2);
    assert!(backwards.contains("--from is not before --to"), "{backwards}");
    let nobody = refused(&["--alloc"], 3);
    assert!(nobody.contains("name them with -p PID"), "{nobody}");
    // A process that sleeps has no CPU time to show: the recording is told of, none is left.
    let mut sleeper = Command::new("sleep").arg("20").spawn().unwrap();
    let idle = refused(&["-p", &sleeper.id().to_string()], 1);
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    assert!(idle.contains("no time on a CPU"), "{idle}");
    assert!(!svg.exists(), "a picture of nothing");
}
