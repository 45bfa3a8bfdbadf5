//! Thread ids: from a process's own pid namespace to the one hz sees.

use procfs::process::Process;
use std::collections::HashMap;

/// Threads that are remembered; more would be a process that lies.
const KNOWN_MAX: usize = 65_536;

/// The threads of one process.
#[derive(Debug)]
pub(super) struct Threads {
    pid: u32,
    /// By the process's own id of them; `None`: both namespaces are the same.
    known: Option<HashMap<u32, u32>>,
    may_look: bool,
}

impl Threads {
    pub(super) fn new(pid: u32) -> Self {
        let status = process(pid).and_then(|process| process.status().ok());
        let depth = status.and_then(|status| status.nspid).map_or(1, |ids| ids.len());
        Self { pid, known: (depth > 1).then(HashMap::new), may_look: true }
    }

    /// Lets [`Threads::tid`] look into `/proc` again: once, so that a process which names many
    /// threads that are not there costs no more.
    pub(super) const fn allow_look(&mut self) {
        self.may_look = true;
    }

    /// The thread that the process knows as `own`, 0 if it has ended.
    pub(super) fn tid(&mut self, own: u32) -> u32 {
        let Some(known) = &mut self.known else { return own };
        if !known.contains_key(&own) && std::mem::take(&mut self.may_look) {
            // Ids are used again.
            known.clear();
            known.extend(threads(self.pid).take(KNOWN_MAX));
        }
        known.get(&own).copied().unwrap_or(0)
    }
}

fn process(pid: u32) -> Option<Process> {
    Process::new(i32::try_from(pid).ok()?).ok()
}

/// Pairs of a thread's id in the process's own namespace and in ours.
fn threads(pid: u32) -> impl Iterator<Item = (u32, u32)> {
    let tasks = process(pid).and_then(|process| process.tasks().ok()).into_iter().flatten();
    tasks.filter_map(|task| {
        let task = task.ok()?;
        let own = task.status().ok()?.nspid?.last().copied()?;
        Some((u32::try_from(own).ok()?, u32::try_from(task.tid).ok()?))
    })
}
