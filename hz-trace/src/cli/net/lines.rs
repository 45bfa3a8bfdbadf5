//! What happens to sockets, a line for each event: text or JSON.

use hz_probes_ebpf::net::{
    NET_NAMES_DROP, NET_NAMES_RESET, NET_RESET_SENT, NET_SAMPLE_LAST, NET_WINDOW_CLOSED,
    NetCongestion, NetDrop, NetReset, NetRetransmit, NetSocket, NetState, NetSynAck, NetWindow,
};
use hz_trace::{
    analyze::reason_name,
    decode::Event,
    model::net::{address, state_name},
    text,
};
use serde::Serialize;
use std::{collections::HashMap, fs, net::SocketAddr};

/// Sockets and names that are remembered; with more, all are forgotten and met anew.
const REMEMBERED_MAX: usize = 100_000;

/// What a line says.
#[derive(Debug, Default, Serialize)]
pub(super) struct Line {
    /// Nanoseconds since recording began.
    at_ns: u64,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    local: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    /// What happened, in words.
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    segments: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u32>,
    #[serde(skip_serializing_if = "is_zero")]
    pid: u32,
    #[serde(skip_serializing_if = "is_zero")]
    tid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Line {
    /// As people read it.
    pub(super) fn text(&self) -> String {
        let at = format!("{:>11.6} s", self.at_ns as f64 / 1e9);
        let mut line = format!("{at}  {:<10}", self.event);
        if let (Some(local), Some(peer)) = (&self.local, &self.peer) {
            line.push_str(&format!("  {local} → {peer}"));
        }
        line.push_str("  ");
        line.push_str(&self.what);
        if let Some(process) = &self.process {
            line.push_str(&format!("  of {process} ({})", self.pid));
            if self.tid != self.pid && self.tid != 0 {
                line.push_str(&format!(", thread {}", self.tid));
            }
        }
        text::showable(&line)
    }
}

#[derive(Clone, Debug)]
struct Known {
    local: SocketAddr,
    peer: SocketAddr,
    owner: (u32, u32),
    connecting_ns: u64,
}

/// Turns events into lines; remembers what sockets are.
#[derive(Debug, Default)]
pub(super) struct Lines {
    start_ns: u64,
    sockets: HashMap<u64, Known>,
    processes: HashMap<u32, String>,
    names: HashMap<(u32, u32), String>,
}

impl Lines {
    pub(super) fn new(start_ns: u64) -> Self {
        Self { start_ns, ..Self::default() }
    }

    /// The line of an event, if it is one that is shown.
    pub(super) fn line(&mut self, event: &Event) -> Option<Line> {
        match event {
            Event::NetSocket(record) => self.meet(record),
            Event::NetOwner(record) => {
                let header = &record.header;
                if let Some(known) = self.sockets.get_mut(&record.cookie) {
                    known.owner = (header.pid, header.tid);
                }
                self.learn(header.pid);
                None
            }
            Event::NetName(record) => {
                let end = record.name.iter().position(|byte| *byte == 0).unwrap_or(0);
                let name = String::from_utf8_lossy(&record.name[..end]).into_owned();
                self.names.insert((record.table, record.header.arg), name);
                None
            }
            Event::NetSample(record) if record.header.arg == NET_SAMPLE_LAST => {
                self.sockets.remove(&record.cookie);
                None
            }
            Event::NetRetransmit(record) => Some(self.retransmit(record)),
            Event::NetSynAck(record) => Some(self.synack(record)),
            Event::NetState(record) => Some(self.state(record)),
            Event::NetReset(record) => Some(self.reset(record)),
            Event::NetCongestion(record) => Some(self.congestion(record)),
            Event::NetWindow(record) => Some(self.window(record)),
            Event::NetDrop(record) => Some(self.drop(record)),
            Event::NetLost(record) => Some(Line {
                at_ns: record.header.time_ns.saturating_sub(self.start_ns),
                event: "lost",
                what: format!("{} were lost", text::plural(record.count, "event")),
                ..Line::default()
            }),
            _ => None,
        }
    }

    fn meet(&mut self, record: &NetSocket) -> Option<Line> {
        if self.sockets.len() >= REMEMBERED_MAX {
            self.sockets.clear();
        }
        let known = Known {
            local: SocketAddr::new(address(record.local), record.local_port),
            peer: SocketAddr::new(address(record.peer), record.peer_port),
            owner: (record.header.pid, record.header.tid),
            connecting_ns: 0,
        };
        self.sockets.insert(record.cookie, known);
        self.learn(record.header.pid);
        None
    }

    /// Remembers what a process is called, while it is there.
    fn learn(&mut self, pid: u32) {
        if pid == 0 || self.processes.contains_key(&pid) {
            return;
        }
        if self.processes.len() >= REMEMBERED_MAX {
            self.processes.clear();
        }
        if let Ok(name) = fs::read_to_string(format!("/proc/{pid}/comm")) {
            self.processes.insert(pid, name.trim_end().to_owned());
        }
    }

    /// What every line about a socket begins with; its owner as the record has it, or as it is known.
    fn about(&self, event: &'static str, cookie: u64, header: &hz_probes_ebpf::Header) -> Line {
        let known = self.sockets.get(&cookie);
        let (pid, tid) = match (header.pid, known) {
            (0, Some(known)) => known.owner,
            (pid, _) => (pid, header.tid),
        };
        let process = self.processes.get(&pid).cloned();
        Line {
            at_ns: header.time_ns.saturating_sub(self.start_ns),
            event,
            local: known.map(|known| known.local.to_string()),
            peer: known.map(|known| known.peer.to_string()),
            pid,
            tid,
            process: process.or_else(|| (pid != 0).then(|| "pid".to_owned())),
            ..Line::default()
        }
    }

    fn retransmit(&mut self, record: &NetRetransmit) -> Line {
        self.learn(record.header.pid);
        let rto = text::duration(u64::from(record.rto_us) * 1_000);
        Line {
            what: format!(
                "{}: {}, {}; timeout {rto}, cwnd {}, {} unacknowledged, {} unsent",
                reason_name(record.reason),
                text::plural(record.segments.into(), "segment"),
                text::bytes(record.bytes.into()),
                record.cwnd,
                text::bytes(record.unacked_bytes.into()),
                text::bytes(record.unsent_bytes.into()),
            ),
            segments: Some(record.segments),
            bytes: Some(record.bytes),
            ..self.about("retransmit", record.cookie, &record.header)
        }
    }

    fn synack(&mut self, record: &NetSynAck) -> Line {
        self.learn(record.header.pid);
        let reason = reason_name(record.header.arg.to_le_bytes()[0]);
        Line {
            local: Some(SocketAddr::new(address(record.local), record.local_port).to_string()),
            peer: Some(SocketAddr::new(address(record.peer), record.peer_port).to_string()),
            what: format!("{reason}, the {}. time", record.earlier.saturating_add(1)),
            segments: Some(1),
            ..self.about("retransmit", record.cookie, &record.header)
        }
    }

    fn state(&mut self, record: &NetState) -> Line {
        self.learn(record.header.pid);
        let [new, old, ..] = record.header.arg.to_le_bytes();
        let time_ns = record.header.time_ns;
        let mut what = format!("{} → {}", state_name(old), state_name(new));
        if let Some(known) = self.sockets.get_mut(&record.cookie) {
            if record.local_port != 0 {
                known.local.set_port(record.local_port);
            }
            if state_name(old) == "syn-sent" && known.connecting_ns != 0 {
                let took_ns = time_ns.saturating_sub(known.connecting_ns);
                what.push_str(&format!(" after {}", text::duration(took_ns)));
            }
            known.connecting_ns = if state_name(new) == "syn-sent" { time_ns } else { 0 };
        }
        if record.error != 0 {
            what.push_str(&format!(": {}", error_words(record.error)));
        }
        Line { what, ..self.about("state", record.cookie, &record.header) }
    }

    fn reset(&self, record: &NetReset) -> Line {
        let what = match (record.header.arg == NET_RESET_SENT, record.reason) {
            (false, _) => "received".to_owned(),
            (true, u32::MAX) => "sent".to_owned(),
            (true, reason) => format!("sent: {}", self.name(NET_NAMES_RESET, reason)),
        };
        Line {
            local: Some(SocketAddr::new(address(record.local), record.local_port).to_string()),
            peer: Some(SocketAddr::new(address(record.peer), record.peer_port).to_string()),
            what,
            ..self.about("reset", record.cookie, &record.header)
        }
    }

    fn congestion(&self, record: &NetCongestion) -> Line {
        let [new, old, ..] = record.header.arg.to_le_bytes();
        let undone = if record.is_undone == 0 { "" } else { ", taken back: nothing was lost" };
        Line {
            what: format!("{} → {}{undone}; cwnd {}", phase(old), phase(new), record.cwnd),
            ..self.about("congestion", record.cookie, &record.header)
        }
    }

    fn window(&self, record: &NetWindow) -> Line {
        let is_closed = record.header.arg == NET_WINDOW_CLOSED;
        let unsent = text::bytes(record.unsent_bytes.into());
        Line {
            what: if is_closed {
                format!("the peer takes no more; {unsent} unsent")
            } else {
                format!("the peer takes data again; {unsent} unsent")
            },
            ..self.about("window", record.cookie, &record.header)
        }
    }

    fn drop(&self, record: &NetDrop) -> Line {
        let protocol = if record.protocol == 17 { "UDP" } else { "TCP" };
        let reason = self.name(NET_NAMES_DROP, record.header.arg);
        let about = self.about("drop", record.cookie, &record.header);
        Line {
            local: Some(SocketAddr::new(address(record.source), record.source_port).to_string()),
            peer: Some(
                SocketAddr::new(address(record.destination), record.destination_port).to_string(),
            ),
            what: format!("{reason}: {protocol}, {}", text::bytes(record.bytes.into())),
            bytes: Some(record.bytes),
            ..about
        }
    }

    fn name(&self, table: u32, number: u32) -> String {
        let name = self.names.get(&(table, number)).cloned();
        name.unwrap_or_else(|| format!("reason {number}"))
    }
}

const fn phase(state: u8) -> &'static str {
    match state {
        0 => "open",
        1 => "disorder",
        2 => "CWR",
        3 => "recovery",
        4 => "loss",
        _ => "unknown",
    }
}

fn error_words(error: u32) -> String {
    let error = i32::try_from(error).unwrap_or(0);
    std::io::Error::from_raw_os_error(error).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hz_probes_ebpf::Header;

    fn mapped(last: u8) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[10..].copy_from_slice(&[0xff, 0xff, 10, 0, 0, last]);
        bytes
    }

    fn lines() -> Lines {
        let mut lines = Lines::new(1_000_000_000);
        let socket = NetSocket {
            cookie: 7,
            local: mapped(1),
            peer: mapped(2),
            peer_port: 80,
            ..NetSocket::default()
        };
        assert!(lines.line(&Event::NetSocket(socket)).is_none());
        lines
    }

    fn state(time_ns: u64, arg: u32, error: u32) -> Event {
        let header = Header { time_ns, arg, ..Header::default() };
        Event::NetState(NetState { header, cookie: 7, local_port: 4_000, peer_port: 80, error })
    }

    #[test]
    fn a_line_says_when_where_and_what() {
        let mut lines = lines();
        lines.line(&state(1_100_000_000, 0x702, 0));
        let line = lines.line(&state(1_101_500_000, 0x201, 0)).unwrap();
        assert_eq!(
            line.text(),
            "   0.101500 s  state       10.0.0.1:4000 → 10.0.0.2:80  syn-sent → established after 1.50 ms"
        );
        let json = serde_json::to_string(&line).unwrap();
        assert_eq!(
            json,
            r#"{"at_ns":101500000,"event":"state","local":"10.0.0.1:4000","peer":"10.0.0.2:80","what":"syn-sent → established after 1.50 ms"}"#
        );
        let line = lines.line(&state(1_200_000_000, 0x207, 99)).unwrap().text();
        assert!(line.contains("syn-sent → closed: Cannot assign requested address"), "{line}");
    }

    #[test]
    fn a_socket_that_ended_is_forgotten() {
        let mut lines = lines();
        let header = Header { arg: NET_SAMPLE_LAST, ..Header::default() };
        let last = hz_probes_ebpf::net::NetSample { header, cookie: 7, ..Default::default() };
        assert!(lines.line(&Event::NetSample(last)).is_none());
        assert!(lines.sockets.is_empty());
    }
}
