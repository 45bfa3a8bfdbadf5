//! A hint to the CPU that memory is about to be used, for loops that know it long enough before.

/// Has the cache line that `at` points into brought into this CPU's cache, to be written. Only a hint: any
/// address will do.
#[inline(always)]
pub(crate) fn to_write<T>(at: *const T) {
    #[cfg(all(target_arch = "x86_64", not(hz_loom)))]
    // SAFETY: the instruction neither faults nor changes memory or registers, whatever the address is.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags));
    }
    #[cfg(not(all(target_arch = "x86_64", not(hz_loom))))]
    let _ = at;
}
