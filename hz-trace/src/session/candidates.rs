//! Which processes may offer rings, and when each is looked at next.

use crate::{
    recording::Target,
    source::{Scope, descendants, every_process},
};
use hz_probes_ebpf::{Header, Kind};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    rc::Rc,
    time::{Duration, Instant},
};
use zerocopy::FromBytes as _;

/// How soon a process that has just begun is looked at, and again: a runtime sets itself up early.
const FIRST_WAIT: Duration = Duration::from_millis(10);

/// How late a process that has long shown nothing is looked at again at the most.
const LAST_WAIT: Duration = Duration::from_secs(30);

/// How soon after a look a process is looked at again because it has started a thread: a runtime
/// starts its workers when it has set itself up.
const THREAD_WAIT: Duration = Duration::from_millis(100);

/// Directories of control groups that are looked into.
const CGROUPS_MAX: usize = 10_000;

/// Processes of which the kernel's records say that they are new, or new programs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Newcomers(Rc<RefCell<BTreeSet<(u32, bool)>>>);

impl Newcomers {
    /// Looks at a record of the kernel's.
    #[inline]
    pub(crate) fn notice(&self, record: &[u8]) {
        let Ok((header, _)) = Header::ref_from_prefix(record) else { return };
        let is_exec = header.kind == Kind::Exec as u16;
        if is_exec || header.kind == Kind::Fork as u16 {
            self.0.borrow_mut().insert((header.pid, is_exec));
        }
    }

    /// Process ids, and whether they are new programs.
    fn take(&self) -> BTreeSet<(u32, bool)> {
        std::mem::take(&mut self.0.borrow_mut())
    }
}

/// When a process is looked at.
#[derive(Clone, Copy, Debug)]
struct Turn {
    last: Instant,
    next: Instant,
    wait: Duration,
}

impl Turn {
    fn first(now: Instant) -> Self {
        Self { last: now, next: now, wait: FIRST_WAIT }
    }

    fn take(&mut self, now: Instant) {
        self.last = now;
        self.next = now + self.wait;
        self.wait = (2 * self.wait).min(LAST_WAIT);
    }
}

/// Processes of the target that show no rings yet.
#[derive(Debug)]
pub(crate) struct Candidates {
    target: Target,
    scope: Scope,
    with_children: bool,
    newcomers: Newcomers,
    turns: BTreeMap<u32, Turn>,
}

impl Candidates {
    pub(crate) fn new(target: Target, scope: Scope, with_children: bool) -> Self {
        let (newcomers, turns) = (Newcomers::default(), BTreeMap::new());
        Self { target, scope, with_children, newcomers, turns }
    }

    /// Whether the user named processes, rather than all of a group or of the system.
    pub(crate) const fn are_named(&self) -> bool {
        matches!(self.scope, Scope::Processes(_))
    }

    /// Where the kernel's records are shown to.
    pub(crate) fn newcomers(&self) -> Newcomers {
        self.newcomers.clone()
    }

    /// Reads anew which processes there are: those that the kernel's records did not tell of.
    pub(crate) fn list(&mut self, now: Instant) {
        let pids = self.pids();
        self.turns.retain(|pid, _| pids.contains(pid));
        for pid in pids {
            self.turns.entry(pid).or_insert_with(|| Turn::first(now));
        }
    }

    /// Processes to look at now. `forget` is told of those that have become another program.
    pub(crate) fn due(&mut self, now: Instant, mut forget: impl FnMut(u32)) -> Vec<u32> {
        for (pid, is_exec) in self.newcomers.take() {
            if !self.is_of_target(pid) {
                continue;
            }
            let turn = self.turns.entry(pid).or_insert_with(|| Turn::first(now));
            if is_exec {
                *turn = Turn::first(now);
                forget(pid);
            } else {
                turn.next = turn.next.min(turn.last + THREAD_WAIT).max(turn.last + FIRST_WAIT);
            }
        }
        let due = self.turns.iter_mut().filter(|(_, turn)| turn.next <= now);
        let due = due.map(|(pid, turn)| {
            turn.take(now);
            *pid
        });
        due.collect()
    }

    /// Looks at `pid` soon, as if it had just begun.
    pub(crate) fn look_again(&mut self, pid: u32, now: Instant) {
        self.turns.insert(pid, Turn::first(now));
    }

    fn is_of_target(&self, pid: u32) -> bool {
        // The kernel filters its records; without children those of the target's children come too.
        match &self.scope {
            Scope::Processes(pids) if !self.with_children => pids.contains(&pid),
            _ => pid != std::process::id(),
        }
    }

    /// Processes of the target, as far as `/proc` tells now.
    pub(crate) fn pids(&self) -> BTreeSet<u32> {
        let mut pids: BTreeSet<u32> = match (&self.scope, &self.target) {
            (Scope::Processes(pids), _) => {
                let children = self.with_children.then(|| descendants(pids).ok()).flatten();
                pids.iter().copied().chain(children.unwrap_or_default()).collect()
            }
            (_, Target::Cgroup { path, .. }) => of_cgroup(Path::new(path)),
            _ => every_process().into_iter().collect(),
        };
        pids.remove(&std::process::id());
        pids
    }
}

/// Processes of a control group and all below it.
fn of_cgroup(path: &Path) -> BTreeSet<u32> {
    let mut pids = BTreeSet::new();
    let mut directories = vec![path.to_owned()];
    for _ in 0..CGROUPS_MAX {
        let Some(directory) = directories.pop() else { break };
        let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
        let entries = fs::read_dir(&directory).into_iter().flatten().filter_map(Result::ok);
        let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        directories.extend(below.map(|entry| entry.path()));
    }
    pids
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes as _;

    fn candidates(pids: &[u32], with_children: bool) -> Candidates {
        Candidates::new(Target::default(), Scope::Processes(pids.to_vec()), with_children)
    }

    fn notice(candidates: &Candidates, kind: Kind, pid: u32) {
        let header = Header { kind: kind as u16, pid, ..Header::default() };
        candidates.newcomers().notice(header.as_bytes());
    }

    #[test]
    fn a_process_that_shows_nothing_is_looked_at_less_and_less() {
        let mut candidates = candidates(&[1], false);
        let start = Instant::now();
        candidates.list(start);
        let looks = (0..6_000_u32).filter(|tick| {
            let now = start + Duration::from_millis(10) * *tick;
            !candidates.due(now, |_| {}).is_empty()
        });
        // At 0, 10, 30, 70, … ms: in a minute a dozen times.
        assert_eq!(looks.count(), 13);
    }

    #[test]
    fn a_new_program_is_looked_at_at_once_and_the_old_one_forgotten() {
        let mut candidates = candidates(&[1], true);
        let start = Instant::now();
        candidates.list(start);
        let mut later = start;
        while later < start + Duration::from_secs(20) {
            candidates.due(later, |_| {});
            later += Duration::from_millis(100);
        }
        let mut forgotten = Vec::new();
        assert!(candidates.due(later, |_| {}).is_empty());
        notice(&candidates, Kind::Exec, 1);
        notice(&candidates, Kind::Wakeup, 7);
        assert_eq!(candidates.due(later, |pid| forgotten.push(pid)), [1]);
        assert_eq!(forgotten, [1]);
        // A thread that starts is a reason too, but not each of a thousand.
        notice(&candidates, Kind::Fork, 1);
        assert!(candidates.due(later + Duration::from_millis(1), |_| {}).is_empty());
        assert_eq!(candidates.due(later + Duration::from_millis(110), |_| {}), [1]);
    }

    #[test]
    fn children_are_followed_if_asked_for() {
        for with_children in [false, true] {
            let mut candidates = candidates(&[1], with_children);
            notice(&candidates, Kind::Fork, 77);
            let now = Instant::now();
            candidates.due(now, |_| {});
            let due = candidates.due(now + FIRST_WAIT, |_| {});
            assert_eq!(due.contains(&77), with_children);
        }
    }
}
