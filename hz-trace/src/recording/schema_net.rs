//! The layout of the records of `net`.

use super::schema::{Field, fields};
use hz_probes_ebpf::{
    Kind,
    net::{
        NetCongestion, NetDrop, NetLost, NetName, NetOwner, NetQueued, NetReset, NetRetransmit,
        NetSample, NetSocket, NetSojourn, NetSojournPart, NetState, NetSynAck, NetWindow,
    },
};

/// The fields of a record of `net` behind its header; none for other kinds.
pub(super) fn own_fields(kind: Kind) -> Vec<Field> {
    match kind {
        Kind::NetSocket => {
            fields!(NetSocket: cookie = "socket", local = "address", peer = "address", netns = "inode", local_port = "port", peer_port = "port", family = "number", state = "number", flags = "bits", protocol = "number", algorithm = "text")
        }
        Kind::NetOwner => {
            fields!(NetOwner: cookie = "socket")
        }
        Kind::NetRetransmit => {
            fields!(NetRetransmit: cookie = "socket", owner_ns = "ns", pacing_bytes_per_s = "bytes/s", seq = "sequence", bytes = "bytes", segments = "segments", cwnd = "segments", ssthresh = "segments", srtt_us = "us", rttvar_us = "us", rto_us = "us", packets_out = "segments", lost_out = "segments", sacked_out = "segments", retrans_out = "segments", unsent_bytes = "bytes", unacked_bytes = "bytes", peer_window_bytes = "bytes", reason = "number", state = "number", congestion = "number", pending = "number", backoff = "count", timeouts = "count", owner = "number", tcp_flags = "bits", reserved = "none")
        }
        Kind::NetSynAck => {
            fields!(NetSynAck: cookie = "socket", local = "address", peer = "address", netns = "inode", local_port = "port", peer_port = "port", earlier = "count", reserved = "none")
        }
        Kind::NetState => {
            fields!(NetState: cookie = "socket", local_port = "port", peer_port = "port", error = "errno")
        }
        Kind::NetReset => {
            fields!(NetReset: cookie = "socket", local = "address", peer = "address", netns = "inode", local_port = "port", peer_port = "port", reason = "number", state = "number")
        }
        Kind::NetSample => {
            fields!(NetSample: cookie = "socket", sent_bytes = "bytes", acked_bytes = "bytes", received_bytes = "bytes", retransmitted_bytes = "bytes", pacing_bytes_per_s = "bytes/s", last_receive_ns = "ns", retransmitted = "count", spurious = "count", busy_ms = "ms", window_limited_ms = "ms", buffer_limited_ms = "ms", unsent_bytes = "bytes", unacked_bytes = "bytes", send_memory_bytes = "bytes", send_limit_bytes = "bytes", unread_bytes = "bytes", receive_memory_bytes = "bytes", receive_limit_bytes = "bytes", own_window_bytes = "bytes", peer_window_bytes = "bytes", drops = "count", syn_queue = "count", cwnd = "segments", ssthresh = "segments", srtt_us = "us", rttvar_us = "us", rto_us = "us", packets_out = "segments", lost_out = "segments", mss = "bytes", error = "errno", state = "number", congestion = "number", limit = "number", pending = "number", send_bursts = "count", receive_bursts = "count")
        }
        Kind::NetCongestion => {
            fields!(NetCongestion: cookie = "socket", cwnd = "segments", ssthresh = "segments", is_undone = "boolean", spurious = "count")
        }
        Kind::NetWindow => {
            fields!(NetWindow: cookie = "socket", unsent_bytes = "bytes", unacked_bytes = "bytes")
        }
        Kind::NetDrop => {
            fields!(NetDrop: cookie = "socket", place = "address", source = "address", destination = "address", netns = "inode", source_port = "port", destination_port = "port", bytes = "bytes", protocol = "number", tcp_flags = "bits")
        }
        Kind::NetName => {
            fields!(NetName: table = "number", reserved = "none", name = "text")
        }
        Kind::NetLost => {
            fields!(NetLost: since_ns = "ns", count = "count")
        }
        Kind::NetSojourn => {
            fields!(NetSojourn: netns = "inode", device = "number", name = "text", packets = "count", bypassed = "count", split = "count", unmatched = "count", came = "count", total_ns = "ns", max_ns = "ns", max_time_ns = "ns", max_cookie = "socket", stops = "count")
        }
        Kind::NetSojournPart => {
            fields!(NetSojournPart: netns = "inode", device = "number", counts = "counts")
        }
        Kind::NetQueued => {
            fields!(NetQueued: cookie = "socket", packets = "count", total_ns = "ns", max_ns = "ns", max_time_ns = "ns")
        }
        kind => super::schema_net_host::own_fields(kind),
    }
}
