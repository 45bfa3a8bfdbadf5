//! Kernel probe `net`.

use super::Probe;
use hz_probes_ebpf::Kind;

/// What TCP sends again and why, whose sockets they are, and what they hold.
pub(super) struct Net;

impl Probe for Net {
    fn name(&self) -> &'static str {
        "net"
    }

    fn about(&self) -> &'static str {
        "Sockets: what TCP sends again and why, what their queues hold, how they end, and whose they are"
    }

    fn language(&self) -> &'static str {
        "C, CO-RE, libbpf"
    }

    fn hooks(&self) -> &'static [&'static str] {
        &["tp_btf", "fentry"]
    }

    fn places(&self) -> &'static [&'static str] {
        &[
            "tcp_retransmit_skb",
            "tcp_retransmit_synack",
            "inet_sock_set_state",
            "tcp_send_reset",
            "tcp_receive_reset",
            "tcp_destroy_sock",
            "tcp_cong_state_set",
            "tcp_probe",
            "kfree_skb",
            "tcp_sendmsg_locked",
            "sock_send_length",
            "sock_recv_length",
            "inet_csk_accept",
            "net_dev_queue",
            "qdisc_enqueue",
            "qdisc_dequeue",
            "net_dev_start_xmit",
            "iter/task_file",
            "iter/tcp",
        ]
    }

    fn emits(&self) -> &'static [Kind] {
        &[
            Kind::NetSocket,
            Kind::NetOwner,
            Kind::NetRetransmit,
            Kind::NetSynAck,
            Kind::NetState,
            Kind::NetReset,
            Kind::NetSample,
            Kind::NetCongestion,
            Kind::NetWindow,
            Kind::NetDrop,
            Kind::NetName,
            Kind::NetLost,
            Kind::NetSojourn,
            Kind::NetSojournPart,
            Kind::NetQueued,
        ]
    }

    fn implies(&self) -> &'static [&'static str] {
        &["sockets"]
    }

    fn cost(&self) -> &'static str {
        "0.2 to 0.4 µs a send, a receive and a segment that comes; 0.4 to 0.7 µs a record"
    }
}
