//! How connections begin and end: who asked, how long that took, who closed, and why.

use crate::model::net::{Socket, state_name};
use hz_probes_ebpf::net::{
    NET_NO_PORT, NET_OWNER_ACCEPTS, NET_OWNER_OF_LISTENER, NET_OWNER_RECEIVES, NET_OWNER_SENDS,
    NET_RESET_RECEIVED, NetOwner,
};
use serde::Serialize;

/// How a connection ended, or an attempt to make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum End {
    /// This side closed it first: the port stays in `TIME_WAIT` here.
    ClosedHere,
    /// The peer closed it first.
    ClosedByPeer,
    /// The peer reset it.
    ResetByPeer,
    /// This side reset it, or threw it away with bytes unread.
    ResetHere,
    /// Nothing came from the peer any more.
    TimedOut,
    /// The peer refused it.
    Refused,
    /// The peer did not answer.
    NotAnswered,
    /// No port was left for it (`EADDRNOTAVAIL`).
    NoPort,
    /// This side gave up before the peer answered.
    GivenUp,
    /// It could not be made for another reason.
    Failed,
}

impl End {
    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::ClosedHere => "closed by this side",
            Self::ClosedByPeer => "closed by the peer",
            Self::ResetByPeer => "reset by the peer",
            Self::ResetHere => "reset by this side",
            Self::TimedOut => "timed out",
            Self::Refused => "refused",
            Self::NotAnswered => "not answered",
            Self::NoPort => "no port left (EADDRNOTAVAIL)",
            Self::GivenUp => "given up before an answer",
            Self::Failed => "failed",
        }
    }

    /// Whether it never was a connection.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        matches!(
            self,
            Self::Refused | Self::NotAnswered | Self::NoPort | Self::GivenUp | Self::Failed
        )
    }
}

/// `ECONNREFUSED`.
const REFUSED: u32 = 111;
/// `ETIMEDOUT`.
const TIMED_OUT: u32 = 110;

/// An attempt of this side to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Connect {
    /// When it began, nanoseconds of `CLOCK_MONOTONIC`.
    pub(super) began_ns: u64,
    /// How long it took.
    pub(super) took_ns: u64,
    /// Whether there was a connection then.
    pub(super) is_made: bool,
}

fn named<'a>(socket: &'a Socket, name: &'a str) -> impl Iterator<Item = usize> + 'a {
    let states = socket.states.iter().enumerate();
    states.filter(move |(_, (_, state))| state_name(*state) == name).map(|(place, _)| place)
}

/// Every attempt to connect that has ended; a socket may try again.
pub(super) fn connects(socket: &Socket) -> impl Iterator<Item = Connect> + '_ {
    named(socket, "syn-sent").filter_map(|place| {
        let (began_ns, _) = socket.states[place];
        let (ended_ns, state) = socket.states.get(place + 1)?;
        let is_made = state_name(*state) == "established";
        Some(Connect { began_ns, took_ns: ended_ns.saturating_sub(began_ns), is_made })
    })
}

/// Times that it was to connect and found no port of its own.
pub(super) fn without_port(socket: &Socket) -> u64 {
    let failures = connects(socket).filter(|connect| !connect.is_made).count() as u64;
    // A socket has one error; what is tried again fails for the same reason.
    if socket.error == NET_NO_PORT { failures } else { 0 }
}

/// When it became a connection, nanoseconds of `CLOCK_MONOTONIC`; `None`: not in the recording.
pub(super) fn established_ns(socket: &Socket) -> Option<u64> {
    named(socket, "established").next().map(|place| socket.states[place].0)
}

/// Whether a listener of this host took it.
pub(super) fn is_taken(socket: &Socket) -> bool {
    let is_of_listener =
        |owner: &&NetOwner| matches!(owner.header.arg, NET_OWNER_OF_LISTENER | NET_OWNER_ACCEPTS);
    let began_established = socket.states.first().map(|(_, state)| state_name(*state));
    socket.owners.iter().any(|owner| is_of_listener(&owner))
        || (!socket.was_there() && began_established == Some("established"))
}

/// Who accepted a connection that a listener took, or, where that cannot be seen, used it first.
pub(super) fn accepted(socket: &Socket) -> Option<&NetOwner> {
    let accepts = |owner: &&NetOwner| owner.header.arg == NET_OWNER_ACCEPTS;
    let uses = |owner: &&NetOwner| matches!(owner.header.arg, NET_OWNER_SENDS | NET_OWNER_RECEIVES);
    socket.owners.iter().find(accepts).or_else(|| socket.owners.iter().find(uses))
}

/// How long it waited to be accepted, or used, nanoseconds.
pub(super) fn accept_wait_ns(socket: &Socket) -> Option<u64> {
    Some(accepted(socket)?.header.time_ns.saturating_sub(established_ns(socket)?))
}

/// When and how it ended; `None`: it had not, or that was not seen.
pub(super) fn end_of(socket: &Socket) -> Option<(u64, End)> {
    let was_up = socket.was_there() || established_ns(socket).is_some();
    let place = socket.states.iter().position(|(time_ns, state)| {
        let is_behind = established_ns(socket).is_none_or(|up_ns| *time_ns >= up_ns);
        is_behind && matches!(state_name(*state), "fin-wait-1" | "close-wait" | "closed")
    })?;
    let (time_ns, state) = socket.states[place];
    let end = match state_name(state) {
        "fin-wait-1" => End::ClosedHere,
        "close-wait" => End::ClosedByPeer,
        _ if was_up => torn(socket),
        _ => failed(socket),
    };
    Some((time_ns, end))
}

fn torn(socket: &Socket) -> End {
    let is_received = socket.resets.iter().any(|reset| reset.header.arg == NET_RESET_RECEIVED);
    match socket.error {
        TIMED_OUT => End::TimedOut,
        _ if is_received => End::ResetByPeer,
        _ => End::ResetHere,
    }
}

fn failed(socket: &Socket) -> End {
    match socket.error {
        REFUSED => End::Refused,
        TIMED_OUT => End::NotAnswered,
        NET_NO_PORT => End::NoPort,
        0 => End::GivenUp,
        _ => End::Failed,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{decode::Event, model::Folder};
    use hz_probes_ebpf::{
        Header,
        net::{NetReset, NetSocket, NetState},
    };

    /// A socket that goes through states, each a time, the state entered, and an error.
    pub(crate) fn states(folder: &mut Folder, cookie: u64, states: &[(u64, u8, u32)]) {
        let mut before = 7;
        for (time_ns, state, error) in states {
            let arg = u32::from(before) << 8 | u32::from(*state);
            let header = Header { time_ns: *time_ns, arg, ..Header::default() };
            folder.fold(&Event::NetState(NetState {
                header,
                cookie,
                error: *error,
                ..NetState::default()
            }));
            before = *state;
        }
    }

    fn end(through: &[(u64, u8, u32)], resets: &[u32]) -> Option<(u64, End)> {
        let mut folder = Folder::new(0, false);
        states(&mut folder, 1, through);
        for arg in resets {
            let header = Header { time_ns: 1, arg: *arg, ..Header::default() };
            folder.fold(&Event::NetReset(NetReset { header, cookie: 1, ..NetReset::default() }));
        }
        end_of(&folder.finish(100).network.sockets[0])
    }

    #[test]
    fn connections_end_in_many_ways() {
        let up = [(1, 2, 0), (5, 1, 0)];
        let then = |more: &[(u64, u8, u32)]| [&up[..], more].concat();
        assert_eq!(end(&up, &[]), None);
        assert_eq!(end(&then(&[(7, 4, 0), (9, 7, 0)]), &[]), Some((7, End::ClosedHere)));
        assert_eq!(end(&then(&[(7, 8, 0), (9, 9, 0)]), &[]), Some((7, End::ClosedByPeer)));
        assert_eq!(end(&then(&[(7, 7, 104)]), &[0]), Some((7, End::ResetByPeer)));
        assert_eq!(end(&then(&[(7, 7, 0)]), &[]), Some((7, End::ResetHere)));
        assert_eq!(end(&then(&[(7, 7, 110)]), &[]), Some((7, End::TimedOut)));
        for (error, expected) in [
            (111, End::Refused),
            (110, End::NotAnswered),
            (99, End::NoPort),
            (0, End::GivenUp),
            (13, End::Failed),
        ] {
            assert_eq!(end(&[(1, 2, 0), (3, 7, error)], &[]), Some((3, expected)));
        }
    }

    #[test]
    fn a_socket_that_tries_again_has_connected_twice() {
        let mut folder = Folder::new(0, false);
        states(&mut folder, 1, &[(1, 2, 0), (3, 7, 99), (10, 2, 0), (14, 1, 0)]);
        let model = folder.finish(100);
        let all: Vec<_> = connects(&model.network.sockets[0]).collect();
        assert_eq!(all.iter().map(|each| each.took_ns).collect::<Vec<_>>(), [2, 4]);
        assert_eq!(all.iter().map(|each| each.is_made).collect::<Vec<_>>(), [false, true]);
        assert_eq!(end_of(&model.network.sockets[0]), None, "it is open");
    }

    #[test]
    fn who_uses_first_what_a_listener_took_has_accepted_it() {
        let mut folder = Folder::new(0, false);
        let header = |time_ns, arg| Header { time_ns, arg, pid: 4, tid: 5, ..Header::default() };
        folder.fold(&Event::NetSocket(NetSocket {
            header: header(3, NET_OWNER_OF_LISTENER),
            cookie: 1,
            ..NetSocket::default()
        }));
        states(&mut folder, 1, &[(3, 1, 0)]);
        let owner = NetOwner { header: header(9, NET_OWNER_RECEIVES), cookie: 1 };
        folder.fold(&Event::NetOwner(owner));
        let model = folder.finish(100);
        let socket = &model.network.sockets[0];
        assert!(is_taken(socket));
        assert_eq!(accepted(socket).map(|owner| owner.header.time_ns), Some(9));
        assert_eq!(established_ns(socket), Some(3));
    }
}
