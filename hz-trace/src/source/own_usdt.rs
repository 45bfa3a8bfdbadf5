//! A statically defined probe of hz's own, to try whether such probes work here.

use std::sync::atomic::{AtomicU16, Ordering};

/// The semaphore. On a page of its own: only then does the kernel find it in every process.
#[cfg_attr(target_arch = "aarch64", repr(C, align(65536)))]
#[cfg_attr(not(target_arch = "aarch64"), repr(C, align(4096)))]
struct Semaphore(AtomicU16);

// The kernel writes to it through the file's page.
#[unsafe(link_section = ".probes")]
static SEMAPHORE: Semaphore = Semaphore(AtomicU16::new(0));

/// Passes `hz_trace:tried` if a tracer is there; whether one was.
#[inline(never)]
pub fn pass_own_probe() -> bool {
    if SEMAPHORE.0.load(Ordering::Relaxed) == 0 {
        return false;
    }
    // Not `nostack`: the kernel may push on the stack here.
    // SAFETY: a nop; the rest describes it in a section that is not loaded.
    unsafe {
        std::arch::asm!(
            "990: nop",
            ".pushsection .note.stapsdt, \"\", @note",
            ".balign 4",
            ".4byte 992f - 991f, 994f - 993f, 3",
            "991: .asciz \"stapsdt\"",
            "992: .balign 4",
            "993: .8byte 990b, 0, {semaphore}",
            ".asciz \"hz_trace\"",
            ".asciz \"tried\"",
            ".asciz \"\"",
            "994: .balign 4",
            ".popsection",
            semaphore = sym SEMAPHORE,
        );
    }
    true
}
