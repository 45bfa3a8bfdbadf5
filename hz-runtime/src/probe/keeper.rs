//! The thread `hz-probes`: it turns kinds on and off as readers come and go, and compares the clocks
//! for them.

use super::atomic::Ordering;
use super::kinds;
use super::lease::{self, Claims, Live};
use super::memory::{Memory, ShareError};
use crate::clock;
use hz_probes_ebpf::runtime_ring::CLOCK_PAIRS;
use rustix::io::Errno;
use rustix::thread::futex;
use rustix::time::Timespec;
use std::mem::MaybeUninit;

/// How long a turn lasts at most while there is a reader.
const TURN_NS: u64 = 250_000_000;
/// A thread that needs next to nothing.
const STACK_BYTES: usize = 64 << 10;

/// Starts the thread.
pub(super) fn start(memory: &'static Memory) -> Result<(), ShareError> {
    kinds::set(memory.flight_kinds);
    append_pair(memory);
    without_signals(|| {
        std::thread::Builder::new()
            .name("hz-probes".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || keep(memory))
    })
    .map(|_thread| ())
    .map_err(|error| ShareError::Keeper(Errno::from_io_error(&error).unwrap_or(Errno::AGAIN)))
}

/// Runs `spawn` with all signals blocked, which a new thread inherits: the program's handlers must
/// not run on a thread that the program does not know of.
fn without_signals<R>(spawn: impl FnOnce() -> R) -> R {
    let mut all = MaybeUninit::<libc::sigset_t>::zeroed();
    let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: it writes a set there, which is large enough.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: `all` is a set now, and `before` is large enough for one.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
    let result = spawn();
    // SAFETY: `before` is a set: zeroed, or what the call before wrote.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    result
}

fn keep(memory: &'static Memory) {
    let mut claims = Claims::default();
    loop {
        let changes = memory.page.leases_changed.load(Ordering::Acquire);
        let now_ns = clock::monotonic_ns();
        let live = lease::sweep(memory.leases, &mut claims, now_ns);
        if live.count > 0 {
            // Before the kinds are on, so that a reader can convert the first stamp.
            append_pair(memory);
        }
        apply(memory, live.kinds);
        let timeout = (live.count > 0).then(|| turn(live, now_ns));
        let page = &memory.page;
        match futex::wait(&page.leases_changed, futex::Flags::empty(), changes, timeout.as_ref()) {
            // Signals are blocked, but a debugger interrupts as well.
            Ok(()) | Err(Errno::AGAIN | Errno::TIMEDOUT | Errno::INTR) => {}
            // No futexes: a reader is then seen at the next of these turns.
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(250)),
        }
    }
}

/// How long to sleep: not past the end of a lease, whose reader may be dead.
fn turn(live: Live, now_ns: u64) -> Timespec {
    let ends_in_ns = live.ends_ns.map_or(TURN_NS, |ends_ns| ends_ns.saturating_sub(now_ns));
    // It is over at its deadline, and not before.
    let ns = ends_in_ns.saturating_add(1).min(TURN_NS);
    Timespec { tv_sec: 0, tv_nsec: ns.try_into().unwrap_or(0) }
}

fn apply(memory: &Memory, wanted: u64) {
    let on = (wanted | memory.flight_kinds) & kinds::ALL;
    if on != kinds::all_on() {
        kinds::set(on);
    }
    memory.page.kinds.store(on, Ordering::Relaxed);
}

/// Compares the clocks, and lets the readers know.
fn append_pair(memory: &Memory) {
    let (stamp, monotonic_ns) = clock::pair();
    let number = memory.page.pairs_written.load(Ordering::Relaxed);
    if let Some(pair) = memory.pairs.get(number as usize % CLOCK_PAIRS) {
        pair.stamp.store(stamp, Ordering::Relaxed);
        pair.monotonic_ns.store(monotonic_ns, Ordering::Relaxed);
    }
    memory.page.clock_error_ns.store(clock::error_ns(), Ordering::Relaxed);
    memory.page.pairs_written.store(number.wrapping_add(1), Ordering::Release);
    super::atomic::fence(Ordering::Release);
}
