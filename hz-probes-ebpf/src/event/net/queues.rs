//! What sockets hold, what is dropped, and what the kernel calls its reasons.

use crate::Header;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a name in [`NetName`].
pub const NET_NAME_BYTES: usize = 64;

/// [`NetSample::header`]'s `arg`: taken at the rate that was asked for.
pub const NET_SAMPLE_PERIODIC: u32 = 0;
/// [`NetSample::header`]'s `arg`: taken when the socket was destroyed.
pub const NET_SAMPLE_LAST: u32 = 1;

/// What a socket's queues held at some moment, and what it did in its life.
///
/// # Source
///
/// `iter/tcp`, under the socket's lock; tracepoint `tcp_destroy_sock`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct NetSample {
    /// `arg` is [`NET_SAMPLE_PERIODIC`] or [`NET_SAMPLE_LAST`].
    pub header: Header,
    /// The socket.
    pub cookie: u64,
    /// Bytes sent in its life, without those sent again.
    pub sent_bytes: u64,
    /// Bytes that the peer has acknowledged.
    pub acked_bytes: u64,
    /// Bytes received in order.
    pub received_bytes: u64,
    /// Bytes sent again.
    pub retransmitted_bytes: u64,
    /// Bytes a second that pacing allows; all ones: no limit.
    pub pacing_bytes_per_s: u64,
    /// When a thread received from it last, nanoseconds of `CLOCK_MONOTONIC`; 0: not seen.
    pub last_receive_ns: u64,
    /// Segments sent again in its life.
    pub retransmitted: u32,
    /// Segments of these that the peer says it had twice (DSACK).
    pub spurious: u32,
    /// Time it had something to send, in the kernel's ticks of 1 ms.
    pub busy_ms: u32,
    /// Of this, time that the peer's window was the limit.
    pub window_limited_ms: u32,
    /// Of this, time that the send buffer was the limit.
    pub buffer_limited_ms: u32,
    /// Bytes queued and not yet sent.
    pub unsent_bytes: u32,
    /// Bytes sent and not yet acknowledged.
    pub unacked_bytes: u32,
    /// Memory of the send queue, bytes, overhead included (`sk_wmem_queued`).
    pub send_memory_bytes: u32,
    /// Its limit (`sk_sndbuf`).
    pub send_limit_bytes: u32,
    /// Bytes received in order and not yet read; for a listener: connections not yet accepted.
    pub unread_bytes: u32,
    /// Memory of the receive queue, bytes, overhead included (`sk_rmem_alloc`).
    pub receive_memory_bytes: u32,
    /// Its limit (`sk_rcvbuf`); for a listener: connections it may hold.
    pub receive_limit_bytes: u32,
    /// Window it last offered the peer, bytes.
    pub own_window_bytes: u32,
    /// Window the peer last offered, bytes.
    pub peer_window_bytes: u32,
    /// Packets dropped by the socket; for a listener: connections refused or forgotten.
    pub drops: u32,
    /// For a listener: connections whose handshake is not finished.
    pub syn_queue: u32,
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
    /// Bytes of a full segment.
    pub mss: u32,
    /// Error of the socket, a positive `errno`; 0: none.
    pub error: u32,
    /// The socket's state, as the kernel numbers it.
    pub state: u8,
    /// State of its congestion control: 0 open, 1 disorder, 2 CWR, 3 recovery, 4 loss.
    pub congestion: u8,
    /// What the kernel says limits it: 0 nothing to send, 1 busy, 2 the peer's window, 3 the send
    /// buffer (`chrono_type`).
    pub limit: u8,
    /// The kernel's `icsk_pending`: which timer runs; 3 probes a closed window.
    pub pending: u8,
    /// Times that a thread sent after it had received, or for the first time: for who asks, its requests,
    /// if it does not ask again before it is answered. Since recording began.
    pub send_bursts: u32,
    /// Times that a thread received after it had sent, or for the first time: for who answers, its
    /// requests. Since recording began.
    pub receive_bursts: u32,
}
const _: () = assert!(size_of::<NetSample>() == 192);

/// The congestion control changed its state.
///
/// # Source
///
/// Tracepoint `tcp_cong_state_set`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct NetCongestion {
    /// `arg` is the state it left, times 256, and the one it enters, as in
    /// [`NetRetransmit::congestion`](super::NetRetransmit::congestion).
    pub header: Header,
    /// The socket.
    pub cookie: u64,
    /// Congestion window, segments.
    pub cwnd: u32,
    /// Slow start threshold, segments.
    pub ssthresh: u32,
    /// 1 if the kernel took its reaction back: nothing had been lost.
    pub is_undone: u32,
    /// Segments that the peer has said it had twice (DSACK), so far.
    pub spurious: u32,
}
const _: () = assert!(size_of::<NetCongestion>() == 48);

/// [`NetWindow::header`]'s `arg`: the peer takes data again.
pub const NET_WINDOW_OPEN: u32 = 0;
/// [`NetWindow::header`]'s `arg`: the peer takes no more data.
pub const NET_WINDOW_CLOSED: u32 = 1;

/// A peer closed its receive window, or opened it again.
///
/// # Source
///
/// Tracepoint `tcp_probe`: a segment that came for an established connection.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct NetWindow {
    /// `arg` is [`NET_WINDOW_CLOSED`] or [`NET_WINDOW_OPEN`].
    pub header: Header,
    /// The socket.
    pub cookie: u64,
    /// Bytes queued and not yet sent.
    pub unsent_bytes: u32,
    /// Bytes sent and not yet acknowledged.
    pub unacked_bytes: u32,
}
const _: () = assert!(size_of::<NetWindow>() == 40);

/// The kernel dropped a packet of TCP or UDP.
///
/// # Source
///
/// Tracepoint `kfree_skb`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct NetDrop {
    /// `arg` is the kernel's reason, a number that a [`NetName`] explains.
    pub header: Header,
    /// The socket that sent it or was to have it; 0: not known.
    pub cookie: u64,
    /// Address of the kernel's code that dropped it.
    pub place: u64,
    /// Where it came from.
    pub source: [u8; 16],
    /// Where it was to go.
    pub destination: [u8; 16],
    /// Inode of the network namespace; 0: not known.
    pub netns: u32,
    /// Port it came from.
    pub source_port: u16,
    /// Port it was to go to.
    pub destination_port: u16,
    /// Its length, bytes.
    pub bytes: u32,
    /// `IPPROTO_TCP` (6) or `IPPROTO_UDP` (17).
    pub protocol: u16,
    /// Flags of the TCP header.
    pub tcp_flags: u16,
}
const _: () = assert!(size_of::<NetDrop>() == 88);

/// [`NetName::table`]: reasons of drops (`enum skb_drop_reason`).
pub const NET_NAMES_DROP: u32 = 1;
/// [`NetName::table`]: reasons of resets (`enum sk_rst_reason`).
pub const NET_NAMES_RESET: u32 = 2;
/// [`NetName::table`]: network namespaces, by their inode; these names hz gives.
pub const NET_NAMES_NAMESPACE: u32 = 3;

/// The name of a number.
///
/// # Source
///
/// The running kernel's BTF, when recording begins; of namespaces `/run/netns` and `/proc`, when one is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NetName {
    /// `arg` is the number.
    pub header: Header,
    /// [`NET_NAMES_DROP`], [`NET_NAMES_RESET`] or [`NET_NAMES_NAMESPACE`].
    pub table: u32,
    /// Always 0.
    pub reserved: u32,
    /// The name, without what all names of its table begin with, NUL-padded.
    pub name: [u8; NET_NAME_BYTES],
}
const _: () = assert!(size_of::<NetName>() == 96);

impl Default for NetName {
    fn default() -> Self {
        Self { header: Header::default(), table: 0, reserved: 0, name: [0; NET_NAME_BYTES] }
    }
}

/// Records of `net` that were lost because its ring had no room.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct NetLost {
    /// `time_ns` is when it was noticed; `arg` is 0.
    pub header: Header,
    /// When none had been lost yet, nanoseconds of `CLOCK_MONOTONIC`.
    pub since_ns: u64,
    /// How many were lost.
    pub count: u64,
}
const _: () = assert!(size_of::<NetLost>() == 40);
