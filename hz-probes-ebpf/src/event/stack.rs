//! Records of the probes `oncpu` and `offcpu`: stacks, when a thread had them, and what their
//! addresses lie in.
//!
//! Addresses are raw. A user address is to be read with the [`Mapping`]s of its process as they were
//! when the record that names the stack was written; a kernel address with the kernel's symbols.

use super::Header;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Addresses in one [`StackTrace`]; a longer stack is told in several.
pub const STACK_PART: usize = 29;

/// Addresses of a stack at the most, user and kernel together.
pub const STACK_ADDRESSES: usize = 254;

/// Bytes of a path in one [`MappedFile`]; a longer path is told in several.
pub const PATH_PART: usize = 192;

/// A stack that other records name, or a part of it: told once for each process that has it.
///
/// Its addresses are the kernel's first, then the user's, each leaf first. The leaf of a part is
/// where the thread was; all others are return addresses, which may lie behind the function that
/// called. A stack of more than [`STACK_PART`] addresses is several records of the same `id`, in any
/// order; one of which parts are missing was lost.
///
/// The record may be shorter: its length is that of a small number of sizes, and `addresses` ends with
/// it.
///
/// # Source
///
/// `perf_event` and `sched_switch`; unwound in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StackTrace {
    /// `time_ns`, `cpu` and `tid` are of its first appearance; `arg` is the index of the part's first
    /// address among the stack's.
    pub header: Header,
    /// What records name it by; a hash of its process, its addresses and its ends. Never 0.
    pub id: u64,
    /// Addresses of the kernel's stack, in all parts together.
    pub kernel_frames: u16,
    /// Addresses of the user's stack, in all parts together.
    pub user_frames: u16,
    /// Why the kernel's stack ends where it does: a [`StackEnd`].
    pub kernel_end: u8,
    /// Why the user's stack ends where it does: a [`StackEnd`].
    pub user_end: u8,
    /// User frames left by their frame pointer, since nothing else was known of their function: a
    /// guess that may have skipped a caller. 255: 255 or more.
    pub guessed_frames: u8,
    /// Always 0.
    pub reserved: u8,
    /// The part's addresses; the rest is 0.
    pub addresses: [u64; STACK_PART],
}
const _: () = assert!(size_of::<StackTrace>() == 272);

macro_rules! stack_ends {
    ($($(#[$doc:meta])* $name:ident = $wire:literal, $tag:literal;)*) => {
        /// Why a stack ends where it does.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum StackEnd { $($(#[$doc])* $name = $wire,)* }

        impl StackEnd {
            /// Every reason, in wire order.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The reason that travels as `wire`, if this build knows it.
            #[must_use]
            pub const fn from_wire(wire: u8) -> Option<Self> {
                match wire { $($wire => Some(Self::$name),)* _ => None }
            }

            /// Its name in recordings, JSON and documentation.
            #[must_use]
            pub const fn tag(self) -> &'static str {
                match self { $(Self::$name => $tag,)* }
            }
        }
    };
}

stack_ends! {
    /// There is none: a kernel thread has no user stack, a thread in user mode none in the kernel.
    #[default]
    Absent = 0, "absent";
    /// At the outermost function: complete.
    Outermost = 1, "outermost";
    /// At the limit of addresses.
    Depth = 2, "depth";
    /// Where a return address is in no executable mapping that was known at the time.
    NoMapping = 3, "no_mapping";
    /// In a mapping whose file says nothing of how to leave the function, or whose rows were not
    /// ready, and frame pointers led nowhere.
    NoRule = 4, "no_rule";
    /// At a rule that needs a register, or an expression, which the unwinder does not follow.
    HardRule = 5, "hard_rule";
    /// Where the stack's memory could not be read, such as a page that was swapped out.
    Memory = 6, "memory";
    /// Where frame pointers end; whether that is the outermost function, they do not say.
    FramePointer = 7, "frame_pointer";
    /// Nothing could be read at all.
    Refused = 8, "refused";
}

impl StackEnd {
    /// Whether callers are missing.
    #[must_use]
    pub const fn is_cut(self) -> bool {
        !matches!(self, Self::Absent | Self::Outermost | Self::FramePointer)
    }
}

/// [`CpuSample::event`]: the clock of the CPU; periods are nanoseconds.
pub const SAMPLE_CPU_CLOCK: u32 = 0;
/// [`CpuSample::event`]: the CPU's counter of cycles; periods are cycles.
pub const SAMPLE_CYCLES: u32 = 1;

/// A thread was on a CPU when a sample was due.
///
/// # Source
///
/// `perf_event`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct CpuSample {
    /// The thread that was on the CPU; `arg` is 0.
    pub header: Header,
    /// Its [`StackTrace`]; 0: none could be kept.
    pub stack: u64,
    /// What the sample stands for: time since the one before, in the unit of `event`.
    pub period: u64,
    /// Which counter was due: [`SAMPLE_CPU_CLOCK`] or [`SAMPLE_CYCLES`].
    pub event: u32,
    /// Always 0.
    pub reserved: u32,
}
const _: () = assert!(size_of::<CpuSample>() == 48);

/// [`OffCpu`]'s `arg`: it was runnable all the time, and waited for a CPU only.
pub const OFF_PREEMPTED: u32 = 1;
/// [`OffCpu`]'s `arg`: it is off the CPU still; the record ends with the recording.
pub const OFF_UNFINISHED: u32 = 2;
/// [`OffCpu`]'s `arg`: it was in a system call, and `syscall` and `args` say which.
pub const OFF_SYSCALL: u32 = 4;
/// [`OffCpu`]'s `arg`: `lock_value` and `lock_owner` were read.
pub const OFF_LOCK: u32 = 8;
/// [`OffCpu`]'s `arg`: it was woken, and `waker_tid`, `waker_pid` and `runq_ns` say by whom and when.
pub const OFF_WOKEN: u32 = 16;
/// [`OffCpu`]'s `arg`: an interrupt woke it, and the waker is who was interrupted.
pub const OFF_WOKEN_BY_INTERRUPT: u32 = 32;
/// [`OffCpu`]'s `arg`: its return was not seen, and is taken from the CPU time that it had by the time it
/// left again; `cpu` is where it left then.
pub const OFF_RETURN_UNSEEN: u32 = 64;

/// A thread got a CPU again, or the recording ended before it did.
///
/// # Source
///
/// `sched_switch` and `sched_waking`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct OffCpu {
    /// `time_ns` is when it got the CPU `cpu`, so that it left one at `time_ns - off_ns`; `arg` is made
    /// of `OFF_*`.
    pub header: Header,
    /// How long it was off, nanoseconds.
    pub off_ns: u64,
    /// The end of that: how long it was awake and waited for a CPU, nanoseconds.
    pub runq_ns: u64,
    /// Its [`StackTrace`] when it left; 0: none could be kept.
    pub stack: u64,
    /// The waker's [`StackTrace`]; 0: not known.
    pub waker_stack: u64,
    /// The thread that woke it.
    pub waker_tid: u32,
    /// The process of that thread.
    pub waker_pid: u32,
    /// State it left in, as the kernel's `TASK_*` bits.
    pub state: u32,
    /// Number of the system call it was in, as its architecture numbers it.
    pub syscall: i32,
    /// The call's first arguments.
    pub args: [u64; 4],
    /// For a wait on a futex: the word it waits for, as it was.
    pub lock_value: u32,
    /// For a wait on a futex: the word 8 bytes behind it, which for a mutex of glibc is its owner's
    /// thread id.
    pub lock_owner: u32,
    /// How many such times off a CPU this one stands for: 1 unless they were sampled.
    pub weight: u32,
    /// Always 0.
    pub reserved: u32,
}
const _: () = assert!(size_of::<OffCpu>() == 120);

/// [`Mapping::flags`]: it was there before the recorder looked; `time_ns` is when it looked.
pub const MAPPING_FOUND: u32 = 1;

/// Executable memory of a process.
///
/// It voids what it overlaps of earlier ones; an [`Exec`](super::Exec) voids all of its process.
/// Told for processes that have stacks, before the first record that names one.
///
/// # Source
///
/// `/proc/PID/maps`, and perf's mmap2 records.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Mapping {
    /// `pid` is the process, `tid` is 0; `arg` is the number of the [`MappedFile`].
    pub header: Header,
    /// First address.
    pub start: u64,
    /// Address behind the last.
    pub end: u64,
    /// Where in the file it begins, bytes.
    pub offset: u64,
    /// Made of `MAPPING_*`.
    pub flags: u32,
    /// Always 0.
    pub reserved: u32,
}
const _: () = assert!(size_of::<Mapping>() == 56);

/// A file that processes have mapped, or a part of its path; told once, before the first [`Mapping`]
/// that names it.
///
/// Paths are as the process sees them, with the kernel's names for what is no file (`[vdso]`, `//anon`)
/// and its mark for what was deleted since (` (deleted)`). The record may be shorter, as
/// [`StackTrace`]s are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MappedFile {
    /// `pid` is the process it was first met in; `arg` is its number in the recording, from 1.
    pub header: Header,
    /// Inode; 0: no file.
    pub inode: u64,
    /// Major number of the device.
    pub device_major: u32,
    /// Minor number of the device.
    pub device_minor: u32,
    /// The file's own id, from its note `NT_GNU_BUILD_ID`; the rest is 0.
    pub build_id: [u8; 20],
    /// Bytes of the id that are there; 0: it has none, or could not be read.
    pub build_id_bytes: u16,
    /// Bytes of the whole path.
    pub path_bytes: u16,
    /// Where this part of the path begins in it.
    pub path_from: u32,
    /// Always 0.
    pub reserved: u32,
    /// The part; the rest is 0.
    pub path: [u8; PATH_PART],
}
const _: () = assert!(size_of::<MappedFile>() == 264);

macro_rules! stack_sites {
    ($($(#[$doc:meta])* $name:ident = $index:literal, $tag:literal;)*) => {
        /// A place in the programs of `oncpu` and `offcpu` that keeps one row of [`Loss`](crate::Loss).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[repr(u32)]
        pub enum StackSite { $($(#[$doc])* $name = $index,)* }

        impl StackSite {
            /// Every site, in the order of the ledger.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The site's name in recordings, JSON and documentation.
            #[must_use]
            pub const fn tag(self) -> &'static str {
                match self { $(Self::$name => $tag,)* }
            }
        }
    };
}

stack_sites! {
    /// A sample was due.
    Sample = 0, "oncpu_sample";
    /// A stack was taken: `filtered` are those that were told before.
    Stack = 1, "stack";
    /// A thread left its CPU: `submitted` are those that are kept until it is back.
    Leave = 2, "offcpu_leave";
    /// A thread that had been kept got a CPU: `filtered` were off for too short a time.
    Return = 3, "offcpu_return";
    /// A thread that had been kept was woken: `submitted` has its waker noted.
    Wake = 4, "offcpu_wake";
}
