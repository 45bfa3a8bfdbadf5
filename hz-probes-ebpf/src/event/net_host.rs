//! Records of the probe `sockets`: what the kernel says of sockets, queues and devices when it is
//! asked over netlink, without BPF.
//!
//! One look at a network namespace is several records of one `time_ns`; [`NetCounters`] ends it.
//! Addresses are 16 bytes, IPv4 ones mapped into IPv6 (`::ffff:a.b.c.d`); ports are in host order.

use super::Header;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a name of a device, a queueing discipline or a congestion control; the kernel's
/// `IFNAMSIZ` and `TCP_CA_NAME_MAX`.
pub const HOST_NAME_BYTES: usize = 16;

/// Bytes of a Unix socket's name; a longer one is cut.
pub const UNIX_NAME_BYTES: usize = 64;

/// A TCP or UDP socket as it was at some moment.
///
/// Fields behind `drops` are of TCP alone, and zero for listeners.
///
/// # Source
///
/// `NETLINK_SOCK_DIAG`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct HostSocket {
    /// `pid` is a process that has it open, 0: none known; `arg` is how many are known to.
    pub header: Header,
    /// The socket's number, unique on the host (`SO_COOKIE`).
    pub cookie: u64,
    /// Its own address.
    pub local: [u8; 16],
    /// Its peer's; all zero for a listener.
    pub peer: [u8; 16],
    /// Inode of its network namespace.
    pub netns: u32,
    /// Its own inode, by which `/proc/PID/fd` names it; 0: no process has it.
    pub inode: u32,
    /// The user who made it.
    pub uid: u32,
    /// Number of the device it is bound to; 0: none.
    pub device: u32,
    /// Its own port.
    pub local_port: u16,
    /// Its peer's; 0 for a listener.
    pub peer_port: u16,
    /// `AF_INET` (2) or `AF_INET6` (10).
    pub family: u16,
    /// `IPPROTO_TCP` (6) or `IPPROTO_UDP` (17).
    pub protocol: u8,
    /// Its state, as the kernel numbers it (`TCP_ESTABLISHED` is 1, `TCP_LISTEN` 10).
    pub state: u8,
    /// Which timer runs: 1 retransmission, 2 keep-alive, 3 `TIME_WAIT`, 4 probe of a closed window.
    pub timer: u8,
    /// How often that timer has expired in a row.
    pub retries: u8,
    /// State of its congestion control: 0 open, 1 disorder, 2 CWR, 3 recovery, 4 loss.
    pub congestion: u8,
    /// How often the timeout was doubled.
    pub backoff: u8,
    /// When that timer expires next, in milliseconds from then.
    pub expires_ms: u32,
    /// Bytes received and not read; for a listener: connections not accepted.
    pub receive_queue: u32,
    /// Bytes of TCP not acknowledged, sent or not; for a listener: connections it may hold; for UDP:
    /// memory of what is not sent.
    pub send_queue: u32,
    /// Memory of what was received, bytes, overhead included (`sk_rmem_alloc`).
    pub receive_memory_bytes: u32,
    /// Its limit (`sk_rcvbuf`).
    pub receive_limit_bytes: u32,
    /// Memory of what the layers below have and have not yet sent, bytes (`sk_wmem_alloc`).
    pub below_memory_bytes: u32,
    /// Limit of what may be queued to be sent (`sk_sndbuf`).
    pub send_limit_bytes: u32,
    /// Memory of what is queued to be sent, bytes, overhead included (`sk_wmem_queued`).
    pub send_memory_bytes: u32,
    /// Memory of packets that came while a thread had the socket locked, bytes.
    pub backlog_bytes: u32,
    /// Packets dropped by the socket; for a listener: connections refused or forgotten.
    pub drops: u32,
    /// Bytes queued and not yet sent.
    pub unsent_bytes: u32,
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
    /// Time it had something to send, microseconds.
    pub busy_us: u64,
    /// Of this, time that the peer's window was the limit.
    pub window_limited_us: u64,
    /// Of this, time that the send buffer was the limit.
    pub buffer_limited_us: u64,
    /// Retransmission timeout, microseconds.
    pub rto_us: u32,
    /// Smoothed round trip, microseconds.
    pub srtt_us: u32,
    /// Its variation, microseconds.
    pub rttvar_us: u32,
    /// The least round trip of late, microseconds.
    pub min_rtt_us: u32,
    /// Congestion window, segments.
    pub cwnd: u32,
    /// Slow start threshold, segments.
    pub ssthresh: u32,
    /// Bytes of a full segment.
    pub mss: u32,
    /// Segments in flight, as the kernel counts `packets_out`.
    pub packets_out: u32,
    /// Segments of these taken for lost.
    pub lost_out: u32,
    /// Segments of these selectively acknowledged.
    pub sacked_out: u32,
    /// Segments of these sent again.
    pub retrans_out: u32,
    /// Segments sent again in its life.
    pub retransmitted: u32,
    /// Segments of these that the peer says it had twice (DSACK); from Linux 4.19.
    pub spurious: u32,
    /// Segments with data received.
    pub data_segments_in: u32,
    /// Segments with data sent, those sent again included.
    pub data_segments_out: u32,
    /// Window the peer last offered, bytes; from Linux 5.4.
    pub peer_window_bytes: u32,
    /// Window it last offered the peer, bytes; from Linux 6.2, before it 0.
    pub own_window_bytes: u32,
    /// Milliseconds since it last sent data.
    pub since_sent_ms: u32,
    /// Milliseconds since data last came.
    pub since_received_ms: u32,
    /// Always 0.
    pub reserved: u32,
    /// Name of its congestion control, NUL-padded.
    pub algorithm: [u8; HOST_NAME_BYTES],
}
const _: () = assert!(size_of::<HostSocket>() == 296);

/// [`HostPorts`]: connections that this host opened, for which it chose the port.
pub const HOST_PORTS_OUT: u32 = 0;
/// [`HostPorts`]: connections to a listener of this host, whatever the peer.
pub const HOST_PORTS_IN: u32 = 1;

/// TCP connections of a namespace from one address to one address and port, by what they do.
///
/// # Source
///
/// `NETLINK_SOCK_DIAG`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct HostPorts {
    /// `arg` is [`HOST_PORTS_OUT`] or [`HOST_PORTS_IN`].
    pub header: Header,
    /// From where; for [`HOST_PORTS_IN`] the listening address.
    pub source: [u8; 16],
    /// To where; for [`HOST_PORTS_IN`] all zero.
    pub destination: [u8; 16],
    /// Inode of the network namespace.
    pub netns: u32,
    /// The port at `destination`; for [`HOST_PORTS_IN`] that at `source`.
    pub port: u16,
    /// Lowest port that the kernel chooses (`ip_local_port_range`).
    pub range_first: u16,
    /// Highest port that the kernel chooses.
    pub range_last: u16,
    /// Always 0.
    pub reserved: u16,
    /// Ports in that range that it never chooses (`ip_local_reserved_ports`).
    pub reserved_ports: u32,
    /// Connections whose own port is in that range.
    pub in_range: u32,
    /// Connections that are closed and kept in `TIME_WAIT`.
    pub time_wait: u32,
    /// Connections that are open.
    pub established: u32,
    /// Connections whose handshake is not finished.
    pub connecting: u32,
    /// Connections that this side has closed and that are not yet gone.
    pub closing: u32,
    /// Connections that the peer has closed and this side has not (`CLOSE_WAIT`).
    pub close_wait: u32,
}
const _: () = assert!(size_of::<HostPorts>() == 96);

/// A queueing discipline of a device.
///
/// # Source
///
/// `NETLINK_ROUTE`; the kernel has added up what it counts per CPU.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct HostQueue {
    /// `arg` is the device's number.
    pub header: Header,
    /// Inode of the network namespace.
    pub netns: u32,
    /// Its handle: major number in the upper half.
    pub handle: u32,
    /// Where it is attached; all ones: the device's root.
    pub parent: u32,
    /// Packets in it.
    pub packets: u32,
    /// Bytes in it.
    pub bytes: u32,
    /// Packets it dropped.
    pub drops: u32,
    /// Packets that the device gave back.
    pub requeues: u32,
    /// Times a packet had to wait for its rate, or more than that; by kind.
    pub overlimits: u32,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// What it is, NUL-padded: `fq`, `tbf`, `noqueue`.
    pub kind: [u8; HOST_NAME_BYTES],
    /// Name of the device, NUL-padded.
    pub device: [u8; HOST_NAME_BYTES],
}
const _: () = assert!(size_of::<HostQueue>() == 104);

/// A network device.
///
/// # Source
///
/// `NETLINK_ROUTE`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct HostDevice {
    /// `arg` is the device's number.
    pub header: Header,
    /// Inode of the network namespace.
    pub netns: u32,
    /// The kernel's `IFF_` flags.
    pub flags: u32,
    /// Packets received.
    pub received_packets: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Packets received with an error.
    pub receive_errors: u64,
    /// Packets that could not be sent.
    pub send_errors: u64,
    /// Packets received and dropped.
    pub receive_drops: u64,
    /// Packets dropped instead of sent.
    pub send_drops: u64,
    /// Its name, NUL-padded.
    pub device: [u8; HOST_NAME_BYTES],
}
const _: () = assert!(size_of::<HostDevice>() == 112);

/// A Unix socket as it was at some moment.
///
/// # Source
///
/// `NETLINK_SOCK_DIAG`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HostUnix {
    /// `pid` is a process that has it open, 0: none known; `arg` is how many are known to.
    pub header: Header,
    /// Its inode, by which `/proc/PID/fd` names it.
    pub inode: u32,
    /// Its peer's; 0: none.
    pub peer_inode: u32,
    /// Inode of its network namespace.
    pub netns: u32,
    /// Bytes received and not read; for a listener: connections not accepted.
    pub receive_queue: u32,
    /// Memory of what it sent and its peer has not read, bytes; for a listener: connections it may hold.
    pub send_queue: u32,
    /// `SOCK_STREAM` (1), `SOCK_DGRAM` (2) or `SOCK_SEQPACKET` (5).
    pub socket_type: u8,
    /// Its state, numbered as TCP's.
    pub state: u8,
    /// Always 0.
    pub reserved: u16,
    /// Its name, NUL-padded; one that begins with `@` is in no file system.
    pub name: [u8; UNIX_NAME_BYTES],
}
const _: () = assert!(size_of::<HostUnix>() == 112);

impl Default for HostUnix {
    fn default() -> Self {
        <Self as zerocopy::FromZeros>::new_zeroed()
    }
}

/// What a network namespace has counted since it was made. It ends a look.
///
/// # Source
///
/// `/proc/PID/net/snmp` and `/proc/PID/net/netstat`, whose names the fields have.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct NetCounters {
    /// `arg` is 1 if the counters could not be read, and are zero.
    pub header: Header,
    /// Inode of the network namespace.
    pub netns: u32,
    /// Sockets and groups of connections for which the look had no room.
    pub left_out: u32,
    /// How long the look took, nanoseconds.
    pub took_ns: u64,
    /// `Tcp: ActiveOpens`: connections that this host opened.
    pub active_opens: u64,
    /// `Tcp: PassiveOpens`: connections that its listeners got.
    pub passive_opens: u64,
    /// `Tcp: AttemptFails`.
    pub attempt_fails: u64,
    /// `Tcp: EstabResets`.
    pub established_resets: u64,
    /// `Tcp: InSegs`.
    pub segments_in: u64,
    /// `Tcp: OutSegs`, without those sent again.
    pub segments_out: u64,
    /// `Tcp: RetransSegs`.
    pub retransmitted: u64,
    /// `Tcp: OutRsts`.
    pub resets_out: u64,
    /// `TcpExt: TCPTimeouts`.
    pub timeouts: u64,
    /// `TcpExt: TCPLossProbes`.
    pub loss_probes: u64,
    /// `TcpExt: TCPFastRetrans`.
    pub fast_retransmits: u64,
    /// `TcpExt: TCPSlowStartRetrans`.
    pub slow_start_retransmits: u64,
    /// `TcpExt: TCPSynRetrans`.
    pub syn_retransmits: u64,
    /// `TcpExt: TCPSpuriousRTOs`.
    pub spurious_timeouts: u64,
    /// `TcpExt: TCPDSACKRecv`.
    pub duplicates_told: u64,
    /// `TcpExt: ListenOverflows`.
    pub listen_overflows: u64,
    /// `TcpExt: ListenDrops`.
    pub listen_drops: u64,
    /// `TcpExt: TCPReqQFullDrop`.
    pub syn_queue_drops: u64,
    /// `TcpExt: TW`: connections that went to `TIME_WAIT` and ended there in time.
    pub time_waits_ended: u64,
    /// `TcpExt: TWRecycled`: ports reused while in `TIME_WAIT`.
    pub time_waits_reused: u64,
    /// `TcpExt: TCPTimeWaitOverflow`.
    pub time_wait_overflows: u64,
    /// `TcpExt: TCPAbortOnMemory`.
    pub aborts_on_memory: u64,
    /// `TcpExt: TCPRcvQDrop`.
    pub receive_queue_drops: u64,
    /// `TcpExt: TCPBacklogDrop`.
    pub backlog_drops: u64,
    /// `TcpExt: TCPToZeroWindowAdv`: times this host's window closed.
    pub windows_closed: u64,
    /// `Udp: InErrors`.
    pub udp_in_errors: u64,
    /// `Udp: RcvbufErrors`.
    pub udp_receive_drops: u64,
    /// `Udp: SndbufErrors`.
    pub udp_send_drops: u64,
}
const _: () = assert!(size_of::<NetCounters>() == 264);
