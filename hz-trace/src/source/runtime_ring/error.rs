//! Why a process's rings cannot be read.

use hz_probes_ebpf::runtime_ring::RING_VERSION;
use std::io;

/// Why the shared memory of a process cannot be read. Every variant says which process.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// It has ended, or never was.
    #[error("no process has the id {pid}")]
    NoSuchProcess {
        /// Process id.
        pid: u32,
    },
    /// It shares nothing.
    #[error("process {pid} shows no tasks: it has no open memfd of its own named hz_runtime")]
    NoRuntime {
        /// Process id.
        pid: u32,
    },
    /// The kernel refuses.
    #[error(
        "process {pid} is not this user's; become its user or root, or grant CAP_SYS_PTRACE and \
         CAP_DAC_OVERRIDE"
    )]
    NotPermitted {
        /// Process id.
        pid: u32,
    },
    /// The system said no for another reason.
    #[error("cannot read the tasks of process {pid}")]
    Io {
        /// Process id.
        pid: u32,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The memory could be cut while it is read, which would kill the reader.
    #[error(
        "the memory that process {pid} shares can shrink or grow (F_SEAL_SHRINK, F_SEAL_GROW are \
         not set), so it is not read"
    )]
    NotSealed {
        /// Process id.
        pid: u32,
    },
    /// The process has not finished setting it up.
    #[error("the memory that process {pid} shares is not set up yet")]
    NotReady {
        /// Process id.
        pid: u32,
    },
    /// Another hz wrote the runtime.
    #[error(
        "the memory that process {pid} shares has layout {version}, this hz reads {RING_VERSION}; \
         use an hz as new as the program's hz-runtime"
    )]
    Version {
        /// Process id.
        pid: u32,
        /// Its layout's version.
        version: u32,
    },
    /// It cannot be what it says.
    #[error("the memory that process {pid} shares contradicts itself: {what}")]
    Malformed {
        /// Process id.
        pid: u32,
        /// The first contradiction.
        what: &'static str,
    },
    /// As many read it already as can.
    #[error(
        "process {pid} is read by {readers} others already, and no more can; end one of them \
         (their process ids: {})",
        list(pids)
    )]
    NoFreeLease {
        /// Process id.
        pid: u32,
        /// How many hold a lease.
        readers: usize,
        /// Who they say they are.
        pids: Vec<u32>,
    },
}

fn list(pids: &[u32]) -> String {
    pids.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}

impl AttachError {
    /// What the system said while something of process `pid` was opened.
    pub(super) fn of_io(pid: u32, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ENOENT | libc::ESRCH) => Self::NoSuchProcess { pid },
            Some(libc::EACCES | libc::EPERM) => Self::NotPermitted { pid },
            _ => Self::Io { pid, source },
        }
    }

    /// Whether there was nothing to read, rather than something that cannot be read.
    #[must_use]
    pub const fn is_absence(&self) -> bool {
        matches!(self, Self::NoSuchProcess { .. } | Self::NoRuntime { .. } | Self::NotReady { .. })
    }
}
