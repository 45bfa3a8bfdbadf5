//! Why hz cannot run here.

use std::io;

/// Why a recording could not start on this host. Each says what the reader can do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The kernel does not describe its types.
    #[error(
        "this kernel has no type information (/sys/kernel/btf/vmlinux); hz needs one built with CONFIG_DEBUG_INFO_BTF"
    )]
    NoBtf {
        /// What libbpf said.
        #[source]
        source: libbpf_rs::Error,
    },
    /// `EPERM` on load or attach.
    #[error("{probe}: not permitted; run as root or grant CAP_BPF and CAP_PERFMON")]
    NotPermitted {
        /// The probe.
        probe: &'static str,
    },
    /// The kernel lacks a hook that the probe cannot do without.
    #[error("{probe}: this kernel has no tracepoint {hook}")]
    NoHook {
        /// The probe.
        probe: &'static str,
        /// The hook.
        hook: &'static str,
    },
    /// The kernel refused a program.
    #[error("{probe}: the kernel refused its programs (see hz-trace -vv for the verifier's log)")]
    Refused {
        /// The probe.
        probe: &'static str,
        /// What libbpf said.
        #[source]
        source: libbpf_rs::Error,
    },
    /// The kernel refused a counter.
    #[error("{probe}: the kernel gives no clock to sample by; be root, or grant CAP_PERFMON")]
    NoCounter {
        /// The probe.
        probe: &'static str,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The probe is put on processes, and none were named.
    #[error(
        "{probe}: its probes go to processes; name them with -p PID, --cgroup PATH or a command"
    )]
    NeedsProcesses {
        /// The probe.
        probe: &'static str,
    },
    /// The host has more CPUs than the probe keeps state for.
    #[error("{probe}: {cpus} possible CPUs, hz supports up to {max}")]
    TooManyCpus {
        /// The probe.
        probe: &'static str,
        /// CPUs the kernel may have.
        cpus: usize,
        /// CPUs hz supports.
        max: usize,
    },
    /// hz was built with `AYA_BUILD_SKIP=1`.
    #[error(
        "{probe}: this hz-trace was built without BPF programs; build it without AYA_BUILD_SKIP"
    )]
    NotBuilt {
        /// The probe.
        probe: &'static str,
    },
}

/// Why a target cannot be recorded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// No process has this id.
    #[error("no process has pid {pid}")]
    NoSuchPid {
        /// The id.
        pid: u32,
    },
    /// The id names a thread, not a process.
    #[error("{tid} is a thread of process {pid}; use -p {pid}")]
    IsAThread {
        /// The id that was given.
        tid: u32,
        /// The process it belongs to.
        pid: u32,
    },
    /// Ids here are not the kernel's.
    #[error(
        "hz runs in a {namespace} namespace of its own, so the kernel knows this target by another id; run hz on the host"
    )]
    Namespace {
        /// Which kind of namespace.
        namespace: &'static str,
    },
    /// Not a directory of the cgroup v2 hierarchy.
    #[error("{path} is not in a cgroup v2 hierarchy{hint}")]
    NotACgroup {
        /// The path that was given.
        path: String,
        /// Where the hierarchy is, if there is one.
        hint: String,
    },
    /// The system said no.
    #[error("cannot read {path}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The command cannot be started.
    #[error("cannot start {command}")]
    Command {
        /// The command.
        command: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}
