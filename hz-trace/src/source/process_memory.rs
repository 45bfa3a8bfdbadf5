//! The memory of a process, and the program that it runs.

use crate::symbol::Memory;
use procfs::process::{MMapPath, Process};
use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::PathBuf,
};

/// The memory of a process, to be read while it runs.
///
/// It is read through `/proc/PID/mem`, as `process_vm_readv` would, but by a file that stays with the
/// memory that it was opened for: when the process ends or becomes another program, nothing is read
/// any more, whoever gets its number.
#[derive(Debug)]
pub struct ProcessMemory {
    file: File,
}

impl ProcessMemory {
    /// The memory of process `pid`.
    ///
    /// # Errors
    ///
    /// It is not there, or may not be read: that takes what `ptrace` takes.
    pub fn open(pid: u32) -> io::Result<Self> {
        File::open(format!("/proc/{pid}/mem")).map(|file| Self { file })
    }
}

impl Memory for ProcessMemory {
    fn read(&self, address: u64, into: &mut [u8]) -> bool {
        // Where nothing is mapped it fails; addresses that are none are no offsets either.
        i64::try_from(address).is_ok() && self.file.read_exact_at(into, address).is_ok()
    }
}

/// The program that a process runs: where it can be opened even if it was replaced or is in a
/// container, what it is called, and where its first byte is in memory.
///
/// # Errors
///
/// The process is not there, or may not be looked at.
pub fn executable(pid: u32) -> io::Result<(PathBuf, PathBuf, u64)> {
    let path = PathBuf::from(format!("/proc/{pid}/exe"));
    let name = fs::read_link(&path)?;
    let id = i32::try_from(pid).map_err(io::Error::other)?;
    let maps = Process::new(id).and_then(|process| process.maps()).map_err(io::Error::other)?;
    let is_its = |map: &&procfs::process::MemoryMap| {
        map.offset == 0 && matches!(&map.pathname, MMapPath::Path(path) if *path == name)
    };
    let first = maps.iter().find(is_its).map_or(0, |map| map.address.0);
    Ok((path, name, first))
}
