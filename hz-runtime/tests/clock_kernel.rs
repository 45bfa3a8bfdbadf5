//! The HPET as a clock, where there is one.

use hz_runtime::clock::{self, Source};
use std::env;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Set in the process that uses it.
const CHILD: &str = "HZ_TEST_CLOCK";
const NAME: &str = "the_hpet_is_a_clock_for_who_asks_for_it";

#[test]
#[ignore = "needs CAP_BPF"]
fn the_hpet_is_a_clock_for_who_asks_for_it() {
    if !Path::new("/dev/hpet").exists() {
        // Our own machines have one.
        assert!(env::var_os("HZ_VM").is_none(), "no /dev/hpet");
        return println!("skipped: no /dev/hpet");
    }
    if env::var_os(CHILD).is_none() {
        // A process has one clock.
        let mut child = Command::new(env::current_exe().expect("a program has a path"));
        child.args(["--exact", NAME, "--ignored", "--nocapture"]);
        let output = child.env(CHILD, "1").env("HZ_CLOCK", "hpet").output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        return assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    }
    assert_eq!(clock::check().unwrap(), Source::Hpet);
    let (first_stamp, first_ns) = clock::pair();
    let begin = Instant::now();
    let mut last = 0;
    while begin.elapsed() < Duration::from_millis(300) {
        let before = clock::monotonic_ns();
        let now = clock::now_ns();
        let after = clock::monotonic_ns();
        assert!(now >= last, "it went back by {} ns", last - now);
        last = now;
        // An emulated HPET takes its time; it must not be off by more.
        let off = before.saturating_sub(now).max(now.saturating_sub(after));
        assert!(off < 1_000_000, "{off} ns off, says {}", clock::error_ns());
    }
    let (stamp, ns) = clock::pair();
    let hertz = (stamp - first_stamp) as f64 / (ns - first_ns) as f64 * 1e9;
    // The specification's least rate, and more than any has.
    assert!((10e6..1e9).contains(&hertz), "{hertz} Hz");
}
