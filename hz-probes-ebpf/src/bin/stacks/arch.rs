//! Where the kernel keeps the registers of a thread in user mode, for each architecture.
//!
//! They are part of its interface to user space (`arch/*/include/uapi/asm/ptrace.h`), so that the
//! numbers hold for every kernel. BPF has one target for all architectures: the loader's is taken.

use crate::walk::register;

/// Offsets in `struct pt_regs`, in bytes.
#[cfg(bpf_target_arch = "x86_64")]
pub(crate) mod regs {
    pub(crate) const PC: usize = 128;
    pub(crate) const SP: usize = 152;
    pub(crate) const FP: usize = 32;
    pub(crate) const MODE: usize = 136;
    /// Number of the system call, negative if the thread is in none.
    pub(crate) const SYSCALL: usize = 120;
    pub(crate) const ARGS: [usize; 4] = [112, 104, 96, 56];
    /// Arguments and result of a function.
    pub(crate) const CALL_ARGS: [usize; 3] = [112, 104, 96];
    pub(crate) const RESULT: usize = 80;
}

/// Offsets in `struct pt_regs`, in bytes.
#[cfg(bpf_target_arch = "aarch64")]
pub(crate) mod regs {
    pub(crate) const PC: usize = 256;
    pub(crate) const SP: usize = 248;
    pub(crate) const FP: usize = 232;
    pub(crate) const MODE: usize = 264;
    /// Number of the system call, negative if the thread is in none.
    pub(crate) const SYSCALL: usize = 284;
    pub(crate) const ARGS: [usize; 4] = [272, 8, 16, 24];
    /// Arguments and result of a function.
    pub(crate) const CALL_ARGS: [usize; 3] = [0, 8, 16];
    pub(crate) const RESULT: usize = 0;
}

/// Whether a thread runs code of 32 bits: its code segment is `__USER32_CS` then.
#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn is_32_bit(regs: *const u8) -> bool {
    register(regs, regs::MODE) == 0x23
}
/// Whether a thread runs code of 32 bits: its state has `PSR_MODE32_BIT` then.
#[cfg(bpf_target_arch = "aarch64")]
#[inline(always)]
pub(crate) fn is_32_bit(regs: *const u8) -> bool {
    register(regs, regs::MODE) & 0x10 != 0
}

/// Number of `futex`.
#[cfg(bpf_target_arch = "x86_64")]
pub(crate) const FUTEX: i32 = 202;
/// Number of `futex`.
#[cfg(bpf_target_arch = "aarch64")]
pub(crate) const FUTEX: i32 = 98;

/// Where a signal handler's return finds what it interrupted, from the stack pointer: `rt_sigframe`
/// after its return address was taken. Offsets of pc, sp and fp.
#[cfg(bpf_target_arch = "x86_64")]
pub(crate) const SIGNAL: (u64, u64, u64) = (168, 160, 120);
/// Where a signal handler's return finds what it interrupted, from the stack pointer: `rt_sigframe`.
#[cfg(bpf_target_arch = "aarch64")]
pub(crate) const SIGNAL: (u64, u64, u64) = (568, 560, 544);
