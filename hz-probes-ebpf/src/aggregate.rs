//! Sums that BPF programs keep in maps instead of writing records.

use crate::{Comm, Loss};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Parts of the machine that a thread's CPU time is kept for: CPUs, or groups of neighbours where
/// there are more.
pub const PLACES: usize = 16;

/// Buckets of a histogram of times: see [`bucket_of`].
pub const BUCKETS: usize = 160;

/// States that a thread's time is kept for, [`AGGREGATE_UNKNOWN`] and so on.
pub const AGGREGATE_STATES: usize = 8;

/// Not seen yet, or not known.
pub const AGGREGATE_UNKNOWN: u32 = 0;
/// Has a CPU.
pub const AGGREGATE_RUNNING: u32 = 1;
/// Waits for a CPU after it woke.
pub const AGGREGATE_WOKEN: u32 = 2;
/// Waits for a CPU after one was taken from it.
pub const AGGREGATE_PREEMPTED: u32 = 3;
/// Sleeps, interruptibly.
pub const AGGREGATE_SLEEPING: u32 = 4;
/// Sleeps uninterruptibly.
pub const AGGREGATE_UNINTERRUPTIBLE: u32 = 5;
/// Is stopped or traced.
pub const AGGREGATE_STOPPED: u32 = 6;
/// Has ended.
pub const AGGREGATE_ENDED: u32 = 7;

/// [`ThreadTotals::flags`]: of the target.
pub const AGGREGATE_TARGET: u32 = 1;
/// [`ThreadTotals::flags`]: a kernel thread.
pub const AGGREGATE_KERNEL: u32 = 2;

/// System calls that a thread waits for work in: as many as [`AggregateConfig`] has room for.
pub const IDLE_CALLS: usize = 10;

/// Turns on a CPU that are remembered, to tell who had it while somebody waited.
pub const TURNS: usize = 8;

/// Hooks that keep a ledger, in the order of [`CpuTotals::ledger`].
pub const AGGREGATE_SITES: [&str; 5] = ["switch", "wakeup", "migrate", "life", "snapshot"];

/// The bucket of a time: up to 3 ns one each, then four for every doubling; the last has all that
/// is longer than 15 minutes.
#[must_use]
pub const fn bucket_of(ns: u64) -> usize {
    if ns < 4 {
        return ns as usize;
    }
    let exponent = 63 - ns.leading_zeros() as usize;
    let quarter = (ns >> (exponent - 2)) as usize & 3;
    let bucket = (exponent - 1) * 4 + quarter;
    if bucket < BUCKETS { bucket } else { BUCKETS - 1 }
}

/// The shortest time of a bucket, nanoseconds.
#[must_use]
pub const fn bucket_floor_ns(bucket: usize) -> u64 {
    if bucket < 4 {
        return bucket as u64;
    }
    let (exponent, quarter) = (bucket / 4 + 1, bucket % 4);
    (4 + quarter as u64) << (exponent - 2)
}

/// Settings of the `aggregates` programs.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct AggregateConfig {
    /// Id of the control group, for `FILTER_CGROUP`: the inode of its directory.
    pub cgroup_id: u64,
    /// Depth of the control group below the root of its hierarchy.
    pub cgroup_level: u32,
    /// `FILTER_ALL`, `FILTER_PIDS` or `FILTER_CGROUP`.
    pub filter: u32,
    /// 1 if processes that a target starts are targets too.
    pub follow_children: u32,
    /// 1 if `sched_switch` passes the leaving thread's state (Linux 5.18).
    pub switch_has_state: u32,
    /// CPUs per place.
    pub place_cpus: u32,
    /// Always 0.
    pub reserved: u32,
    /// Numbers of system calls whose waits are no news; -1: none.
    pub idle_calls: [i32; IDLE_CALLS],
}
const _: () = assert!(size_of::<AggregateConfig>() == 72);

/// The longest wait for a CPU in one epoch.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct WorstWait {
    /// How long, nanoseconds.
    pub wait_ns: u64,
    /// When it ended, nanoseconds of `CLOCK_MONOTONIC`.
    pub end_ns: u64,
    /// The epoch; another than the current one: stale.
    pub epoch: u32,
    /// Thread that had the CPU longest meanwhile, of the last [`TURNS`] turns.
    pub by_tid: u32,
    /// Process of that thread.
    pub by_pid: u32,
    /// The CPU.
    pub cpu: u32,
}
const _: () = assert!(size_of::<WorstWait>() == 32);

/// The longest sleep in one epoch that was not a wait for work.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct WorstBlock {
    /// How long, nanoseconds.
    pub block_ns: u64,
    /// When it ended, nanoseconds of `CLOCK_MONOTONIC`.
    pub end_ns: u64,
    /// The first argument of the system call.
    pub argument: u64,
    /// Number of the system call, -1: in none (a page fault, for instance).
    pub call: i32,
    /// The epoch; another than the current one: stale.
    pub epoch: u32,
}
const _: () = assert!(size_of::<WorstBlock>() == 32);

/// What one thread did since it was first seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ThreadTotals {
    /// Begin of its state now, nanoseconds of `CLOCK_MONOTONIC`.
    pub since_ns: u64,
    /// Time in each state until then, nanoseconds.
    pub state_ns: [u64; AGGREGATE_STATES],
    /// Time on CPUs by place until then, nanoseconds.
    pub place_ns: [u64; PLACES],
    /// Times it gave up its CPU.
    pub yields: u64,
    /// Times its CPU was taken from it.
    pub preemptions: u64,
    /// Moves to another CPU.
    pub migrations: u64,
    /// Its longest waits, of the odd and the even epochs.
    pub waits: [WorstWait; 2],
    /// Its longest sleeps, of the odd and the even epochs.
    pub blocks: [WorstBlock; 2],
    /// Its process.
    pub pid: u32,
    /// Its state: `AGGREGATE_*`.
    pub state: u32,
    /// The CPU it has or had last.
    pub cpu: u32,
    /// `AGGREGATE_TARGET`, `AGGREGATE_KERNEL`.
    pub flags: u32,
    /// Its name.
    pub comm: Comm,
}
const _: () = assert!(size_of::<ThreadTotals>() == 384);

/// A thread's turn on a CPU.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Turn {
    /// Begin, nanoseconds of `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// End.
    pub end_ns: u64,
    /// The thread; 0: none had it.
    pub tid: u32,
    /// Its process.
    pub pid: u32,
}
const _: () = assert!(size_of::<Turn>() == 24);

/// What one CPU did since the programs were attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CpuTotals {
    /// When it was last switched, nanoseconds of `CLOCK_MONOTONIC`; 0: not yet.
    pub since_ns: u64,
    /// Time with nothing to do until then, nanoseconds.
    pub idle_ns: u64,
    /// Time with a thread until then, nanoseconds.
    pub busy_ns: u64,
    /// Time of which nobody knows who had it, nanoseconds.
    pub unknown_ns: u64,
    /// Switches.
    pub switches: u64,
    /// Waits of the target's threads for it that have ended, by [`bucket_of`].
    pub waits: [u64; BUCKETS],
    /// What became of every run of a hook on it, by [`AGGREGATE_SITES`].
    pub ledger: [Loss; 5],
    /// The last turns on it; the next goes to `turn % TURNS`.
    pub turns: [Turn; TURNS],
    /// Turns so far.
    pub turn: u64,
    /// Thread that has it, 0: none.
    pub tid: u32,
    /// Process of that thread.
    pub pid: u32,
}
const _: () = assert!(size_of::<CpuTotals>() == 1728);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_hold_what_their_floor_says() {
        let mut last = 0;
        for shift in 2..64_u32 {
            for quarters in [0_u64, 1, 3] {
                let ns = (1_u64 << shift) + (quarters << (shift - 2));
                let bucket = bucket_of(ns);
                assert!(bucket >= last, "{ns}");
                assert!(bucket_floor_ns(bucket) <= ns, "{ns} in {bucket}");
                assert!(bucket == BUCKETS - 1 || bucket_floor_ns(bucket + 1) > ns, "{ns}");
                last = bucket;
            }
        }
        assert_eq!(bucket_of(0), 0);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        assert!(bucket_floor_ns(BUCKETS - 1) > 15 * 60 * 1_000_000_000);
    }
}
