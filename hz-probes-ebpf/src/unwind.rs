//! What the unwinder in the kernel and those who fill its tables share.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Places of one process that the unwinder knows.
pub const PLACES_MAX: usize = 160;

/// Tables of rows that the unwinder knows.
pub const TABLES_MAX: usize = 4096;

/// [`Place::table`]: nothing is known of how to leave its functions, but by frame pointer.
pub const NO_TABLE: u32 = u32::MAX;

/// Settings of the programs `stacks`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct StackConfig {
    /// Id of the control group, for `FILTER_CGROUP`: the inode of its directory.
    pub cgroup_id: u64,
    /// Times off a CPU that are shorter are not told, nanoseconds.
    pub off_min_ns: u64,
    /// Bytes of allocations between two samples, in the mean; at least 1.
    pub heap_mean_bytes: u64,
    /// Depth of the control group below the root of its hierarchy.
    pub cgroup_level: u32,
    /// `FILTER_ALL`, `FILTER_PIDS` or `FILTER_CGROUP`.
    pub filter: u32,
    /// Number of rings less one; the number is a power of two.
    pub ring_mask: u32,
    /// One of so many times off a CPU is told; at least 1.
    pub off_one_in: u32,
    /// 1 if user stacks are walked by the rows of [`Places`], where there are any.
    pub has_rows: u32,
    /// 1 if `sched_switch` passes the leaving thread's state (Linux 5.18).
    pub switch_has_state: u32,
    /// What samples count: a `SAMPLE_*`.
    pub event: u32,
    /// Offset of `task_struct.pid`, hz's tid, in bytes. rustc emits no CO-RE relocations, the loader
    /// asks BTF.
    pub task_tid: u32,
    /// Offset of `task_struct.tgid`, hz's pid.
    pub task_pid: u32,
    /// Offset of `task_struct.flags`.
    pub task_flags: u32,
    /// Offset of `task_struct.__state`.
    pub task_state: u32,
    /// Offset of `task_struct.on_rq`.
    pub task_on_rq: u32,
    /// Offset of `task_struct.se.sched_delayed`; 0: this kernel has none.
    pub task_sched_delayed: u32,
    /// Offset of `task_struct.se.sum_exec_runtime`, its CPU time in nanoseconds.
    pub task_ran_ns: u32,
    /// What the program that takes samples gives back: with 1 perf writes the sample as well.
    pub sample_result: u32,
    /// Always 0.
    pub reserved: u32,
    /// Where the kernel's code is that all interrupts enter by: first address, and how long it is; 0: not
    /// known.
    pub interrupts: [u64; 2],
}
const _: () = assert!(size_of::<StackConfig>() == 104);

/// Executable memory of a process.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Place {
    /// First address.
    pub start: u64,
    /// What a row's `pc` is relative to.
    pub base: u64,
    /// How long it is.
    pub bytes: u32,
    /// Number of its table of rows, or [`NO_TABLE`].
    pub table: u32,
}
const _: () = assert!(size_of::<Place>() == 24);

/// Where a process has code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Places {
    /// How many there are.
    pub count: u32,
    /// Always 0.
    pub reserved: u32,
    /// By address; the rest is 0.
    pub places: [Place; PLACES_MAX],
}
// The kernel keeps values of up to a page ready.
const _: () = assert!(size_of::<Places>() <= 4000);

/// How to leave a function, from `pc` up to the next row's.
///
/// The first row of a table is none: its `pc` is the number of those that follow, which are by `pc`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Row {
    /// Relative to [`Place::base`].
    pub pc: u32,
    /// A [`Rule`], packed.
    pub rule: u32,
}
const _: () = assert!(size_of::<Row>() == 8);

/// Rows of one table at the most, so that a search ends after [`SEARCH_STEPS`].
pub const ROWS_MAX: usize = (1 << SEARCH_STEPS) - 1;
/// Halvings that find a row.
pub const SEARCH_STEPS: u32 = 22;

/// Where the caller's stack begins (the CFA).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Cfa {
    /// No function is here that anything is known of.
    Unknown = 0,
    /// There is no caller.
    Outermost = 1,
    /// The stack pointer and an offset.
    Sp = 2,
    /// The frame pointer and an offset.
    Fp = 3,
    /// What is in memory at the frame pointer and an offset: functions that align their stack.
    FpMemory = 4,
    /// An entry of the procedure linkage table: the stack pointer and 8, or 16 in the second half of
    /// its 16 bytes.
    Plt = 5,
    /// The kernel called a signal handler: all registers are on the stack.
    Signal = 6,
    /// A rule that rows cannot hold.
    Hard = 7,
}

/// Where the caller's frame pointer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Fp {
    /// Still in its register.
    Same = 0,
    /// In memory, at the CFA and an offset.
    Saved = 1,
    /// Nobody knows.
    Lost = 2,
    /// In memory, at the frame pointer and an offset: functions that align their stack.
    SavedAtFp = 3,
}

/// One rule, unpacked. Offsets are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Where the caller's stack begins.
    pub cfa: Cfa,
    /// What is added.
    pub cfa_offset: i32,
    /// Where the caller's frame pointer is.
    pub fp: Fp,
    /// What is added.
    pub fp_offset: i32,
}

impl Rule {
    /// Bits of the offset of the CFA, in words of 8 bytes.
    const CFA_BITS: u32 = 15;
    /// Bits of the offset of the frame pointer, in words of 8 bytes.
    const FP_BITS: u32 = 12;

    /// One without offsets.
    #[must_use]
    pub const fn plain(cfa: Cfa) -> Self {
        Self { cfa, cfa_offset: 0, fp: Fp::Lost, fp_offset: 0 }
    }

    /// As it travels; one whose offsets do not fit is [`Cfa::Hard`].
    #[must_use]
    pub const fn pack(self) -> u32 {
        if !fits(self.cfa_offset, Self::CFA_BITS) || !fits(self.fp_offset, Self::FP_BITS) {
            return Cfa::Hard as u32;
        }
        let fp = (self.fp_offset / 8).cast_unsigned() & ((1 << Self::FP_BITS) - 1);
        let cfa = (self.cfa_offset / 8).cast_unsigned() & ((1 << Self::CFA_BITS) - 1);
        self.cfa as u32 | (self.fp as u32) << 3 | fp << 5 | cfa << (5 + Self::FP_BITS)
    }

    /// The kind of the CFA, a [`Cfa`].
    #[must_use]
    #[inline(always)]
    pub const fn cfa_of(packed: u32) -> u32 {
        packed & 7
    }

    /// The kind of the frame pointer, an [`Fp`].
    #[must_use]
    #[inline(always)]
    pub const fn fp_of(packed: u32) -> u32 {
        packed >> 3 & 3
    }

    /// The offset of the CFA, bytes.
    #[must_use]
    #[inline(always)]
    pub const fn cfa_offset_of(packed: u32) -> i64 {
        (packed.cast_signed() >> (5 + Self::FP_BITS)) as i64 * 8
    }

    /// The offset of the frame pointer, bytes.
    #[must_use]
    #[inline(always)]
    pub const fn fp_offset_of(packed: u32) -> i64 {
        ((packed << Self::CFA_BITS).cast_signed() >> (32 - Self::FP_BITS)) as i64 * 8
    }
}

const fn fits(offset: i32, bits: u32) -> bool {
    let words = offset / 8;
    offset % 8 == 0 && words >= -(1 << (bits - 1)) && words < 1 << (bits - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_comes_back_as_it_went() {
        for cfa_offset in [-131_072, -8, 0, 8, 16, 4096, 131_064] {
            for fp_offset in [-16_384, -16, 0, 16_376] {
                let rule = Rule { cfa: Cfa::FpMemory, cfa_offset, fp: Fp::Saved, fp_offset };
                let packed = rule.pack();
                assert_eq!(Rule::cfa_of(packed), Cfa::FpMemory as u32);
                assert_eq!(Rule::fp_of(packed), Fp::Saved as u32);
                assert_eq!(Rule::cfa_offset_of(packed), i64::from(cfa_offset));
                assert_eq!(Rule::fp_offset_of(packed), i64::from(fp_offset));
            }
        }
    }

    #[test]
    fn a_rule_that_does_not_fit_is_hard() {
        for (cfa_offset, fp_offset) in [(131_072, 0), (-131_080, 0), (4, 0), (8, 16_384), (8, 1)] {
            let rule = Rule { cfa: Cfa::Sp, cfa_offset, fp: Fp::Saved, fp_offset };
            assert_eq!(Rule::cfa_of(rule.pack()), Cfa::Hard as u32, "{rule:?}");
        }
    }
}
