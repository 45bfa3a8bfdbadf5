//! Which processes come from which.

use super::Scope;
use crate::host::Cgroup;
use std::{collections::BTreeSet, path::Path};

/// Processes that descend from `roots`, without `roots`, as far as `/proc` tells now.
///
/// A process whose parent has exited belongs to its reaper, and is not found.
///
/// # Errors
///
/// When `/proc` cannot be read. A process that exits meanwhile is no error.
pub fn descendants(roots: &[u32]) -> Result<BTreeSet<u32>, procfs::ProcError> {
    let mut pairs = Vec::new();
    for process in procfs::process::all_processes()? {
        if let Ok(stat) = process.and_then(|process| process.stat()) {
            pairs.push((stat.pid.unsigned_abs(), stat.ppid.unsigned_abs()));
        }
    }
    Ok(closure(roots, &pairs))
}

/// Processes that belong to a scope now, as far as `/proc` tells.
#[must_use]
pub fn processes_of(scope: &Scope) -> Vec<u32> {
    match scope {
        Scope::All => every_process(),
        Scope::Processes(pids) => {
            let found = descendants(pids).unwrap_or_default();
            pids.iter().copied().chain(found).collect()
        }
        Scope::Cgroup { id, .. } => {
            let path = Cgroup::by_id(*id);
            path.map_or_else(Vec::new, |path| processes_below(&path))
        }
    }
}

/// Every process of the host.
#[must_use]
pub fn every_process() -> Vec<u32> {
    let names = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Processes of a control group's directory and of all below it.
fn processes_below(directory: &Path) -> Vec<u32> {
    let text = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        pids.extend(processes_below(&entry.path()));
    }
    pids
}

/// Gives what `roots` have started to `insert`, until a look at `/proc` finds nothing new: what a child
/// starts before it is inserted is found by the next look.
pub(super) fn follow_descendants<E: From<procfs::ProcError>>(
    roots: &[u32],
    mut insert: impl FnMut(&[u32]) -> Result<(), E>,
) -> Result<(), E> {
    let mut known = BTreeSet::new();
    loop {
        let found = descendants(roots)?;
        let new: Vec<_> = found.difference(&known).copied().collect();
        if new.is_empty() {
            return Ok(());
        }
        insert(&new)?;
        known.extend(new);
    }
}

/// The first of `pids` that is no process.
pub(super) fn missing(pids: &[u32]) -> Option<u32> {
    pids.iter().copied().find(|pid| !Path::new("/proc").join(pid.to_string()).exists())
}

/// What is reachable from `roots` over pairs of a process and its parent.
fn closure(roots: &[u32], pairs: &[(u32, u32)]) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    loop {
        let before = found.len();
        for (pid, parent) in pairs {
            if (roots.contains(parent) || found.contains(parent)) && !roots.contains(pid) {
                found.insert(*pid);
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grandchildren_are_found_in_any_order() {
        let pairs = [(4, 3), (3, 2), (9, 1), (2, 1), (7, 9)];
        assert_eq!(closure(&[2], &pairs), BTreeSet::from([3, 4]));
        assert_eq!(closure(&[1, 3], &pairs), BTreeSet::from([2, 4, 7, 9]));
        assert_eq!(closure(&[5], &pairs), BTreeSet::new());
    }

    #[test]
    fn a_living_child_is_found() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let found = descendants(&[std::process::id()]).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.contains(&child.id()), "{found:?}");
    }
}
