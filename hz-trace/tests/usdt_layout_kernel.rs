//! A probe whose semaphore the kernel cannot find in processes that start while a tracer is
//! attached: what hz says of it, and that it is so.
//!
//! The program is this test binary, started again with a task in the environment. Its semaphore is
//! where rust-lld begins the data behind RELRO: in the middle of a page of the file. The library of
//! the runtime is not linked, whose page of semaphores would mend that.
#![cfg(target_arch = "x86_64")]
#![expect(clippy::unwrap_used, reason = "a test, helpers included")]

use hz_trace::source::{Scope, Usdt};
use hz_trace::symbol::{SITES_MAX, UsdtProbe, UsdtSpec};
use std::io::{BufRead, BufReader, Read as _, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

/// What makes a started copy of this binary pass its probe.
const TASK: &str = "HZ_LAYOUT_TASK";

/// The first of what can be written, whatever the program has of `.data`.
#[unsafe(link_section = ".tm_clone_table")]
static SEMAPHORE: AtomicU16 = AtomicU16::new(0);

/// Passes the probe if a tracer is there; whether one was.
#[inline(never)]
fn pass() -> bool {
    if SEMAPHORE.load(Ordering::Relaxed) == 0 {
        return false;
    }
    // SAFETY: a nop; the rest describes it in a section that is not loaded.
    unsafe {
        std::arch::asm!(
            "990: nop",
            ".pushsection .note.stapsdt, \"\", @note",
            ".balign 4",
            ".4byte 992f - 991f, 994f - 993f, 3",
            "991: .asciz \"stapsdt\"",
            "992: .balign 4",
            "993: .8byte 990b, 0, {semaphore}",
            ".asciz \"hz_test\"",
            ".asciz \"passed\"",
            ".asciz \"\"",
            "994: .balign 4",
            ".popsection",
            semaphore = sym SEMAPHORE,
        );
    }
    true
}

/// The other side of the tests.
#[test]
#[ignore = "only started by the other tests"]
fn task() {
    if std::env::var_os(TASK).is_none() {
        return;
    }
    say("ready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    say(&format!("passed {}", pass()));
}

fn say(word: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "\n{TASK} {word}").unwrap();
    out.flush().unwrap();
}

/// A started copy of this binary.
struct Workload {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Workload {
    fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "task", "--ignored", "--nocapture"])
            .env(TASK, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut workload = Self { child, input, output: BufReader::new(output) };
        assert_eq!(workload.hear(), "ready");
        workload
    }

    fn hear(&mut self) -> String {
        let mut lines = self.output.by_ref().lines().map(Result::unwrap);
        lines.find_map(|line| Some(line.strip_prefix(TASK)?.trim().to_owned())).unwrap()
    }

    /// Lets it pass its probe; whether it saw a tracer.
    fn saw_tracer(mut self) -> bool {
        writeln!(self.input).unwrap();
        let heard = self.hear();
        assert!(self.child.wait().unwrap().success());
        heard == "passed true"
    }
}

fn probe() -> UsdtProbe {
    let binary = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    let spec = UsdtSpec { binary, provider: "hz_test".to_owned(), name: "passed".to_owned() };
    spec.resolve(&[], SITES_MAX).unwrap().remove(0)
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_swallowed_semaphore_is_known_and_works_in_programs_that_run() {
    let probe = probe();
    assert!(probe.has_semaphore);
    if !probe.is_swallowed {
        println!("skipped: this linker maps no page of the file twice");
        return;
    }
    let running = Workload::start();
    let mut usdt = Usdt::attach(&[probe], &Scope::All, false).unwrap();
    let later = Workload::start();
    let pid = running.child.id();
    assert!(running.saw_tracer(), "a process that ran already");
    assert!(!later.saw_tracer(), "hz warns of a probe that works");
    usdt.detach();
    let mut pids = Vec::new();
    usdt.drain(&mut |bytes| pids.push(u32::from_ne_bytes(bytes[16..20].try_into().unwrap())));
    assert_eq!(pids, [pid]);
}
