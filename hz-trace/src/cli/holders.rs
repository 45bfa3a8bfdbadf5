//! Who had a CPU during a wait, in the few words that a line has room for.

use hz_trace::{
    analyze::{Holder, Worst},
    text,
};
use std::fmt::Write as _;
use unicode_width::UnicodeWidthStr as _;

/// Holders that are named.
const NAMED: usize = 3;

/// A thread, the threads of a process together, or what is no thread.
struct Group<'a> {
    first: &'a Holder,
    threads: usize,
    duration_ns: u64,
}

impl Group<'_> {
    fn words(&self, wait_ns: u64) -> String {
        let share = text::percent(100.0 * self.duration_ns as f64 / wait_ns.max(1) as f64);
        let name = &self.first.name;
        match (self.first.pid, self.first.tid) {
            (Some(pid), _) if self.threads > 1 => {
                format!("{name} ×{} (pid {pid}) {share}", self.threads)
            }
            (_, Some(tid)) => format!("{name} ({tid}) {share}"),
            _ => format!("{name} {share}"),
        }
    }
}

/// Who had the CPU for at least a hundredth of the wait, the longest first: up to three, as far as
/// there is room, but always the first.
pub(super) fn words(wait: &Worst, room: usize) -> String {
    let noted: Vec<Group<'_>> = groups(&wait.culprits)
        .into_iter()
        .filter(|group| group.duration_ns * 100 >= wait.duration_ns)
        .take(NAMED)
        .collect();
    let mut line = String::new();
    for (place, group) in noted.iter().enumerate() {
        let one = group.words(wait.duration_ns);
        if place == 0 {
            line = one;
        } else if line.width() + 2 + one.width() + 4 <= room {
            let _ = write!(line, ", {one}");
        } else {
            let _ = write!(line, ", +{}", noted.len() - place);
            break;
        }
    }
    line
}

/// Threads of one process together, the longest first; what came on top of them (interrupts) last.
fn groups(holders: &[Holder]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for holder in holders {
        let known =
            groups.iter_mut().find(|group| holder.pid.is_some() && group.first.pid == holder.pid);
        match known {
            Some(group) => {
                group.threads += 1;
                group.duration_ns += holder.duration_ns;
            }
            None => {
                groups.push(Group { first: holder, threads: 1, duration_ns: holder.duration_ns });
            }
        }
    }
    groups.sort_by_key(|group| (is_on_top(group.first), std::cmp::Reverse(group.duration_ns)));
    groups
}

/// Interrupts and the hypervisor take the CPU on the time of whoever has it.
fn is_on_top(holder: &Holder) -> bool {
    matches!(holder.name.as_str(), "hardware interrupts" | "software interrupts" | "hypervisor")
        && holder.tid.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(name: &str, tid: u32, pid: u32, duration_ns: u64) -> Holder {
        Holder { name: name.to_owned(), tid: Some(tid), pid: Some(pid), duration_ns }
    }

    fn wait(culprits: Vec<Holder>) -> Worst {
        Worst {
            tid: 1,
            pid: 1,
            name: "waiter".to_owned(),
            start_ns: 0,
            duration_ns: 1_000,
            cpu: 0,
            after: "woken",
            waker: None,
            is_over: true,
            culprits,
        }
    }

    #[test]
    fn threads_of_a_process_are_one_culprit_and_interrupts_come_last() {
        let soft = Holder {
            name: "software interrupts".to_owned(),
            tid: None,
            pid: None,
            duration_ns: 310,
        };
        let culprits = vec![
            thread("rustc", 9, 9, 300),
            thread("load", 21, 20, 250),
            thread("load", 22, 20, 240),
            thread("tiny", 30, 30, 5),
            soft,
        ];
        let expected = "load ×2 (pid 20) 49 %, rustc (9) 30 %, software interrupts 31 %";
        assert_eq!(words(&wait(culprits), 200), expected);
    }

    #[test]
    fn the_first_is_named_however_little_room_there_is() {
        let culprits = vec![thread("rustc", 9, 9, 600), thread("cc", 10, 10, 400)];
        assert_eq!(words(&wait(culprits), 5), "rustc (9) 60 %, +1");
    }
}
