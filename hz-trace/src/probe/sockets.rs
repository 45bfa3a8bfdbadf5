//! Probe `sockets`: what the kernel says of sockets and queues when it is asked.

use super::Probe;
use hz_probes_ebpf::Kind;

/// Snapshots of sockets, ports, queues and counters, once a second.
pub(super) struct Sockets;

impl Probe for Sockets {
    fn name(&self) -> &'static str {
        "sockets"
    }

    fn about(&self) -> &'static str {
        "Sockets, ports, queueing disciplines and the kernel's own counters, once a second"
    }

    fn language(&self) -> &'static str {
        "Rust, netlink, no BPF"
    }

    fn hooks(&self) -> &'static [&'static str] {
        &["netlink"]
    }

    fn places(&self) -> &'static [&'static str] {
        &["sock_diag", "rtnetlink", "/proc/PID/net/snmp", "/proc/PID/net/netstat", "/proc/PID/fd"]
    }

    fn emits(&self) -> &'static [Kind] {
        &[
            Kind::HostSocket,
            Kind::HostPorts,
            Kind::HostQueue,
            Kind::HostDevice,
            Kind::HostUnix,
            Kind::NetCounters,
        ]
    }

    fn cost(&self) -> &'static str {
        "no program runs in the kernel; hz asks for every socket of the namespace once a second"
    }
}
