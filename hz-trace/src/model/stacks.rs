//! Stacks, who had them when, and what their addresses lie in.

use super::{TaskIndex, ThreadIndex};
use hz_probes_ebpf::StackEnd;
use rustc_hash::{FxHashMap, FxHashSet};

/// A stack's place in [`Stacks::stacks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StackIndex(pub u32);

/// A stack, leaf first: the kernel's addresses, then the user's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stack {
    /// The process it is of.
    pub pid: u32,
    /// When it was seen first, nanoseconds of `CLOCK_MONOTONIC`.
    pub first_ns: u64,
    /// The addresses; 0 is one that was lost.
    pub addresses: Box<[u64]>,
    /// How many of them are the kernel's.
    pub kernel_frames: u16,
    /// Why the kernel's part ends where it does.
    pub kernel_end: StackEnd,
    /// Why the user's part ends where it does.
    pub user_end: StackEnd,
    /// User frames that were left by a guess.
    pub guessed_frames: u8,
    /// Whether the leaf is a return address too.
    pub is_all_returns: bool,
    /// Addresses that were told.
    pub told: u16,
}

impl Stack {
    /// Whether something was recorded of it at all.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.told > 0
    }

    /// Whether no address is missing.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.told as usize >= self.addresses.len()
    }

    /// Its addresses as symbols are looked up for them, leaf first, and whether each is the
    /// kernel's: a return address may lie behind the function that called, so one less is asked for.
    pub fn lookups(&self) -> impl DoubleEndedIterator<Item = (u64, bool)> + '_ {
        let kernel = usize::from(self.kernel_frames);
        self.addresses.iter().enumerate().map(move |(place, address)| {
            let is_leaf = !self.is_all_returns && (place == 0 || place == kernel);
            let lookup = if is_leaf { *address } else { address.saturating_sub(1) };
            (lookup, place < kernel)
        })
    }
}

/// A file, or what the kernel calls so, that processes have mapped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MappedFile {
    /// A process that has it mapped.
    pub pid: u32,
    /// Its path as that process sees it; `[vdso]` for instance is no file.
    pub path: String,
    /// Its inode; 0: no file.
    pub inode: u64,
    /// The device the inode is on, major and minor number.
    pub device: (u32, u32),
    /// Its own id, empty: it has none, or it was not read.
    pub build_id: Vec<u8>,
}

/// Executable memory of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedRange {
    /// From when, nanoseconds of `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// First address.
    pub start: u64,
    /// Address behind the last.
    pub end: u64,
    /// Where in the file it begins, bytes.
    pub offset: u64,
    /// The number of the file in [`Stacks::files`].
    pub file: u32,
}

/// What an address lies in: the same for every process and run that has the same code there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// The kernel, at an address.
    Kernel(u64),
    /// A file, by its number in [`Stacks::files`], and bytes from its start.
    File(u32, u64),
    /// Memory of a process that is no file's, at an address: code made at run time, as a rule.
    Process(u32, u64),
}

/// A thread was on a CPU when a sample was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuSample {
    /// When, nanoseconds of `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// The thread.
    pub thread: ThreadIndex,
    /// The CPU.
    pub cpu: u16,
    /// Its stack, if one could be kept.
    pub stack: Option<StackIndex>,
    /// What it stands for: nanoseconds, or cycles.
    pub period: u64,
    /// Whether `period` is in cycles.
    pub is_cycles: bool,
}

/// A time that a thread was off its CPU, with the stack it left with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffCpu {
    /// When it left, nanoseconds of `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// When it got a CPU again, or the recording ended.
    pub end_ns: u64,
    /// How long of that, at the end, it was awake and waited for a CPU, nanoseconds.
    pub runq_ns: u64,
    /// The thread.
    pub thread: ThreadIndex,
    /// The CPU it got.
    pub cpu: u16,
    /// Its stack when it left.
    pub stack: Option<StackIndex>,
    /// The stack of who woke it.
    pub waker_stack: Option<StackIndex>,
    /// Who woke it; with `is_by_interrupt` who was interrupted.
    pub waker: Option<ThreadIndex>,
    /// Whether an interrupt woke it.
    pub is_by_interrupt: bool,
    /// Why it was off.
    pub reason: OffReason,
    /// The lock it waited for.
    pub lock: Option<Lock>,
    /// How many such times it stands for.
    pub weight: u32,
}

/// A futex that a thread waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lock {
    /// Its address.
    pub address: u64,
    /// Thread that had it, by what glibc writes beside a mutex; 0: it does not say.
    pub owner_tid: u32,
}

/// Why a thread was off its CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum OffReason {
    /// Somebody else had the CPU.
    Preempted,
    /// A lock, or another wait for a futex.
    Lock,
    /// A socket.
    Network,
    /// A file or disk.
    Disk,
    /// A timer.
    Sleep,
    /// A page that was not there.
    PageFault,
    /// Nothing was to be done: it waited for any of several files.
    Poll,
    /// The end of another process or thread.
    Child,
    /// Something that one end writes and the other reads: a pipe, or a terminal.
    Pipe,
    /// Another system call.
    Call,
    /// Not known.
    Other,
}

impl OffReason {
    /// Every reason.
    pub const ALL: [Self; 11] = [
        Self::Preempted,
        Self::Lock,
        Self::Network,
        Self::Disk,
        Self::Sleep,
        Self::PageFault,
        Self::Poll,
        Self::Child,
        Self::Pipe,
        Self::Call,
        Self::Other,
    ];

    /// Its name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Preempted => "preempted",
            Self::Lock => "lock",
            Self::Network => "network",
            Self::Disk => "disk",
            Self::Sleep => "sleep",
            Self::PageFault => "page fault",
            Self::Poll => "idle in poll",
            Self::Child => "child",
            Self::Pipe => "pipe",
            Self::Call => "system call",
            Self::Other => "other",
        }
    }
}

/// An allocation that was sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allocation {
    /// When, nanoseconds of `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// When it was freed; `None`: not in the recording.
    pub freed_ns: Option<u64>,
    /// Whether its free would have been told.
    pub is_tracked: bool,
    /// Who saw it.
    pub origin: AllocationOrigin,
    /// The thread that allocated.
    pub thread: ThreadIndex,
    /// The task that it did it in.
    pub task: Option<TaskIndex>,
    /// Bytes.
    pub bytes: u64,
    /// Bytes of allocations for which it stands, in the mean.
    pub weight_bytes: f64,
    /// The stack.
    pub stack: Option<StackIndex>,
}

impl Allocation {
    /// Whether it is known to be there at `time_ns`, which is not before it was made.
    #[must_use]
    pub fn is_live_at(&self, time_ns: u64) -> bool {
        self.is_tracked && self.freed_ns.is_none_or(|freed_ns| freed_ns > time_ns)
    }
}

/// Who saw an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AllocationOrigin {
    /// The allocator itself: hz-runtime's.
    Runtime,
    /// Probes on the functions of whatever allocator.
    Probe,
}

/// Everything that has a stack.
#[derive(Clone, Debug, Default)]
pub struct Stacks {
    /// The stacks.
    pub stacks: Vec<Stack>,
    /// Files, by number.
    pub files: FxHashMap<u32, MappedFile>,
    /// Executable memory by process, in the order of time.
    pub ranges: FxHashMap<u32, Vec<MappedRange>>,
    /// Samples of CPUs, by time.
    pub samples: Vec<CpuSample>,
    /// Times off a CPU, by their end.
    pub off_cpu: Vec<OffCpu>,
    /// Sampled allocations, by time.
    pub allocations: Vec<Allocation>,
    /// Frees of allocations that were sampled before the recording.
    pub frees_of_earlier: u64,
}

impl Stacks {
    /// Whether nothing has a stack.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.samples.is_empty() && self.off_cpu.is_empty() && self.allocations.is_empty()
    }

    /// The stack at `index`.
    ///
    /// # Panics
    ///
    /// If `index` is of another model.
    #[must_use]
    pub fn stack(&self, index: StackIndex) -> &Stack {
        &self.stacks[index.0 as usize]
    }

    /// What an address of a process lies in, at `time_ns`.
    ///
    /// That is the mapping that was made last; one that was found later was there before, if no
    /// other tells.
    #[must_use]
    pub fn place(&self, pid: u32, time_ns: u64, address: u64) -> Place {
        let ranges = self.ranges.get(&pid).map_or(&[][..], Vec::as_slice);
        let split = ranges.partition_point(|range| range.time_ns <= time_ns);
        let has = |range: &&MappedRange| (range.start..range.end).contains(&address);
        let before = ranges[..split].iter().rev().find(has);
        let Some(range) = before.or_else(|| ranges[split..].iter().find(has)) else {
            return Place::Process(pid, address);
        };
        match self.files.get(&range.file) {
            Some(file) if file.inode != 0 || file.path == "[vdso]" => {
                Place::File(range.file, address - range.start + range.offset)
            }
            _ => Place::Process(pid, address),
        }
    }

    /// What any frame lies in, each once, in order.
    #[must_use]
    pub fn distinct_places(&self) -> Vec<Place> {
        // An address of a process lies in one place, but for what it unmaps and maps again.
        let mut known: FxHashMap<(u32, u64), Place> = FxHashMap::default();
        let mut kernel = FxHashSet::default();
        for stack in &self.stacks {
            for (address, is_kernel) in stack.lookups() {
                if is_kernel {
                    kernel.insert(Place::Kernel(address));
                } else {
                    let place = || self.place(stack.pid, stack.first_ns, address);
                    known.entry((stack.pid, address)).or_insert_with(place);
                }
            }
        }
        let mut places: Vec<Place> = known.into_values().chain(kernel).collect();
        places.sort_unstable();
        places.dedup();
        places
    }

    /// What the frames of a stack lie in, leaf first.
    pub fn places(&self, index: StackIndex) -> impl DoubleEndedIterator<Item = Place> + '_ {
        let stack = self.stack(index);
        stack.lookups().map(move |(address, is_kernel)| {
            if is_kernel {
                Place::Kernel(address)
            } else {
                self.place(stack.pid, stack.first_ns, address)
            }
        })
    }
}
