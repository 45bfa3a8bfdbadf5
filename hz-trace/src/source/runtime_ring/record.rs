//! From a ring's four words to a record of the vocabulary.

use super::ring::Record;
use hz_probes_ebpf::{Header, Kind, runtime::RuntimeEvent, runtime_ring::SLOT_OWNER};

/// Bits of an allocation's value that hold its address, without the four lowest.
const ADDRESS_BITS: u32 = 43;

/// A ring's record, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) stamp: u64,
    kind: u16,
    aux: u16,
    pub(super) arg: u32,
    task: u64,
    pub(super) value: u64,
}

impl Slot {
    #[inline]
    pub(super) const fn new([stamp, packed, task, value]: &Record) -> Self {
        Self {
            stamp: *stamp,
            kind: (*packed & 0xffff) as u16,
            aux: (*packed >> 16 & 0xffff) as u16,
            arg: (*packed >> 32) as u32,
            task: *task,
            value: *value,
        }
    }

    /// Whether it says who writes from here on.
    #[inline]
    pub(super) const fn is_owner(&self) -> bool {
        self.kind == SLOT_OWNER
    }

    /// Its kind, if it is one that a ring may carry.
    #[inline]
    pub(super) fn kind(&self) -> Option<Kind> {
        Kind::from_wire(self.kind).filter(|kind| kind.is_runtime_event())
    }

    /// As it is recorded; `header` has the time, the thread and the process.
    #[inline]
    pub(super) fn event(&self, kind: Kind, header: Header) -> RuntimeEvent {
        let header = Header { kind: kind as u16, cpu: u16::MAX, arg: self.arg, ..header };
        let (value, aux) = match kind {
            Kind::AllocSampled | Kind::FreeSampled => self.allocation(),
            _ => (self.value, u32::from(self.aux)),
        };
        RuntimeEvent { header, task: self.task, value, aux, reserved: 0 }
    }

    /// Address and size: the address has 47 bits, the four lowest 0; the size the other 21 bits,
    /// above which come those of `aux`.
    const fn allocation(&self) -> (u64, u32) {
        let address = (self.value & ((1 << ADDRESS_BITS) - 1)) << 4;
        let bytes = self.value >> ADDRESS_BITS | (self.aux as u64) << (u64::BITS - ADDRESS_BITS);
        (address, if bytes > u32::MAX as u64 { u32::MAX } else { bytes as u32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allocation_is_unpacked() {
        for bytes in [1_u64, 4096, (1 << 21) - 1, 1 << 21, 0xffff_fffe] {
            let address = 0x7fff_1234_5670_u64;
            let value = address >> 4 | bytes << 43;
            let packed = Kind::AllocSampled as u64 | (bytes >> 21) << 16 | 9 << 32;
            let slot = Slot::new(&[0, packed, 3, value]);
            let event = slot.event(slot.kind().unwrap(), Header::default());
            assert_eq!((event.value, u64::from(event.aux)), (address, bytes));
            assert_eq!((event.header.arg, event.task), (9, 3));
        }
    }

    #[test]
    fn what_no_ring_carries_has_no_kind() {
        for kind in [0, Kind::Switch as u64, 15, Kind::RuntimeFound as u64, 0xffff] {
            assert_eq!(Slot::new(&[0, kind, 0, 0]).kind(), None, "{kind}");
        }
    }
}
