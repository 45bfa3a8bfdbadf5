//! `hz-trace flame --alloc`: what programs allocate, seen by probes on their allocator.

#![expect(clippy::unwrap_used, reason = "a test dies where it fails, its helpers too")]

#[path = "support/live.rs"]
#[expect(dead_code, reason = "other tests need the rest")]
mod live;
#[path = "support/recorder.rs"]
mod recorder;

use live::{Reaped, alone, hz_trace, wait_until};
use recorder::{Recorder, Said};
use serde_json::Value;
use std::{
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Rounds of each thread, and threads: 41,000 times 1,000 bytes are kept.
const ROUNDS: u64 = 10_250;
const THREADS: u64 = 4;

/// Compiles the program whose allocations are known.
fn program(dir: &Path, flags: &[&str]) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/allocations.c");
    let output = dir.join("allocations");
    let mut compiler = Command::new("cc");
    compiler.args(["-O2", "-g", "-pthread"]).args(flags).arg("-o").arg(&output).arg(source);
    assert!(compiler.status().unwrap().success());
    output
}

/// Records the program with these arguments, from its first allocation until it has done its rounds.
fn recorded(program: &Path, rounds: u64, arguments: &[&str]) -> Said {
    let mut child = Command::new(program);
    child.args([rounds.to_string(), THREADS.to_string()]);
    let mut child = Reaped(child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
    let pid = child.0.id().to_string();
    let mut all = vec!["flame", "-p", &pid, "-d", "60"];
    all.extend(arguments);
    let recorder = Recorder::start(&hz_trace(), &all);
    child.0.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    let mut done = [0; 5];
    child.0.stdout.as_mut().unwrap().read_exact(&mut done).unwrap();
    let said = recorder.interrupt();
    assert_eq!(said.code, Some(0), "{}", said.errors);
    said
}

/// What is said of a function, at all its lines together.
fn of(graph: &Value, function: &str, what: &str) -> f64 {
    let sites = graph["sites"].as_array().unwrap();
    let found = sites.iter().filter(|site| site["function"] == function);
    found.map(|site| site[what].as_f64().unwrap()).sum()
}

/// Whether all that was allocated and kept is in the graph, within 5 %.
fn check(graph: &Value, rounds: u64) {
    let rounds = (rounds * THREADS) as f64;
    for (function, bytes) in
        [("kept", 1000.0), ("passing", 400.0), ("grown", 4016.0), ("aligned", 2048.0)]
    {
        let found = of(graph, function, "bytes");
        let ratio = found / (bytes * rounds);
        assert!((ratio - 1.0).abs() < 0.05, "{function}: {ratio} in {}", graph["sites"]);
    }
    let live = of(graph, "kept", "live_bytes") / (1000.0 * rounds);
    assert!((live - 1.0).abs() < 0.05, "{live} of what was kept: {}", graph["sites"]);
    for function in ["passing", "grown", "aligned"] {
        assert_eq!(of(graph, function, "live_bytes"), 0.0, "{function}: {}", graph["sites"]);
    }
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_c_programs_allocations_are_estimated_by_site_and_a_leak_is_found() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let svg = dir.path().join("alloc.svg");
    let svg = svg.to_str().unwrap();
    let arguments = ["--alloc", "--alloc-sample", "1k", "--json", "--output", svg];
    let said = recorded(&program(dir.path(), &[]), ROUNDS, &arguments);
    let graph: Value = serde_json::from_str(&said.output).unwrap();
    assert_eq!((&graph["kind"], &graph["unit"]), (&"alloc".into(), &"bytes".into()));
    // Those that keep: 41,000 times the chance 1 - 1/e.
    assert!(of(&graph, "kept", "samples") > 10_000.0, "{}", graph["sites"]);
    check(&graph, ROUNDS);
    let total = graph["total"].as_f64().unwrap();
    let missing = &graph["missing"];
    for what in ["without_stack", "without_symbol", "untracked"] {
        assert!(missing[what].as_f64().unwrap() / total < 0.01, "{missing}");
    }
    let cut: f64 = missing["cut"].as_object().unwrap().values().filter_map(Value::as_f64).sum();
    assert!(cut / total < 0.01, "{missing}");
    // The stacks go from the thread's start to the allocator.
    let stacks = graph["stacks"].as_array().unwrap();
    let kept = stacks.iter().find(|stack| {
        let frames = stack["frames"].as_array().unwrap();
        let [.., work, kept, malloc] = &frames[..] else { return false };
        work == "work" && kept == "kept" && malloc.as_str().unwrap().ends_with("malloc")
    });
    let whole = |stack: &Value| stack["frames"].to_string().contains("clone");
    assert!(kept.is_some_and(whole), "{stacks:?}");
    let picture = std::fs::read_to_string(svg).unwrap();
    assert!(picture.contains("calls of the allocator were trapped, at "), "no cost in the picture");
    assert!(picture.contains("records lost: 0"), "{:?}", picture.split("records lost").nth(1));
}

#[test]
#[ignore = "needs CAP_BPF"]
fn an_allocator_in_the_program_itself_is_seen_and_what_was_inlined_is_said() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let svg = dir.path().join("live.svg");
    let svg = svg.to_str().unwrap();
    let arguments =
        ["--alloc", "--alloc-sample", "1k", "--kind", "live", "--json", "--output", svg];
    let said = recorded(&program(dir.path(), &["-static"]), 4_000, &arguments);
    let graph: Value = serde_json::from_str(&said.output).unwrap();
    check(&graph, 4_000);
    let picture = std::fs::read_to_string(svg).unwrap();
    assert!(picture.contains("calls that were inlined"), "nothing is said of inlined calls");
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_command_is_followed_from_its_first_call_and_a_program_without_allocator_is_said() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let svg = dir.path().join("command.svg");
    let program = program(dir.path(), &[]);
    // Through a shell, so that the program is a child that becomes another.
    let script = format!("exec {} 2000 2", program.display());
    let mut command = Command::new(hz_trace());
    command.args(["flame", "--alloc", "--alloc-sample", "1k", "--json", "--output"]).arg(&svg);
    command.args(["--", "sh", "-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = Reaped(command.spawn().unwrap());
    let children = format!("/proc/{0}/task/{0}/children", child.0.id());
    wait_until("the program runs", || {
        let pids = std::fs::read_to_string(&children).unwrap_or_default();
        let comm = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/comm"));
        pids.split_whitespace().any(|pid| comm(pid).is_ok_and(|comm| comm == "allocations\n"))
    });
    // Where it has its code is learned some 10 ms later.
    std::thread::sleep(std::time::Duration::from_millis(500));
    child.0.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let mut text = String::new();
    child.0.stdout.as_mut().unwrap().read_to_string(&mut text).unwrap();
    assert!(child.0.wait().unwrap().success());
    let json = text.strip_prefix("done\n").unwrap();
    let graph: Value = serde_json::from_str(json).unwrap();
    let found = of(&graph, "kept", "bytes");
    // Four thousand, of which two thirds are sampled: eight standard errors.
    assert!((found / 4e6 - 1.0).abs() < 0.1, "{found}: {}", graph["sites"]);

    let source = dir.path().join("idle.c");
    std::fs::write(&source, "int pause(void); int main(void) { return pause(); }").unwrap();
    let idle = dir.path().join("idle");
    let mut compiler = Command::new("cc");
    compiler.args(["-nostdlib", "-static", "-x", "c"]).arg(&source).arg("-o").arg(&idle);
    compiler.args(["-x", "assembler", "-"]).stdin(Stdio::piped());
    let mut compiler = compiler.spawn().unwrap();
    let start =
        b".globl _start, pause\n_start: call main\npause: mov $34, %eax\nsyscall\njmp pause\n";
    compiler.stdin.take().unwrap().write_all(start).unwrap();
    assert!(compiler.wait().unwrap().success());
    let child = Reaped(Command::new(&idle).spawn().unwrap());
    let output = Command::new(hz_trace())
        .args(["flame", "--alloc", "-d", "0.2", "--output"])
        .arg(&svg)
        .args(["-p", &child.0.id().to_string()])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("no file that the target has mapped defines malloc"), "{errors}");
}
