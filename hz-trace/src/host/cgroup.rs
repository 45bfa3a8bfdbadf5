//! Control groups of the v2 hierarchy, wherever it is mounted.

use crate::error::TargetError;
use procfs::process::{MountInfo, Process};
use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Component, Path, PathBuf},
};

/// A directory of the v2 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// The directory.
    pub path: PathBuf,
    /// Its id: its inode, which is `kernfs_node.id` on 64-bit kernels.
    pub id: u64,
    /// Its depth below the root of the hierarchy.
    pub level: u32,
}

impl Cgroup {
    /// Finds the control group at `path`, which may also be relative to the hierarchy's mount.
    ///
    /// # Errors
    ///
    /// [`TargetError`] if nothing is there, or something else than a v2 control group.
    pub fn find(path: &Path) -> Result<Self, TargetError> {
        let mounts = v2_mounts();
        let path = existing(path, &mounts)
            .map_err(|source| TargetError::Io { path: path.display().to_string(), source })?;
        let mount = mounts.iter().find(|mount| path.starts_with(&mount.mount_point));
        let Some(mount) = mount.filter(|_| path.is_dir()) else {
            return Err(not_a_cgroup(&path, &mounts));
        };
        let metadata = fs::metadata(&path)
            .map_err(|source| TargetError::Io { path: path.display().to_string(), source })?;
        let below = path.strip_prefix(&mount.mount_point).unwrap_or(&path);
        let level = depth(Path::new(&mount.root)) + depth(below);
        Ok(Self { id: metadata.ino(), level, path })
    }
}

impl Cgroup {
    /// The directory of the control group `id`, as its inode is found below the hierarchy's mounts.
    #[must_use]
    pub fn by_id(id: u64) -> Option<PathBuf> {
        v2_mounts().into_iter().find_map(|mount| with_inode(&mount.mount_point, id))
    }
}

fn with_inode(directory: &Path, inode: u64) -> Option<PathBuf> {
    if fs::metadata(directory).is_ok_and(|metadata| metadata.ino() == inode) {
        return Some(directory.to_owned());
    }
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    below.into_iter().find_map(|entry| with_inode(&entry.path(), inode))
}

fn v2_mounts() -> Vec<MountInfo> {
    let mounts = Process::myself().and_then(|process| process.mountinfo());
    let mounts = mounts.map(|mounts| mounts.0).unwrap_or_default();
    mounts.into_iter().filter(|mount| mount.fs_type == "cgroup2").collect()
}

/// `path` as it stands, or below a mount of the hierarchy.
fn existing(path: &Path, mounts: &[MountInfo]) -> std::io::Result<PathBuf> {
    fs::canonicalize(path).or_else(|error| {
        let relative = path.strip_prefix("/").unwrap_or(path);
        let below = mounts.iter().map(|mount| mount.mount_point.join(relative));
        below.filter_map(|path| fs::canonicalize(path).ok()).next().ok_or(error)
    })
}

fn depth(path: &Path) -> u32 {
    let names = path.components().filter(|part| matches!(part, Component::Normal(_)));
    u32::try_from(names.count()).unwrap_or(u32::MAX)
}

fn not_a_cgroup(path: &Path, mounts: &[MountInfo]) -> TargetError {
    let hint = mounts.first().map_or_else(
        || "; none is mounted".to_owned(),
        |mount| format!("; this host's is at {}", mount.mount_point.display()),
    );
    TargetError::NotACgroup { path: path.display().to_string(), hint }
}
