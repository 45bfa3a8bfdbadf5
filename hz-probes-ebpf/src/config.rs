//! What the loader tells the programs in C before they start; constant while they run.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// CPUs the `sched` programs keep state for.
pub const MAX_CPUS: usize = 1024;

/// Rings the `sched` programs write to: one per CPU, shared from here on.
pub const MAX_RINGS: usize = 64;

/// [`SchedConfig::filter`]: the whole system.
pub const FILTER_ALL: u32 = 0;
/// [`SchedConfig::filter`]: the processes in the map `PIDS`.
pub const FILTER_PIDS: u32 = 1;
/// [`SchedConfig::filter`]: a control group and all below it.
pub const FILTER_CGROUP: u32 = 2;

/// Settings of the `sched` programs.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SchedConfig {
    /// Id of the control group, for [`FILTER_CGROUP`]: the inode of its directory.
    pub cgroup_id: u64,
    /// Interrupt time that makes a record when it matters to the target, in nanoseconds.
    pub interrupts_min_ns: u64,
    /// Interrupt time that makes a record in any case, in nanoseconds.
    pub interrupts_max_ns: u64,
    /// Depth of the control group below the root of its hierarchy.
    pub cgroup_level: u32,
    /// [`FILTER_ALL`], [`FILTER_PIDS`] or [`FILTER_CGROUP`].
    pub filter: u32,
    /// 1 if processes that a target starts are targets too.
    pub follow_children: u32,
    /// Number of rings less one; the number is a power of two.
    pub ring_mask: u32,
    /// 1 if `sched_switch` passes the leaving thread's state (Linux 5.18).
    pub switch_has_state: u32,
    /// Always 0.
    pub reserved: u32,
}
const _: () = assert!(size_of::<SchedConfig>() == 48);

/// Settings of the `usdt` programs.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct UsdtConfig {
    /// Id of the control group, for [`FILTER_CGROUP`]: the inode of its directory.
    pub cgroup_id: u64,
    /// Depth of the control group below the root of its hierarchy.
    pub cgroup_level: u32,
    /// [`FILTER_ALL`], [`FILTER_PIDS`] or [`FILTER_CGROUP`].
    pub filter: u32,
}
const _: () = assert!(size_of::<UsdtConfig>() == 16);

/// Settings of the `net` programs.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct NetConfig {
    /// Id of the control group, for [`FILTER_CGROUP`]: the inode of its directory.
    pub cgroup_id: u64,
    /// Nanoseconds of one of the kernel's jiffies, in which it keeps timeouts.
    pub jiffy_ns: u64,
    /// Depth of the control group below the root of its hierarchy.
    pub cgroup_level: u32,
    /// [`FILTER_ALL`], [`FILTER_PIDS`] or [`FILTER_CGROUP`].
    pub filter: u32,
    /// 1 if `tcp_retransmit_skb` passes the result (Linux 6.18).
    pub retransmit_has_error: u32,
    /// 1 if `tcp_send_reset` passes a reason (Linux 6.10).
    pub reset_has_reason: u32,
    /// 1 if `kfree_skb` passes the socket that was to receive (Linux 6.11).
    pub drop_has_socket: u32,
    /// 1 if `inet_csk_accept` takes two arguments (Linux 6.10), not four.
    pub accept_has_two: u32,
}
const _: () = assert!(size_of::<NetConfig>() == 40);
