//! System calls by name, and the files that they are about.

use std::fs;

/// Names of the system calls that threads block in; others are told by their number.
const NAMES: &[(libc::c_long, &str, bool)] = &[
    (libc::SYS_read, "read", true),
    (libc::SYS_write, "write", true),
    (libc::SYS_readv, "readv", true),
    (libc::SYS_writev, "writev", true),
    (libc::SYS_pread64, "pread64", true),
    (libc::SYS_pwrite64, "pwrite64", true),
    (libc::SYS_fsync, "fsync", true),
    (libc::SYS_fdatasync, "fdatasync", true),
    (libc::SYS_flock, "flock", true),
    (libc::SYS_fcntl, "fcntl", true),
    (libc::SYS_ioctl, "ioctl", true),
    (libc::SYS_recvfrom, "recvfrom", true),
    (libc::SYS_recvmsg, "recvmsg", true),
    (libc::SYS_sendto, "sendto", true),
    (libc::SYS_sendmsg, "sendmsg", true),
    (libc::SYS_sendfile, "sendfile", true),
    (libc::SYS_splice, "splice", true),
    (libc::SYS_connect, "connect", true),
    (libc::SYS_accept, "accept", true),
    (libc::SYS_accept4, "accept4", true),
    (libc::SYS_getdents64, "getdents64", true),
    (libc::SYS_futex, "futex", false),
    (libc::SYS_nanosleep, "nanosleep", false),
    (libc::SYS_clock_nanosleep, "clock_nanosleep", false),
    (libc::SYS_openat, "openat", false),
    (libc::SYS_wait4, "wait4", false),
    (libc::SYS_waitid, "waitid", false),
    (libc::SYS_mmap, "mmap", false),
    (libc::SYS_munmap, "munmap", false),
    (libc::SYS_madvise, "madvise", false),
    (libc::SYS_sched_yield, "sched_yield", false),
    (libc::SYS_rt_sigtimedwait, "rt_sigtimedwait", false),
    (libc::SYS_rt_sigsuspend, "rt_sigsuspend", false),
    (libc::SYS_ptrace, "ptrace", false),
    (libc::SYS_execve, "execve", false),
    (libc::SYS_clone, "clone", false),
    (libc::SYS_exit_group, "exit_group", false),
    (libc::SYS_unlinkat, "unlinkat", false),
    (libc::SYS_renameat2, "renameat2", false),
    (libc::SYS_newfstatat, "newfstatat", false),
];

/// Names a system call of a process by its number, with the file that its first argument is, as far as
/// the process still has it.
pub(super) fn describe(pid: u32, call: i32, argument: u64) -> String {
    if call < 0 {
        return "a page fault".to_owned();
    }
    let Some((_, name, is_about_file)) =
        NAMES.iter().find(|(number, ..)| *number == libc::c_long::from(call))
    else {
        return format!("system call {call}");
    };
    let file = is_about_file.then(|| fs::read_link(format!("/proc/{pid}/fd/{argument}")).ok());
    match file.flatten() {
        Some(path) => format!("{name}({})", crate::text::showable(&path.display().to_string())),
        None => (*name).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd as _;

    #[test]
    fn a_read_names_its_file_and_a_lock_has_none() {
        let file = fs::File::open("/proc/self/status").unwrap();
        let fd = u64::try_from(file.as_raw_fd()).unwrap();
        let read = i32::try_from(libc::SYS_read).unwrap();
        let told = describe(std::process::id(), read, fd);
        assert!(told.starts_with("read(/proc/") && told.ends_with("/status)"), "{told}");
        assert_eq!(describe(1, i32::try_from(libc::SYS_futex).unwrap(), 3), "futex");
        assert_eq!(describe(1, 9_999, 3), "system call 9999");
        assert_eq!(describe(1, -1, 3), "a page fault");
    }
}
