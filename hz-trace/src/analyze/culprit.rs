//! Who had a CPU while somebody waited for it.

use crate::model::{InterruptTime, Model, ThreadIndex, Who};
use rustc_hash::FxHashMap;

/// A thread and how long it had the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Culprit {
    /// The thread.
    pub thread: ThreadIndex,
    /// How long it had the CPU, interrupts that came meanwhile included.
    pub ran_ns: u64,
}

/// A process and how long its threads had the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessCulprit {
    /// Its id.
    pub pid: u32,
    /// The one of its threads that had the CPU for longest.
    pub longest: ThreadIndex,
    /// How many of its threads had the CPU.
    pub threads: usize,
    /// How long they had it together, interrupts that came meanwhile included.
    pub ran_ns: u64,
}

/// Who and what had a CPU in an interval. `ran`, idle and unknown time sum to the interval;
/// interrupts and steal came on top of whoever had the CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Culprits {
    /// The threads that ran, the longest first.
    pub ran: Vec<Culprit>,
    /// Nanoseconds in which nobody ran: a thread that waited then was being woken or moved.
    pub idle_ns: u64,
    /// Nanoseconds not recorded.
    pub unknown_ns: u64,
    /// Nanoseconds in hardware interrupt handlers.
    pub hard_ns: u64,
    /// Nanoseconds in software interrupt handlers.
    pub soft_ns: u64,
    /// Nanoseconds the hypervisor ran somebody else.
    pub steal_ns: u64,
}

impl Culprits {
    /// Adds those of another interval, which may be of another CPU: a thread can be moved while it
    /// waits.
    pub fn add(&mut self, other: &Self) {
        for culprit in &other.ran {
            match self.ran.iter_mut().find(|each| each.thread == culprit.thread) {
                Some(known) => known.ran_ns += culprit.ran_ns,
                None => self.ran.push(*culprit),
            }
        }
        self.idle_ns += other.idle_ns;
        self.unknown_ns += other.unknown_ns;
        self.hard_ns += other.hard_ns;
        self.soft_ns += other.soft_ns;
        self.steal_ns += other.steal_ns;
        self.sort();
    }

    /// The same by process: its threads together, the longest first.
    #[must_use]
    pub fn by_process(&self, model: &Model) -> Vec<ProcessCulprit> {
        let mut groups: Vec<ProcessCulprit> = Vec::new();
        for Culprit { thread, ran_ns } in self.ran.iter().copied() {
            let pid = model.thread(thread).pid;
            match groups.iter_mut().find(|group| group.pid == pid) {
                Some(group) => {
                    group.threads += 1;
                    group.ran_ns += ran_ns;
                }
                None => groups.push(ProcessCulprit { pid, longest: thread, threads: 1, ran_ns }),
            }
        }
        groups.sort_by_key(|group| (std::cmp::Reverse(group.ran_ns), group.longest));
        groups
    }

    fn sort(&mut self) {
        self.ran.sort_by_key(|each| (std::cmp::Reverse(each.ran_ns), each.thread));
    }

    fn interrupt(&mut self, time: &InterruptTime, start_ns: u64, end_ns: u64) {
        let overlap_ns = time.end_ns.min(end_ns).saturating_sub(time.start_ns.max(start_ns));
        let length_ns = time.end_ns.saturating_sub(time.start_ns).max(1);
        let part = |ns: u64| {
            let share = u128::from(ns) * u128::from(overlap_ns) / u128::from(length_ns);
            u64::try_from(share).unwrap_or(u64::MAX)
        };
        self.hard_ns += part(time.hard_ns);
        self.soft_ns += part(time.soft_ns);
        self.steal_ns += part(time.steal_ns);
    }
}

/// Who had `cpu` in `[start_ns, end_ns)`, nanoseconds of `CLOCK_MONOTONIC`.
///
/// Interrupt time is recorded per stretch of time; a stretch that lies partly in the interval
/// counts in proportion.
#[must_use]
pub fn culprits(model: &Model, cpu: u16, start_ns: u64, end_ns: u64) -> Culprits {
    let mut found = Culprits::default();
    let mut ran: FxHashMap<ThreadIndex, u64> = FxHashMap::default();
    let mut known_ns = 0;
    for (run, until_ns) in model.runs_between(cpu, start_ns, end_ns) {
        let length_ns = until_ns - run.start_ns;
        match run.who {
            Who::Thread(thread) => *ran.entry(thread).or_default() += length_ns,
            Who::Idle => found.idle_ns += length_ns,
            Who::Unknown => continue,
        }
        known_ns += length_ns;
    }
    found.unknown_ns = end_ns.saturating_sub(start_ns).saturating_sub(known_ns);
    found.ran = ran.into_iter().map(|(thread, ran_ns)| Culprit { thread, ran_ns }).collect();
    found.sort();
    let times =
        model.cpus.iter().find(|each| each.id == cpu).map_or(&[][..], |each| &each.interrupts);
    let first = times.partition_point(|time| time.end_ns <= start_ns);
    for time in times[first..].iter().take_while(|time| time.start_ns < end_ns) {
        found.interrupt(time, start_ns, end_ns);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Cpu, Run};

    fn model() -> Model {
        let run = |start_ns, who| Run { start_ns, who };
        let a = Who::Thread(ThreadIndex(0));
        let b = Who::Thread(ThreadIndex(1));
        let runs = vec![
            run(0, Who::Unknown),
            run(100, a),
            run(200, b),
            run(230, a),
            run(250, Who::Idle),
            run(300, b),
        ];
        let interrupts = vec![InterruptTime {
            start_ns: 200,
            end_ns: 300,
            hard_ns: 40,
            soft_ns: 20,
            steal_ns: 8,
        }];
        let cpu = Cpu { id: 3, runs, interrupts, lost: Vec::new() };
        Model { end_ns: 400, cpus: vec![cpu], ..Model::default() }
    }

    #[test]
    fn occupants_are_summed_by_thread_and_the_longest_comes_first() {
        let found = culprits(&model(), 3, 50, 350);
        let culprit = |thread, ran_ns| Culprit { thread: ThreadIndex(thread), ran_ns };
        assert_eq!(found.ran, [culprit(0, 120), culprit(1, 80)]);
        assert_eq!((found.idle_ns, found.unknown_ns), (50, 50));
        assert_eq!((found.hard_ns, found.soft_ns, found.steal_ns), (40, 20, 8));
    }

    #[test]
    fn interrupt_time_counts_in_proportion_and_a_cpu_not_recorded_is_unknown() {
        let found = culprits(&model(), 3, 250, 300);
        assert_eq!((found.hard_ns, found.soft_ns, found.steal_ns), (20, 10, 4));
        let elsewhere = culprits(&model(), 9, 250, 300);
        assert_eq!(elsewhere, Culprits { unknown_ns: 50, ..Culprits::default() });
    }

    #[test]
    fn two_halves_add_up_to_the_whole() {
        let mut halves = culprits(&model(), 3, 0, 220);
        halves.add(&culprits(&model(), 3, 220, 400));
        let whole = culprits(&model(), 3, 0, 400);
        assert_eq!((halves.ran, halves.idle_ns), (whole.ran, whole.idle_ns));
        assert_eq!(halves.unknown_ns, whole.unknown_ns);
    }
}
