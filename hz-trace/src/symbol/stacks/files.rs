//! Where the file is that a process had mapped: it may be in a container, deleted, or replaced.

use crate::model::{MappedFile, Stacks};
use blazesym::helper::read_elf_build_id;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Ranges of a file that are tried through `/proc/PID/map_files`.
const RANGES: usize = 16;

/// A file whose symbols are those of a mapped one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The file itself.
    Whole(PathBuf),
    /// Its debug information only, which says nothing of offsets in the file itself.
    Debug(PathBuf),
}

/// Finds the file, or says why not.
pub(super) fn find(
    stacks: &Stacks,
    number: u32,
    file: &MappedFile,
    debug_dirs: &[PathBuf],
) -> Result<Found, String> {
    let mut reason = "not found".to_owned();
    for candidate in candidates(stacks, number, file, debug_dirs) {
        let Ok(there) = fs::metadata(&candidate) else { continue };
        // What is no plain file may never end, or do something when it is read.
        if !there.is_file() {
            continue;
        }
        match is_same(file, &candidate, &there) {
            Ok(true) => return Ok(Found::Whole(candidate)),
            Ok(false) => reason = format!("{} is another file by now", candidate.display()),
            Err(error) => reason = error,
        }
    }
    debug_file(file, debug_dirs).map(Found::Debug).ok_or(reason)
}

/// Where the file may be, the surest place first.
fn candidates(
    stacks: &Stacks,
    number: u32,
    file: &MappedFile,
    debug_dirs: &[PathBuf],
) -> Vec<PathBuf> {
    let path = file.path.strip_suffix(" (deleted)").unwrap_or(&file.path);
    let mut found = Vec::new();
    let mut pids = vec![file.pid];
    for (pid, ranges) in &stacks.ranges {
        let of_file = ranges.iter().rev().filter(|range| range.file == number).take(RANGES);
        for range in of_file {
            let name = format!("/proc/{pid}/map_files/{:x}-{:x}", range.start, range.end);
            found.push(PathBuf::from(name));
            pids.push(*pid);
        }
    }
    pids.dedup();
    if path.starts_with('/') {
        found.extend(pids.iter().map(|pid| PathBuf::from(format!("/proc/{pid}/root{path}"))));
        found.push(PathBuf::from(path));
    }
    let name = Path::new(path).file_name();
    found.extend(debug_dirs.iter().filter_map(|dir| Some(dir.join(name?))));
    found
}

fn is_same(file: &MappedFile, path: &Path, there: &fs::Metadata) -> Result<bool, String> {
    if !file.build_id.is_empty() {
        let id = guarded(|| read_elf_build_id(path).map_err(|error| error.to_string()))
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        return Ok(id.is_some_and(|id| *id == *file.build_id));
    }
    // File systems in layers tell one device by stat and another by mappings; inodes agree.
    Ok(there.ino() == file.inode
        || path.starts_with("/proc") && path.to_string_lossy().contains("/map_files/"))
}

/// A file of debug information by the mapped one's id.
pub(super) fn debug_file(file: &MappedFile, debug_dirs: &[PathBuf]) -> Option<PathBuf> {
    let (first, rest) = file.build_id.split_first()?;
    let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
    let name = format!(".build-id/{first:02x}/{rest}.debug");
    debug_dirs.iter().map(|dir| dir.join(&name)).find(|path| path.is_file())
}

/// The id of an ELF file, from its note `NT_GNU_BUILD_ID`.
#[must_use]
pub fn build_id(path: &Path) -> Option<Vec<u8>> {
    let is_file = fs::metadata(path).is_ok_and(|there| there.is_file());
    let read = || read_elf_build_id(path).map_err(|error| error.to_string());
    let id = is_file.then(|| guarded(read).ok()).flatten().flatten();
    id.map(|id| id.to_vec())
}

/// Runs what reads a file that may be damaged in a way its reader did not think of.
pub(super) fn guarded<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err("it is damaged".to_owned()))
}
