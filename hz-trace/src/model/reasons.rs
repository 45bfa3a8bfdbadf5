//! Why a thread was off its CPU, by the state it left in and the system call it was in.

use super::OffReason;
use hz_probes_ebpf::{OFF_PREEMPTED, OFF_SYSCALL, OffCpu};

/// The kernel's `TASK_UNINTERRUPTIBLE`.
const UNINTERRUPTIBLE: u32 = 2;

/// Why a thread was off, as far as its record says. Reading and writing can be anything: the
/// kernel's stack says what.
pub(super) const fn off_reason(record: &OffCpu) -> OffReason {
    let flags = record.header.arg;
    if flags & OFF_PREEMPTED != 0 {
        return OffReason::Preempted;
    }
    let is_uninterruptible = record.state & UNINTERRUPTIBLE != 0;
    if flags & OFF_SYSCALL == 0 {
        return if is_uninterruptible { OffReason::PageFault } else { OffReason::Other };
    }
    match of_call(record.syscall) {
        OffReason::Call if is_uninterruptible => OffReason::Disk,
        reason => reason,
    }
}

/// The class of a system call, by its number on x86-64.
const fn of_call(number: i32) -> OffReason {
    match number {
        // futex, futex_waitv, futex_wait
        202 | 449 | 455 => OffReason::Lock,
        // poll, select, epoll_wait, pselect6, ppoll, epoll_pwait, epoll_pwait2; io_getevents,
        // io_pgetevents, io_uring_enter
        7 | 23 | 232 | 270 | 271 | 281 | 441 | 208 | 333 | 426 => OffReason::Poll,
        // pause, nanosleep, clock_nanosleep
        34 | 35 | 230 => OffReason::Sleep,
        // connect, accept, sendto, recvfrom, sendmsg, recvmsg, shutdown, accept4, recvmmsg, sendmmsg
        42..=48 | 288 | 299 | 307 => OffReason::Network,
        // wait4, waitid
        61 | 247 => OffReason::Child,
        // msync, fsync, fdatasync, sync, sync_file_range, syncfs; open, stat and their kin
        26 | 74 | 75 | 162 | 277 | 306 | 2 | 4 | 6 | 87 | 257 | 262 | 263 => OffReason::Disk,
        _ => OffReason::Call,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hz_probes_ebpf::Header;

    fn off(flags: u32, state: u32, syscall: i32) -> OffReason {
        let header = Header { arg: flags, ..Header::default() };
        off_reason(&OffCpu { header, state, syscall, ..OffCpu::default() })
    }

    #[test]
    fn a_wait_is_of_the_call_it_was_in() {
        assert_eq!(off(OFF_SYSCALL, 1, 202), OffReason::Lock);
        assert_eq!(off(OFF_SYSCALL, 1, 232), OffReason::Poll);
        assert_eq!(off(OFF_SYSCALL, 1, 230), OffReason::Sleep);
        assert_eq!(off(OFF_SYSCALL, 1, 45), OffReason::Network);
        assert_eq!(off(OFF_SYSCALL, 2, 17), OffReason::Disk);
        assert_eq!(off(OFF_SYSCALL, 1, 17), OffReason::Call);
    }

    #[test]
    fn outside_of_calls_it_was_preempted_or_missed_a_page() {
        assert_eq!(off(OFF_PREEMPTED | OFF_SYSCALL, 0, 202), OffReason::Preempted);
        assert_eq!(off(0, 2, 0), OffReason::PageFault);
        assert_eq!(off(0, 1, 0), OffReason::Other);
    }
}
