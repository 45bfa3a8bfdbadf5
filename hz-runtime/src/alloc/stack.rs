//! The stack of this thread: its registers, its limits, and its callers.

use super::modules::Modules;
use super::rows::{Cfa, Rbp, Row};
use std::mem::MaybeUninit;

/// Frames that are kept.
pub(super) const FRAMES: usize = hz_probes_ebpf::runtime::STACK_FRAMES;

/// A place in a thread's execution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Registers {
    pub(super) pc: usize,
    pub(super) sp: usize,
    /// `None`: lost on the way.
    pub(super) bp: Option<usize>,
}

/// Return addresses, leaf first.
#[derive(Debug)]
pub(super) struct Frames {
    addresses: [u64; FRAMES],
    count: usize,
    /// Not to the end: it is deeper, or there was no rule.
    pub(super) is_cut: bool,
}

impl Frames {
    pub(super) const fn none() -> Self {
        Self { addresses: [0; FRAMES], count: 0, is_cut: true }
    }

    pub(super) fn addresses(&self) -> &[u64] {
        &self.addresses[..self.count]
    }

    /// The walk is over, at the outermost function.
    const fn ended(mut self, was_guessed: bool) -> Self {
        self.is_cut = was_guessed;
        self
    }

    fn push(&mut self, address: usize) -> bool {
        let Some(place) = self.addresses.get_mut(self.count) else {
            return false;
        };
        *place = address as u64;
        self.count += 1;
        true
    }
}

/// Where the calling function is, `None`: this architecture has no way to say.
#[inline(always)]
pub(super) fn registers() -> Option<Registers> {
    let (pc, sp, bp): (usize, usize, usize);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: reads three registers, at one moment.
    unsafe {
        std::arch::asm!("lea {}, [rip]", "mov {}, rsp", "mov {}, rbp",
            out(reg) pc, out(reg) sp, out(reg) bp, options(nomem, nostack, preserves_flags));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: reads three registers, at one moment.
    unsafe {
        std::arch::asm!("adr {}, .", "mov {}, sp", "mov {}, x29",
            out(reg) pc, out(reg) sp, out(reg) bp, options(nomem, nostack, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return None;
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    Some(Registers { pc, sp, bp: Some(bp) })
}

/// Where this thread's stack is, nothing if the C library does not know.
///
/// For the main thread it reads `/proc/self/maps`, and it takes memory of its own `malloc`.
pub(super) fn limits() -> Limits {
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: no arguments.
    let thread = unsafe { libc::pthread_self() };
    // SAFETY: a live thread, and memory for its attributes.
    if unsafe { libc::pthread_getattr_np(thread, attributes.as_mut_ptr()) } != 0 {
        return Limits::default();
    }
    let (mut low, mut bytes) = (std::ptr::null_mut(), 0);
    // SAFETY: the attributes were set above.
    let code =
        unsafe { libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut low, &raw mut bytes) };
    // SAFETY: set above, and not used any more.
    unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
    if code == 0 {
        Limits { start: low.addr(), end: low.addr().saturating_add(bytes) }
    } else {
        Limits::default()
    }
}

/// Where a stack is: addresses from its lowest.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    start: usize,
    end: usize,
}

impl Limits {
    #[cfg(test)]
    pub(super) const fn end(self) -> usize {
        self.end
    }

    /// A word of this thread's stack: `self` must be a part of it that is in use.
    fn read(self, address: usize) -> Option<usize> {
        let word = size_of::<usize>();
        let is_inside = address >= self.start && address <= self.end.checked_sub(word)?;
        if !is_inside || !address.is_multiple_of(word) {
            return None;
        }
        let word = std::ptr::with_exposed_provenance::<usize>(address);
        // SAFETY: aligned, and between this thread's stack pointer and the end of its stack, which `walk`
        // has seen to, all of which is mapped. It may belong to a function that changes it: a word is read whatever it
        // is.
        Some(unsafe { word.read_volatile() })
    }
}

/// The callers of `from`, on the thread's stack `whole`; none if they are elsewhere, as those of a
/// coroutine.
///
/// Each step goes up the stack, so it ends; every read is of the stack's part in use, so that a
/// wrong rule leads astray but not out of memory.
///
/// Whatever `from` and `whole` are: if the stack pointer is not in `whole`, that is another thread's stack, and below
/// the pointer nothing is read.
pub(super) fn walk(modules: Option<&Modules>, from: Registers, whole: Limits) -> Frames {
    let Some(Registers { sp, .. }) = registers() else { return Frames::none() };
    let is_within = |sp: usize| (whole.start..whole.end).contains(&sp);
    if !is_within(sp) || !is_within(from.sp) {
        return Frames::none();
    }
    let stack = Limits { start: from.sp.max(sp), end: whole.end };
    let mut frames = Frames::none();
    let mut here = from;
    let mut was_guessed = false;
    loop {
        // A return address is behind its call, which may be a function's last instruction.
        let pc = here.pc - usize::from(frames.count > 0);
        let row = modules.and_then(|modules| modules.rule(pc));
        let caller = match row {
            Some(Row { cfa: Cfa::Outermost, .. }) => return frames.ended(was_guessed),
            Some(row) if row.cfa != Cfa::Unknown => by_rule(row, here, stack),
            _ => {
                was_guessed = true;
                by_frame_pointer(here, stack).filter(|caller| is_code(modules, caller.pc))
            }
        };
        let Some(caller) = caller else { break };
        if caller.pc == 0 {
            return frames.ended(was_guessed);
        }
        if !frames.push(caller.pc) {
            break;
        }
        here = caller;
    }
    frames
}

fn by_rule(row: Row, here: Registers, stack: Limits) -> Option<Registers> {
    let base = if row.cfa == Cfa::Rsp { here.sp } else { here.bp? };
    let cfa = base.checked_add_signed(row.cfa_offset as isize)?;
    if cfa <= here.sp {
        return None;
    }
    let bp = match row.rbp {
        Rbp::Same => here.bp,
        Rbp::Saved => stack.read(cfa.checked_add_signed(isize::from(row.rbp_offset))?),
        Rbp::Lost => None,
    };
    Some(Registers { pc: stack.read(cfa.checked_sub(8)?)?, sp: cfa, bp })
}

/// Where there is no rule, frame pointers may have been kept: a guess.
fn by_frame_pointer(here: Registers, stack: Limits) -> Option<Registers> {
    let bp = here.bp.filter(|bp| *bp >= here.sp)?;
    let caller_bp = stack.read(bp)?;
    let pc = stack.read(bp.checked_add(8)?)?;
    Some(Registers { pc, sp: bp + 16, bp: Some(caller_bp) })
}

/// Whether a guessed return address can be one: before the rows are there none can, and where there
/// are no rows, on other architectures, all.
fn is_code(modules: Option<&Modules>, pc: usize) -> bool {
    modules
        .is_some_and(|modules| modules.count() == 0 || modules.rule(pc.wrapping_sub(1)).is_some())
}
