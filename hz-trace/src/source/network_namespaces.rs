//! Network namespaces of processes, and how to look from within one.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
};

/// A network namespace that was found.
#[derive(Debug)]
pub struct NetworkNamespace {
    /// Its inode, by which records name it.
    pub inode: u64,
    /// A process that is in it, to read its counters by.
    pub pid: u32,
    file: File,
}

impl NetworkNamespace {
    /// That of process `pid`.
    ///
    /// # Errors
    ///
    /// If the process is gone, or another user's.
    pub fn of(pid: u32) -> io::Result<Self> {
        let file = File::open(format!("/proc/{pid}/ns/net"))?;
        Ok(Self { inode: file.metadata()?.ino(), pid, file })
    }

    /// Runs `look` in a thread that is in the namespace; in this one if it is there already.
    ///
    /// # Errors
    ///
    /// Without `CAP_SYS_ADMIN`.
    pub fn within<T: Send>(&self, look: impl FnOnce() -> T + Send) -> io::Result<T> {
        if fs::metadata("/proc/self/ns/net").is_ok_and(|own| own.ino() == self.inode) {
            return Ok(look());
        }
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok(look())
            });
            inside.join().unwrap_or_else(|_| Err(io::Error::other("the look has failed")))
        })
    }
}

/// Adds the namespaces of `pids` that are not yet known.
pub fn add_namespaces(
    known: &mut BTreeMap<u64, NetworkNamespace>,
    pids: impl IntoIterator<Item = u32>,
) {
    for pid in pids {
        let inode = fs::metadata(format!("/proc/{pid}/ns/net")).map(|namespace| namespace.ino());
        let Ok(inode) = inode else { continue };
        if let std::collections::btree_map::Entry::Vacant(place) = known.entry(inode)
            && let Ok(namespace) = NetworkNamespace::of(pid)
        {
            place.insert(namespace);
        }
    }
}

/// The network namespaces of `pids` by inode, each with a process that is in it.
pub fn processes_by_namespace(pids: impl IntoIterator<Item = u32>) -> BTreeMap<u32, u32> {
    let mut found = BTreeMap::new();
    for pid in pids {
        let Ok(namespace) = fs::metadata(format!("/proc/{pid}/ns/net")) else { continue };
        found.entry(u32::try_from(namespace.ino()).unwrap_or(0)).or_insert(pid);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::every_process;

    #[test]
    fn own_namespace_is_found_once_and_looked_at_from_within() {
        let mut known = BTreeMap::new();
        add_namespaces(&mut known, [std::process::id(), std::process::id(), u32::MAX]);
        assert_eq!(known.len(), 1);
        let own = known.values().next().unwrap();
        assert_eq!(own.within(|| 7).unwrap(), 7);
        let by_inode = processes_by_namespace(every_process());
        assert!(by_inode.contains_key(&u32::try_from(own.inode).unwrap()), "{by_inode:?}");
    }
}
