//! Why sockets and queues cannot be looked at.

use rustix::io::Errno;
use std::io;

/// Why a network namespace cannot be looked into. Every variant says which, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NamespaceError {
    /// It has ended, or never was.
    #[error("no process has the id {pid}")]
    NoSuchProcess {
        /// Process id.
        pid: u32,
    },
    /// The kernel refuses.
    #[error(
        "not permitted to enter the network namespace of process {pid}; run as root or grant \
         CAP_SYS_ADMIN and CAP_SYS_PTRACE"
    )]
    NotPermitted {
        /// Process id.
        pid: u32,
    },
    /// The system said no for another reason.
    #[error("cannot open the network namespace of process {pid}")]
    Io {
        /// Process id.
        pid: u32,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Why a dump is not whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LookError {
    /// The kernel has no such dump, or not in a module that is loaded.
    #[error("this kernel does not tell {what}: load its module (modprobe {module}) or build it in")]
    NotThere {
        /// What was asked for.
        what: &'static str,
        /// The kernel's module.
        module: &'static str,
    },
    /// The kernel said no.
    #[error("cannot ask the kernel for {what}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A message was longer than any the kernel sends.
    #[error("the kernel's answer about {what} was cut short")]
    Cut {
        /// What was asked for.
        what: &'static str,
    },
}

impl LookError {
    pub(super) fn of(what: &'static str, module: &'static str, error: Errno) -> Self {
        match error {
            Errno::NOENT | Errno::OPNOTSUPP | Errno::PROTONOSUPPORT => {
                Self::NotThere { what, module }
            }
            error => Self::Refused { what, source: error.into() },
        }
    }
}
