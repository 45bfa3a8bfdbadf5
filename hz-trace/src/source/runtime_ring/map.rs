//! The shared memory itself, as words that are only ever loaded and stored atomically.

use super::error::AttachError;
use rustix::{
    fs::{SealFlags, fcntl_get_seals, fstat},
    mm::{MapFlags, ProtFlags, mmap, munmap},
};
use std::{
    fs::File,
    io,
    ptr::{self, NonNull},
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

/// No more is mapped: a process that offers 1 TiB does not make its reader touch it all.
const BYTES_MAX: u64 = 4 << 30;

/// A process's shared memory. Every access is within it and atomic, whatever the process does.
#[derive(Debug)]
pub(super) struct Map {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the memory is only accessed through atomics, and unmapped once, on drop.
unsafe impl Send for Map {}
// SAFETY: as above: atomics may be used from any thread.
unsafe impl Sync for Map {}

impl Map {
    /// Maps the memfd of process `pid`, readable and writable: the lease is in it.
    pub(super) fn new(file: &File, pid: u32) -> Result<Self, AttachError> {
        let failed = |error: rustix::io::Errno| AttachError::of_io(pid, error.into());
        let needed = SealFlags::SHRINK | SealFlags::GROW;
        // The length cannot change only once it is sealed: so the seals first.
        if !fcntl_get_seals(file).is_ok_and(|seals| seals.contains(needed)) {
            return Err(AttachError::NotSealed { pid });
        }
        let length = u64::try_from(fstat(file).map_err(failed)?.st_size).unwrap_or(0);
        if length > BYTES_MAX {
            return Err(AttachError::Malformed { pid, what: "it is larger than 4 GiB" });
        }
        let bytes = usize::try_from(length).unwrap_or(0) / 8 * 8;
        if bytes == 0 {
            return Err(AttachError::Malformed { pid, what: "it is empty" });
        }
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice aliases nothing of ours.
        let base = unsafe { mmap(ptr::null_mut(), bytes, access, MapFlags::SHARED, file, 0) };
        let base = NonNull::new(base.map_err(failed)?.cast::<u8>());
        let base = base.ok_or_else(|| AttachError::Io { pid, source: io::Error::other("null") })?;
        Ok(Self { base, bytes })
    }

    /// Its length in bytes.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// All of it, as words of eight bytes.
    pub(super) const fn words(&self) -> &[AtomicU64] {
        let first = self.base.cast::<AtomicU64>().as_ptr();
        // SAFETY: the mapping is as long, page-aligned, lives as long as `self`, cannot shrink since
        // it is sealed, and is accessed through atomics only.
        unsafe { std::slice::from_raw_parts(first, self.bytes / 8) }
    }

    /// All of it, as words of four bytes.
    const fn halves(&self) -> &[AtomicU32] {
        let first = self.base.cast::<AtomicU32>().as_ptr();
        // SAFETY: as in `words`.
        unsafe { std::slice::from_raw_parts(first, self.bytes / 4) }
    }

    /// The eight bytes at `offset`, if they are in it and aligned.
    #[inline]
    pub(super) fn word(&self, offset: u64) -> Option<&AtomicU64> {
        let index = usize::try_from(offset / 8).ok()?;
        self.words().get(index).filter(|_| offset.is_multiple_of(8))
    }

    /// The four bytes at `offset`, if they are in it and aligned.
    #[inline]
    pub(super) fn half(&self, offset: u64) -> Option<&AtomicU32> {
        let index = usize::try_from(offset / 4).ok()?;
        self.halves().get(index).filter(|_| offset.is_multiple_of(4))
    }

    /// Loads eight bytes; 0 if they are not in it.
    #[inline]
    pub(super) fn load(&self, offset: u64) -> u64 {
        self.word(offset).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Loads four bytes; 0 if they are not in it.
    #[inline]
    pub(super) fn load_half(&self, offset: u64) -> u32 {
        self.half(offset).map_or(0, |half| half.load(Ordering::Relaxed))
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and nothing borrowed from it outlives it.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.bytes) };
        debug_assert!(unmapped.is_ok(), "our own mapping");
    }
}
