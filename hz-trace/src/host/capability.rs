//! What this process may do.

/// Linux capabilities that tracing needs, by their numbers in `linux/capability.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Capability {
    /// Read other users' `/proc`.
    SysPtrace = 19,
    /// Everything below, on kernels and in places that ask for it.
    SysAdmin = 21,
    /// Performance events and reading kernel memory from BPF.
    Perfmon = 38,
    /// Loading BPF programs.
    Bpf = 39,
}

impl Capability {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::Bpf, Self::Perfmon, Self::SysAdmin, Self::SysPtrace];

    /// The kernel's name of it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SysPtrace => "CAP_SYS_PTRACE",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        }
    }

    /// Whether this process has it in effect.
    #[must_use]
    pub fn is_effective(self) -> bool {
        let status = procfs::process::Process::myself().and_then(|process| process.status());
        status.is_ok_and(|status| status.capeff & (1 << self as u32) != 0)
    }
}

/// Whether this process may load tracing programs.
#[must_use]
pub fn may_trace() -> bool {
    Capability::SysAdmin.is_effective()
        || (Capability::Bpf.is_effective() && Capability::Perfmon.is_effective())
}
