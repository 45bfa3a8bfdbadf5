//! An allocator that samples: which code allocates how much, and what of it is still there, at a
//! price that a service can pay all the time.
//!
//! ```no_run
//! use hz_runtime::alloc::SampledAllocator;
//!
//! #[global_allocator]
//! static ALLOCATOR: SampledAllocator = SampledAllocator::system();
//!
//! fn main() -> Result<(), hz_runtime::alloc::PrepareError> {
//!     hz_runtime::alloc::prepare()
//! }
//! ```
//!
//! # Design
//!
//! **Samples are drawn by bytes**: as if each allocated byte were drawn with a chance of 1 in
//! [`DEFAULT_MEAN_BYTES`] (`HZ_ALLOC_SAMPLE_BYTES`; 0: never). A thread counts down the bytes to its
//! next sample, so an allocation that is none costs a subtraction. Each sample says for how many
//! bytes it stands; the sum is an unbiased estimate of what was allocated, whatever the sizes.
//!
//! **Frees of samples are told too.** Each free asks one byte, chosen by the address's page, whether
//! a live sample lies near it; only then it looks for the address. A reallocation frees the old
//! memory and allocates the new, also when it stays in place.
//!
//! **Stacks** are unwound by the rules that compilers write for exceptions (`.eh_frame`), so that
//! code needs no frame pointers. [`prepare`] reads those of the program and its libraries
//! beforehand, on a thread of its own, into sorted rows of 12 bytes which never change again. A
//! walk is a binary search for each frame and reads of the thread's own stack, between its stack
//! pointer and its end: it allocates nothing, takes no lock and cannot fault. What has no rule
//! (code that was loaded or made later) is passed by its frame pointer if that leads to known code;
//! then, or when it leads nowhere, the stack says that it is cut. Where there are no rows, which is
//! everywhere but on x86-64, frame pointers are all there is.
//!
//! **The sampler's own allocations** are not sampled: while it is at work, the thread's countdown is
//! as good as infinite.
//!
//! Who is told: the probes `alloc_sampled` and `free_sampled`, OpenTelemetry's
//! `otel_memory:alloc` and `otel_memory:free`, and the program's own [`listen`]er. If nobody wants
//! to know, no stack is walked and nothing is entered.
//!
//! # Blind spots
//!
//! What a thread allocated before [`prepare`], and up to 64 KiB after it, is not sampled. Of what
//! was allocated while nobody listened, no free is told. Modules that are loaded later have no rows
//! until [`load_modules`] is called. C code that calls `malloc` is not seen. Of more than 65,536
//! live samples, or some less, those without room are not told and counted ([`Status::overflow`]).
//! Frames that the compiler inlined are one with their caller. A stack is cut at
//! [`STACK_FRAMES`](hz_probes_ebpf::runtime::STACK_FRAMES); one of a coroutine, which is not on
//! its thread's stack, is empty.

mod gap;
mod local;
mod modules;
mod rows;
mod sampler;
mod set;
mod stack;
mod tell;
#[cfg(test)]
mod tests;

pub use tell::{Event, Listener, listen};

use local::LOCAL;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Once;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

/// Says how many bytes lie between two samples in the mean; read by [`prepare`].
pub const MEAN_VARIABLE: &str = "HZ_ALLOC_SAMPLE_BYTES";
/// Bytes between two samples in the mean, if nobody says it.
pub const DEFAULT_MEAN_BYTES: u64 = 512 << 10;

/// Why the sampler is not prepared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrepareError {
    /// `HZ_ALLOC_SAMPLE_BYTES` is not a size.
    #[error("{MEAN_VARIABLE}={text}: not a size; give bytes, or a number with k or M (512k), or 0")]
    Mean {
        /// What it is.
        text: String,
    },
    /// No thread for the stacks' rules: samples will have none.
    #[error("no thread to read the rules of stacks; samples go without")]
    Thread {
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

/// What the sampler did and has.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Status {
    /// Whether the program allocates through a [`SampledAllocator`].
    pub is_installed: bool,
    /// Bytes between two samples in the mean, 0: none is taken.
    pub mean_bytes: u64,
    /// Samples that were told.
    pub samples: u64,
    /// Of them, those whose stacks were cut or guessed.
    pub cut_stacks: u64,
    /// Samples for which there was no room.
    pub overflow: u64,
    /// Modules of which there are rows, 0: not read yet.
    pub modules: usize,
    /// Memory of their rows.
    pub row_bytes: usize,
}

/// Begins to sample, as `HZ_ALLOC_SAMPLE_BYTES` says, and starts a thread that reads the rules of
/// stacks; until it is done, a sample's stack is cut. Does nothing in a program that allocates
/// otherwise, and nothing again when called again.
///
/// # Errors
///
/// [`PrepareError`] says which variable is wrong, or that there is no thread.
pub fn prepare() -> Result<(), PrepareError> {
    static ONCE: Once = Once::new();
    let mean = mean_of_environment()?;
    let mut started = Ok(());
    if status().is_installed {
        ONCE.call_once(|| {
            set_mean_bytes(mean);
            let load = || {
                load_modules();
            };
            started = thread::Builder::new().name("hz-alloc".to_owned()).spawn(load).map(drop);
        });
    }
    started.map_err(|source| PrepareError::Thread { source })
}

/// Reads the rules of stacks of everything that is loaded now. [`prepare`] has it done; after
/// loading libraries, call it again. The former rules stay in memory.
pub fn load_modules() -> Status {
    modules::load();
    status()
}

/// Samples every `bytes` in the mean from now on; 0: not at all. A thread notices at its next
/// sample.
pub fn set_mean_bytes(bytes: u64) {
    sampler::set_mean(bytes);
    crate::probe::set_alloc_mean_bytes(bytes);
}

/// What the sampler did and has.
#[must_use]
pub fn status() -> Status {
    let modules = modules::current();
    Status {
        is_installed: sampler::IS_INSTALLED.load(Relaxed),
        mean_bytes: sampler::mean().unwrap_or(0),
        samples: sampler::SAMPLES.load(Relaxed),
        cut_stacks: sampler::CUT_STACKS.load(Relaxed),
        overflow: sampler::OVERFLOW.load(Relaxed),
        modules: modules.map_or(0, modules::Modules::count),
        row_bytes: modules.map_or(0, modules::Modules::rows) * size_of::<rows::Row>(),
    }
}

fn mean_of_environment() -> Result<u64, PrepareError> {
    let Some(text) = std::env::var_os(MEAN_VARIABLE) else {
        return Ok(DEFAULT_MEAN_BYTES);
    };
    let text = text.to_string_lossy();
    let mean = crate::size::parse(&text).map(|mean| mean as u64);
    mean.ok_or_else(|| PrepareError::Mean { text: text.into_owned() })
}

/// An allocator that samples what another one does.
#[derive(Clone, Copy, Debug, Default)]
pub struct SampledAllocator<A = System> {
    inner: A,
}

impl SampledAllocator {
    /// Samples the system's allocator.
    #[must_use]
    pub const fn system() -> Self {
        Self::new(System)
    }
}

impl<A> SampledAllocator<A> {
    /// Samples `inner`.
    #[must_use]
    pub const fn new(inner: A) -> Self {
        Self { inner }
    }
}

/// Counts an allocation; `memory` is null if it failed.
#[inline(always)]
fn count(memory: *mut u8, bytes: usize) {
    LOCAL.with(|local| {
        // No layout is larger than `isize::MAX`, and `left` was not negative: it cannot wrap round.
        let left = local.left.get().wrapping_sub(bytes as i64);
        local.left.set(left);
        if left < 0 {
            sampler::due(memory.addr(), bytes);
        }
    });
}

/// Forgets a sample whose memory is about to be given back, and says whether it was one.
#[inline(always)]
fn forget(memory: *mut u8) -> bool {
    let address = memory.addr();
    sampler::may_be_sampled(address) && sampler::forget(address)
}

// SAFETY: what is asked is passed on, and what is answered too; what is counted beside it does not unwind.
unsafe impl<A: GlobalAlloc> GlobalAlloc for SampledAllocator<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises, passed on.
        let memory = unsafe { self.inner.alloc(layout) };
        count(memory, layout.size());
        memory
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises, passed on.
        let memory = unsafe { self.inner.alloc_zeroed(layout) };
        count(memory, layout.size());
        memory
    }

    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if forget(memory) {
            sampler::freed(memory.addr(), layout.size());
        }
        // SAFETY: the caller's promises, passed on.
        unsafe { self.inner.dealloc(memory, layout) };
    }

    #[inline]
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        let was_sampled = forget(memory);
        // SAFETY: the caller's promises, passed on.
        let moved = unsafe { self.inner.realloc(memory, layout, bytes) };
        if was_sampled {
            sampler::moved(memory.addr(), layout.size(), !moved.is_null());
        }
        count(moved, bytes);
        moved
    }
}
