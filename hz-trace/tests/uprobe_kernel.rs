//! The user probe `uprobe` in the running kernel, on programs whose calls are known.
//!
//! The programs are this test binary, started again with a task in the environment.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test, helpers included")]

use hz_probes_ebpf::{Loss, UPROBE_RETURN, UprobeSite};
use hz_trace::decode::{Event, decode};
use hz_trace::source::{Scope, UprobeError, UprobeLedger, Uprobes};
use hz_trace::symbol::{SITES_MAX, Site, UprobeSpec};
use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What a started copy of this binary is to do; see [`task`].
const TASK: &str = "HZ_UPROBE_TASK";
const THREADS: u64 = 4;
const CALLS: u64 = 500;
/// More calls per thread than a fourth of what the ring holds.
const FLOOD: u64 = 54_000;
/// How long [`span`] takes at least.
const SPAN: Duration = Duration::from_micros(200);
const PATIENCE: Duration = Duration::from_secs(20);

type Hit = hz_probes_ebpf::UprobeHit;

/// What is probed for marks.
#[inline(never)]
fn mark(value: u64) -> u64 {
    black_box(value) + 1
}

/// What is probed for spans.
#[inline(never)]
fn span(value: u64) -> u64 {
    let start = Instant::now();
    while start.elapsed() < SPAN {
        black_box(value);
    }
    value
}

/// Calls itself until nothing is left.
#[inline(never)]
fn nest(depth: u64) -> u64 {
    if depth == 0 { 0 } else { black_box(nest(depth - 1)) + 1 }
}

fn call_all(calls: u64) {
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(move || (0..calls).for_each(|call| assert_eq!(mark(call), call + 1)));
        }
    });
}

/// The other side of the tests: waits for a line on standard input before it does anything.
#[test]
#[ignore = "only started by the other tests"]
fn task() {
    let Ok(task) = std::env::var(TASK) else { return };
    if task == "hold" {
        let _held = attach(&[site("mark", false)], &Scope::All, false).unwrap();
        say("held");
        wait_for_line();
        return;
    }
    say("ready");
    wait_for_line();
    match &*task {
        "call" => call_all(CALLS),
        "flood" => call_all(FLOOD),
        "span" => (0..20).for_each(|call| assert_eq!(span(call), call)),
        "nest" => assert_eq!(nest(30), 30),
        "fork" => {
            call_all(CALLS);
            let mut child = Workload::start("call");
            child.go();
            child.finish();
        }
        other => panic!("unknown task {other}"),
    }
    say("done");
    wait_for_line();
}

fn say(word: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "\n{TASK} {word}").unwrap();
    out.flush().unwrap();
}

fn wait_for_line() {
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

/// A started copy of this binary.
struct Workload {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Workload {
    fn start(task: &str) -> Self {
        Self::start_from(&std::env::current_exe().unwrap(), task)
    }

    fn start_from(program: &Path, task: &str) -> Self {
        let mut child = Command::new(program)
            .args(["--exact", "task", "--ignored", "--nocapture"])
            .env(TASK, task)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut workload = Self { child, input, output: BufReader::new(output) };
        workload.hear(if task == "hold" { "held" } else { "ready" });
        workload
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn hear(&mut self, word: &str) {
        let wanted = format!("{TASK} {word}");
        let mut line = String::new();
        while line.trim_end() != wanted {
            line.clear();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "ended before {word}");
        }
    }

    /// Lets it do its task, and returns when it has.
    fn go(&mut self) {
        writeln!(self.input).unwrap();
        self.hear("done");
    }

    fn finish(mut self) {
        writeln!(self.input).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

fn site(function: &str, wants_return: bool) -> Site {
    let binary = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    let spec = UprobeSpec { binary, symbol: format!("uprobe_kernel::{function}"), wants_return };
    let mut sites = spec.resolve(&[], SITES_MAX).unwrap();
    assert_eq!(sites.len(), 1, "{sites:?}");
    sites.remove(0)
}

fn attach(sites: &[Site], scope: &Scope, follow_children: bool) -> Result<Uprobes, UprobeError> {
    Uprobes::attach(sites, scope, follow_children, None)
}

/// Attaches, lets a new workload do its task, and returns what was recorded of it.
fn record(
    task: &str,
    sites: &[Site],
    scope: impl Fn(u32) -> Scope,
    follow: bool,
) -> (u32, Vec<Hit>, UprobeLedger) {
    let mut workload = Workload::start(task);
    let mut uprobes = attach(sites, &scope(workload.pid()), follow).unwrap();
    workload.go();
    uprobes.detach();
    let (hits, ledger) = (drain(&mut uprobes), uprobes.ledger().unwrap());
    let pid = workload.pid();
    workload.finish();
    assert_balanced(&ledger, &hits);
    (pid, hits, ledger)
}

fn drain(uprobes: &mut Uprobes) -> Vec<Hit> {
    let mut hits = Vec::new();
    uprobes.drain(&mut |bytes| match decode(bytes).unwrap() {
        Event::Uprobe(hit) => hits.push(hit),
        other => panic!("{other:?}"),
    });
    hits
}

fn assert_balanced(ledger: &UprobeLedger, hits: &[Hit]) {
    for site in UprobeSite::ALL {
        let row = ledger.row(*site);
        assert_eq!((row.unaccounted(), row.lost()), (0, 0), "{site:?} {row:?}");
    }
    let written = |flag| hits.iter().filter(|hit| hit.flags == flag).count() as u64;
    assert_eq!(ledger.row(UprobeSite::Enter).submitted, written(0));
    assert_eq!(ledger.row(UprobeSite::Return).submitted, written(UPROBE_RETURN));
    assert_eq!(ledger.skipped_by_kernel, 0);
}

/// Kernel-side ids of every program of ours. One that goes away meanwhile is an error to skip.
fn loaded() -> BTreeSet<u32> {
    let programs = aya::programs::loaded_programs().flatten();
    programs.filter(|it| it.name().starts_with(b"uprobe_")).map(|it| it.id()).collect()
}

fn links_to(programs: &BTreeSet<u32>) -> usize {
    let links = aya::programs::loaded_links().flatten();
    links.filter(|link| programs.contains(&link.program_id())).count()
}

/// The kernel frees what nobody holds a little later.
fn assert_gone(programs: &BTreeSet<u32>) {
    let start = Instant::now();
    while !loaded().is_disjoint(programs) || links_to(programs) > 0 {
        assert!(start.elapsed() < PATIENCE, "left behind: {:?}", loaded());
        std::thread::yield_now();
    }
}

fn only(pid: u32) -> Scope {
    Scope::Processes(vec![pid])
}

#[test]
#[ignore = "needs CAP_BPF"]
fn every_call_on_every_thread_is_a_mark() {
    let sites = [site("nest", false), site("mark", false)];
    for follow in [false, true] {
        let (pid, hits, _) = record("call", &sites, only, follow);
        assert_eq!(hits.len() as u64, THREADS * CALLS);
        let mut threads = BTreeMap::<u32, u64>::new();
        for hit in &hits {
            assert_eq!((hit.header.pid, hit.header.arg, hit.flags), (pid, 1, 0), "{hit:?}");
            *threads.entry(hit.header.tid).or_default() += 1;
        }
        assert_eq!(threads.values().copied().collect::<Vec<_>>(), [CALLS; 4]);
        assert!(!threads.contains_key(&pid), "the threads are not the leader");
    }
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_return_makes_a_span_of_the_right_length() {
    let (_, hits, ledger) = record("span", &[site("span", true)], only, false);
    assert_eq!(hits.len(), 40);
    for pair in hits.chunks(2) {
        let (enter, leave) = (&pair[0], &pair[1]);
        assert_eq!((enter.flags, leave.flags), (0, UPROBE_RETURN), "{pair:?}");
        assert_eq!(enter.header.tid, leave.header.tid);
        let took = Duration::from_nanos(leave.header.time_ns - enter.header.time_ns);
        assert!(took >= SPAN, "{took:?}");
    }
    let took = |pair: &[Hit]| pair[1].header.time_ns - pair[0].header.time_ns;
    let shortest = hits.chunks(2).map(took).min().unwrap();
    assert!(shortest < 2 * SPAN.as_nanos() as u64, "{shortest} ns");
    assert_eq!(ledger.row(UprobeSite::Return).submitted, 20);
}

#[test]
#[ignore = "needs CAP_BPF"]
fn nested_calls_return_in_reverse() {
    let (_, hits, _) = record("nest", &[site("nest", true)], only, false);
    let flags: Vec<_> = hits.iter().map(|hit| hit.flags).collect();
    let expected = [[0; 31], [UPROBE_RETURN; 31]].concat();
    assert_eq!(flags, expected);
}

#[test]
#[ignore = "needs CAP_BPF"]
fn children_are_followed_unless_told_otherwise() {
    let sites = [site("mark", false)];
    let (parent, hits, ledger) = record("fork", &sites, only, true);
    let pids: BTreeSet<_> = hits.iter().map(|hit| hit.header.pid).collect();
    assert_eq!((hits.len() as u64, pids.len()), (2 * THREADS * CALLS, 2), "{pids:?}");
    assert!(ledger.row(UprobeSite::Fork).submitted >= 1, "{ledger:?}");

    let (parent_alone, hits, ledger) = record("fork", &sites, only, false);
    assert_eq!(hits.len() as u64, THREADS * CALLS);
    assert!(hits.iter().all(|hit| hit.header.pid == parent_alone && parent != parent_alone));
    assert_eq!(ledger.row(UprobeSite::Fork), &Loss::default());
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_child_that_was_there_before_is_followed() {
    let own = only(std::process::id());
    let (child, hits, _) = record("call", &[site("mark", false)], |_| own.clone(), true);
    assert_eq!(hits.len() as u64, THREADS * CALLS);
    assert!(hits.iter().all(|hit| hit.header.pid == child));
}

#[test]
#[ignore = "needs CAP_BPF"]
fn other_processes_are_filtered_in_the_kernel() {
    let mut other = Workload::start("call");
    let mut target = Workload::start("call");
    let mut uprobes = attach(&[site("mark", false)], &only(target.pid()), true).unwrap();
    other.go();
    target.go();
    uprobes.detach();
    let (hits, ledger) = (drain(&mut uprobes), uprobes.ledger().unwrap());
    assert_balanced(&ledger, &hits);
    assert!(hits.iter().all(|hit| hit.header.pid == target.pid()));
    let enter = ledger.row(UprobeSite::Enter);
    assert_eq!((enter.submitted, enter.filtered), (THREADS * CALLS, THREADS * CALLS));
    other.finish();
    target.finish();
}

#[test]
#[ignore = "needs CAP_BPF"]
fn the_whole_system_is_everyone() {
    let (pid, hits, ledger) = record("fork", &[site("mark", false)], |_| Scope::All, false);
    assert_eq!(hits.len() as u64, 2 * THREADS * CALLS);
    assert!(hits.iter().any(|hit| hit.header.pid == pid));
    assert_eq!(ledger.row(UprobeSite::Enter).filtered, 0);
}

/// A control group that is removed again.
struct Cgroup(std::path::PathBuf);

impl Cgroup {
    fn new() -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
        let path =
            Path::new(mount.split(' ').nth(1)?).join(format!("hz-uprobe-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        std::fs::create_dir(path.join("below")).unwrap();
        Some(Self(path))
    }

    fn scope(&self) -> Scope {
        use std::os::unix::fs::MetadataExt;
        Scope::Cgroup { id: std::fs::metadata(&self.0).unwrap().ino(), level: 1 }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        std::fs::remove_dir(self.0.join("below")).unwrap();
        std::fs::remove_dir(&self.0).unwrap();
    }
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_control_group_is_recorded_with_what_is_below_it() {
    let Some(cgroup) = Cgroup::new() else { return eprintln!("skipped: no cgroup v2 here") };
    let (mut inside, mut outside) = (Workload::start("call"), Workload::start("call"));
    std::fs::write(cgroup.0.join("below/cgroup.procs"), inside.pid().to_string()).unwrap();
    let mut uprobes = attach(&[site("mark", false)], &cgroup.scope(), true).unwrap();
    inside.go();
    outside.go();
    uprobes.detach();
    let (hits, ledger) = (drain(&mut uprobes), uprobes.ledger().unwrap());
    assert_balanced(&ledger, &hits);
    assert!(hits.iter().all(|hit| hit.header.pid == inside.pid()));
    let enter = ledger.row(UprobeSite::Enter);
    assert_eq!((enter.submitted, enter.filtered), (THREADS * CALLS, THREADS * CALLS));
    inside.finish();
    outside.finish();
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_program_whose_file_is_deleted_is_probed_where_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("hz-deleted");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut workload = Workload::start_from(&program, "call");
    std::fs::remove_file(&program).unwrap();
    let spec: UprobeSpec = "hz-deleted:uprobe_kernel::m?rk%return".parse().unwrap();
    let sites = spec.resolve(&[workload.pid()], SITES_MAX).unwrap();
    let mut uprobes = attach(&sites, &only(workload.pid()), true).unwrap();
    workload.go();
    uprobes.detach();
    assert_eq!(drain(&mut uprobes).len() as u64, 2 * THREADS * CALLS);
    workload.finish();
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_library_function_is_probed_by_soname() {
    if cfg!(target_feature = "crt-static") {
        println!("skipped: this test binary is static and maps no libc.so.6");
        return;
    }
    let mut workload = Workload::start("fork");
    let spec: UprobeSpec = "libc.so.6:pthread_create".parse().unwrap();
    let sites = spec.resolve(&[workload.pid()], SITES_MAX).unwrap();
    let mut uprobes = attach(&sites, &only(workload.pid()), false).unwrap();
    workload.go();
    uprobes.detach();
    assert!(drain(&mut uprobes).len() as u64 >= THREADS);
    workload.finish();
}

#[test]
#[ignore = "needs CAP_BPF"]
fn what_does_not_fit_into_the_ring_is_counted() {
    let mut workload = Workload::start("flood");
    let mut uprobes = attach(&[site("mark", false)], &only(workload.pid()), false).unwrap();
    workload.go();
    uprobes.detach();
    let (hits, ledger) = (drain(&mut uprobes), uprobes.ledger().unwrap());
    let enter = ledger.row(UprobeSite::Enter);
    assert_eq!((enter.seen, enter.unaccounted()), (THREADS * FLOOD, 0), "{enter:?}");
    assert_eq!((enter.submitted, enter.read_failed), (hits.len() as u64, 0), "{enter:?}");
    assert!(enter.ring_full > 0, "{enter:?}");
    workload.finish();
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_process_that_is_gone_is_named() {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let error = attach(&[site("mark", false)], &only(child.id()), true).unwrap_err();
    assert_eq!(error.to_string(), format!("uprobe: no process {}", child.id()));
}

#[test]
#[ignore = "needs CAP_BPF"]
fn nothing_is_left_behind_by_drop() {
    let before = loaded();
    let sites = [site("mark", true), site("span", true), site("nest", false)];
    let uprobes = attach(&sites, &only(std::process::id()), true).unwrap();
    let ours: BTreeSet<_> = loaded().difference(&before).copied().collect();
    assert_eq!(ours, uprobes.program_ids().into_iter().collect());
    // Two tracepoints, and two links of many probes or five of one each.
    assert_eq!(ours.len(), 4);
    assert!([4, 7].contains(&links_to(&ours)), "{} links", links_to(&ours));
    drop(uprobes);
    assert_gone(&ours);
}

#[test]
#[ignore = "needs CAP_BPF"]
fn nothing_is_left_behind_by_a_killed_holder() {
    let before = loaded();
    let mut holder = Workload::start("hold");
    let ours: BTreeSet<_> = loaded().difference(&before).copied().collect();
    assert!(links_to(&ours) > 0, "{ours:?}");
    holder.child.kill().unwrap();
    holder.child.wait().unwrap();
    assert_gone(&ours);
}

/// Keeps what it is told.
struct Memory(Mutex<Vec<String>>);

impl log::Log for Memory {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.0.lock().unwrap().push(record.args().to_string());
    }

    fn flush(&self) {}
}

#[test]
#[ignore = "needs CAP_BPF"]
fn the_programs_tell_of_the_first_hits_when_asked() {
    static MEMORY: Memory = Memory(Mutex::new(Vec::new()));
    let mut workload = Workload::start("call");
    let scope = only(workload.pid());
    let mut uprobes = Uprobes::attach(&[site("mark", false)], &scope, true, Some(&MEMORY)).unwrap();
    workload.go();
    assert_eq!(drain(&mut uprobes).len() as u64, THREADS * CALLS);
    let told = MEMORY.0.lock().unwrap().clone();
    let of_us = format!("of process {}, flags 0", workload.pid());
    assert!(
        told.iter().any(|line| line.starts_with("probe 0 hit") && line.ends_with(&of_us)),
        "{told:?}"
    );
    let cpus = std::thread::available_parallelism().unwrap().get();
    assert!(told.len() <= 8 * cpus, "{} messages", told.len());
    workload.finish();
}

#[test]
#[ignore = "needs CAP_BPF"]
fn starting_takes_no_longer_than_it_may() {
    let start = Instant::now();
    let uprobes = attach(&[site("mark", true)], &only(std::process::id()), true).unwrap();
    let took = start.elapsed();
    eprintln!("attached in {took:?}");
    // The bar is 300 ms in a release build; this is a debug one.
    assert!(took < Duration::from_secs(3), "{took:?}");
    drop(uprobes);
}
