//! Finds the memory that a process shares, without letting it hold the reader up.

use super::{error::AttachError, layout::Layout, map::Map};
use hz_probes_ebpf::runtime_ring::MEMFD_NAME;
use procfs::process::Process;
use rustix::fs::{
    AtFlags, MemfdFlags, Mode, OFlags, StatxFlags, fstat, makedev, memfd_create, open, openat,
    statx,
};
use std::{
    fs::{self, File},
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// Memfds of the name that are looked at: those that were inherited, and the process's own.
const CANDIDATES_MAX: usize = 16;

/// A process's own memory, mapped and checked.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) map: Map,
    pub(super) layout: Layout,
    pub(super) identity: Identity,
}

/// Which file it is, so that it can be known again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// `/proc/PID/fd/N`.
    path: PathBuf,
    inode: u64,
}

impl Identity {
    /// Whether the process still has it open: it has neither ended nor become another program.
    pub(super) fn is_there(&self) -> bool {
        open_path(&self.path).is_ok_and(|fd| memfd_inode(&fd) == Some(self.inode))
    }
}

/// Finds the memory of process `pid`. A forked child that inherited its parent's has none.
pub(super) fn find(pid: u32) -> Result<Found, AttachError> {
    let failed = |source| AttachError::of_io(pid, source);
    let name = format!("/memfd:{MEMFD_NAME} (deleted)");
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).map_err(failed)?;
    let named = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| fs::read_link(path).is_ok_and(|target| target.as_os_str() == name.as_str()));
    let mut refusal = AttachError::NoRuntime { pid };
    for path in named.take(CANDIDATES_MAX) {
        match attach(&path, pid) {
            Ok(found) => return Ok(found),
            Err(error) if refusal.is_absence() => refusal = error,
            Err(_) => {}
        }
    }
    Err(refusal)
}

fn attach(path: &Path, pid: u32) -> Result<Found, AttachError> {
    let failed = |source| AttachError::of_io(pid, source);
    let fd = open_path(path).map_err(failed)?;
    let inode = memfd_inode(&fd).ok_or(AttachError::NoRuntime { pid })?;
    let (map, layout) = check(&reopen(&fd).map_err(failed)?, pid)?;
    if layout.pid != own_pid(pid)? {
        return Err(AttachError::NoRuntime { pid });
    }
    Ok(Found { map, layout, identity: Identity { path: path.to_owned(), inode } })
}

/// Maps a file as the memory of process `pid` and checks where everything is.
fn check(file: &File, pid: u32) -> Result<(Map, Layout), AttachError> {
    let map = Map::new(file, pid)?;
    let layout = Layout::read(&map, pid)?;
    Ok((map, layout))
}

/// A handle that names a file without opening it: opening asks a file's file system, and one in
/// user space (FUSE) may never answer.
fn open_path(path: &Path) -> io::Result<OwnedFd> {
    Ok(open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// The inode of a file if it is a memfd: on the device that all of them are on. The name alone
/// proves nothing: a file can be called so.
fn memfd_inode(fd: &OwnedFd) -> Option<u64> {
    // What is known without asking the file's file system will do for a memfd.
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let stat = statx(fd, c"", flags, StatxFlags::BASIC_STATS).ok()?;
    let device = makedev(stat.stx_dev_major, stat.stx_dev_minor);
    (memfd_device() == Some(device)).then_some(stat.stx_ino)
}

/// The device of memfds: the kernel mounts one file system for all of them.
fn memfd_device() -> Option<u64> {
    static DEVICE: OnceLock<Option<u64>> = OnceLock::new();
    *DEVICE.get_or_init(|| {
        let own = memfd_create(c"hz_device", MemfdFlags::CLOEXEC).ok()?;
        fstat(own).ok().map(|stat| stat.st_dev)
    })
}

fn reopen(fd: &OwnedFd) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    Ok(openat(rustix::fs::CWD, path, flags, Mode::empty())?.into())
}

/// The process's id as it sees itself: the last one of `NSpid`.
fn own_pid(pid: u32) -> Result<u32, AttachError> {
    let gone = || AttachError::NoSuchProcess { pid };
    let process = Process::new(i32::try_from(pid).map_err(|_| gone())?);
    let status = process.and_then(|process| process.status()).map_err(|_| gone())?;
    let own = status.nspid.and_then(|ids| ids.last().copied()).unwrap_or(status.tgid);
    u32::try_from(own).map_err(|_| gone())
}

#[cfg(test)]
impl Found {
    /// The memory in `file`, whoever's it is.
    pub(super) fn in_file(file: &File, pid: u32) -> Result<Self, AttachError> {
        let (map, layout) = check(file, pid)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let inode = memfd_inode(&open_path(&path).map_err(|error| AttachError::of_io(pid, error))?);
        Ok(Self { map, layout, identity: Identity { path, inode: inode.unwrap_or(0) } })
    }
}
