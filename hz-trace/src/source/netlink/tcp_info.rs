//! The kernel's `struct tcp_info`, in every version: it only ever grew at its end.

use hz_probes_ebpf::net_host::HostSocket;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct tcp_info` of Linux 6.2 up to `tcpi_rcv_wnd`. Longer ones are cut, shorter ones padded with zeros.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct TcpInfo {
    state: u8,
    ca_state: u8,
    retransmits: u8,
    probes: u8,
    backoff: u8,
    options: u8,
    window_scales: u8,
    flags: u8,
    rto_us: u32,
    ato_us: u32,
    snd_mss: u32,
    rcv_mss: u32,
    unacked: u32,
    sacked: u32,
    lost: u32,
    retrans: u32,
    fackets: u32,
    last_data_sent_ms: u32,
    last_ack_sent_ms: u32,
    last_data_recv_ms: u32,
    last_ack_recv_ms: u32,
    pmtu: u32,
    rcv_ssthresh: u32,
    rtt_us: u32,
    rttvar_us: u32,
    snd_ssthresh: u32,
    snd_cwnd: u32,
    advmss: u32,
    reordering: u32,
    rcv_rtt_us: u32,
    rcv_space: u32,
    total_retrans: u32,
    pacing_rate: u64,
    max_pacing_rate: u64,
    bytes_acked: u64,
    bytes_received: u64,
    segs_out: u32,
    segs_in: u32,
    notsent_bytes: u32,
    min_rtt_us: u32,
    data_segs_in: u32,
    data_segs_out: u32,
    delivery_rate: u64,
    busy_us: u64,
    rwnd_limited_us: u64,
    sndbuf_limited_us: u64,
    delivered: u32,
    delivered_ce: u32,
    bytes_sent: u64,
    bytes_retrans: u64,
    dsack_dups: u32,
    reord_seen: u32,
    rcv_ooopack: u32,
    snd_wnd: u32,
    rcv_wnd: u32,
    rehash: u32,
}
const _: () = assert!(size_of::<TcpInfo>() == 240);

impl TcpInfo {
    /// Writes what it says of a connection into its record. `bytes_sent` counts what was sent again too.
    pub(super) const fn fill(&self, socket: &mut HostSocket) {
        socket.congestion = self.ca_state;
        socket.backoff = self.backoff;
        socket.unsent_bytes = self.notsent_bytes;
        socket.sent_bytes = self.bytes_sent.saturating_sub(self.bytes_retrans);
        socket.acked_bytes = self.bytes_acked;
        socket.received_bytes = self.bytes_received;
        socket.retransmitted_bytes = self.bytes_retrans;
        socket.pacing_bytes_per_s = self.pacing_rate;
        socket.busy_us = self.busy_us;
        socket.window_limited_us = self.rwnd_limited_us;
        socket.buffer_limited_us = self.sndbuf_limited_us;
        socket.rto_us = self.rto_us;
        socket.srtt_us = self.rtt_us;
        socket.rttvar_us = self.rttvar_us;
        socket.min_rtt_us = self.min_rtt_us;
        socket.cwnd = self.snd_cwnd;
        socket.ssthresh = self.snd_ssthresh;
        socket.mss = self.snd_mss;
        self.fill_segments(socket);
    }

    const fn fill_segments(&self, socket: &mut HostSocket) {
        socket.packets_out = self.unacked;
        socket.lost_out = self.lost;
        socket.sacked_out = self.sacked;
        socket.retrans_out = self.retrans;
        socket.retransmitted = self.total_retrans;
        socket.spurious = self.dsack_dups;
        socket.data_segments_in = self.data_segs_in;
        socket.data_segments_out = self.data_segs_out;
        socket.peer_window_bytes = self.snd_wnd;
        socket.own_window_bytes = self.rcv_wnd;
        socket.since_sent_ms = self.last_data_sent_ms;
        socket.since_received_ms = self.last_data_recv_ms;
    }
}
