//! The clock beside the kernel's.

use hz_runtime::clock::{self, Source};
use std::env;
use std::process::Command;

/// Set in the processes that ask for the time.
const CHILD: &str = "HZ_TEST_CLOCK";

/// Runs the test `name` again in a process with this `HZ_CLOCK`; its exit and what it said.
fn in_a_child(name: &str, clock: &str) -> (bool, String) {
    let mut child = Command::new(env::current_exe().expect("a program has a path"));
    child.args(["--exact", name, "--nocapture"]).env(CHILD, "1").env("HZ_CLOCK", clock);
    let output = child.output().expect("it runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// For a while, both clocks: the time must not go back, and must lie between two of the kernel's
/// but for what it says itself that it may be off, and what is not seen between two comparisons.
fn follow_the_kernel() {
    let end = clock::monotonic_ns() + 200_000_000;
    let (mut last, mut off_ns) = (0, 0);
    while clock::monotonic_ns() < end {
        let before = clock::monotonic_ns();
        let now = clock::now_ns();
        let after = clock::monotonic_ns();
        assert!(now >= last, "it went back by {} ns", last - now);
        last = now;
        off_ns = off_ns.max(before.saturating_sub(now)).max(now.saturating_sub(after));
    }
    assert!(off_ns < 1_000, "{off_ns} ns off, says {}", clock::error_ns());
    assert!(clock::error_ns() < 1_000, "says that it was {} ns off", clock::error_ns());
}

#[test]
fn the_time_is_the_kernels_to_less_than_a_microsecond() {
    follow_the_kernel();
}

#[test]
fn the_environment_chooses_the_clock() {
    if env::var_os(CHILD).is_some() {
        assert_eq!(clock::check().unwrap(), Source::Monotonic);
        assert_eq!(clock::stamp() / 1_000_000_000, clock::monotonic_ns() / 1_000_000_000);
        return follow_the_kernel();
    }
    let (is_right, said) = in_a_child("the_environment_chooses_the_clock", "monotonic");
    assert!(is_right, "{said}");
}

#[test]
fn a_clock_that_is_not_there_is_named_with_the_remedy() {
    if env::var_os(CHILD).is_some() {
        let error = clock::check().unwrap_err().to_string();
        assert_eq!(error, "HZ_CLOCK=sundial is not tsc, hpet or monotonic");
        // Whoever does not ask gets one that works.
        return follow_the_kernel();
    }
    let (is_right, said) =
        in_a_child("a_clock_that_is_not_there_is_named_with_the_remedy", "sundial");
    assert!(is_right, "{said}");
}
