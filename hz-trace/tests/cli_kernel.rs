//! The command in the running kernel: what it records, writes, prints and returns.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test dies where it fails, its helpers too"
)]

use rustix::process::{Pid, Signal, geteuid, kill_process};
use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// How long a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(30);

fn hz_trace() -> Command {
    let cargos = || PathBuf::from(env!("CARGO_BIN_EXE_hz-trace"));
    Command::new(std::env::var_os("HZ_TRACE_BIN").map_or_else(cargos, PathBuf::from))
}

fn run(arguments: &[&str]) -> Output {
    hz_trace().args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn path_in(directory: &tempfile::TempDir, name: &str) -> String {
    directory.path().join(name).to_str().unwrap().to_owned()
}

/// Its output, if it fails with `code`, nothing on standard output and one line of errors.
fn refused(arguments: &[&str], code: i32) -> String {
    let output = run(arguments);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
    assert_eq!((text(&output.stdout), errors.lines().count()), ("", 1), "{arguments:?}: {errors}");
    assert!(errors.starts_with("hz-trace: "), "{errors}");
    errors.to_owned()
}

/// A process that sleeps and works a little, and ends with the test.
struct Busy(Child);

impl Busy {
    fn start() -> Self {
        Self::shell("while :; do sleep 0.01; done")
    }

    fn shell(script: &str) -> Self {
        Self(Command::new("sh").args(["-c", script]).process_group(0).spawn().unwrap())
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let group = Pid::from_child(&self.0);
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
        let _ = self.0.wait();
    }
}

/// A recorder that runs, with what it said when it began.
struct Recorder {
    child: Child,
    errors: BufReader<std::process::ChildStderr>,
    said: String,
}

impl Recorder {
    fn start(arguments: &[&str]) -> Self {
        let mut command = hz_trace();
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        errors.read_line(&mut said).unwrap();
        assert!(said.starts_with("hz-trace: recording "), "{said}");
        Self { child, errors, said }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Its exit code, and all it said.
    fn wait(mut self) -> (Option<i32>, String) {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if start.elapsed() > PATIENCE {
                self.child.kill().unwrap();
                panic!("still there after {PATIENCE:?}: {}", self.said);
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        self.errors.read_to_string(&mut self.said).unwrap();
        (status.code(), self.said)
    }
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_run_draws_a_picture_prints_a_summary_and_leaves_nothing_else() {
    let (directory, busy) = (tempfile::tempdir().unwrap(), Busy::start());
    let svg = path_in(&directory, "x.svg");
    let output = run(&["--export=svg", &format!("--output={svg}"), "-d", "0.5", "-p", &busy.pid()]);
    let (summary, errors) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert!(summary.starts_with(&format!("pid {} and children\n", busy.pid())), "{summary}");
    assert!(summary.contains("Run-queue wait: p50 "), "{summary}");
    assert!(summary.contains("Lost: 0 records"), "{summary}");
    assert!(summary.lines().all(|line| line.chars().count() <= 110), "{summary}");
    assert!(!summary.contains('\x1b') && !errors.contains('\x1b'), "colours where no terminal is");
    assert!(errors.contains("recording ended: duration over"), "{errors}");
    assert!(errors.ends_with(&format!("hz-trace: wrote {svg}\n")), "{errors}");
    assert!(fs::read_to_string(&svg).unwrap().contains("</svg>"));
    assert_eq!(names_in(directory.path()), ["x.svg"]);
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_command_is_recorded_until_it_ends_and_its_status_printed() {
    let directory = tempfile::tempdir().unwrap();
    let svg = path_in(&directory, "x.svg");
    let output = run(&["--output", &svg, "--", "sh", "-c", "sleep 0.05; echo hello; exit 7"]);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert!(text(&output.stdout).starts_with("hello\nsh -c "), "{}", text(&output.stdout));
    assert!(errors.contains("the command ended with exit status: 7"), "{errors}");
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_signal_ends_a_recording_properly() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let (directory, busy) = (tempfile::tempdir().unwrap(), Busy::start());
        let (svg, kept) = (path_in(&directory, "x.svg"), path_in(&directory, "kept.hzt"));
        let recorder = Recorder::start(&["--output", &svg, "--keep", &kept, "-p", &busy.pid()]);
        std::thread::sleep(Duration::from_millis(300));
        recorder.signal(signal);
        let (code, said) = recorder.wait();
        assert_eq!(code, Some(0), "{signal:?}: {said}");
        assert!(said.contains("recording ended: interrupted"), "{signal:?}: {said}");
        assert_eq!(names_in(directory.path()), ["kept.hzt", "x.svg"], "{signal:?}");
        let report = run(&["report", &kept]);
        assert_eq!((report.status.code(), text(&report.stderr)), (Some(0), ""), "{signal:?}");
    }
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_target_that_ends_ends_the_recording() {
    let directory = tempfile::tempdir().unwrap();
    let mut target = Command::new("sleep").arg("0.7").spawn().unwrap();
    let pid = target.id().to_string();
    let recorder = Recorder::start(&["record", "-o", &path_in(&directory, "x.hzt"), "-p", &pid]);
    target.wait().unwrap();
    let (code, said) = recorder.wait();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("recording ended: pid {pid} ended after ")), "{said}");
}

#[test]
#[ignore = "needs CAP_BPF"]
fn what_was_recorded_is_reported_and_exported_later() {
    let (directory, busy) = (tempfile::tempdir().unwrap(), Busy::start());
    let (hzt, svg) = (path_in(&directory, "x.hzt"), path_in(&directory, "x.svg"));
    let output = run(&["record", "--json", "-o", &hzt, "-d", "0.5", "-p", &busy.pid()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let later: serde_json::Value =
        serde_json::from_slice(&run(&["report", "--json", &hzt]).stdout).unwrap();
    assert_eq!(said, later);
    for key in ["/duration_ns", "/run_queue_wait/p99_ns", "/own/memory_peak_bytes", "/own/cpu_pct"]
    {
        assert!(said.pointer(key).is_some_and(serde_json::Value::is_number), "{key}: {said:#}");
    }
    assert!(said["own"]["cpu_pct"].as_f64().unwrap() < 200.0, "{said:#}");
    let mode = fs::metadata(&hzt).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "others may not read what was recorded");
    let output = run(&["export", &hzt, "--from", "100ms", "--to", "200ms", "--output", &svg]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(names_in(directory.path()), ["x.hzt", "x.svg"]);
}

#[test]
#[ignore = "needs CAP_BPF"]
fn what_is_not_there_is_said_in_one_line_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let svg = path_in(&directory, "x.svg");
    fs::write(&svg, "older").unwrap();
    let own_pid = std::process::id().to_string();
    let said = refused(&["--output", &svg, "--", "hz-no-such-command"], 1);
    assert!(said.contains("cannot start hz-no-such-command"), "{said}");
    let uprobe = ["--output", &svg, "-p", &own_pid, "--uprobe", "libc.so.6:mallocc"];
    let said = refused(&uprobe, 1);
    assert!(said.contains("mallocc") && said.contains("malloc"), "{said}");
    let missing = path_in(&directory, "missing/x.svg");
    let said = refused(&["--output", &missing, "-d", "60", "-a"], 1);
    assert!(said.contains(&missing), "{said}");
    assert_eq!(fs::read_to_string(&svg).unwrap(), "older");
    assert_eq!(names_in(directory.path()), ["x.svg"]);
}

#[test]
#[ignore = "needs CAP_BPF"]
fn without_privileges_it_ends_with_3_and_what_to_do() {
    if !geteuid().is_root() {
        eprintln!("skipped: only root can become somebody else");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let binary = binary_for_everybody(&directory);
    let work = directory.path().join("work");
    fs::create_dir(&work).unwrap();
    fs::set_permissions(&work, fs::Permissions::from_mode(0o777)).unwrap();
    let svg = work.join("x.svg");
    let mut command = Command::new(binary);
    command.args(["-d", "1", "-a", "--output"]).arg(svg).uid(65_534).gid(65_534);
    let output = command.output().unwrap();
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{errors}");
    let expected = "hz-trace: sched: not permitted; run as root or grant CAP_BPF and CAP_PERFMON\n";
    assert_eq!(errors, expected);
    assert_eq!(names_in(&work), Vec::<String>::new());
}

/// A copy of the command where everybody may run it: what root built, others may not reach.
fn binary_for_everybody(directory: &tempfile::TempDir) -> PathBuf {
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = directory.path().join("hz-trace");
    fs::copy(hz_trace().get_program(), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    copy
}

#[test]
#[ignore = "needs CAP_BPF"]
fn with_two_capabilities_and_no_root_it_records_and_says_what_it_cannot_know() {
    let version = Command::new("setpriv").arg("--version").output();
    if !version.is_ok_and(|output| text(&output.stdout).contains("util-linux")) {
        println!("skipped: no util-linux setpriv to give up all other capabilities with");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let binary = binary_for_everybody(&directory);
    let work = directory.path().join("work");
    fs::create_dir(&work).unwrap();
    fs::set_permissions(&work, fs::Permissions::from_mode(0o777)).unwrap();
    // CAP_PERFMON is 38, CAP_BPF 39; older setprivs do not know their names.
    let reduced = |arguments: &[&str]| {
        let caps = ["--inh-caps=+cap_38,+cap_39", "--ambient-caps=+cap_38,+cap_39"];
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).args(caps);
        command.arg(&binary).args(arguments).current_dir(&work).output().unwrap()
    };
    let doctor = reduced(&["doctor", "--json"]);
    assert_eq!(doctor.status.code(), Some(0), "{}", text(&doctor.stdout));
    // Without root, other users' programs are closed to it, and it says what would open them.
    assert!(text(&doctor.stdout).contains("grant CAP_SYS_PTRACE"), "{}", text(&doctor.stdout));
    let recorded = reduced(&["--json", "-a", "-d", "1.5"]);
    assert_eq!(recorded.status.code(), Some(0), "{}", text(&recorded.stderr));
    let summary: serde_json::Value = serde_json::from_slice(&recorded.stdout).unwrap();
    assert!(summary["switches"].as_u64() > Some(0), "{summary}");
    // Not known is not zero.
    assert_eq!(summary["own"]["bpf_pct"], serde_json::Value::Null, "{}", summary["own"]);
    assert_eq!(names_in(&work), ["timeline.svg"]);
}

/// A small disk, until the end of the test.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mount = ["-t", "tmpfs", "-o", "size=32k", "tmpfs"];
        let status = Command::new("mount").args(mount).arg(directory.path()).status();
        status.is_ok_and(|status| status.success()).then(|| Self(directory))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_full_disk_costs_what_did_not_fit_and_nothing_more() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("skipped: this host lets nobody mount");
        return;
    };
    let hzt = path_in(&disk.0, "x.hzt");
    let busy = Busy::shell("yes | cat >/dev/null");
    let output = run(&["record", "-o", &hzt, "-d", "20", "-p", &busy.pid()]);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    let partial = format!("{hzt}.partial");
    let expected = format!(
        "hz-trace: recording ended early; what was recorded is in {partial}: cannot write the recording: No space left on device (os error 28)"
    );
    assert_eq!(errors.lines().last(), Some(expected.as_str()), "{errors}");
    assert_eq!(names_in(disk.0.path()), ["x.hzt.partial"]);
    let report = run(&["report", &partial]);
    assert_eq!(report.status.code(), Some(0), "{}", text(&report.stderr));
    assert!(text(&report.stderr).contains("was not ended properly"), "{}", text(&report.stderr));

    let elsewhere = tempfile::tempdir().unwrap();
    let (svg, older) = (path_in(&disk.0, "x.svg"), path_in(&elsewhere, "older.hzt"));
    fs::copy(&partial, &older).unwrap();
    fs::remove_file(&partial).unwrap();
    fs::write(&svg, "older").unwrap();
    let output = run(&["export", &older, "--output", &svg]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert_eq!(fs::read_to_string(&svg).unwrap(), "older");
    assert_eq!(names_in(disk.0.path()), ["x.svg"]);
}
