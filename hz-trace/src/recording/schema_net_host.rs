//! The layout of the records of `sockets`.

use super::schema::{Field, fields};
use hz_probes_ebpf::{
    Kind,
    net_host::{HostDevice, HostPorts, HostQueue, HostSocket, HostUnix, NetCounters},
};

/// The fields of a record of `sockets` behind its header; none for other kinds.
pub(super) fn own_fields(kind: Kind) -> Vec<Field> {
    match kind {
        Kind::HostSocket => {
            fields!(HostSocket: cookie = "socket", local = "address", peer = "address", netns = "inode", inode = "inode", uid = "user", device = "device", local_port = "port", peer_port = "port", family = "number", protocol = "number", state = "number", timer = "number", retries = "count", congestion = "number", backoff = "count", expires_ms = "ms", receive_queue = "bytes or connections", send_queue = "bytes or connections", receive_memory_bytes = "bytes", receive_limit_bytes = "bytes", below_memory_bytes = "bytes", send_limit_bytes = "bytes", send_memory_bytes = "bytes", backlog_bytes = "bytes", drops = "count", unsent_bytes = "bytes", sent_bytes = "bytes", acked_bytes = "bytes", received_bytes = "bytes", retransmitted_bytes = "bytes", pacing_bytes_per_s = "bytes/s", busy_us = "us", window_limited_us = "us", buffer_limited_us = "us", rto_us = "us", srtt_us = "us", rttvar_us = "us", min_rtt_us = "us", cwnd = "segments", ssthresh = "segments", mss = "bytes", packets_out = "segments", lost_out = "segments", sacked_out = "segments", retrans_out = "segments", retransmitted = "segments", spurious = "segments", data_segments_in = "segments", data_segments_out = "segments", peer_window_bytes = "bytes", own_window_bytes = "bytes", since_sent_ms = "ms", since_received_ms = "ms", reserved = "none", algorithm = "text")
        }
        Kind::HostPorts => {
            fields!(HostPorts: source = "address", destination = "address", netns = "inode", port = "port", range_first = "port", range_last = "port", reserved = "none", reserved_ports = "count", in_range = "count", time_wait = "count", established = "count", connecting = "count", closing = "count", close_wait = "count")
        }
        Kind::HostQueue => {
            fields!(HostQueue: netns = "inode", handle = "number", parent = "number", packets = "count", bytes = "bytes", drops = "count", requeues = "count", overlimits = "count", sent_bytes = "bytes", sent_packets = "count", kind = "text", device = "text")
        }
        Kind::HostDevice => {
            fields!(HostDevice: netns = "inode", flags = "bits", received_packets = "count", sent_packets = "count", received_bytes = "bytes", sent_bytes = "bytes", receive_errors = "count", send_errors = "count", receive_drops = "count", send_drops = "count", device = "text")
        }
        Kind::HostUnix => {
            fields!(HostUnix: inode = "inode", peer_inode = "inode", netns = "inode", receive_queue = "bytes or connections", send_queue = "bytes or connections", socket_type = "number", state = "number", reserved = "none", name = "text")
        }
        Kind::NetCounters => {
            fields!(NetCounters: netns = "inode", left_out = "count", took_ns = "ns", active_opens = "count", passive_opens = "count", attempt_fails = "count", established_resets = "count", segments_in = "count", segments_out = "count", retransmitted = "segments", resets_out = "count", timeouts = "count", loss_probes = "count", fast_retransmits = "count", slow_start_retransmits = "count", syn_retransmits = "count", spurious_timeouts = "count", duplicates_told = "count", listen_overflows = "count", listen_drops = "count", syn_queue_drops = "count", time_waits_ended = "count", time_waits_reused = "count", time_wait_overflows = "count", aborts_on_memory = "count", receive_queue_drops = "count", backlog_drops = "count", windows_closed = "count", udp_in_errors = "count", udp_receive_drops = "count", udp_send_drops = "count")
        }
        _ => Vec::new(),
    }
}
