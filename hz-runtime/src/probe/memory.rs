//! The memory that is shared with readers: made once in a process, never unmapped.

use super::atomic::{AtomicU32, AtomicU64, Ordering};
use super::layout::{Layout, Sizes};
use super::settings::Settings;
use super::slots::FreeSlots;
use super::taken::Taken;
use super::words::{
    HeaderWords, LeaseWords, Page, PairWords, RecordWords, SiteWords, StackWords, TaskWords,
    TextWords,
};
use super::{fork, keeper, stacks};
use crate::clock;
use hz_probes_ebpf::runtime_ring::{CLOCK_PAIRS, LEASES, MEMFD_NAME, RING_MAGIC, RING_VERSION};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};
use std::os::fd::OwnedFd;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::AtomicPtr;
use std::sync::{Mutex, PoisonError};

/// Why nothing is shared with readers.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShareError {
    /// The memory could not be made.
    #[error("cannot make the shared memory: {0}")]
    Memfd(#[source] rustix::io::Errno),
    /// The memory could not be sealed.
    #[error("cannot seal the shared memory: {0}")]
    Seal(#[source] rustix::io::Errno),
    /// The memory could not be mapped.
    #[error("cannot map {bytes} bytes of shared memory: {errno}")]
    Map {
        /// How long it is.
        bytes: usize,
        /// Why.
        #[source]
        errno: rustix::io::Errno,
    },
    /// The handler that keeps a forked child out of the memory could not be installed.
    #[error("cannot watch for forks: {0}")]
    Fork(#[source] rustix::io::Errno),
    /// The thread that watches the leases could not be started.
    #[error("cannot start the thread hz-probes: {0}")]
    Keeper(rustix::io::Errno),
    /// This process was forked from one that shares: only its parent does.
    #[error("this process was forked from one that shares its memory")]
    Forked,
}

/// The memory's parts, and what belongs to them but is private to the process.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) base: NonNull<u8>,
    pub(super) layout: Layout,
    pub(super) fd: OwnedFd,
    pub(super) page: &'static Page,
    pub(super) leases: &'static [LeaseWords],
    pub(super) pairs: &'static [PairWords],
    pub(super) directory: &'static [TaskWords],
    pub(super) texts: &'static [TextWords],
    pub(super) sites: &'static [SiteWords],
    pub(super) stacks: &'static [StackWords],
    pub(super) flight_kinds: u64,
    pub(super) taken_rings: Taken,
    pub(super) free_slots: FreeSlots,
    pub(super) stack_index: stacks::Index,
}

// SAFETY: `base` is only read, as the address of a mapping that is never unmapped; all else is Sync.
unsafe impl Sync for Memory {}
// SAFETY: as above.
unsafe impl Send for Memory {}

static MEMORY: AtomicPtr<Memory> = AtomicPtr::new(null_mut());
/// What came of the attempt; the lock also keeps two threads from making it at once.
static ATTEMPT: Mutex<Attempt> = Mutex::new(Attempt::None);
/// Whether there was one, for those that find no memory.
static IS_ATTEMPTED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

enum Attempt {
    None,
    Made,
    Failed(ShareError),
}

/// The memory, if it is there.
#[inline(always)]
pub(super) fn get() -> Option<&'static Memory> {
    let memory = MEMORY.load(Ordering::Acquire);
    // SAFETY: it is null or came from `Box::leak` in `make`.
    unsafe { memory.as_ref() }
}

/// The memory, which is made for `workers` (0: as many as there are CPUs) at the first call.
#[inline]
pub(super) fn get_or_make(workers: usize) -> Option<&'static Memory> {
    match get() {
        Some(memory) => Some(memory),
        None if IS_ATTEMPTED.load(Ordering::Acquire) => None,
        None => attempt(workers),
    }
}

#[cold]
fn attempt(workers: usize) -> Option<&'static Memory> {
    let mut attempt = ATTEMPT.lock().unwrap_or_else(PoisonError::into_inner);
    if matches!(*attempt, Attempt::None) {
        *attempt = match make(workers) {
            Ok(memory) => publish(memory),
            Err(error) => Attempt::Failed(error),
        };
        IS_ATTEMPTED.store(true, Ordering::Release);
    }
    get()
}

/// Lets the threads see `memory`, and starts what looks after it.
fn publish(memory: Memory) -> Attempt {
    let memory: &'static Memory = Box::leak(Box::new(memory));
    MEMORY.store(std::ptr::from_ref(memory).cast_mut(), Ordering::Release);
    if let Err(error) = fork::watch() {
        forget();
        return Attempt::Failed(error);
    }
    memory.page.magic.store(RING_MAGIC, Ordering::Release);
    match keeper::start(memory) {
        Ok(()) => Attempt::Made,
        Err(error) => {
            memory.page.magic.store(0, Ordering::Release);
            forget();
            Attempt::Failed(error)
        }
    }
}

/// From now on there is no memory, whoever asks. What was mapped stays mapped.
pub(super) fn forget() {
    MEMORY.store(null_mut(), Ordering::Release);
}

/// Why there is no memory; `Ok(false)`: nobody asked for it yet.
pub(super) fn outcome() -> Result<bool, ShareError> {
    if fork::is_child() {
        return Err(ShareError::Forked);
    }
    match &*ATTEMPT.lock().unwrap_or_else(PoisonError::into_inner) {
        Attempt::None => Ok(false),
        Attempt::Made => Ok(true),
        Attempt::Failed(error) => Err(error.clone()),
    }
}

fn make(workers: usize) -> Result<Memory, ShareError> {
    let settings = Settings::get();
    let workers = match workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    };
    let layout = Layout::new(Sizes::new(workers, settings.ring_slots, settings.directory_slots));
    let (fd, base) = map(layout.bytes)?;
    let memory = divide(fd, base, layout, settings.flight_kinds);
    describe(&memory);
    Ok(memory)
}

/// Makes the memory and seals its size: a reader must not be able to take it away from under us.
fn map(bytes: usize) -> Result<(OwnedFd, NonNull<u8>), ShareError> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = rustix::fs::memfd_create(MEMFD_NAME, flags).map_err(ShareError::Memfd)?;
    rustix::fs::ftruncate(&fd, bytes as u64).map_err(ShareError::Memfd)?;
    rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
        .map_err(ShareError::Seal)?;
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping, at an address that the kernel chooses.
    let mapped = unsafe {
        rustix::mm::mmap(
            null_mut(),
            bytes,
            protection,
            MapFlags::SHARED | MapFlags::NORESERVE,
            &fd,
            0,
        )
    };
    let base = mapped.map_err(|errno| ShareError::Map { bytes, errno })?;
    match NonNull::new(base.cast()) {
        Some(base) => Ok((fd, base)),
        None => Err(ShareError::Map { bytes, errno: rustix::io::Errno::FAULT }),
    }
}

fn divide(fd: OwnedFd, base: NonNull<u8>, layout: Layout, flight_kinds: u64) -> Memory {
    let sizes = layout.sizes;
    // SAFETY: for this and the following: offsets and counts are of one layout, whose `bytes` are
    // mapped from `base` on, for good.
    let page = unsafe { base.cast::<Page>().as_ref() };
    Memory {
        base,
        layout,
        fd,
        page,
        // SAFETY: as above.
        leases: unsafe { part(base, layout.leases, LEASES) },
        // SAFETY: as above.
        pairs: unsafe { part(base, layout.pairs, CLOCK_PAIRS) },
        // SAFETY: as above.
        directory: unsafe { part(base, layout.directory, sizes.directory_slots) },
        // SAFETY: as above.
        texts: unsafe { part(base, layout.texts, sizes.texts) },
        // SAFETY: as above.
        sites: unsafe { part(base, layout.sites, sizes.sites) },
        // SAFETY: as above.
        stacks: unsafe { part(base, layout.stacks, sizes.stacks) },
        flight_kinds,
        taken_rings: Taken::new(sizes.rings),
        free_slots: FreeSlots::new(sizes.directory_slots),
        stack_index: stacks::Index::new(sizes.stacks),
    }
}

impl Memory {
    /// Ring `index`, which must be one of the layout's.
    pub(super) fn ring(
        &self,
        index: usize,
    ) -> Option<(&'static HeaderWords, &'static [RecordWords])> {
        if index >= self.layout.sizes.rings {
            return None;
        }
        let begin = self.layout.rings + index * self.layout.ring_stride;
        // SAFETY: the ring is one of the layout's, whose bytes are mapped for good.
        let header = unsafe { part(self.base, begin, 1) };
        let slots_at = begin + size_of::<HeaderWords>();
        // SAFETY: as above.
        let slots = unsafe { part(self.base, slots_at, self.layout.sizes.ring_slots) };
        header.first().map(|header| (header, slots))
    }
}

/// # Safety
///
/// `count` of `T`, which must be made of atomic integers only, lie at `offset` from `base` in memory
/// that stays mapped for good.
unsafe fn part<T>(base: NonNull<u8>, offset: usize, count: usize) -> &'static [T] {
    // SAFETY: the caller says that it is within the mapping.
    let begin = unsafe { base.add(offset) };
    // SAFETY: mapped as the caller says; atomic integers are valid whatever their bytes.
    unsafe { std::slice::from_raw_parts(begin.cast::<T>().as_ptr(), count) }
}

/// Fills the first page, but for the magic.
fn describe(memory: &Memory) {
    let Memory { page, layout, .. } = memory;
    let store = |word: &AtomicU64, value: usize| word.store(value as u64, Ordering::Relaxed);
    let count = |word: &AtomicU32, value: usize| {
        word.store(u32::try_from(value).unwrap_or(u32::MAX), Ordering::Relaxed);
    };
    page.version.store(RING_VERSION, Ordering::Relaxed);
    page.pid.store(std::process::id(), Ordering::Relaxed);
    store(&page.bytes, layout.bytes);
    page.start_ns.store(clock::monotonic_ns(), Ordering::Relaxed);
    page.clock.store(clock::source().wire(), Ordering::Relaxed);
    count(&page.rings, layout.sizes.rings);
    count(&page.ring_slots, layout.sizes.ring_slots);
    store(&page.leases_offset, layout.leases);
    store(&page.pairs_offset, layout.pairs);
    store(&page.rings_offset, layout.rings);
    store(&page.ring_stride, layout.ring_stride);
    store(&page.directory_offset, layout.directory);
    count(&page.directory_slots, layout.sizes.directory_slots);
    store(&page.texts_offset, layout.texts);
    count(&page.texts_slots, layout.sizes.texts);
    store(&page.sites_offset, layout.sites);
    count(&page.sites_slots, layout.sizes.sites);
    store(&page.stacks_offset, layout.stacks);
    count(&page.stacks_slots, layout.sizes.stacks);
    page.flight_kinds.store(memory.flight_kinds, Ordering::Relaxed);
    page.offered_kinds.store(super::status::offered(), Ordering::Relaxed);
    page.alloc_mean_bytes
        .store(super::status::ALLOC_MEAN_BYTES.load(Ordering::Relaxed), Ordering::Relaxed);
}
