//! A buffer, and its ways out: as a part, as `Bytes`, and back into the pool.

use super::ledger::Ledger;
use super::mapping::{Backing, Mapping};
use super::size::{CHUNK_BYTES, Order};
use super::thread_index;
use crate::probe;
use bytes::Bytes;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

/// Memory of a [`Pool`](super::Pool), as long as was asked for. What it holds is initialised, but
/// not zeroed: it may be what its last user left.
///
/// It goes back to the pool when it and every part and `Bytes` made of it are dropped, whichever
/// thread does it.
pub struct Buffer {
    owner: Owner,
    address: NonNull<u8>,
    len: usize,
}

// SAFETY: a buffer is the only one with access to its range, as `Box<[u8]>` is.
unsafe impl Send for Buffer {}
// SAFETY: shared, it is only read.
unsafe impl Sync for Buffer {}

/// Whom the memory belongs to.
enum Owner {
    Nobody,
    Whole(Block),
    /// It was split.
    Parts(Arc<Block>),
}

/// A block of the pool, returned when dropped.
struct Block {
    ledger: Arc<Ledger<Mapping>>,
    unit: u32,
    order: Order,
}

impl Block {
    fn address(&self) -> NonNull<u8> {
        self.ledger.chunks.address(self.unit)
    }

    /// For the probes: address, bytes and bytes of a page.
    fn told(&self) -> (usize, u32, u32) {
        let page_bytes = match self.ledger.chunks.backing_of(self.unit) {
            Some(Backing::Hugetlb | Backing::Transparent) => CHUNK_BYTES,
            Some(Backing::Small) | None => rustix::param::page_size(),
        };
        (self.address().addr().get(), self.order.bytes() as u32, page_bytes as u32)
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let (address, bytes, page_bytes) = self.told();
        probe::buffer_returned(address, bytes, page_bytes);
        self.ledger.put(thread_index(), self.unit, self.order);
    }
}

impl Buffer {
    pub(super) fn new(
        ledger: &Arc<Ledger<Mapping>>,
        unit: u32,
        order: Order,
        bytes: usize,
    ) -> Self {
        let block = Block { ledger: Arc::clone(ledger), unit, order };
        let (address, block_bytes, page_bytes) = block.told();
        probe::buffer_taken(address, block_bytes, page_bytes);
        Self { address: block.address(), owner: Owner::Whole(block), len: bytes }
    }

    /// Splits off the first `at` bytes, without a copy: this buffer keeps the rest. Their memory
    /// goes back to the pool when both are gone.
    ///
    /// # Panics
    ///
    /// If it is shorter than `at`.
    #[must_use = "the first bytes are gone from this buffer"]
    pub fn split_to(&mut self, at: usize) -> Self {
        assert!(at <= self.len, "split at {at} of {} bytes", self.len);
        let first = Self { owner: self.share(), address: self.address, len: at };
        // SAFETY: `at` is within the block, or one past it.
        self.address = unsafe { self.address.add(at) };
        self.len -= at;
        first
    }

    /// Drops all but the first `len` bytes; nothing if it is not longer.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Turns it into `Bytes`, without a copy: parts of those share the memory, and the last that is
    /// dropped returns it to the pool.
    #[must_use]
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }

    fn share(&mut self) -> Owner {
        self.owner = match std::mem::replace(&mut self.owner, Owner::Nobody) {
            Owner::Nobody => return Owner::Nobody,
            Owner::Whole(block) => Owner::Parts(Arc::new(block)),
            parts @ Owner::Parts(_) => parts,
        };
        match &self.owner {
            Owner::Parts(block) => Owner::Parts(Arc::clone(block)),
            Owner::Nobody | Owner::Whole(_) => Owner::Nobody,
        }
    }
}

impl Default for Buffer {
    /// No bytes, of no pool.
    fn default() -> Self {
        Self { owner: Owner::Nobody, address: NonNull::dangling(), len: 0 }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the range is this buffer's alone, initialised (the kernel's zeroes, or what was
        // written since), and mapped while the owner lives.
        unsafe { std::slice::from_raw_parts(self.address.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; `&mut self` is the only way to the range.
        unsafe { std::slice::from_raw_parts_mut(self.address.as_ptr(), self.len) }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl From<Buffer> for Bytes {
    fn from(buffer: Buffer) -> Self {
        buffer.freeze()
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("len", &self.len).finish_non_exhaustive()
    }
}
