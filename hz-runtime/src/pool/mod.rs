//! The buffer pool: a fixed share of memory that reads, parsing and writes have in common.
//!
//! A [`Buffer`] goes from `read` through parsing to `write` without a copy: it is split in place,
//! becomes [`bytes::Bytes`] in place, and its memory returns to the pool when the last part is
//! dropped, on whatever thread that is.
//!
//! ```
//! # use hz_runtime::pool::Pool;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = Pool::builder().bytes(8 << 20).build()?;
//! let mut buffer = pool.try_take(4096)?.ok_or("the pool is exhausted")?;
//! buffer[..5].copy_from_slice(b"hello");
//! let hello = buffer.split_to(5).freeze();
//! assert_eq!(pool.stats().in_use, 1);
//! drop(buffer);
//! drop(hello);
//! assert_eq!(pool.stats().in_use, 0);
//! # Ok(())
//! # }
//! ```
//!
//! # Design
//!
//! The addresses of the whole pool are reserved at once. Memory comes behind them in chunks of
//! 2 MiB when they are needed, each of the largest pages that can be had ([`Backing`]): a huge page
//! of the machine's reserve, else small pages that the kernel is asked to make a huge one of, else
//! small ones. A chunk keeps its memory until the pool is dropped.
//!
//! In a chunk, blocks are halved and merged (buddies), in 13 classes from 512 bytes to the chunk;
//! a buffer takes the smallest class that holds it, at most half of which is unused. In front of
//! the chunks there are caches, one for each CPU, that the threads share out among themselves; a
//! class of a cache holds at most 256 KiB and at most 64 blocks, and blocks above 256 KiB are not
//! cached. All bookkeeping lies apart from the memory that it is about.
//!
//! Exhaustion is back-pressure: [`Pool::take`] waits its turn, first come, first served, and what
//! the caches hold is taken back first. So a task that holds one buffer and waits for another may
//! wait for itself; take what belongs together at once, or give up what is held first.
//!
//! # Blind spots
//!
//! A wish for a large buffer waits until neighbours are free at the same time; the queue stands
//! meanwhile, or it would never be so. Parts of a split buffer hold all of its memory.

mod buddy;
mod buffer;
mod cache;
mod ledger;
mod mapping;
#[cfg(all(test, hz_loom))]
mod models;
mod size;
mod stats;
mod store;
mod sync;
mod take;
#[cfg(all(test, not(hz_loom)))]
mod tests;

pub use buffer::Buffer;
pub use mapping::Backing;
pub use size::CHUNK_BYTES;
pub use stats::{ClassStats, Stats};
pub use take::Take;

use ledger::{Grab, Ledger};
use mapping::Mapping;
use size::{Order, POOL_BYTES_MAX};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Names the pool's size; read by [`Builder::build`].
pub const SIZE_VARIABLE: &str = "HZ_MEMORY_POOL_SIZE";
/// The pool's size if nobody says one.
pub const DEFAULT_BYTES: usize = 64 << 20;

/// Why there is no pool.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// `HZ_MEMORY_POOL_SIZE` is not a size.
    #[error("{SIZE_VARIABLE}={text}: not a size; give bytes, or a number with k, M or G (64M)")]
    Size {
        /// What it is.
        text: String,
    },
    /// More than a pool can hold.
    #[error("a pool of {bytes} bytes: the most is {POOL_BYTES_MAX}")]
    TooLarge {
        /// What was asked for.
        bytes: usize,
    },
    /// No addresses, or no memory for the first chunk.
    #[error("no memory for a pool of {bytes} bytes; ask for less, or raise the limits (ulimit -v)")]
    NoMemory {
        /// What was asked for.
        bytes: usize,
        /// What the kernel says.
        #[source]
        source: std::io::Error,
    },
}

/// A buffer of this size there will never be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a buffer of {bytes} bytes: the largest is {CHUNK_BYTES}")]
pub struct TakeError {
    /// What was asked for.
    pub bytes: usize,
}

/// A pool in the making.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Builder {
    bytes: Option<usize>,
    pages: Backing,
}

impl Builder {
    /// The most memory that it may take, rounded up to 2 MiB. If it is not said here,
    /// `HZ_MEMORY_POOL_SIZE` says it, else it is [`DEFAULT_BYTES`].
    pub const fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = Some(bytes);
        self
    }

    /// The largest pages to ask for; if not said, [`Backing::Hugetlb`].
    pub const fn pages(mut self, pages: Backing) -> Self {
        self.pages = pages;
        self
    }

    /// Reserves the addresses and takes the first chunk.
    ///
    /// # Errors
    ///
    /// [`BuildError`] says which variable is wrong, or that there is no memory.
    pub fn build(self) -> Result<Pool, BuildError> {
        let bytes = self.bytes.map_or_else(bytes_of_environment, Ok)?;
        if bytes > POOL_BYTES_MAX {
            return Err(BuildError::TooLarge { bytes });
        }
        let no_memory = |source: rustix::io::Errno| BuildError::NoMemory {
            bytes,
            source: std::io::Error::from(source),
        };
        let chunks = bytes.div_ceil(CHUNK_BYTES).max(1);
        let mapping = Mapping::reserve(chunks, self.pages).map_err(no_memory)?;
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let ledger = Ledger::new(mapping, cpus.next_power_of_two());
        if !ledger.commit_first() {
            return Err(no_memory(rustix::io::Errno::NOMEM));
        }
        Ok(Pool { ledger: Arc::new(ledger) })
    }
}

fn bytes_of_environment() -> Result<usize, BuildError> {
    let Some(text) = std::env::var_os(SIZE_VARIABLE) else {
        return Ok(DEFAULT_BYTES);
    };
    let text = text.to_string_lossy();
    crate::size::parse(&text).ok_or_else(|| BuildError::Size { text: text.into_owned() })
}

/// A pool of buffers. Clones are the same pool; its memory lives as long as the last of them, or
/// the last buffer.
#[derive(Clone, Debug)]
pub struct Pool {
    ledger: Arc<Ledger<Mapping>>,
}

impl Pool {
    /// A pool in the making.
    pub const fn builder() -> Builder {
        Builder { bytes: None, pages: Backing::Hugetlb }
    }

    /// Takes a buffer of `bytes`; waits if the pool is exhausted.
    ///
    /// # Errors
    ///
    /// [`TakeError`] if `bytes` is more than [`CHUNK_BYTES`].
    pub const fn take(&self, bytes: usize) -> Take<'_> {
        Take::new(self, bytes)
    }

    /// Takes a buffer of `bytes`; `None`: the pool is exhausted, or others wait already.
    ///
    /// # Errors
    ///
    /// [`TakeError`] if `bytes` is more than [`CHUNK_BYTES`].
    pub fn try_take(&self, bytes: usize) -> Result<Option<Buffer>, TakeError> {
        let order = Order::holding(bytes).ok_or(TakeError { bytes })?;
        match self.ledger.grab(thread_index(), order, None) {
            Grab::Block(unit) => Ok(Some(Buffer::new(&self.ledger, unit, order, bytes))),
            Grab::Queued(_) | Grab::Exhausted => Ok(None),
        }
    }

    /// The least that its chunks so far are made of.
    #[must_use]
    pub fn backing(&self) -> Backing {
        self.ledger.chunks.backings().min().unwrap_or(Backing::Small)
    }

    /// Counts what is where. It reads `/proc/self/smaps`, for which the kernel walks the memory of
    /// the whole process: not for a hot path.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let counts = self.ledger.counts();
        let backings: Vec<Backing> = self.ledger.chunks.backings().collect();
        let classes: Vec<ClassStats> = Order::ALL
            .into_iter()
            .map(|order| ClassStats {
                bytes: order.bytes(),
                in_use: counts.in_use[order.index()],
                cached: counts.cached[order.index()],
            })
            .collect();
        let bytes = |of: fn(&ClassStats) -> u64| {
            classes.iter().map(|class| of(class) * class.bytes as u64).sum()
        };
        Stats {
            in_use: counts.in_use.iter().sum(),
            in_use_bytes: bytes(|class| class.in_use),
            cached_bytes: bytes(|class| class.cached),
            taken: counts.taken,
            waiting: counts.waiting,
            waits: counts.waits,
            chunks: counts.chunks,
            chunks_hugetlb: stats::count(&backings, Backing::Hugetlb),
            chunks_transparent: stats::count(&backings, Backing::Transparent),
            chunks_small: stats::count(&backings, Backing::Small),
            chunks_max: mapping::Chunks::count(&self.ledger.chunks),
            refused_chunks: counts.refused_chunks,
            huge_bytes: stats::huge_bytes(&self.ledger.chunks.addresses()).ok(),
            classes,
        }
    }
}

/// Which cache this thread uses. Threads are dealt out in the order of their first buffer, so that
/// the workers of a runtime, started together, have one each.
fn thread_index() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static INDEX: Cell<Option<usize>> = const { Cell::new(None) };
    }
    INDEX.get().unwrap_or_else(|| {
        let index = NEXT.fetch_add(1, Relaxed);
        INDEX.set(Some(index));
        index
    })
}
