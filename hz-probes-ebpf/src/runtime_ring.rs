//! The memory that an async runtime shares with whoever observes it.
//!
//! One memfd per process, named [`MEMFD_NAME`], sealed against shrinking and growing; a reader finds
//! it in `/proc/PID/fd` and maps it. It begins with a [`RingPage`], which says where the rest is:
//!
//! ```text
//! RingPage | Lease × LEASES | ClockPair × CLOCK_PAIRS | (RingHeader, RingSlot × n) × rings
//!          | DirectorySlot × n | TextSlot × n | SiteSlot × n | StackSlot × n
//! ```
//!
//! Every field is one naturally aligned word that the writer stores atomically. Readers trust
//! nothing in it: the process may lie, or be gone.
//!
//! **Rings** are broadcasts: readers keep their own cursors and the one writer never waits. The slot
//! of record `n` is `n % ring_slots`. The writer stores the record's words (relaxed), then
//! `head = n + 1` (release), then fences (release) before the next record. A reader loads `head`
//! (acquire), copies slots, fences (acquire), loads `head` again: what it copied of record `n` is
//! sound only if `n + ring_slots > head`; what is not was overwritten, and is counted as lost.
//!
//! **Directory slots** are guarded by a seqlock: `seq` is odd while the identity changes. The second
//! line changes without it, a word at a time. A slot whose task is 0 is free.
//!
//! **Leases**: a reader takes a slot by compare-and-swap of `pid` from 0, writes `reader`, `start_ticks`,
//! `kinds` and last `deadline_ns` (release), adds 1 to [`RingPage::leases_changed`] and wakes its
//! futex; then it moves the deadline on, at least each second, by compare-and-swap from what it
//! wrote or found last: 0 there, or another's `pid` or `reader`, means that the lease is over, and
//! that it must take another (and that the deadline there is not its own to go on from). To end it, it moves the deadline to 0 in the same way, stores 0 into `kinds` and last
//! `pid`, and wakes the futex. The runtime
//! turns on what the live leases ask for, ends those whose deadline has passed (0 into
//! `deadline_ns` by compare-and-swap, then `kinds`, then `pid`) and moves deadlines that are further
//! away than [`LEASE_MAX_NS`] back to there.
//!
//! **Owners**: `owner_tid` is stored after `owner_from` and `worker`: what was read between two
//! equal readings of it is sound.
//!
//! **Tables**: what a number names is whole before the number is used. Texts and sites come in
//! order; stacks may not, one with no frames is not whole yet.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Name of the memfd: `/proc/PID/fd/N` links to `/memfd:hz_runtime (deleted)`.
pub const MEMFD_NAME: &str = "hz_runtime";
/// What [`RingPage::magic`] is once the page is whole.
pub const RING_MAGIC: u64 = u64::from_le_bytes(*b"hz-ring1");
/// What [`RingPage::version`] is.
pub const RING_VERSION: u32 = 1;
/// Readers at once.
pub const LEASES: usize = 16;
/// Pairs of clock readings that are kept.
pub const CLOCK_PAIRS: usize = 64;
/// The longest that a lease may last past now, nanoseconds.
pub const LEASE_MAX_NS: u64 = 1_500_000_000;
/// What of [`DirectorySlot::state`] is `TASK_*`.
pub const STATE_MASK: u64 = 0xff;
/// What of [`DirectorySlot::state`] says which of the tasks it is that have had the slot.
pub const TURN_MASK: u64 = 0xffff_ff00;
/// The wire number of the kind that bit 0 of every kind mask is.
pub const FIRST_RUNTIME_KIND: u16 = 16;
/// A ring record that says who writes from here on: `arg` is the worker, `value` the thread id in
/// the process's own pid namespace.
pub const SLOT_OWNER: u16 = 15;

/// [`RingPage::clock`]: stamps are nanoseconds of `CLOCK_MONOTONIC`.
pub const CLOCK_MONOTONIC: u32 = 0;
/// [`RingPage::clock`]: stamps are the time stamp counter.
pub const CLOCK_TSC: u32 = 1;
/// [`RingPage::clock`]: stamps are the HPET's counter.
pub const CLOCK_HPET: u32 = 2;

/// The first page.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RingPage {
    /// [`RING_MAGIC`], written last.
    pub magic: u64,
    /// [`RING_VERSION`].
    pub version: u32,
    /// Process id as the process sees it.
    pub pid: u32,
    /// Length of the memory, bytes.
    pub bytes: u64,
    /// When the process mapped it, nanoseconds of `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// What stamps are: `CLOCK_*`.
    pub clock: u32,
    /// Worker threads of the runtime.
    pub workers: u32,
    /// Rings.
    pub rings: u32,
    /// Slots of each ring: a power of two.
    pub ring_slots: u32,
    /// Where the leases are.
    pub leases_offset: u64,
    /// Where the clock pairs are.
    pub pairs_offset: u64,
    /// Where the first ring is.
    pub rings_offset: u64,
    /// Bytes from one ring to the next.
    pub ring_stride: u64,
    /// Where the directory is.
    pub directory_offset: u64,
    /// Slots of the directory.
    pub directory_slots: u32,
    /// Slots from the first that have ever been used.
    pub directory_used: u32,
    /// Where the texts are.
    pub texts_offset: u64,
    /// Slots for texts.
    pub texts_slots: u32,
    /// Texts that are there: text `n` is in slot `n − 1`.
    pub texts_used: u32,
    /// Where the sites are.
    pub sites_offset: u64,
    /// Slots for sites.
    pub sites_slots: u32,
    /// Sites that are there.
    pub sites_used: u32,
    /// Where the stacks are.
    pub stacks_offset: u64,
    /// Slots for stacks.
    pub stacks_slots: u32,
    /// Stacks that are there.
    pub stacks_used: u32,
    /// Kinds that are on now: bit `kind − 16`.
    pub kinds: u64,
    /// Kinds that are always on.
    pub flight_kinds: u64,
    /// Kinds that this runtime can tell.
    pub offered_kinds: u64,
    /// Bytes between two sampled allocations in the mean; 0: not sampled.
    pub alloc_mean_bytes: u64,
    /// The most that the runtime's own clock was off the kernel's so far, ns; 0 where it is the kernel's.
    /// (Stamps are converted by the pairs, not by that clock.)
    pub clock_error_ns: u64,
    /// Tasks that had no room in the directory.
    pub directory_overflow: u64,
    /// Events of threads that had no ring.
    pub ringless_events: u64,
    /// Texts, sites and stacks that had no room.
    pub table_overflow: u64,
    /// The futex of the leases: counts their changes.
    pub leases_changed: u32,
    /// Clock pairs written so far: pair `n` is in slot `n % CLOCK_PAIRS`.
    pub pairs_written: u32,
    /// Always 0.
    pub reserved: [u64; 485],
}
const _: () = assert!(size_of::<RingPage>() == 4096);

/// A reader's wish.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Lease {
    /// The reader's process id; 0: free.
    pub pid: u32,
    /// Tells the reader from others in its process: a number that it chooses.
    pub reader: u32,
    /// Start of the reader's process, clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start_ticks: u64,
    /// Kinds that it wants: bit `kind − 16`.
    pub kinds: u64,
    /// When it ends, nanoseconds of `CLOCK_MONOTONIC`.
    pub deadline_ns: u64,
    /// Always 0.
    pub unused: [u64; 4],
}
const _: () = assert!(size_of::<Lease>() == 64);

/// Two readings of one moment.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ClockPair {
    /// The counter that stamps are of.
    pub stamp: u64,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub monotonic_ns: u64,
}
const _: () = assert!(size_of::<ClockPair>() == 16);

/// What a ring begins with: two cache lines, of which only the first is hot.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RingHeader {
    /// Records written so far.
    pub head: u64,
    /// Always 0.
    pub pad: [u64; 7],
    /// Thread that writes, in the process's own pid namespace; 0: nobody.
    pub owner_tid: u32,
    /// Its worker, or `NO_WORKER`.
    pub worker: u32,
    /// The first record that is its own.
    pub owner_from: u64,
    /// Always 0.
    pub reserved: [u64; 6],
}
const _: () = assert!(size_of::<RingHeader>() == 128);

/// A record in a ring. Its words: `stamp`, `kind | aux << 16 | arg << 32`, `task`, `value`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RingSlot {
    /// The clock's reading.
    pub stamp: u64,
    /// A kind of the vocabulary from 16 to 39, or [`SLOT_OWNER`].
    pub kind: u16,
    /// As in `RuntimeEvent`, 65,535 being any larger.
    pub aux: u16,
    /// As in `RuntimeEvent`'s header.
    pub arg: u32,
    /// As in `RuntimeEvent`.
    pub task: u64,
    /// As in `RuntimeEvent`. For `alloc_sampled` and `free_sampled`: the address without its four
    /// lowest bits in the lower 43 bits; the size is the 21 bits above, followed by `aux`.
    pub value: u64,
}
const _: () = assert!(size_of::<RingSlot>() == 32);

/// A live task: two cache lines.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DirectorySlot {
    /// Odd while the first line changes; twice the number of tasks that had the slot, or plus one.
    pub seq: u32,
    /// Its site.
    pub site: u32,
    /// The task; 0: free.
    pub task: u64,
    /// Task that spawned it.
    pub parent: u64,
    /// When it was spawned, a stamp.
    pub spawned: u64,
    /// Address of its future.
    pub future: u64,
    /// Priority.
    pub priority: u32,
    /// Its own name: a text, 0: that of its site.
    pub name: u32,
    /// Always 0.
    pub unused: [u64; 2],
    /// `TASK_*` in the lowest 8 bits; then 24 bits that change from task to task; the worker in the
    /// upper half.
    pub state: u64,
    /// Polls so far.
    pub polls: u64,
    /// A stamp of the begin of the last poll, as coarse as the worker's clock.
    pub last_poll: u64,
    /// `WAIT_*` in the lower half, `wait_arg` above.
    pub wait: u64,
    /// What it waits for.
    pub wait_value: u64,
    /// The last poll in which it was woken: what [`woken_in_poll`] says of it.
    pub woken: u64,
    /// Always 0.
    pub idle: [u64; 2],
}
const _: () = assert!(size_of::<DirectorySlot>() == 128);

/// What [`DirectorySlot::woken`] is after a wake-up in poll `polls` of the task whose state it is, or any
/// other of its states. A task that is idle after that poll is ready in truth: whoever wakes it does
/// not stop its poll, whose end is one store that sees nobody.
#[must_use]
pub const fn woken_in_poll(state: u64, polls: u64) -> u64 {
    state & TURN_MASK | polls << 32
}

/// A text.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TextSlot {
    /// Length before it was cut, bytes.
    pub bytes: u32,
    /// UTF-8, NUL-padded.
    pub text: [u8; 124],
}
const _: () = assert!(size_of::<TextSlot>() == 128);

/// A spawn site: see `SpawnSite`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SiteSlot {
    /// A text, 0: none.
    pub name: u32,
    /// A text.
    pub file: u32,
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
    /// A text.
    pub future: u32,
    /// Bytes.
    pub future_bytes: u32,
    /// Always 0.
    pub reserved: u64,
}
const _: () = assert!(size_of::<SiteSlot>() == 32);

/// A stack: see `Stack`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StackSlot {
    /// Frames that are there; 0: not whole yet.
    pub frames: u32,
    /// 1 if it was cut.
    pub is_cut: u32,
    /// Return addresses, leaf first.
    pub addresses: [u64; 30],
    /// A hash of them, for the writer.
    pub hash: u64,
}
const _: () = assert!(size_of::<StackSlot>() == 256);
