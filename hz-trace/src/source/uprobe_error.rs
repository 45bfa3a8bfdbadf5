//! Why user probes cannot run.

use crate::symbol::Site;
use aya::maps::MapError;
use aya::programs::ProgramError;
use std::path::PathBuf;

/// Why user probes cannot run, or not any longer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UprobeError {
    /// Built with `AYA_BUILD_SKIP`.
    #[error("uprobe: this hz-trace was built without BPF programs; run scripts/setup and rebuild")]
    NotBuilt,
    /// `EPERM` or `EACCES` on loading or attaching.
    #[error("uprobe: not permitted; run as root or grant CAP_BPF and CAP_PERFMON")]
    NotPermitted,
    /// The kernel describes no types, which filtering by process needs.
    #[error("uprobe: no kernel type information (/sys/kernel/btf/vmlinux) to filter by process")]
    NoBtf,
    /// A process to be recorded does not exist.
    #[error("uprobe: no process {pid}")]
    NoSuchProcess {
        /// Its number.
        pid: u32,
    },
    /// More processes than the kernel's map of targets holds.
    #[error("uprobe: too many processes to follow ({count}); record a control group instead")]
    TooManyProcesses {
        /// How many there are.
        count: usize,
    },
    /// The object was refused as a whole.
    #[error("uprobe: cannot load the BPF object")]
    Object {
        /// What aya says.
        #[source]
        source: Box<aya::EbpfError>,
    },
    /// A program was refused, or a kernel hook.
    #[error("uprobe: the kernel refuses the program {program}")]
    Program {
        /// The program.
        program: &'static str,
        /// What the kernel says.
        #[source]
        source: Box<ProgramError>,
    },
    /// A map cannot be used.
    #[error("uprobe: cannot use the map {map}")]
    Map {
        /// The map.
        map: &'static str,
        /// What the kernel says.
        #[source]
        source: Box<MapError>,
    },
    /// The kernel puts no probe on this instruction or into this file.
    #[error("uprobe: the kernel refuses a probe on {symbol} at offset {file_offset:#x} of {}", binary.display())]
    Attach {
        /// The function.
        symbol: String,
        /// The file.
        binary: PathBuf,
        /// Where in the file, in bytes.
        file_offset: u64,
        /// What the kernel says.
        #[source]
        source: Box<ProgramError>,
    },
    /// `/proc` cannot be read.
    #[error("uprobe: cannot find the children of the recorded processes")]
    Proc(#[from] procfs::ProcError),
}

/// What a program was refused for.
pub(super) fn program_error(program: &'static str) -> impl Fn(ProgramError) -> UprobeError {
    move |source| {
        if is_program_denied(&source) {
            UprobeError::NotPermitted
        } else {
            UprobeError::Program { program, source: Box::new(source) }
        }
    }
}

/// What a probe was refused for.
pub(super) fn site_error(site: &Site, source: ProgramError) -> UprobeError {
    if is_program_denied(&source) {
        return UprobeError::NotPermitted;
    }
    UprobeError::Attach {
        symbol: site.symbol.clone(),
        binary: site.binary.clone(),
        file_offset: site.file_offset,
        source: Box::new(source),
    }
}

/// What a map was refused for.
pub(super) fn map_error(map: &'static str) -> impl Fn(MapError) -> UprobeError {
    move |source| UprobeError::Map { map, source: Box::new(source) }
}

/// Whether the kernel wants more privileges.
fn is_program_denied(error: &ProgramError) -> bool {
    match error {
        ProgramError::LoadError { io_error, .. } => io_error.raw_os_error() == Some(libc::EPERM),
        ProgramError::SyscallError(error) => is_denied(&error.io_error),
        _ => false,
    }
}

/// `EPERM` or `EACCES`.
pub(super) fn is_denied(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::PermissionDenied
}
