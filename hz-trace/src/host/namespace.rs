//! Whether ids and paths here are the host's.

use crate::error::TargetError;
use std::{fs, os::unix::fs::MetadataExt as _};

/// A kind of namespace that changes what a target is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// Process ids.
    Pid,
    /// Paths of control groups.
    Cgroup,
}

impl Namespace {
    /// Its name in `/proc/PID/ns`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pid => "pid",
            Self::Cgroup => "cgroup",
        }
    }

    /// Inode of the host's own, fixed by the kernel (`PROC_PID_INIT_INO`, `PROC_CGROUP_INIT_INO` in
    /// `include/linux/proc_ns.h`).
    const fn initial_inode(self) -> u64 {
        match self {
            Self::Pid => 0xefff_fffc,
            Self::Cgroup => 0xefff_fffb,
        }
    }

    /// Whether this process is in the host's own; also if that cannot be told.
    #[must_use]
    pub fn is_initial(self) -> bool {
        let link = fs::metadata(format!("/proc/self/ns/{}", self.name()));
        link.map_or(true, |link| link.ino() == self.initial_inode())
    }

    /// Refuses a target that is named by an id of this namespace, unless it is the host's own.
    ///
    /// # Errors
    ///
    /// [`TargetError::Namespace`].
    pub fn require_initial(self) -> Result<(), TargetError> {
        if self.is_initial() {
            return Ok(());
        }
        Err(TargetError::Namespace { namespace: self.name() })
    }
}
