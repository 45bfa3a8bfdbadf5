//! Records of the user probe `uprobe`, and the rows of its ledger.

use super::Header;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// [`UprobeHit::flags`]: the function returns; otherwise it is entered.
pub const UPROBE_RETURN: u32 = 1;

/// A probed function was entered or returned from.
///
/// The header's `arg` is the probe's number in the recording's table of user probes.
///
/// # Source
///
/// uprobe and uretprobe.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct UprobeHit {
    /// `arg` is the probe's number.
    pub header: Header,
    /// [`UPROBE_RETURN`] or 0.
    pub flags: u32,
    /// Always 0.
    pub reserved: u32,
}
const _: () = assert!(size_of::<UprobeHit>() == 32);

/// A program of `uprobe` that keeps one row of [`Loss`](crate::Loss).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[repr(u32)]
pub enum UprobeSite {
    /// A probed function was entered.
    Enter = 0,
    /// A probed function returned.
    Return = 1,
    /// A process forked: `submitted` children became targets, `filtered` belong to nobody's target
    /// or are threads, and `read_failed` did not fit into the map of targets.
    Fork = 2,
}

impl UprobeSite {
    /// Every site, in the order of the ledger.
    pub const ALL: &[Self] = &[Self::Enter, Self::Return, Self::Fork];

    /// The site's name in recordings, JSON and documentation.
    #[must_use]
    pub const fn tag(self) -> &'static str {
        match self {
            Self::Enter => "uprobe_enter",
            Self::Return => "uprobe_return",
            Self::Fork => "uprobe_fork",
        }
    }
}
