//! Threads that are off their CPU when recording ends.

use hz_probes_ebpf::{OFF_PREEMPTED, OFF_RETURN_UNSEEN, OFF_UNFINISHED, OFF_WOKEN, OffCpu};
use libbpf_rs::{MapCore as _, MapFlags, MapHandle};
use std::fs;
use zerocopy::{FromBytes as _, IntoBytes as _};

/// Tells of all that are kept and were off for at least `min_ns`.
pub(super) fn tell_all(off: &MapHandle, now_ns: u64, min_ns: u64, tell: &mut dyn FnMut(&[u8])) {
    for key in off.keys() {
        let value = off.lookup(&key, MapFlags::ANY).ok().flatten().unwrap_or_default();
        // What follows the record is the CPU time that the thread had had when it left.
        let Ok((kept, rest)) = OffCpu::read_from_prefix(&value) else { continue };
        let before_ns = u64::read_from_prefix(rest).map_or(u64::MAX, |(before_ns, _)| before_ns);
        if kept.header.time_ns == 0 {
            continue;
        }
        let ran_ns = ran_ns(kept.header.pid, kept.header.tid).unwrap_or(0);
        let told = until(&kept, now_ns, ran_ns.saturating_sub(before_ns));
        if told.off_ns >= min_ns {
            tell(told.as_bytes());
        }
    }
}

/// The record of a thread that has left and had `since_ns` of CPU time since: if that is none, it is off
/// still; else its return was not seen.
fn until(kept: &OffCpu, now_ns: u64, since_ns: u64) -> OffCpu {
    let left_ns = kept.header.time_ns;
    let end_ns = now_ns.saturating_sub(since_ns).max(left_ns);
    let flag = if since_ns == 0 { OFF_UNFINISHED } else { OFF_RETURN_UNSEEN };
    let awake_ns = match kept.header.arg {
        arg if arg & OFF_PREEMPTED != 0 => left_ns,
        arg if arg & OFF_WOKEN != 0 => kept.runq_ns,
        _ => end_ns,
    };
    let mut told =
        OffCpu { off_ns: end_ns - left_ns, runq_ns: end_ns.saturating_sub(awake_ns), ..*kept };
    told.header.time_ns = end_ns;
    told.header.arg |= flag;
    told
}

/// CPU time that a thread has had, nanoseconds.
fn ran_ns(pid: u32, tid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/schedstat")).ok()?;
    text.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hz_probes_ebpf::Header;

    fn kept(arg: u32, runq_ns: u64) -> OffCpu {
        OffCpu {
            header: Header { time_ns: 1000, arg, ..Header::default() },
            runq_ns,
            ..OffCpu::default()
        }
    }

    #[test]
    fn one_that_sleeps_is_unfinished() {
        let told = until(&kept(0, 0), 5000, 0);
        assert_eq!((told.off_ns, told.runq_ns, told.header.time_ns), (4000, 0, 5000));
        assert_eq!(told.header.arg, OFF_UNFINISHED);
    }

    #[test]
    fn one_that_waits_for_a_cpu_has_waited_since_it_was_woken_or_left() {
        assert_eq!(until(&kept(OFF_WOKEN, 4000), 5000, 0).runq_ns, 1000);
        assert_eq!(until(&kept(OFF_PREEMPTED, 0), 5000, 0).runq_ns, 4000);
    }

    #[test]
    fn one_that_ran_since_was_back() {
        let told = until(&kept(OFF_WOKEN, 2000), 5000, 1500);
        assert_eq!((told.off_ns, told.runq_ns, told.header.time_ns), (2500, 1500, 3500));
        assert_eq!(told.header.arg, OFF_WOKEN | OFF_RETURN_UNSEEN);
        // More than can be: its clock and ours differ a little.
        assert_eq!(until(&kept(0, 0), 5000, 9000).off_ns, 0);
    }
}
