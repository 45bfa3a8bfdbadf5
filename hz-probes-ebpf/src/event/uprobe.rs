//! Records of the user probe `uprobe`.

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
