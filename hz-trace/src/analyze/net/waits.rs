//! Times during which a connection's bytes waited, and for what.

use crate::model::net::Socket;
use hz_probes_ebpf::net::{
    NET_RETRANSMIT_PROBE, NET_RETRANSMIT_SYN, NET_RETRANSMIT_TIMEOUT, NetRetransmit,
};
use serde::Serialize;

/// For what bytes waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SocketWaitKind {
    /// The peer took no data: it did not read.
    ClosedWindow,
    /// Nothing was acknowledged until the retransmission timer expired.
    Timeout,
    /// Nothing was acknowledged until a tail loss probe was sent.
    Probe,
    /// A SYN was not answered.
    Syn,
}

impl SocketWaitKind {
    /// What it is called, as the end of "waited for …".
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::ClosedWindow => "the peer's closed window",
            Self::Timeout => "a retransmission timeout",
            Self::Probe => "a tail loss probe",
            Self::Syn => "an answer to its SYN",
        }
    }
}

/// A time during which bytes waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SocketWait {
    /// For what.
    pub kind: SocketWaitKind,
    /// From when, nanoseconds of `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// Until when.
    pub end_ns: u64,
}

/// When a connection's bytes waited, by their start. `end_ns` is the end of the recording.
///
/// A timer that expires was set its timeout before; a SYN's too, so that of what went before nothing
/// need have been recorded.
#[must_use]
pub fn waits_of_socket(socket: &Socket, end_ns: u64) -> Vec<SocketWait> {
    let closed = socket.closed_windows.iter().map(|window| SocketWait {
        kind: SocketWaitKind::ClosedWindow,
        start_ns: window.start_ns,
        end_ns: window.end_ns.unwrap_or(end_ns).max(window.start_ns),
    });
    let mut waits: Vec<SocketWait> =
        closed.chain(socket.retransmits.iter().filter_map(wait_of)).collect();
    waits.sort_by_key(|wait| wait.start_ns);
    waits
}

fn wait_of(record: &NetRetransmit) -> Option<SocketWait> {
    let end_ns = record.header.time_ns;
    // The timeout was doubled as often as `backoff` says, this time not yet included.
    let timeout_ns = u64::from(record.rto_us) * 1_000;
    let (kind, waited_ns) = match record.reason {
        NET_RETRANSMIT_SYN => (SocketWaitKind::Syn, timeout_ns),
        NET_RETRANSMIT_TIMEOUT => (SocketWaitKind::Timeout, timeout_ns),
        // Twice the round trip, about (tcp_schedule_loss_probe).
        NET_RETRANSMIT_PROBE => (SocketWaitKind::Probe, u64::from(record.srtt_us) * 2_000),
        _ => return None,
    };
    Some(SocketWait { kind, start_ns: end_ns.saturating_sub(waited_ns), end_ns })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Event;
    use crate::model::Folder;
    use hz_probes_ebpf::{Header, net::NetWindow};

    #[test]
    fn a_timeout_is_waited_for_and_a_window_until_it_opens() {
        let mut folder = Folder::new(0, false);
        let header = |time_ns, arg| Header { time_ns, arg, ..Header::default() };
        let retransmit = NetRetransmit {
            header: header(900_000_000, 0),
            cookie: 1,
            rto_us: 200_000,
            reason: NET_RETRANSMIT_TIMEOUT,
            ..NetRetransmit::default()
        };
        folder.fold(&Event::NetRetransmit(retransmit));
        for (time_ns, arg) in [(100, 1), (300, 0)] {
            folder.fold(&Event::NetWindow(NetWindow {
                header: header(time_ns, arg),
                cookie: 1,
                ..NetWindow::default()
            }));
        }
        let model = folder.finish(1_000_000_000);
        let waits = waits_of_socket(&model.network.sockets[0], model.end_ns);
        let waits: Vec<_> =
            waits.iter().map(|wait| (wait.kind, wait.start_ns, wait.end_ns)).collect();
        assert_eq!(
            waits,
            [
                (SocketWaitKind::ClosedWindow, 100, 300),
                (SocketWaitKind::Timeout, 700_000_000, 900_000_000),
            ]
        );
    }
}
