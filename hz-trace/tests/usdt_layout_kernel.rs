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
use own_copy::{OwnCopy, is_let_go, say};
use std::sync::atomic::{AtomicU16, Ordering};

#[path = "support/own_copy.rs"]
mod own_copy;

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
    if !is_let_go() {
        return;
    }
    say(&format!("passed {}", pass()));
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
    let running = OwnCopy::start();
    let mut usdt = Usdt::attach(&[probe], &Scope::All, false).unwrap();
    let later = OwnCopy::start();
    let (pid, said) = running.run();
    assert_eq!(said, "passed true", "a process that ran already");
    assert_eq!(later.run().1, "passed false", "hz warns of a probe that works");
    usdt.detach();
    let mut pids = Vec::new();
    usdt.drain(&mut |bytes| pids.push(u32::from_ne_bytes(bytes[16..20].try_into().unwrap())));
    assert_eq!(pids, [pid]);
}
