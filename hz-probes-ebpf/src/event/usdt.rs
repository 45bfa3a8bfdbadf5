//! Records of the user probe `usdt`, and the rows of its ledger.

use super::Header;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Arguments of a probe that a [`UsdtHit`] holds.
pub const USDT_ARGS: usize = 6;

/// A program passed a statically defined probe (USDT).
///
/// The header's `arg` is the probe's number in the recording's table of USDT probes, which has the
/// sizes and signs of the arguments.
///
/// # Source
///
/// uprobe, through libbpf.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct UsdtHit {
    /// `arg` is the probe's number.
    pub header: Header,
    /// Arguments as the program passed them, signed ones extended; those that the probe does not
    /// have or that could not be read are 0.
    pub args: [u64; USDT_ARGS],
    /// Arguments that the probe has, which may be more than are here.
    pub count: u32,
    /// Bit `n`: argument `n` could not be read, because its memory was not there.
    pub unread: u32,
}
const _: () = assert!(size_of::<UsdtHit>() == 80);

/// A program of `usdt` that keeps one row of [`Loss`](crate::Loss).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[repr(u32)]
pub enum UsdtSite {
    /// A probe was passed.
    Hit = 0,
    /// A process forked: `submitted` children became targets, `filtered` belong to nobody's target
    /// or are threads, and `read_failed` did not fit into the map of targets.
    Fork = 1,
}

impl UsdtSite {
    /// Every site, in the order of the ledger.
    pub const ALL: &[Self] = &[Self::Hit, Self::Fork];

    /// The site's name in recordings, JSON and documentation.
    #[must_use]
    pub const fn tag(self) -> &'static str {
        match self {
            Self::Hit => "usdt_hit",
            Self::Fork => "usdt_fork",
        }
    }
}
