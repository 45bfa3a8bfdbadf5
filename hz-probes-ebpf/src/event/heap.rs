//! Records of the probe `alloc`: allocations of any process that were sampled, and their frees.

use super::Header;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// [`HeapAlloc`]'s `arg`: no free of it will be told, since no room was left to remember it.
pub const HEAP_UNTRACKED: u32 = 1;

/// An allocation was sampled.
///
/// One of `bytes` is sampled with a chance of 1 − exp(−`bytes` / `mean_bytes`).
///
/// # Source
///
/// User probes on a function of an allocator and on its return.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct HeapAlloc {
    /// `time_ns` is when the function returned; `arg` is made of `HEAP_*`.
    pub header: Header,
    /// The [`StackTrace`](super::StackTrace) it was called with; 0: none could be kept.
    pub stack: u64,
    /// What it returned.
    pub address: u64,
    /// Bytes that were asked for.
    pub bytes: u64,
    /// Bytes between two samples, in the mean.
    pub mean_bytes: u64,
}
const _: () = assert!(size_of::<HeapAlloc>() == 56);

/// Memory of a sampled allocation was given back.
///
/// # Source
///
/// User probes on functions of an allocator.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct HeapFree {
    /// `time_ns` is when the function was called; `arg` is 0.
    pub header: Header,
    /// The memory.
    pub address: u64,
}
const _: () = assert!(size_of::<HeapFree>() == 32);

macro_rules! heap_sites {
    ($($(#[$doc:meta])* $name:ident = $index:literal, $tag:literal;)*) => {
        /// A place in the programs of `alloc` that keeps one row of [`Loss`](crate::Loss).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[repr(u32)]
        pub enum HeapSite { $($(#[$doc])* $name = $index,)* }

        impl HeapSite {
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

heap_sites! {
    /// A function of an allocator was called: `submitted` are allocations that are to be told when it
    /// returns, `filtered` those that were not drawn.
    Call = 0, "alloc_call";
    /// It returned: `filtered` had nothing to tell, or no memory was left.
    Return = 1, "alloc_return";
    /// Memory was given back: `filtered` had not been sampled.
    Free = 2, "alloc_free";
    /// A stack was taken: `filtered` are those that were told before, `read_failed` found no memory to be
    /// taken in.
    Stack = 3, "alloc_stack";
}
