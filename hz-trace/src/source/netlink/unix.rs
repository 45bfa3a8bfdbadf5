//! Unix sockets as `NETLINK_SOCK_DIAG` tells them.

use super::message::{attributes, name, padded};
use hz_probes_ebpf::{Header, Kind, net_host::HostUnix};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub(super) const AF_UNIX: u8 = 1;

/// `UDIAG_SHOW_NAME | UDIAG_SHOW_PEER | UDIAG_SHOW_RQLEN`.
const SHOW: u32 = 1 | 4 | 16;

/// `struct unix_diag_req`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct UnixRequest {
    family: u8,
    protocol: u8,
    pad: u16,
    states: u32,
    inode: u32,
    show: u32,
    cookie: [u32; 2],
}

impl UnixRequest {
    /// Asks for all.
    pub(super) const ALL: Self = Self {
        family: AF_UNIX,
        protocol: 0,
        pad: 0,
        states: u32::MAX,
        inode: 0,
        show: SHOW,
        cookie: [u32::MAX; 2],
    };
}

/// `struct unix_diag_msg`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct UnixMessage {
    family: u8,
    socket_type: u8,
    state: u8,
    pad: u8,
    inode: u32,
    cookie: [u32; 2],
}

/// A socket from the payload of a message; `None` if it is cut short.
pub(super) fn socket(payload: &[u8], time_ns: u64, netns: u32) -> Option<HostUnix> {
    let (message, rest) = UnixMessage::read_from_prefix(payload).ok()?;
    let kind = Kind::HostUnix as u16;
    let mut socket = HostUnix {
        header: Header { time_ns, kind, cpu: u16::MAX, ..Header::default() },
        inode: message.inode,
        netns,
        socket_type: message.socket_type,
        state: message.state,
        ..HostUnix::default()
    };
    for (kind, value) in attributes(rest) {
        match kind {
            0 if value.first() == Some(&0) => {
                socket.name = name(&[b"@", &value[1..]].concat());
            }
            0 => socket.name = name(value),
            2 => socket.peer_inode = padded(value),
            4 => [socket.receive_queue, socket.send_queue] = padded::<[u32; 2]>(value),
            _ => {}
        }
    }
    Some(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_abstract_name_begins_with_an_at_sign() {
        let mut bytes = vec![1, 1, 10, 0, 42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend([8, 0, 0, 0, 0, b'a', b'b', b'c', 12, 0, 4, 0, 3, 0, 0, 0, 128, 0, 0, 0]);
        let found = socket(&bytes, 5, 9).unwrap();
        assert_eq!((found.inode, found.receive_queue, found.send_queue), (42, 3, 128));
        assert_eq!(&found.name[..5], b"@abc\0");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_socket_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(socket(&bytes, 5, 9).is_some(), bytes.len() >= 16);
        }
    }
}
