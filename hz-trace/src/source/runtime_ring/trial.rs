//! Whether memory can be shared and found here at all, as a runtime and its readers do.

use super::{RuntimeMemory, error::AttachError};
use hz_probes_ebpf::runtime_ring::{MEMFD_NAME, RingPage};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

/// Shares a page that is not set up, as a runtime does before all else, and finds and maps it as a
/// reader does.
///
/// # Errors
///
/// What stands in the way, and what would mend it.
pub fn try_to_share() -> Result<(), String> {
    let made = |what: &str, error: rustix::io::Errno| {
        let remedy = match error {
            rustix::io::Errno::ACCESS => "; is the sysctl vm.memfd_noexec 2? Set it to 1",
            rustix::io::Errno::NOSYS | rustix::io::Errno::PERM => {
                "; does a seccomp filter forbid memfd_create? Allow it for programs and for hz-trace"
            }
            _ => "",
        };
        format!("{what}: {error}{remedy}")
    };
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = memfd_create(MEMFD_NAME, flags).map_err(|error| made("no memfd", error))?;
    ftruncate(&memory, size_of::<RingPage>() as u64).map_err(|error| made("no memory", error))?;
    fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
        .map_err(|error| made("memory cannot be sealed", error))?;
    match RuntimeMemory::open(std::process::id()) {
        // It was found and mapped, and says nothing yet.
        Ok(_) | Err(AttachError::NotReady { .. }) => Ok(()),
        Err(error) => Err(match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}; is /proc mounted?"),
            None => format!("{error}; is /proc mounted?"),
        }),
    }
}
