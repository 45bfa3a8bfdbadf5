//! Which programs of `net` this kernel can have, and what they are told before they run.

use super::{
    Scope,
    net::{HOLDERS, NAME, SAMPLE, refused},
};
use crate::{
    error::StartError,
    host::{KernelTypes, clock},
};
use hz_probes_ebpf::{FILTER_ALL, FILTER_CGROUP, FILTER_PIDS, NetConfig};
use libbpf_rs::OpenObject;
use std::os::fd::BorrowedFd;
use zerocopy::IntoBytes as _;

/// Programs for which there is another: the first whose hook is there is used.
const SENDS: [(&str, Hook); 3] = [
    ("net_send_locked", Hook::Tracepoint("tcp_sendmsg_locked")),
    ("net_send_length", Hook::Tracepoint("sock_send_length")),
    ("net_send_function", Hook::Function("tcp_sendmsg_locked")),
];
const RECEIVES: [(&str, Hook); 2] = [
    ("net_receive_length", Hook::Tracepoint("sock_recv_length")),
    ("net_receive_function", Hook::Function("tcp_recvmsg")),
];

/// Programs that can be missing, by tracepoint.
const OTHERS: [(&str, &str); 9] = [
    ("net_retransmit", "tcp_retransmit_skb"),
    ("net_synack", "tcp_retransmit_synack"),
    ("net_state", "inet_sock_set_state"),
    ("net_send_reset", "tcp_send_reset"),
    ("net_receive_reset", "tcp_receive_reset"),
    ("net_congestion", "tcp_cong_state_set"),
    ("net_window", "tcp_probe"),
    ("net_destroy", "tcp_destroy_sock"),
    ("net_drop", "kfree_skb"),
];

/// Programs that together say how long packets wait in queueing disciplines: all of them or none.
const SOJOURN: [(&str, &str); 4] = [
    ("net_queue", "net_dev_queue"),
    ("net_enqueued", "qdisc_enqueue"),
    ("net_dequeue", "qdisc_dequeue"),
    ("net_bypass", "net_dev_start_xmit"),
];

/// What sendfile called before Linux 6.5, beside [`SENDS`].
const SENDPAGE: (&str, &str) = ("net_sendpage_function", "tcp_sendpage_locked");

/// Who accepts, and when. Without it, whoever uses a connection first.
const ACCEPT: (&str, &str) = ("net_accept_function", "inet_csk_accept");

#[derive(Clone, Copy, Debug)]
enum Hook {
    Tracepoint(&'static str),
    Function(&'static str),
}

impl Hook {
    fn is_in(self, types: &KernelTypes) -> bool {
        match self {
            Self::Tracepoint(name) => types.has_tracepoint(name),
            Self::Function(name) => types.has_function(name),
        }
    }
}

/// Whether a program is an iterator, which runs only when it is read.
pub(super) fn is_iterator(program: &str) -> bool {
    program == HOLDERS || program == SAMPLE
}

/// Whether recording goes on without a program: one on a function, which not every kernel allows.
pub(super) fn is_optional(program: &str) -> bool {
    program.ends_with("_function")
}

/// Leaves out programs whose hook this kernel lacks; the hook that sends got, and what is missing.
///
/// `may_attach_functions` is whether to try where there is something else instead.
pub(super) fn choose_programs(
    open: &mut OpenObject,
    types: &KernelTypes,
    may_attach_functions: bool,
) -> (&'static str, Vec<String>) {
    let mut missing = Vec::new();
    let mut wanted = vec![HOLDERS, SAMPLE];
    for (what, choices) in [("senders", &SENDS[..]), ("receivers", &RECEIVES[..])] {
        match choices.iter().find(|(_, hook)| hook.is_in(types)) {
            Some((program, _)) => wanted.push(program),
            None => missing.push(format!("{what} of bytes: this kernel has no hook for them")),
        }
    }
    let (sendpage, function) = SENDPAGE;
    if wanted.contains(&"net_send_function") && types.has_function(function) {
        wanted.push(sendpage);
    }
    let (accept, function) = ACCEPT;
    if may_attach_functions && types.function_args(function).is_some() {
        wanted.push(accept);
    } else {
        missing.push(missing_function(accept));
    }
    for (program, tracepoint) in OTHERS {
        if types.has_tracepoint(tracepoint) {
            wanted.push(program);
        } else {
            missing.push(format!("{tracepoint}: this kernel has no such tracepoint"));
        }
    }
    // Tried on Linux 6.18 only: an older verifier refused one of them, and with it all of `net`.
    let is_tried = types.has_tracepoint("tcp_sendmsg_locked");
    if is_tried && SOJOURN.iter().all(|(_, tracepoint)| types.has_tracepoint(tracepoint)) {
        wanted.extend(SOJOURN.map(|(program, _)| program));
    } else {
        missing.push("waits of packets in queueing disciplines: needs Linux 6.16".to_owned());
    }
    for mut program in open.progs_mut() {
        let is_wanted = wanted.iter().any(|name| program.name() == *name);
        program.set_autoload(is_wanted);
    }
    let is_by_function = |name: &&str| is_optional(name) && *name != accept;
    let hook = if wanted.iter().any(is_by_function) { "fentry" } else { "tp_btf" };
    (hook, missing)
}

/// What is not known without a program on a function.
pub(super) fn missing_function(program: &str) -> String {
    let lacks = "this kernel attaches no programs to functions";
    if program == ACCEPT.0 {
        return format!("when connections are accepted: {lacks}; their first use is taken instead");
    }
    format!("{program}: {lacks}")
}

/// Tells the programs about the target and the kernel.
pub(super) fn configure(
    open: &mut OpenObject,
    scope: &Scope,
    processes: Option<BorrowedFd<'_>>,
    types: &KernelTypes,
) -> Result<(), StartError> {
    let (filter, cgroup_id, cgroup_level) = match scope {
        Scope::All => (FILTER_ALL, 0, 0),
        Scope::Processes(_) => (FILTER_PIDS, 0, 0),
        Scope::Cgroup { id, level } => (FILTER_CGROUP, *id, *level),
    };
    let has = |tracepoint, args| types.tracepoint_args(tracepoint) >= Some(args);
    let config = NetConfig {
        cgroup_id,
        jiffy_ns: clock::jiffy_ns(),
        cgroup_level,
        filter,
        retransmit_has_error: u32::from(has("tcp_retransmit_skb", 3)),
        reset_has_reason: u32::from(has("tcp_send_reset", 3)),
        drop_has_socket: u32::from(has("kfree_skb", 4)),
        accept_has_two: u32::from(types.function_args(ACCEPT.1) == Some(2)),
    };
    for mut map in open.maps_mut() {
        if map.name() == ".rodata.config" {
            map.set_initial_value(config.as_bytes()).map_err(refused)?;
        } else if map.name() == "PIDS" {
            match processes {
                Some(fd) => map.reuse_fd(fd).map_err(refused)?,
                None if filter == FILTER_PIDS => return Err(StartError::NotBuilt { probe: NAME }),
                // Nobody looks into it, so it needs no memory.
                None => map.set_max_entries(1).map_err(refused)?,
            }
        }
    }
    Ok(())
}
