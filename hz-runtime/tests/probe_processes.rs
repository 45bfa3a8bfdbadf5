//! The shared memory and other processes: forked children, and readers that are killed.

#[expect(dead_code, reason = "other tests use the rest of it")]
mod support;

use hz_probes_ebpf::Kind;
use hz_runtime::probe;
use std::env;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::{Reader, wait_until};

/// Whose memory the process that is to be killed leases.
const OF: &str = "HZ_TEST_LEASE_OF";

#[test]
fn a_forked_child_writes_nothing_into_its_parent_s_rings() {
    probe::start(2).expect("memory");
    let mut reader = Reader::of(std::process::id()).expect("a reader");
    reader.lease(&[Kind::Mark]);
    probe::mark("forked", 1);
    // SAFETY: the child calls only what neither locks nor allocates, and leaves by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let is_off = !probe::is_on(Kind::Mark);
        probe::mark("forked", 2);
        // SAFETY: ends the child, without what the parent would do at its end.
        unsafe { libc::_exit(if is_off { 7 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: `child` is ours, and `status` can be written to.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(libc::WEXITSTATUS(status), 7, "sites were on in the child");
    probe::mark("forked", 3);
    let records = reader.read().into_iter().flatten();
    let marks = records.filter(|record| record.kind == Kind::Mark as u16);
    assert_eq!(marks.map(|record| record.value).collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn a_reader_that_is_killed_leaves_nothing_on() {
    probe::start(2).expect("memory");
    let mut reader = Command::new(env::current_exe().expect("a path"))
        .args(["--exact", "--ignored", "holds_a_lease_until_it_is_killed"])
        .env(OF, std::process::id().to_string())
        .stdout(Stdio::null())
        .spawn()
        .expect("a reader");
    wait_until("its kind is on", || probe::is_on(Kind::AllocSampled));
    reader.kill().expect("killed");
    reader.wait().expect("gone");
    let killed = Instant::now();
    wait_until("its kind is off", || !probe::is_on(Kind::AllocSampled));
    assert!(killed.elapsed() < Duration::from_secs(2), "{:?}", killed.elapsed());
}

#[test]
#[ignore = "is the process that is killed"]
fn holds_a_lease_until_it_is_killed() {
    let Ok(pid) = env::var(OF) else { return };
    let mut reader = Reader::of(pid.parse().expect("a pid")).expect("a reader");
    reader.lease(&[Kind::AllocSampled]);
    loop {
        reader.renew(1_000_000_000);
        std::thread::sleep(Duration::from_millis(100));
    }
}
