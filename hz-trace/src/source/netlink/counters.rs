//! What a network namespace has counted: `/proc/PID/net/snmp` and `netstat`.

use hz_probes_ebpf::net_host::NetCounters;

/// Adds what `text` tells: lines in pairs, `Tcp: ActiveOpens …` and `Tcp: 12 …`. What hz does not know is
/// passed over; so is what is no number.
pub(super) fn parse(text: &str, counters: &mut NetCounters) {
    let mut lines = text.lines();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let (Some((group, names)), Some((again, values))) =
            (names.split_once(':'), values.split_once(':'))
        else {
            continue;
        };
        if group != again {
            continue;
        }
        for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
            if let (Some(field), Ok(value)) = (field(counters, group, name), value.parse()) {
                *field = value;
            }
        }
    }
}

fn field<'a>(counters: &'a mut NetCounters, group: &str, name: &str) -> Option<&'a mut u64> {
    Some(match (group, name) {
        ("Tcp", "ActiveOpens") => &mut counters.active_opens,
        ("Tcp", "PassiveOpens") => &mut counters.passive_opens,
        ("Tcp", "AttemptFails") => &mut counters.attempt_fails,
        ("Tcp", "EstabResets") => &mut counters.established_resets,
        ("Tcp", "InSegs") => &mut counters.segments_in,
        ("Tcp", "OutSegs") => &mut counters.segments_out,
        ("Tcp", "RetransSegs") => &mut counters.retransmitted,
        ("Tcp", "OutRsts") => &mut counters.resets_out,
        ("TcpExt", "TCPTimeouts") => &mut counters.timeouts,
        ("TcpExt", "TCPLossProbes") => &mut counters.loss_probes,
        ("TcpExt", "TCPFastRetrans") => &mut counters.fast_retransmits,
        ("TcpExt", "TCPSlowStartRetrans") => &mut counters.slow_start_retransmits,
        ("TcpExt", "TCPSynRetrans") => &mut counters.syn_retransmits,
        ("TcpExt", "TCPSpuriousRTOs") => &mut counters.spurious_timeouts,
        ("TcpExt", "TCPDSACKRecv") => &mut counters.duplicates_told,
        ("TcpExt", "ListenOverflows") => &mut counters.listen_overflows,
        ("TcpExt", "ListenDrops") => &mut counters.listen_drops,
        ("TcpExt", "TCPReqQFullDrop") => &mut counters.syn_queue_drops,
        ("TcpExt", "TW") => &mut counters.time_waits_ended,
        ("TcpExt", "TWRecycled") => &mut counters.time_waits_reused,
        ("TcpExt", "TCPTimeWaitOverflow") => &mut counters.time_wait_overflows,
        ("TcpExt", "TCPAbortOnMemory") => &mut counters.aborts_on_memory,
        ("TcpExt", "TCPRcvQDrop") => &mut counters.receive_queue_drops,
        ("TcpExt", "TCPBacklogDrop") => &mut counters.backlog_drops,
        ("TcpExt", "TCPToZeroWindowAdv") => &mut counters.windows_closed,
        ("Udp", "InErrors") => &mut counters.udp_in_errors,
        ("Udp", "RcvbufErrors") => &mut counters.udp_receive_drops,
        ("Udp", "SndbufErrors") => &mut counters.udp_send_drops,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn counters_are_found_by_name_wherever_they_stand() {
        let mut counters = NetCounters::default();
        let text =
            "Tcp: MaxConn RetransSegs New\nTcp: -1 12 3\nTcpExt: TW ListenOverflows\nTcpExt: 4 5\n";
        parse(text, &mut counters);
        let found = (counters.retransmitted, counters.time_waits_ended, counters.listen_overflows);
        assert_eq!(found, (12, 4, 5));
    }

    #[test]
    fn this_kernel_has_every_counter() {
        for file in ["snmp", "netstat"] {
            let text = std::fs::read_to_string(format!("/proc/self/net/{file}")).unwrap();
            parse(&text, &mut NetCounters::default());
            let known = |line: &str| {
                let (group, names) = line.split_once(':').unwrap();
                let names = names.split_whitespace();
                names
                    .filter(|name| field(&mut NetCounters::default(), group, name).is_some())
                    .count()
            };
            let found: usize = text.lines().step_by(2).map(known).sum();
            assert_eq!(found, if file == "snmp" { 11 } else { 17 }, "{file}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_passed_over(text in "(Tcp|TcpExt|Udp|[a-z:]{0,4})?:[ A-Za-z0-9\n:-]{0,80}") {
            parse(&text, &mut NetCounters::default());
        }
    }
}
