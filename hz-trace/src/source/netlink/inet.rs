//! TCP and UDP sockets as `NETLINK_SOCK_DIAG` tells them.

use super::{
    message::{attributes, name, padded},
    tcp_info::TcpInfo,
};
use hz_probes_ebpf::{Header, Kind, net_host::HostSocket};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub(super) const SOCK_DIAG_BY_FAMILY: u16 = 20;
pub(super) const AF_INET: u8 = 2;
pub(super) const AF_INET6: u8 = 10;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;

/// The kernel's numbers of TCP's states.
pub mod state {
    /// Open.
    pub const ESTABLISHED: u8 = 1;
    /// It has sent its SYN.
    pub const SYN_SENT: u8 = 2;
    /// It has answered a SYN (Fast Open).
    pub const SYN_RECEIVED: u8 = 3;
    /// Closed, and kept for stray segments.
    pub const TIME_WAIT: u8 = 6;
    /// Not connected.
    pub const CLOSE: u8 = 7;
    /// The peer has closed, this side has not.
    pub const CLOSE_WAIT: u8 = 8;
    /// It listens.
    pub const LISTEN: u8 = 10;
    /// A handshake of a listener's that is not finished.
    pub const NEW_SYN_RECEIVED: u8 = 12;
}

/// `struct inet_diag_sockid`. Ports and addresses in network order.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct SocketId {
    local_port: [u8; 2],
    peer_port: [u8; 2],
    local: [u8; 16],
    peer: [u8; 16],
    device: u32,
    cookie: [u32; 2],
}

/// `struct inet_diag_req_v2`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct InetRequest {
    family: u8,
    protocol: u8,
    extensions: u8,
    pad: u8,
    states: u32,
    id: SocketId,
}

/// `struct inet_diag_msg`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct InetMessage {
    family: u8,
    state: u8,
    timer: u8,
    retries: u8,
    id: SocketId,
    expires_ms: u32,
    receive_queue: u32,
    send_queue: u32,
    uid: u32,
    inode: u32,
}
const _: () = assert!(size_of::<InetMessage>() == 72);

const INET_DIAG_INFO: u16 = 2;
const INET_DIAG_CONG: u16 = 4;
const INET_DIAG_SKMEMINFO: u16 = 7;

impl InetRequest {
    /// Asks for all sockets of a family and protocol in `states`, a bit each.
    pub(super) fn new(family: u8, protocol: u8, states: u32) -> Self {
        let bit = |attribute: u16| 1 << (attribute - 1);
        let memory: u8 = bit(INET_DIAG_SKMEMINFO);
        let tcp: u8 = bit(INET_DIAG_INFO) | bit(INET_DIAG_CONG);
        let extensions = memory | if protocol == TCP { tcp } else { 0 };
        Self { family, protocol, extensions, states, ..Self::default() }
    }
}

/// What all sockets of a dump have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Common {
    pub(super) time_ns: u64,
    pub(super) netns: u32,
    pub(super) protocol: u8,
}

/// A socket from the payload of a message; `None` if it is cut short.
pub(super) fn socket(payload: &[u8], common: Common) -> Option<HostSocket> {
    let (message, rest) = InetMessage::read_from_prefix(payload).ok()?;
    let id = message.id;
    let header = Header {
        time_ns: common.time_ns,
        kind: Kind::HostSocket as u16,
        cpu: u16::MAX,
        ..Header::default()
    };
    let mut socket = HostSocket {
        header,
        cookie: u64::from(id.cookie[0]) | u64::from(id.cookie[1]) << 32,
        local: address(message.family, id.local),
        peer: address(message.family, id.peer),
        netns: common.netns,
        inode: message.inode,
        uid: message.uid,
        device: id.device,
        local_port: u16::from_be_bytes(id.local_port),
        peer_port: u16::from_be_bytes(id.peer_port),
        family: u16::from(message.family),
        protocol: common.protocol,
        state: message.state,
        timer: message.timer,
        retries: message.retries,
        expires_ms: message.expires_ms,
        receive_queue: message.receive_queue,
        send_queue: message.send_queue,
        ..HostSocket::default()
    };
    for (kind, value) in attributes(rest) {
        attribute(&mut socket, kind, value);
    }
    Some(socket)
}

fn attribute(socket: &mut HostSocket, kind: u16, value: &[u8]) {
    match kind {
        // A listener's holds the lengths of its queues where others have segments.
        INET_DIAG_INFO if socket.protocol == TCP && socket.state != state::LISTEN => {
            padded::<TcpInfo>(value).fill(socket);
        }
        INET_DIAG_CONG => socket.algorithm = name(value),
        INET_DIAG_SKMEMINFO => memory(socket, padded(value)),
        _ => {}
    }
}

/// The kernel's `SK_MEMINFO_` values, in order.
const fn memory(socket: &mut HostSocket, values: [u32; 9]) {
    let [receive, receive_limit, below, send_limit, _forward, send, _options, backlog, drops] =
        values;
    socket.receive_memory_bytes = receive;
    socket.receive_limit_bytes = receive_limit;
    socket.below_memory_bytes = below;
    socket.send_limit_bytes = send_limit;
    socket.send_memory_bytes = send;
    socket.backlog_bytes = backlog;
    socket.drops = drops;
}

/// An address of a family in 16 bytes. Unset is all zero in both.
fn address(family: u8, bytes: [u8; 16]) -> [u8; 16] {
    if family != AF_INET || bytes[..4] == [0; 4] {
        return if family == AF_INET { [0; 16] } else { bytes };
    }
    let mut mapped = [0; 16];
    mapped[10..12].copy_from_slice(&[0xff, 0xff]);
    mapped[12..].copy_from_slice(&bytes[..4]);
    mapped
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const COMMON: Common = Common { time_ns: 5, netns: 9, protocol: TCP };

    fn message(family: u8, state: u8) -> Vec<u8> {
        let mut id = SocketId { cookie: [1, 2], ..SocketId::default() };
        id.local_port = 80_u16.to_be_bytes();
        id.local[..4].copy_from_slice(&[10, 0, 0, 1]);
        let message = InetMessage {
            family,
            state,
            timer: 0,
            retries: 0,
            id,
            expires_ms: 0,
            receive_queue: 3,
            send_queue: 4,
            uid: 0,
            inode: 77,
        };
        message.as_bytes().to_vec()
    }

    fn with(mut bytes: Vec<u8>, kind: u16, value: &[u8]) -> Vec<u8> {
        bytes.extend(u16::try_from(value.len() + 4).unwrap().to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn a_socket_has_its_addresses_memory_and_algorithm() {
        let memory: Vec<u8> = (1..=9_u32).flat_map(u32::to_le_bytes).collect();
        let bytes = with(message(AF_INET, 1), INET_DIAG_SKMEMINFO, &memory);
        let socket = socket(&with(bytes, INET_DIAG_CONG, b"cubic\0"), COMMON).unwrap();
        assert_eq!(socket.local[10..], [0xff, 0xff, 10, 0, 0, 1]);
        assert_eq!((socket.local_port, socket.cookie, socket.inode), (80, 2 << 32 | 1, 77));
        assert_eq!(
            (socket.receive_memory_bytes, socket.send_memory_bytes, socket.drops),
            (1, 6, 9)
        );
        assert_eq!(&socket.algorithm[..6], b"cubic\0");
    }

    #[test]
    fn an_older_kernels_tcp_info_is_padded_and_a_newer_one_cut() {
        let info: Vec<u8> = (0..280_u32).map(|at| at as u8).collect();
        let at =
            |at: u32| u32::from_le_bytes(std::array::from_fn(|byte| (at as usize + byte) as u8));
        let long = socket(&with(message(AF_INET, 1), INET_DIAG_INFO, &info), COMMON).unwrap();
        assert_eq!((long.cwnd, long.own_window_bytes), (at(80), at(232)));
        let short =
            socket(&with(message(AF_INET, 1), INET_DIAG_INFO, &info[..232]), COMMON).unwrap();
        assert_eq!(short, HostSocket { own_window_bytes: 0, ..long });
    }

    #[test]
    fn a_listeners_queue_lengths_are_not_taken_for_segments() {
        let info = [0xff; 240];
        let bytes = with(message(AF_INET6, state::LISTEN), INET_DIAG_INFO, &info);
        let socket = socket(&bytes, COMMON).unwrap();
        assert_eq!((socket.packets_out, socket.sacked_out, socket.receive_queue), (0, 0, 3));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_socket_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert_eq!(socket(&bytes, COMMON).is_some(), bytes.len() >= 72);
        }

        #[test]
        fn a_cut_message_is_read_up_to_its_cut(cut in 72_usize..400, info in any::<[u8; 20]>()) {
            let bytes = with(message(AF_INET, 1), INET_DIAG_INFO, &info.repeat(14));
            let cut = cut.min(bytes.len());
            prop_assert!(socket(&bytes[..cut], COMMON).is_some());
        }
    }
}
