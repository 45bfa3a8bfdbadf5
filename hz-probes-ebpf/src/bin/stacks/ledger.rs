//! What became of every run.

use crate::LEDGER;
use hz_probes_ebpf::{Loss, StackSite};

/// One site's row on this CPU. Every program here runs with interrupts off, so that its counters are
/// plain additions; two sites are never counted by programs that can interrupt each other.
pub(crate) struct Ledger(*mut Loss);

macro_rules! counters {
    ($($name:ident)*) => {$(
        #[inline(always)]
        pub(crate) fn $name(&self) {
            // SAFETY: the pointer is a map value of this CPU, which lives as long as the program.
            unsafe { (*self.0).$name += 1 };
        }
    )*};
}

impl Ledger {
    /// `None` never happens, but the verifier does not know.
    #[inline(always)]
    pub(crate) fn of(site: StackSite) -> Option<Self> {
        LEDGER.get_ptr_mut(site as u32).map(Self)
    }

    counters!(seen submitted filtered ring_full read_failed);
}
