//! One site of a probe: the instructions, and the note that describes them.
//!
//! The note is systemtap's, <https://sourceware.org/systemtap/wiki/UserSpaceProbeImplementation>:
//! the addresses of the site, of `_.stapsdt.base` (which tells prelinked files apart) and of the
//! semaphore, then the provider, the name and the arguments (`SIZE@OPERAND`).

/// The instructions of a site.
///
/// `nop; nop5`: new kernels turn the five bytes into a call, which is cheaper than a trap; tools
/// that know nothing of that put their breakpoint on the first byte.
#[cfg(target_arch = "x86_64")]
macro_rules! instructions {
    () => {
        "nop\n.byte 0x0f, 0x1f, 0x44, 0x00, 0x00"
    };
}

#[cfg(target_arch = "aarch64")]
macro_rules! instructions {
    () => {
        "nop"
    };
}

/// An argument of 8 or 4 bytes as the note spells it, `%rdi` and `%edi`.
#[cfg(target_arch = "x86_64")]
macro_rules! operand {
    (8) => {
        "8@%{}"
    };
    (4) => {
        "4@%{:e}"
    };
}

/// An argument of 8 or 4 bytes as the note spells it: tools look for `x0` in both cases.
#[cfg(target_arch = "aarch64")]
macro_rules! operand {
    ($bytes:tt) => {
        concat!($bytes, "@{:x}")
    };
}

/// `site!((provider, name, place of its gate, function it is in), BYTES argument, …)`.
///
/// Not `nostack`: the kernel's call pushes onto the stack of the program, where a function that
/// calls nobody would otherwise keep its variables. The note is bound to the section of the
/// function (`o`), so that a linker which leaves out one leaves out both.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! site {
    (
        ($provider:literal, $name:literal, $place:expr, $function:path),
        $first_bytes:tt $first:expr $(, $bytes:tt $argument:expr)*
    ) => {
        // SAFETY: executes nothing but nops. Tracers read registers and memory, and change nothing.
        unsafe {
            core::arch::asm!(
                "990:",
                $crate::probe::usdt::site::instructions!(),
                ".pushsection .note.stapsdt, \"o\", @note, {function}",
                ".balign 4",
                ".4byte 992f - 991f, 994f - 993f, 3",
                "991: .asciz \"stapsdt\"",
                "992: .balign 4",
                "993: .8byte 990b",
                ".8byte _.stapsdt.base",
                ".8byte {gates} + 4 * {place}",
                concat!(".asciz \"", $provider, "\""),
                concat!(".asciz \"", $name, "\""),
                concat!(
                    ".asciz \"",
                    $crate::probe::usdt::site::operand!($first_bytes),
                    $(" ", $crate::probe::usdt::site::operand!($bytes),)*
                    "\""
                ),
                "994: .balign 4",
                ".popsection",
                ".ifndef _.stapsdt.base",
                ".pushsection .stapsdt.base, \"aG\", @progbits, .stapsdt.base, comdat",
                ".weak _.stapsdt.base",
                ".hidden _.stapsdt.base",
                "_.stapsdt.base: .space 1",
                ".size _.stapsdt.base, 1",
                ".popsection",
                ".endif",
                in(reg) $first,
                $(in(reg) $argument,)*
                gates = sym $crate::probe::usdt::GATES,
                place = const $place,
                function = sym $function,
                options(readonly, preserves_flags),
            );
        }
    };
}

/// Elsewhere a site is nothing.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
macro_rules! site {
    (
        ($provider:literal, $name:literal, $place:expr, $function:path),
        $($bytes:tt $argument:expr),*
    ) => {{
        let _ = ($provider, $name, $place, ($($argument,)*));
    }};
}

pub(super) use site;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) use {instructions, operand};
