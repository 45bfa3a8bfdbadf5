//! The pool's memory: addresses reserved at once, memory behind them chunk by chunk.

use super::size::{CHUNK_BYTES, CHUNK_UNITS, UNIT_BYTES};
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags};
use rustix::{io, mm};
use std::ffi::c_void;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// What the memory of a chunk is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Backing {
    /// Pages of 4 KiB, or whatever else the machine's smallest are.
    Small,
    /// Small pages that the kernel was asked to make a huge one of, which it does when it finds
    /// one: [`Stats::huge_bytes`](super::Stats::huge_bytes) says how often it did.
    Transparent,
    /// A huge page of the machine's reserve (`vm.nr_hugepages`).
    Hugetlb,
}

impl Backing {
    fn from_mark(mark: u8) -> Option<Self> {
        [Self::Small, Self::Transparent, Self::Hugetlb]
            .into_iter()
            .find(|backing| backing.mark() == mark)
    }

    const fn mark(self) -> u8 {
        match self {
            Self::Small => 1,
            Self::Transparent => 2,
            Self::Hugetlb => 3,
        }
    }
}

/// Where a ledger's chunks come from.
pub(super) trait Chunks {
    /// How many there can be.
    fn count(&self) -> usize;
    /// Puts memory behind a chunk; `false`: there is none now.
    fn commit(&self, chunk: usize) -> bool;
}

/// The reservation.
#[derive(Debug)]
pub(super) struct Mapping {
    /// First byte of the first chunk.
    base: NonNull<u8>,
    /// All that is reserved: the chunks, and untouchable pages on both sides, which also keep the
    /// kernel from merging a neighbour's memory into ours, so that smaps counts ours alone.
    reserved: NonNull<c_void>,
    reserved_bytes: usize,
    /// The largest pages to ask for.
    wish: Backing,
    /// By chunk, [`Backing::mark`]; 0: not committed.
    marks: Box<[AtomicU8]>,
}

// SAFETY: the pointers are those of a mapping that lives until this is dropped, on any thread.
unsafe impl Send for Mapping {}
// SAFETY: the fields never change; the marks are atomic.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(super) fn reserve(chunks: usize, wish: Backing) -> io::Result<Self> {
        let reserved_bytes = (chunks + 2) * CHUNK_BYTES;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        let nowhere = std::ptr::null_mut();
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start =
            unsafe { mm::mmap_anonymous(nowhere, reserved_bytes, ProtFlags::empty(), flags) }?;
        let before = CHUNK_BYTES - start.addr() % CHUNK_BYTES;
        let base = NonNull::new(start.wrapping_byte_add(before).cast());
        let (Some(reserved), Some(base)) = (NonNull::new(start), base) else {
            return Err(io::Errno::NOMEM);
        };
        let wish = if wish == Backing::Transparent && !transparent_pages_are_on() {
            Backing::Small
        } else {
            wish
        };
        let marks = (0..chunks).map(|_| AtomicU8::new(0)).collect();
        Ok(Self { base, reserved, reserved_bytes, wish, marks })
    }

    /// Address of a unit.
    pub(super) fn address(&self, unit: u32) -> NonNull<u8> {
        let bytes = unit as usize * UNIT_BYTES;
        debug_assert!(bytes < self.marks.len() * CHUNK_BYTES, "unit {unit} is outside");
        // SAFETY: the unit is in one of the reservation's chunks.
        unsafe { self.base.add(bytes) }
    }

    /// What the chunk of a unit is made of.
    pub(super) fn backing_of(&self, unit: u32) -> Option<Backing> {
        let mark = self.marks.get(unit as usize / CHUNK_UNITS)?;
        Backing::from_mark(mark.load(Relaxed))
    }

    /// What each committed chunk is made of.
    pub(super) fn backings(&self) -> impl Iterator<Item = Backing> {
        self.marks.iter().filter_map(|mark| Backing::from_mark(mark.load(Relaxed)))
    }

    /// Addresses of the chunks.
    pub(super) fn addresses(&self) -> Range<usize> {
        let start = self.base.addr().get();
        start..start + self.marks.len() * CHUNK_BYTES
    }

    fn commit_best(&self, at: *mut c_void) -> io::Result<Backing> {
        if self.wish == Backing::Hugetlb && commit_hugetlb(at).is_ok() {
            return Ok(Backing::Hugetlb);
        }
        commit_small(at)?;
        if self.wish == Backing::Small {
            return Ok(Backing::Small);
        }
        // SAFETY: the chunk is ours; the advice changes no contents.
        let advised = unsafe { mm::madvise(at, CHUNK_BYTES, Advice::LinuxHugepage) };
        if advised.is_ok() && transparent_pages_are_on() {
            Ok(Backing::Transparent)
        } else {
            Ok(Backing::Small)
        }
    }
}

impl Chunks for Mapping {
    fn count(&self) -> usize {
        self.marks.len()
    }

    fn commit(&self, chunk: usize) -> bool {
        let at = self.address((chunk * CHUNK_UNITS) as u32).as_ptr().cast();
        let Ok(backing) = self.commit_best(at) else {
            return false;
        };
        self.marks[chunk].store(backing.mark(), Relaxed);
        true
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: every buffer holds the ledger that owns this, so no reference into it is left.
        let _ = unsafe { mm::munmap(self.reserved.as_ptr(), self.reserved_bytes) };
    }
}

/// Takes a huge page of the machine's reserve, and touches it: where a control group limits huge
/// pages, the first touch and not the mapping is what fails, with SIGBUS.
fn commit_hugetlb(at: *mut c_void) -> io::Result<()> {
    let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::HUGETLB | MapFlags::HUGE_2MB;
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: replaces a chunk of our own reservation that nobody uses yet.
    unsafe { mm::mmap_anonymous(at, CHUNK_BYTES, access, flags) }?;
    // SAFETY: the chunk is ours; nothing was written to it yet.
    match unsafe { mm::madvise(at, CHUNK_BYTES, Advice::LinuxPopulateWrite) } {
        // Linux before 5.14 cannot say beforehand.
        Ok(()) | Err(io::Errno::INVAL) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Maps afresh rather than changing the protection: a failed attempt at huge pages may have left
/// its mapping, or a hole.
fn commit_small(at: *mut c_void) -> io::Result<()> {
    let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
    // SAFETY: replaces a chunk of our own reservation that nobody uses yet.
    unsafe { mm::mmap_anonymous(at, CHUNK_BYTES, ProtFlags::empty(), flags) }?;
    let access = MprotectFlags::READ | MprotectFlags::WRITE;
    // SAFETY: the chunk is ours, and nobody uses it yet.
    unsafe { mm::mprotect(at, CHUNK_BYTES, access) }
}

/// The kernel takes the advice also where it will not follow it.
fn transparent_pages_are_on() -> bool {
    let setting = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    let is_on = setting.is_ok_and(|setting| !setting.contains("[never]"));
    is_on && !rustix::thread::transparent_huge_pages_are_disabled().unwrap_or(false)
}
