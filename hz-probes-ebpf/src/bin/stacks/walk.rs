//! A thread's stack: the kernel's part by the kernel's own unwinder, the user's by rows where they are
//! known and by frame pointers elsewhere.

use crate::{
    CONFIG, PLACES, arch, config,
    rows::{find_place, find_rule},
};
use aya_ebpf::helpers::generated::{bpf_get_stack, bpf_loop, bpf_probe_read_user};
use core::ffi::c_void;
use hz_probes_ebpf::{Cfa, Fp, Header, NO_TABLE, Places, Rule, STACK_ADDRESSES, StackEnd};

/// Addresses of the kernel's stack at the most; also how many the kernel gives by frame pointers, as
/// long as `kernel.perf_event_max_stack` has its default.
const PART_MAX: u32 = 127;
/// [`bpf_get_stack`]: the user's stack.
const BPF_F_USER_STACK: u64 = 1 << 8;

/// A stack while it is taken; `head` up to the last address in use is what the ring gets.
#[repr(C)]
pub(crate) struct Scratch {
    pub(crate) head: Head,
    /// A power of two, so that a mask bounds an index.
    pub(crate) addresses: [u64; 256],
    hash: u64,
    pc: u64,
    sp: u64,
    fp: u64,
    count: u64,
    /// 1 if `pc` is a return address, which is behind its call.
    is_return: u64,
    has_fp: u64,
    /// 1 if the kernel's part goes through an interrupt's entry.
    pub(crate) is_interrupt: u64,
}
const _: () = assert!(STACK_ADDRESSES <= 254);

/// `StackTrace` up to its addresses.
#[repr(C)]
pub(crate) struct Head {
    pub(crate) header: Header,
    pub(crate) id: u64,
    pub(crate) kernel_frames: u16,
    pub(crate) user_frames: u16,
    pub(crate) kernel_end: u8,
    pub(crate) user_end: u8,
    pub(crate) guessed_frames: u8,
    pub(crate) reserved: u8,
}
const _: () =
    assert!(size_of::<Head>() == core::mem::offset_of!(hz_probes_ebpf::StackTrace, addresses));

/// Who takes a stack: each has memory of its own, since one may interrupt another.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Taker {
    Sample = 0,
    Leave = 1,
    Wake = 2,
}

/// Takes the stack of the current thread, whose `pt_regs` in user mode are `regs` (null: it has none);
/// addresses, ends and the hash of them are in `scratch` then.
#[inline(always)]
pub(crate) fn take(ctx: *mut c_void, pid: u32, regs: *const u8, scratch: *mut Scratch) {
    // SAFETY: a map value of this CPU, which nobody else writes meanwhile.
    let walk = unsafe { &mut *scratch };
    begin(walk);
    kernel_part(ctx, walk);
    user_part(pid, regs, walk, |walk| {
        if arch::is_32_bit(regs) { by_kernel(ctx, walk) } else { by_frame_pointers(walk, regs) }
    });
}

/// Takes the user's part alone, of a thread that is in user mode and has just called a function, which
/// has no frame yet: the kernel knows that of its own probes.
#[inline(always)]
pub(crate) fn take_user(ctx: *mut c_void, pid: u32, regs: *const u8, scratch: *mut Scratch) {
    // SAFETY: a map value of this CPU, which nobody else writes meanwhile.
    let walk = unsafe { &mut *scratch };
    begin(walk);
    walk.head.kernel_end = StackEnd::Absent as u8;
    user_part(pid, regs, walk, |walk| by_kernel(ctx, walk));
}

#[inline(always)]
fn begin(walk: &mut Scratch) {
    walk.hash = 0;
    walk.head.guessed_frames = 0;
    walk.count = 0;
    walk.is_interrupt = 0;
}

/// The user's frames: `without_rows` takes them where there are no rows.
#[inline(always)]
fn user_part(
    pid: u32,
    regs: *const u8,
    walk: &mut Scratch,
    without_rows: impl FnOnce(&mut Scratch),
) {
    let kernel_frames = walk.count;
    walk.head.kernel_frames = kernel_frames as u16;
    if regs.is_null() {
        walk.head.user_end = StackEnd::Absent as u8;
    } else if config!(has_rows) != 0
        && let Some(places) = PLACES.get_ptr(pid)
    {
        by_rows(walk, places, regs);
    } else {
        without_rows(walk);
    }
    walk.head.user_frames = (walk.count - kernel_frames) as u16;
    let ends = u64::from(walk.head.kernel_end) | u64::from(walk.head.user_end) << 8;
    let counts = kernel_frames << 16 | walk.count << 32;
    walk.hash = mix(walk.hash, ends | counts);
    walk.hash = mix(walk.hash, u64::from(pid));
    let id = walk.hash ^ walk.hash >> 32;
    walk.head.id = if id == 0 { 1 } else { id };
}

#[inline(always)]
fn mix(hash: u64, word: u64) -> u64 {
    (hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95)
}

/// The kernel's frames: none if the thread was in user mode.
#[inline(always)]
fn kernel_part(ctx: *mut c_void, walk: &mut Scratch) {
    let buffer = walk.addresses.as_mut_ptr().cast();
    // SAFETY: the context of this program, and memory as long as said.
    let bytes = unsafe { bpf_get_stack(ctx, buffer, PART_MAX * 8, 0) };
    if bytes < 0 {
        walk.head.kernel_end = StackEnd::Refused as u8;
        return;
    }
    let frames = (bytes as u64 >> 3) & 0x7f;
    walk.head.kernel_end = match frames as u32 {
        0 => StackEnd::Absent,
        PART_MAX => StackEnd::Depth,
        _ => StackEnd::Outermost,
    } as u8;
    hash_from(walk, 0, frames);
    walk.count = frames;
}

/// The user's frames by the kernel's own walk along frame pointers.
#[inline(always)]
fn by_kernel(ctx: *mut c_void, walk: &mut Scratch) {
    let from = walk.count & 0x7f;
    // SAFETY: at most 127 addresses are there, so that as many again fit behind them.
    let buffer = unsafe { walk.addresses.as_mut_ptr().add(from as usize) };
    // SAFETY: the context of this program, and memory as long as said.
    let bytes = unsafe { bpf_get_stack(ctx, buffer.cast(), PART_MAX * 8, BPF_F_USER_STACK) };
    if bytes < 0 {
        walk.head.user_end = StackEnd::Refused as u8;
        return;
    }
    let frames = (bytes as u64 >> 3) & 0x7f;
    let end = if frames as u32 == PART_MAX { StackEnd::Depth } else { StackEnd::FramePointer };
    walk.head.user_end = end as u8;
    walk.head.guessed_frames = frames as u8;
    hash_from(walk, from, frames);
    walk.count = from + frames;
}

struct Hashing {
    walk: *mut Scratch,
    from: u64,
}

#[inline(always)]
fn hash_from(walk: &mut Scratch, from: u64, count: u64) {
    let mut hashing = Hashing { walk, from };
    let context: *mut Hashing = &raw mut hashing;
    // SAFETY: the function takes this context, which outlives the call.
    unsafe { bpf_loop(count as u32, hash_one as *mut c_void, context.cast(), 0) };
}

#[inline(never)]
unsafe extern "C" fn hash_one(index: u32, context: *mut c_void) -> i64 {
    let hashing = context.cast::<Hashing>();
    // SAFETY: what `hash_from` passed.
    let (walk, from) = unsafe { ((*hashing).walk, (*hashing).from) };
    // SAFETY: a map value of this CPU.
    let walk = unsafe { &mut *walk };
    let place = (from + u64::from(index)) & 0xff;
    // SAFETY: a mask keeps the index inside.
    let address = unsafe { *walk.addresses.get_unchecked(place as usize) };
    walk.hash = mix(walk.hash, address);
    // A user address is no function of the kernel's.
    if address.wrapping_sub(config!(interrupts)[0]) < config!(interrupts)[1] {
        walk.is_interrupt = 1;
    }
    0
}

struct Stepping {
    walk: *mut Scratch,
    places: *const Places,
}

/// The user's frames by rows.
#[inline(always)]
fn by_rows(walk: &mut Scratch, places: *const Places, regs: *const u8) {
    begin_user(walk, regs);
    let mut stepping = Stepping { walk, places };
    let context: *mut Stepping = &raw mut stepping;
    // SAFETY: the function takes this context, which outlives the call.
    unsafe { bpf_loop(STACK_ADDRESSES as u32, step as *mut c_void, context.cast(), 0) };
}

/// The user's frames by frame pointers alone. Not by the kernel, which follows a register that is none
/// round and round.
#[inline(always)]
fn by_frame_pointers(walk: &mut Scratch, regs: *const u8) {
    let kernel_frames = walk.count;
    begin_user(walk, regs);
    let mut walking: *mut Scratch = walk;
    let context: *mut *mut Scratch = &raw mut walking;
    // SAFETY: the function takes this context, which outlives the call.
    unsafe { bpf_loop(STACK_ADDRESSES as u32, step_frame as *mut c_void, context.cast(), 0) };
    walk.head.guessed_frames = (walk.count - kernel_frames) as u8;
}

/// Begins with what the thread does now.
#[inline(always)]
fn begin_user(walk: &mut Scratch, regs: *const u8) {
    walk.pc = register(regs, arch::regs::PC);
    walk.sp = register(regs, arch::regs::SP);
    walk.fp = register(regs, arch::regs::FP);
    walk.has_fp = 1;
    walk.is_return = 0;
    walk.head.user_end = StackEnd::Depth as u8;
    push(walk, walk.pc);
}

/// Reads a register of the thread in user mode.
#[inline(always)]
pub(crate) fn register(regs: *const u8, offset: usize) -> u64 {
    // SAFETY: inside `struct pt_regs`.
    let field = unsafe { regs.add(offset) };
    // SAFETY: the verifier knows the pointer as one to `struct pt_regs`.
    unsafe { field.cast::<u64>().read_volatile() }
}

/// Adds an address; false if there is no room.
#[inline(always)]
fn push(walk: &mut Scratch, address: u64) -> bool {
    let count = walk.count;
    if count >= STACK_ADDRESSES as u64 {
        return false;
    }
    // SAFETY: a mask keeps the index inside.
    unsafe { *walk.addresses.get_unchecked_mut((count & 0xff) as usize) = address };
    walk.count = count + 1;
    walk.hash = mix(walk.hash, address);
    true
}

/// Goes to the caller; 1 ends the walk.
#[inline(never)]
unsafe extern "C" fn step(_index: u32, context: *mut c_void) -> i64 {
    let stepping = context.cast::<Stepping>();
    // SAFETY: what `by_rows` passed.
    let walk = unsafe { (*stepping).walk };
    // SAFETY: what `by_rows` passed.
    let places = unsafe { (*stepping).places };
    // SAFETY: a map value of this CPU.
    let walk = unsafe { &mut *walk };
    // A return address is behind its call, which may be a function's last instruction.
    let pc = walk.pc - walk.is_return;
    let Some(place) = find_place(places, pc) else { return ended(walk, StackEnd::NoMapping) };
    // SAFETY: a map value.
    let place = unsafe { &*place };
    let rule = if place.table == NO_TABLE {
        Cfa::Unknown as u32
    } else {
        find_rule(place.table, pc.wrapping_sub(place.base) as u32)
    };
    match caller(walk, rule, pc) {
        Ok(()) => {}
        Err(end) => return ended(walk, end),
    }
    if walk.pc == 0 {
        let is_sure = walk.head.guessed_frames == 0;
        return ended(walk, if is_sure { StackEnd::Outermost } else { StackEnd::FramePointer });
    }
    let pc = walk.pc;
    if push(walk, pc) { 0 } else { 1 }
}

/// Goes to the caller by the frame pointer; 1 ends the walk.
#[inline(never)]
unsafe extern "C" fn step_frame(_index: u32, context: *mut c_void) -> i64 {
    // SAFETY: what `by_frame_pointers` passed.
    let walk = unsafe { *context.cast::<*mut Scratch>() };
    // SAFETY: a map value of this CPU.
    let walk = unsafe { &mut *walk };
    if by_frame_pointer(walk).is_err() || walk.pc == 0 {
        return ended(walk, StackEnd::FramePointer);
    }
    let pc = walk.pc;
    if push(walk, pc) { 0 } else { 1 }
}

#[inline(always)]
fn ended(walk: &mut Scratch, end: StackEnd) -> i64 {
    walk.head.user_end = end as u8;
    1
}

/// Makes the registers those of the caller.
#[inline(always)]
fn caller(walk: &mut Scratch, rule: u32, pc: u64) -> Result<(), StackEnd> {
    let kind = Rule::cfa_of(rule);
    if kind == Cfa::Outermost as u32 {
        return Err(StackEnd::Outermost);
    }
    if kind == Cfa::Unknown as u32 {
        return by_frame_pointer(walk);
    }
    if kind == Cfa::Hard as u32 {
        return Err(StackEnd::HardRule);
    }
    if kind == Cfa::Signal as u32 {
        return from_signal(walk);
    }
    let needs_fp = kind == Cfa::Fp as u32 || kind == Cfa::FpMemory as u32;
    if needs_fp && walk.has_fp == 0 {
        return Err(StackEnd::HardRule);
    }
    let base = if needs_fp { walk.fp } else { walk.sp };
    let mut cfa = base.wrapping_add(Rule::cfa_offset_of(rule) as u64);
    if kind == Cfa::FpMemory as u32 {
        cfa = read(cfa)?;
    } else if kind == Cfa::Plt as u32 {
        cfa = walk.sp.wrapping_add(if pc & 15 >= 11 { 16 } else { 8 });
    }
    // The stack grows down: its caller's part is higher.
    if cfa <= walk.sp {
        return Err(StackEnd::HardRule);
    }
    let fp_kind = Rule::fp_of(rule);
    if fp_kind == Fp::Lost as u32 {
        walk.has_fp = 0;
    } else if fp_kind != Fp::Same as u32 {
        let base = if fp_kind == Fp::Saved as u32 { cfa } else { walk.fp };
        walk.fp = read(base.wrapping_add(Rule::fp_offset_of(rule) as u64))?;
        walk.has_fp = 1;
    }
    walk.pc = read(cfa.wrapping_sub(8))?;
    walk.sp = cfa;
    walk.is_return = 1;
    Ok(())
}

/// Where there is no rule, frame pointers may have been kept: a guess.
#[inline(always)]
fn by_frame_pointer(walk: &mut Scratch) -> Result<(), StackEnd> {
    let fp = walk.fp;
    if walk.has_fp == 0 || fp < walk.sp {
        return Err(StackEnd::NoRule);
    }
    let Ok(pc) = read(fp.wrapping_add(8)) else { return Err(StackEnd::NoRule) };
    let Ok(caller) = read(fp) else { return Err(StackEnd::NoRule) };
    walk.pc = pc;
    walk.fp = caller;
    walk.sp = fp.wrapping_add(16);
    walk.is_return = 1;
    if walk.head.guessed_frames < u8::MAX {
        walk.head.guessed_frames += 1;
    }
    Ok(())
}

/// The thread runs a signal handler: what it interrupted is on the stack, whatever stack that is.
#[inline(always)]
fn from_signal(walk: &mut Scratch) -> Result<(), StackEnd> {
    let (pc, sp, fp) = arch::SIGNAL;
    let frame = walk.sp;
    walk.pc = read(frame.wrapping_add(pc))?;
    walk.sp = read(frame.wrapping_add(sp))?;
    walk.fp = read(frame.wrapping_add(fp))?;
    walk.has_fp = 1;
    walk.is_return = 0;
    Ok(())
}

/// Reads a word of the thread's memory.
#[inline(always)]
fn read(address: u64) -> Result<u64, StackEnd> {
    let mut word = 0_u64;
    // SAFETY: a word to write to; the kernel checks the address.
    let status =
        unsafe { bpf_probe_read_user((&raw mut word).cast(), 8, address as *const c_void) };
    if status == 0 { Ok(word) } else { Err(StackEnd::Memory) }
}
