//! How long packets wait in queueing disciplines: sums that the programs keep, told once a second.

use crate::Header;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Counts in a [`NetSojournPart`].
pub const NET_SOJOURN_PART: usize = 16;

/// How long packets waited to be given to a device, since recording began.
///
/// # Source
///
/// Tracepoints `net_dev_queue`, `qdisc_enqueue`, `qdisc_dequeue` and `net_dev_start_xmit`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct NetSojourn {
    /// Thread and process are 0.
    pub header: Header,
    /// Inode of the device's network namespace.
    pub netns: u32,
    /// The device's number there.
    pub device: u32,
    /// Its name, NUL-padded.
    pub name: [u8; 16],
    /// Packets that left, and of which is known when they came.
    pub packets: u64,
    /// Packets of these that waited for nothing: the queue was empty and they went past it.
    pub bypassed: u64,
    /// Packets of these that the discipline had cut out of larger ones.
    pub split: u64,
    /// Packets that left, and of which is not known when they came.
    pub unmatched: u64,
    /// Packets of the target that came: what of them is in none of the above was dropped, or is there
    /// still.
    pub came: u64,
    /// How long all together waited, nanoseconds.
    pub total_ns: u64,
    /// The longest wait, nanoseconds.
    pub max_ns: u64,
    /// When it ended, nanoseconds of `CLOCK_MONOTONIC`.
    pub max_time_ns: u64,
    /// Whose it was: the socket's number, 0: no socket's.
    pub max_cookie: u64,
    /// Times that packets were to leave and the driver took none.
    pub stops: u64,
}
const _: () = assert!(size_of::<NetSojourn>() == 128);

/// Buckets of the histogram of a [`NetSojourn`] that follows it; those that are empty are left out.
///
/// # Source
///
/// As [`NetSojourn`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct NetSojournPart {
    /// `arg` is the first bucket, as [`bucket_of`](crate::aggregate::bucket_of) numbers them.
    pub header: Header,
    /// Inode of the device's network namespace.
    pub netns: u32,
    /// The device's number there.
    pub device: u32,
    /// Packets in the buckets.
    pub counts: [u64; NET_SOJOURN_PART],
}
const _: () = assert!(size_of::<NetSojournPart>() == 160);

/// How long the packets of a socket waited to be given to a device.
///
/// # Source
///
/// As [`NetSojourn`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct NetQueued {
    /// Thread and process are 0.
    pub header: Header,
    /// The socket.
    pub cookie: u64,
    /// Packets that waited; those that went past a queue are not among them.
    pub packets: u64,
    /// How long all together, nanoseconds.
    pub total_ns: u64,
    /// The longest, nanoseconds.
    pub max_ns: u64,
    /// When it ended, nanoseconds of `CLOCK_MONOTONIC`.
    pub max_time_ns: u64,
}
const _: () = assert!(size_of::<NetQueued>() == 64);
