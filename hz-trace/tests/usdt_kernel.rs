//! The user probe `usdt` in the running kernel, on the probes of `hz_runtime`.
//!
//! The programs are this test binary, started again with a task in the environment.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test, helpers included")]

use hz_probes_ebpf::{Kind, Loss, UsdtHit, UsdtSite, runtime::NO_WORKER};
use hz_runtime::probe::{self, Spawn, TaskProbe, usdt::Gate};
use hz_trace::decode::{Event, decode};
use hz_trace::source::{Scope, Usdt, UsdtError, UsdtLedger};
use hz_trace::symbol::{SITES_MAX, UsdtProbe, UsdtSpec};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::panic::Location;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a started copy of this binary is to do; see [`task`].
const TASK: &str = "HZ_USDT_TASK";
const THREADS: u64 = 4;
const ROUNDS: u64 = 200;
/// More than the ring holds.
const FLOOD: u64 = 100_000;
const PATIENCE: Duration = Duration::from_secs(30);

/// Every process of this binary has the same probes: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Passes each of three probes once.
fn pass(round: u64) {
    probe::mark("a mark", round);
    probe::steal(7, u32::try_from(round).unwrap());
    drop(TaskProbe::spawned(&Spawn {
        name: Some("worker"),
        location: Location::caller(),
        future: "()",
        future_bytes: 0,
        priority: 3,
    }));
}

fn pass_all() {
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| (0..ROUNDS).for_each(pass));
        }
    });
}

/// The other side of the tests: waits for a line on standard input before it does anything.
#[test]
#[ignore = "only started by the other tests"]
fn task() {
    let Ok(task) = std::env::var(TASK) else { return };
    say("ready");
    wait_for_line();
    match &*task {
        "pass" => pass_all(),
        "flood" => (0..FLOOD).for_each(|round| probe::mark("flood", round)),
        "fork" => {
            let mut child = Workload::start("pass");
            child.go();
            child.finish();
        }
        "traced" => {
            wait_until(|| Gate::of(Kind::Mark).wants_usdt());
            // The kernel raises the semaphore before the breakpoint is in place.
            wait_until(|| {
                probe::mark("seen by another tracer", 4711);
                !Gate::of(Kind::Mark).wants_usdt()
            });
        }
        "gates" => {
            let open = Kind::ALL.iter().filter(|kind| Gate::of(**kind).wants_usdt());
            say(&format!("open {}", open.count()));
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

fn wait_until(mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "waited in vain");
        std::thread::yield_now();
    }
}

/// A started copy of this binary.
struct Workload {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Workload {
    fn start(task: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "task", "--ignored", "--nocapture"])
            .env(TASK, task)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut workload = Self { child, input, output: BufReader::new(output) };
        workload.hear("ready");
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

    fn begin(&mut self) {
        writeln!(self.input).unwrap();
    }

    /// Lets it do its task, and returns when it has.
    fn go(&mut self) {
        self.begin();
        self.hear("done");
    }

    fn finish(mut self) {
        writeln!(self.input).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

fn own_path() -> String {
    std::env::current_exe().unwrap().to_str().unwrap().to_owned()
}

fn probes(name: &str) -> Vec<UsdtProbe> {
    let spec =
        UsdtSpec { binary: own_path(), provider: "hz_runtime".to_owned(), name: name.to_owned() };
    spec.resolve(&[], SITES_MAX).unwrap()
}

/// Three probes, numbered by their place.
fn three() -> Vec<UsdtProbe> {
    ["mark", "steal", "task_spawn"].into_iter().flat_map(probes).collect()
}

fn end(mut usdt: Usdt) -> (Vec<UsdtHit>, UsdtLedger) {
    usdt.detach();
    let mut hits = Vec::new();
    usdt.drain(&mut |bytes| match decode(bytes).unwrap() {
        Event::Usdt(hit) => hits.push(hit),
        other => panic!("{other:?}"),
    });
    let ledger = usdt.ledger().unwrap();
    for site in UsdtSite::ALL {
        assert_eq!(ledger.row(*site).unaccounted(), 0, "{ledger:?}");
    }
    assert!(ledger.cost.iter().all(|program| program.skipped_by_kernel == 0), "{ledger:?}");
    assert_eq!(ledger.row(UsdtSite::Hit).submitted, hits.len() as u64);
    (hits, ledger)
}

fn only(pid: u32) -> Scope {
    Scope::Processes(vec![pid])
}

/// Every round's hits, on every thread, with what was passed.
fn assert_all_of(pid: u32, hits: &[UsdtHit]) {
    assert_eq!(hits.len() as u64, 3 * THREADS * ROUNDS);
    let threads: BTreeSet<_> = hits.iter().map(|hit| hit.header.tid).collect();
    assert_eq!(threads.len() as u64, THREADS);
    for tid in threads {
        let of = |number: u32| {
            let wanted = move |hit: &&UsdtHit| hit.header.tid == tid && hit.header.arg == number;
            hits.iter().filter(wanted).zip(0_u64..)
        };
        for (mark, round) in of(0) {
            assert_eq!((mark.header.pid, mark.count, mark.unread), (pid, 5, 0), "{mark:?}");
            assert_eq!((mark.args[0], mark.args[1]), (0, round), "{mark:?}");
            assert!(mark.args[4] != 0 && mark.args[5] == 0, "{mark:?}");
        }
        for (steal, round) in of(1) {
            assert_eq!(steal.args, [0, round, u64::from(NO_WORKER), 7, 0, 0], "{steal:?}");
            assert_eq!(steal.count, 4);
        }
        for (spawn, _) in of(2) {
            assert_eq!((spawn.count, spawn.args[1], spawn.args[3]), (6, 0, 3), "{spawn:?}");
            assert!(spawn.args[0] > 0 && spawn.args[2] > 1, "{spawn:?}");
        }
        assert_eq!(of(0).count() as u64, ROUNDS);
    }
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_program_that_was_started_before_gives_every_hit_with_its_arguments() {
    let _alone = alone();
    let mut workload = Workload::start("pass");
    for follow in [false, true] {
        let usdt = Usdt::attach(&three(), &only(workload.pid()), follow).unwrap();
        if follow {
            drop(end(usdt));
            continue;
        }
        workload.go();
        let (hits, _) = end(usdt);
        assert_all_of(workload.pid(), &hits);
    }
    workload.finish();
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_program_that_is_started_later_gives_every_hit_with_its_arguments() {
    let _alone = alone();
    let usdt = Usdt::attach(&three(), &Scope::All, false).unwrap();
    let mut workload = Workload::start("pass");
    workload.go();
    let (hits, ledger) = end(usdt);
    assert_all_of(workload.pid(), &hits);
    assert_eq!(ledger.row(UsdtSite::Hit).filtered, 0);
    workload.finish();
}

#[test]
#[ignore = "needs CAP_BPF"]
fn children_are_followed_and_others_filtered() {
    let _alone = alone();
    let mut parent = Workload::start("fork");
    let mut other = Workload::start("pass");
    let usdt = Usdt::attach(&three(), &only(parent.pid()), true).unwrap();
    parent.go();
    other.go();
    let (hits, ledger) = end(usdt);
    let pids: BTreeSet<_> = hits.iter().map(|hit| hit.header.pid).collect();
    assert_eq!(pids.len(), 1, "{pids:?}");
    assert!(!pids.contains(&parent.pid()) && !pids.contains(&other.pid()), "{pids:?}");
    assert_all_of(*pids.first().unwrap(), &hits);
    assert_eq!(ledger.row(UsdtSite::Hit).filtered, 3 * THREADS * ROUNDS);
    assert!(ledger.row(UsdtSite::Fork).submitted >= 1, "{ledger:?}");
    parent.finish();
    other.finish();
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_ring_that_is_full_is_counted() {
    let _alone = alone();
    let mut workload = Workload::start("flood");
    let usdt = Usdt::attach(&probes("mark"), &only(workload.pid()), false).unwrap();
    workload.go();
    let (hits, ledger) = end(usdt);
    let row = ledger.row(UsdtSite::Hit);
    assert_eq!((row.seen, row.lost()), (FLOOD, FLOOD - hits.len() as u64));
    assert!(hits.len() > 90_000 && row.ring_full > 0, "{row:?}");
    workload.finish();
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_program_is_left_as_it_was() {
    let _alone = alone();
    let mut workload = Workload::start("gates");
    let usdt = Usdt::attach(&probes("*"), &Scope::All, false).unwrap();
    let mut meanwhile = Workload::start("gates");
    meanwhile.begin();
    meanwhile.hear("open 24");
    let (hits, ledger) = end(usdt);
    assert_eq!(*ledger.row(UsdtSite::Fork), Loss::default(), "{hits:?}");
    workload.begin();
    workload.hear("open 0");
    meanwhile.finish();
    workload.finish();
}

#[test]
#[ignore = "needs CAP_BPF"]
fn what_happens_after_the_end_is_not_recorded() {
    let _alone = alone();
    let mut workload = Workload::start("pass");
    let usdt = Usdt::attach(&three(), &only(workload.pid()), false).unwrap();
    usdt.stop();
    workload.go();
    let (hits, ledger) = end(usdt);
    assert_eq!((hits.len(), ledger.row(UsdtSite::Hit).filtered), (0, 3 * THREADS * ROUNDS));
    workload.finish();
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_process_that_does_not_exist_is_named() {
    let error = Usdt::attach(&probes("mark"), &only(0x7fff_fff0), false).unwrap_err();
    assert!(matches!(error, UsdtError::NoSuchProcess { pid: 0x7fff_fff0 }), "{error}");
}

#[test]
fn what_there_is_not_is_answered_with_what_there_is() {
    let spec = |text: &str| format!("{}:{text}", own_path()).parse::<UsdtSpec>().unwrap();
    let said = spec("hz_runtme:mark").resolve(&[], SITES_MAX).unwrap_err().to_string();
    assert!(said.contains("no provider hz_runtme") && said.contains("has hz_runtime"), "{said}");
    let said = spec("hz_runtime:marc").resolve(&[], SITES_MAX).unwrap_err().to_string();
    assert!(said.contains("no probe hz_runtime:marc") && said.contains(", mark, "), "{said}");
    let said = spec("hz_runtime:*").resolve(&[], 9).unwrap_err().to_string();
    assert!(said.contains("hz_runtime:* means 24 probes") && said.contains("than 9"), "{said}");
}

/// Starts a tool; `None`, and says so, if it is not installed.
fn tool(name: &str, arguments: &[&str]) -> Option<Child> {
    let mut command = Command::new(name);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    match command.spawn() {
        Ok(child) => Some(child),
        Err(error) => {
            println!("skipped: {name}: {error}");
            None
        }
    }
}

#[test]
fn readelf_lists_every_probe() {
    let Some(child) = tool("readelf", &["-n", &own_path()]) else { return };
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    for kind in Kind::ALL.iter().filter(|kind| kind.is_runtime_event()) {
        let named = format!("Provider: hz_runtime\n    Name: {}\n", kind.tag());
        assert!(text.contains(&named), "{}", kind.tag());
    }
}

#[test]
#[ignore = "needs CAP_BPF"]
fn bpftrace_prints_the_arguments() {
    let _alone = alone();
    let mut workload = Workload::start("traced");
    let program = format!(
        "usdt:{}:hz_runtime:mark {{ printf(\"got %d %s\\n\", arg1, str(arg4)); exit(); }}",
        own_path()
    );
    let arguments = ["-p", &workload.pid().to_string(), "-e", &program];
    let Some(mut child) = tool("bpftrace", &arguments) else {
        workload.child.kill().unwrap();
        workload.child.wait().unwrap();
        return;
    };
    // It passes the probe when bpftrace has raised the semaphore.
    workload.begin();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let said: Vec<_> = lines.collect();
    let _ = child.wait();
    assert!(said.iter().any(|line| line == "got 4711 seen by another tracer"), "{said:?}");
    workload.hear("done");
    workload.finish();
}
