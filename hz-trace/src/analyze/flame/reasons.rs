//! Why a thread is off a CPU, by the kernel's functions on its stack.

use crate::model::OffReason;

/// What a thread waits for in a function of the kernel.
pub(super) fn reason_of(function: &str) -> Option<OffReason> {
    const BY_PREFIX: [(&str, OffReason); 22] = [
        ("futex_", OffReason::Lock),
        ("pipe_", OffReason::Pipe),
        ("anon_pipe_", OffReason::Pipe),
        ("n_tty_", OffReason::Pipe),
        ("tty_", OffReason::Pipe),
        ("eventfd_", OffReason::Poll),
        ("sock_", OffReason::Network),
        ("tcp_", OffReason::Network),
        ("udp_", OffReason::Network),
        ("unix_", OffReason::Network),
        ("inet_", OffReason::Network),
        ("sk_", OffReason::Network),
        ("io_schedule", OffReason::Disk),
        ("folio_", OffReason::Disk),
        ("filemap_", OffReason::Disk),
        ("ext4_", OffReason::Disk),
        ("xfs_", OffReason::Disk),
        ("btrfs_", OffReason::Disk),
        ("blk_", OffReason::Disk),
        ("do_wait", OffReason::Child),
        ("hrtimer_nanosleep", OffReason::Sleep),
        ("ep_poll", OffReason::Poll),
    ];
    let found = BY_PREFIX.iter().find(|(prefix, _)| function.starts_with(prefix));
    found.map(|(_, reason)| *reason)
}
