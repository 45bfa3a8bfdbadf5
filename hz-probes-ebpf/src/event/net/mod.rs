//! Records of the kernel probe `net`, and the rows of its ledger.
//!
//! The header's thread and process are the socket's **owner** as the kernel's programs knew it, 0 if
//! they did not; never who happened to run when a packet came. Addresses are 16 bytes, IPv4 ones
//! mapped into IPv6 (`::ffff:a.b.c.d`); ports are in host order.

mod queues;
mod site;
mod sojourn;

use super::Header;
pub use queues::{
    NET_NAME_BYTES, NET_NAMES_DROP, NET_NAMES_NAMESPACE, NET_NAMES_RESET, NET_SAMPLE_LAST,
    NET_SAMPLE_PERIODIC, NET_WINDOW_CLOSED, NET_WINDOW_OPEN, NetCongestion, NetDrop, NetLost,
    NetName, NetSample, NetWindow,
};
pub use site::NetSite;
pub use sojourn::{NET_SOJOURN_PART, NetQueued, NetSojourn, NetSojournPart};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of the name of a congestion control, the closing NUL included; the kernel's `TCP_CA_NAME_MAX`.
pub const NET_ALGORITHM_BYTES: usize = 16;

/// [`NetOwner`]: a process had it open when recording began.
pub const NET_OWNER_HELD: u32 = 1;
/// [`NetOwner`]: a thread connects it.
pub const NET_OWNER_CONNECTS: u32 = 2;
/// [`NetOwner`]: a thread listens on it.
pub const NET_OWNER_LISTENS: u32 = 3;
/// [`NetOwner`]: it is a connection to a listener, whose owner this is.
pub const NET_OWNER_OF_LISTENER: u32 = 4;
/// [`NetOwner`]: a thread sends.
pub const NET_OWNER_SENDS: u32 = 5;
/// [`NetOwner`]: a thread receives.
pub const NET_OWNER_RECEIVES: u32 = 6;
/// [`NetOwner`]: a thread accepts it.
pub const NET_OWNER_ACCEPTS: u32 = 7;

/// [`NetState::error`] of a `connect` that found no port of its own: the kernel's `EADDRNOTAVAIL`.
pub const NET_NO_PORT: u32 = 99;

/// [`NetSocket::flags`]: met while recording began, not since.
pub const NET_SOCKET_WAS_THERE: u8 = 1;

/// A socket that other records name by its cookie, sent before the first of them.
///
/// # Source
///
/// The socket itself, when a hook meets it for the first time.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct NetSocket {
    /// `arg` is how the owner is known: [`NET_OWNER_HELD`] and so on, 0 if it is not.
    pub header: Header,
    /// The socket's number, unique on the host (`SO_COOKIE`).
    pub cookie: u64,
    /// Its own address.
    pub local: [u8; 16],
    /// Its peer's; all zero for a listener.
    pub peer: [u8; 16],
    /// Inode of its network namespace.
    pub netns: u32,
    /// Its own port.
    pub local_port: u16,
    /// Its peer's; 0 for a listener.
    pub peer_port: u16,
    /// `AF_INET` (2) or `AF_INET6` (10).
    pub family: u16,
    /// Its state, as the kernel numbers it (`TCP_ESTABLISHED` is 1).
    pub state: u8,
    /// [`NET_SOCKET_WAS_THERE`] or 0.
    pub flags: u8,
    /// `IPPROTO_TCP` (6) or `IPPROTO_UDP` (17).
    pub protocol: u32,
    /// Name of its congestion control, NUL-padded.
    pub algorithm: [u8; NET_ALGORITHM_BYTES],
}
const _: () = assert!(size_of::<NetSocket>() == 96);

/// A process uses a socket that another used before, or nobody yet.
///
/// # Source
///
/// `iter/task_file` at the start, then the hooks of sending, receiving, connecting, listening and
/// accepting, all of which run in the thread itself.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct NetOwner {
    /// `arg` is how it is known: [`NET_OWNER_HELD`] and so on.
    pub header: Header,
    /// The socket.
    pub cookie: u64,
}
const _: () = assert!(size_of::<NetOwner>() == 32);

/// [`NetRetransmit::reason`]: none of the others; a refused Fast Open's data, for instance.
pub const NET_RETRANSMIT_OTHER: u8 = 0;
/// [`NetRetransmit::reason`]: a SYN that was not answered.
pub const NET_RETRANSMIT_SYN: u8 = 1;
/// [`NetRetransmit::reason`]: the retransmission timer expired.
pub const NET_RETRANSMIT_TIMEOUT: u8 = 2;
/// [`NetRetransmit::reason`]: what was in flight when the timer expired, sent again as
/// acknowledgements come.
pub const NET_RETRANSMIT_SLOW_START: u8 = 3;
/// [`NetRetransmit::reason`]: acknowledgements showed a loss (SACK, duplicates, RACK).
pub const NET_RETRANSMIT_FAST: u8 = 4;
/// [`NetRetransmit::reason`]: a tail loss probe.
pub const NET_RETRANSMIT_PROBE: u8 = 5;
/// [`NetSynAck`]: a SYN-ACK that was not answered.
pub const NET_RETRANSMIT_SYNACK: u8 = 6;
/// [`NetSynAck`]: a SYN-ACK sent again because the client sent its SYN again.
pub const NET_RETRANSMIT_SYNACK_ASKED: u8 = 7;
/// [`NetRetransmit::reason`]: the retransmission timer expired while the peer's window was closed: the
/// kernel asks whether it still is.
pub const NET_RETRANSMIT_CLOSED: u8 = 8;

/// [`NetRetransmit::owner`]: the header's thread queued the first byte, at `owner_ns`.
pub const NET_THREAD_QUEUED_IT: u8 = 1;
/// [`NetRetransmit::owner`]: the header's thread was the last seen to use the socket; who queued the
/// byte was not seen.
pub const NET_THREAD_WAS_LAST: u8 = 2;

/// Segments that TCP sent again, with the socket at that moment.
///
/// # Source
///
/// Tracepoint `tcp_retransmit_skb`, which the kernel passes after the attempt. Before Linux 6.18
/// attempts that failed do not pass it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct NetRetransmit {
    /// The thread and process that queued the first byte; `arg` is the kernel's result: 0 or a
    /// negated error, as it is.
    pub header: Header,
    /// The socket.
    pub cookie: u64,
    /// When the owner queued that byte or used the socket last, nanoseconds of `CLOCK_MONOTONIC`;
    /// 0: not seen.
    pub owner_ns: u64,
    /// Bytes a second that pacing allows; all ones: no limit.
    pub pacing_bytes_per_s: u64,
    /// Sequence number of the first byte.
    pub seq: u32,
    /// Bytes, a SYN or FIN counted as one.
    pub bytes: u32,
    /// Segments: one buffer may be many.
    pub segments: u32,
    /// Congestion window, segments.
    pub cwnd: u32,
    /// Slow start threshold, segments.
    pub ssthresh: u32,
    /// Smoothed round trip, microseconds.
    pub srtt_us: u32,
    /// Its variation, microseconds.
    pub rttvar_us: u32,
    /// Retransmission timeout, microseconds.
    pub rto_us: u32,
    /// Segments in flight, as the kernel counts `packets_out`.
    pub packets_out: u32,
    /// Segments of these taken for lost.
    pub lost_out: u32,
    /// Segments of these selectively acknowledged.
    pub sacked_out: u32,
    /// Segments of these sent again.
    pub retrans_out: u32,
    /// Bytes queued and not yet sent.
    pub unsent_bytes: u32,
    /// Bytes sent and not yet acknowledged.
    pub unacked_bytes: u32,
    /// The peer's receive window, bytes.
    pub peer_window_bytes: u32,
    /// [`NET_RETRANSMIT_SYN`] and so on.
    pub reason: u8,
    /// The socket's state, as the kernel numbers it.
    pub state: u8,
    /// State of its congestion control: 0 open, 1 disorder, 2 CWR, 3 recovery, 4 loss.
    pub congestion: u8,
    /// The kernel's `icsk_pending`: which timer runs.
    pub pending: u8,
    /// How often the timeout was doubled.
    pub backoff: u8,
    /// Timeouts in a row.
    pub timeouts: u8,
    /// [`NET_THREAD_QUEUED_IT`], [`NET_THREAD_WAS_LAST`] or 0.
    pub owner: u8,
    /// Flags of the TCP header.
    pub tcp_flags: u8,
    /// Always 0.
    pub reserved: u32,
}
const _: () = assert!(size_of::<NetRetransmit>() == 120);

/// A SYN-ACK that TCP sent again.
///
/// # Source
///
/// Tracepoint `tcp_retransmit_synack`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct NetSynAck {
    /// The listener's owner; `arg` is [`NET_RETRANSMIT_SYNACK`] or [`NET_RETRANSMIT_SYNACK_ASKED`].
    pub header: Header,
    /// The listener.
    pub cookie: u64,
    /// The connection's own address.
    pub local: [u8; 16],
    /// Its peer's.
    pub peer: [u8; 16],
    /// Inode of its network namespace.
    pub netns: u32,
    /// Its own port.
    pub local_port: u16,
    /// Its peer's.
    pub peer_port: u16,
    /// SYN-ACKs that were sent again before.
    pub earlier: u32,
    /// Always 0.
    pub reserved: u32,
}
const _: () = assert!(size_of::<NetSynAck>() == 80);

/// A socket went from one state to another.
///
/// # Source
///
/// Tracepoint `inet_sock_set_state`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct NetState {
    /// `arg` is the state it left, times 256, and the one it entered, as the kernel numbers them.
    pub header: Header,
    /// The socket.
    pub cookie: u64,
    /// Its port, which a `connect` may just have chosen.
    pub local_port: u16,
    /// Its peer's port.
    pub peer_port: u16,
    /// Its error, a positive `errno`; 0: none. A `connect` that found no port has `EADDRNOTAVAIL` (99).
    pub error: u32,
}
const _: () = assert!(size_of::<NetState>() == 40);

/// [`NetReset::header`]'s `arg`: it came from the peer.
pub const NET_RESET_RECEIVED: u32 = 0;
/// [`NetReset::header`]'s `arg`: it was sent.
pub const NET_RESET_SENT: u32 = 1;

/// A reset ended a connection, or refused one.
///
/// # Source
///
/// Tracepoints `tcp_send_reset` and `tcp_receive_reset`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct NetReset {
    /// `arg` is [`NET_RESET_RECEIVED`] or [`NET_RESET_SENT`].
    pub header: Header,
    /// The socket; 0: none was there.
    pub cookie: u64,
    /// The host's own address.
    pub local: [u8; 16],
    /// The peer's.
    pub peer: [u8; 16],
    /// Inode of the network namespace; 0: not known.
    pub netns: u32,
    /// The host's own port.
    pub local_port: u16,
    /// The peer's.
    pub peer_port: u16,
    /// The kernel's reason for one it sent, a number that a [`NetName`] explains (Linux 6.10); all
    /// ones: it gives none.
    pub reason: u32,
    /// The socket's state, as the kernel numbers it.
    pub state: u32,
}
const _: () = assert!(size_of::<NetReset>() == 80);
