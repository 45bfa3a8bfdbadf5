//! Which processes have a socket open: `/proc/PID/fd`, read when something new is to be known.

use rustc_hash::FxHashMap;
use std::{
    fs,
    time::{Duration, Instant},
};

/// Files that one reading looks at, at the most: with more, some owners are not known.
const FILES_MAX: usize = 200_000;

/// How old what is known may be, even where nothing new is asked for: sockets are passed on.
const OLD: Duration = Duration::from_secs(10);

/// A reading may take one part of this many of the time until the next.
const SHARE: u32 = 20;

/// Holders of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holders {
    /// The process with the lowest id.
    pub pid: u32,
    /// How many there are.
    pub count: u32,
}

/// Holders of sockets by inode.
#[derive(Debug, Default)]
pub struct Owners {
    /// Of a process and its inode's holders. Only these processes are read; `None`: all.
    pids: Option<Vec<u32>>,
    by_inode: FxHashMap<u32, Holders>,
    read: Option<(Instant, Duration)>,
    unreadable: usize,
    is_cut: bool,
}

impl Owners {
    /// Looks at these processes only, or at all.
    #[must_use]
    pub fn of(pids: Option<Vec<u32>>) -> Self {
        Self { pids, ..Self::default() }
    }

    /// Looks at these processes from now on.
    pub fn set(&mut self, pids: Vec<u32>) {
        if self.pids.as_ref() != Some(&pids) {
            self.pids = Some(pids);
            self.read = None;
        }
    }

    /// Reads anew if one of `inodes` is not known and the last reading is not too fresh for its cost, or if it is old.
    pub fn refresh(&mut self, mut inodes: impl Iterator<Item = u32>) {
        let is_due = self.read.is_none_or(|(at, took)| {
            let age = at.elapsed();
            age > OLD
                || (age > took * SHARE && inodes.any(|inode| !self.by_inode.contains_key(&inode)))
        });
        if is_due {
            self.read();
        }
    }

    /// Who has a socket open.
    #[must_use]
    pub fn holders(&self, inode: u32) -> Option<Holders> {
        self.by_inode.get(&inode).copied()
    }

    /// Processes whose files may not be read.
    #[must_use]
    pub const fn unreadable(&self) -> usize {
        self.unreadable
    }

    /// Whether there were more files than are looked at.
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        self.is_cut
    }

    fn read(&mut self) {
        let began = Instant::now();
        self.by_inode.clear();
        (self.unreadable, self.is_cut) = (0, false);
        let mut room = FILES_MAX;
        let pids = self.pids.clone().unwrap_or_else(super::every_process);
        for pid in pids {
            match fs::read_dir(format!("/proc/{pid}/fd")) {
                Ok(files) => self.read_process(pid, files, &mut room),
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                    self.unreadable += 1;
                }
                // It has ended.
                Err(_) => {}
            }
        }
        self.read = Some((Instant::now(), began.elapsed()));
    }

    fn read_process(&mut self, pid: u32, files: fs::ReadDir, room: &mut usize) {
        for file in files.flatten() {
            if *room == 0 {
                self.is_cut = true;
                return;
            }
            *room -= 1;
            let target = fs::read_link(file.path());
            let inode = target.ok().and_then(|target| socket_inode(target.to_str()?));
            if let Some(inode) = inode {
                self.add(inode, pid);
            }
        }
    }

    fn add(&mut self, inode: u32, pid: u32) {
        let holders = self.by_inode.entry(inode).or_insert(Holders { pid, count: 0 });
        // A process may have it under several numbers: its files come one after the other.
        if holders.count == 0 || holders.pid != pid {
            holders.count += 1;
        }
        holders.pid = holders.pid.min(pid);
    }
}

/// `socket:[4711]`.
fn socket_inode(target: &str) -> Option<u32> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{net::TcpListener, os::fd::AsFd as _};

    #[test]
    fn own_sockets_are_found_and_files_are_none() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let again = listener.try_clone().unwrap();
        let inode = rustix::fs::fstat(again.as_fd()).unwrap().st_ino;
        let inode = u32::try_from(inode).unwrap();
        let mut owners = Owners::of(Some(vec![std::process::id()]));
        owners.refresh([inode].into_iter());
        let own = Holders { pid: std::process::id(), count: 1 };
        assert_eq!(owners.holders(inode), Some(own));
        assert_eq!(socket_inode("pipe:[12]"), None);
    }

    #[test]
    fn a_socket_of_two_processes_has_both_and_a_process_counts_once() {
        let mut owners = Owners::default();
        for pid in [9, 9, 7] {
            owners.add(1, pid);
        }
        assert_eq!(owners.holders(1), Some(Holders { pid: 7, count: 2 }));
    }
}
