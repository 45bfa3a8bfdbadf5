//! The HPET's counter, mapped from `/dev/hpet`.

use super::ClockError;
use rustix::fs::{Mode, OFlags, open};
use rustix::mm::{MapFlags, ProtFlags, mmap};
use std::ptr;
use std::sync::OnceLock;

const DEVICE: &str = "/dev/hpet";
const BYTES: usize = 4096;
/// Of [`Register::Capabilities`]: its counter has 64 bits.
const IS_64_BIT: u64 = 1 << 13;

/// What is read of it: registers of 64 bits, by their place.
#[derive(Clone, Copy, Debug)]
enum Register {
    /// What it can do.
    Capabilities = 0,
    Counter = 0xf0,
}
const _: () = {
    assert!((Register::Counter as usize).is_multiple_of(align_of::<u64>()));
    assert!(Register::Counter as usize + size_of::<u64>() <= BYTES);
};

/// Mapped registers, which stay mapped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hpet {
    registers: *const u64,
}

// SAFETY: the registers are only read, and by volatile loads of one word.
unsafe impl Send for Hpet {}
// SAFETY: as above.
unsafe impl Sync for Hpet {}

static HPET: OnceLock<Hpet> = OnceLock::new();

impl Hpet {
    /// Maps it, once in a process.
    pub(super) fn open() -> Result<Self, ClockError> {
        if let Some(hpet) = HPET.get() {
            return Ok(*hpet);
        }
        let hpet = Self::map()?;
        Ok(*HPET.get_or_init(|| hpet))
    }

    fn map() -> Result<Self, ClockError> {
        let unusable = |source: rustix::io::Errno| ClockError::Hpet { source: source.into() };
        let device = open(DEVICE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let device = device.map_err(unusable)?;
        // SAFETY: a new mapping, where the kernel puts it, is nobody else's memory.
        let mapped =
            unsafe { mmap(ptr::null_mut(), BYTES, ProtFlags::READ, MapFlags::SHARED, device, 0) };
        let hpet = Self { registers: mapped.map_err(unusable)?.cast() };
        if hpet.read(Register::Capabilities) & IS_64_BIT == 0 {
            return Err(ClockError::HpetOf32Bits);
        }
        Ok(hpet)
    }

    /// The counter now; 0 before it was opened.
    pub(super) fn counter() -> u64 {
        HPET.get().map_or(0, |hpet| hpet.read(Register::Counter))
    }

    fn read(self, register: Register) -> u64 {
        // SAFETY: both registers lie within the page.
        let at = unsafe { self.registers.byte_add(register as usize) };
        // SAFETY: the page is mapped to be read and stays so, and the register is aligned.
        unsafe { at.read_volatile() }
    }
}
