//! `scripts/demo --top`, as somebody runs it who wants to see what hz-top finds.

#![expect(clippy::unwrap_used, reason = "a test dies where it fails, its helpers too")]

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

/// Inherited by all that the demo starts.
const MARK: &str = "HZ_TEST_DEMO";

/// The command with the service, as its source is now.
fn hz_runtime() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_hz-top")).with_file_name("hz-runtime");
    let arguments = "build --quiet --locked -p hz-runtime --features service --bin hz-runtime";
    let status = Command::new(env!("CARGO"))
        .args(arguments.split(' '))
        .arg("--target-dir")
        .arg(path.ancestors().nth(2).unwrap())
        .status();
    assert!(status.unwrap().success());
    path
}

fn demo() -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/demo");
    let mut command = Command::new(script);
    command
        .args(["--top", "--seconds", "30"])
        .env("HZ_TOP", env!("CARGO_BIN_EXE_hz-top"))
        .env("HZ_RUNTIME", hz_runtime())
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

fn run(command: &mut Command) -> String {
    let output: Output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Services and loads that the demo has started.
fn started_by(demo: &str) -> Vec<u32> {
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_of_demo = |pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let mark = format!("{MARK}={demo}");
        name.starts_with("hz-")
            && environment.split(|byte| *byte == 0).any(|set| set == mark.as_bytes())
    };
    pids.filter(is_of_demo).collect()
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "{what} within 60 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
#[ignore = "needs CAP_BPF"]
fn the_screen_names_the_task_that_blocks_its_worker() {
    let mark = format!("screen {}", std::process::id());
    let screen = run(demo().env(MARK, &mark));
    let warning = screen.lines().find(|line| line.contains("▲ task connection#"));
    let warning = warning.unwrap_or_default();
    assert!(warning.contains("held worker-"), "{screen}");
    // Where others want the CPUs as well, the longest poll may be one that waited for a CPU besides.
    let causes = ["clock_nanosleep", "waiting for a CPU behind"];
    assert!(causes.iter().any(|cause| warning.contains(cause)), "{screen}");
    assert!(screen.contains("┌ Threads"), "{screen}");
    until("all is gone", || started_by(&mark).is_empty());
}
