//! Functions of allocators: which calls are sampled, what they returned, and what is given back.
//!
//! These programs run on user probes, which can be preempted: another thread may come to the same code on
//! the same CPU in between. So counters are atomic, and memory for a stack belongs to one at a time.
//!
//! Blind spots: a function that was inlined; one that is left by `longjmp`; memory that a failed
//! `realloc` keeps counts as given back.

use crate::walk::{self, Scratch, register};
use crate::{CONFIG, Tell, arch, config, header, is_target, ring, tell_stack, user_registers};
use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_F_NO_PREALLOC, BPF_RB_NO_WAKEUP},
    btf_maps::{HashMap, PerCpuArray},
    helpers::generated::{
        bpf_get_attach_cookie, bpf_get_current_task_btf, bpf_get_func_ip, bpf_get_prandom_u32,
        bpf_probe_read_user,
    },
    macros::{btf_map, uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use core::{arch::asm, ffi::c_void};
use hz_probes_ebpf::{
    HEAP_UNTRACKED, HeapAlloc, HeapFree, HeapFunction, HeapKey, HeapSite, Kind, Loss, heap_chance,
};

/// One row for each [`HeapSite`].
#[btf_map]
static HEAP_LEDGER: PerCpuArray<Loss, 4> = PerCpuArray::new();
const _: () = assert!(HeapSite::ALL.len() == 4);
/// Calls that are sampled and have not returned, by thread.
#[btf_map]
static HEAP_CALLS: HashMap<u32, Call, 16_384, { BPF_F_NO_PREALLOC as usize }> = HashMap::new();
/// Sampled memory that was not given back; the value says nothing.
#[btf_map]
static HEAP_LIVE: HashMap<HeapKey, u64, 262_144, { BPF_F_NO_PREALLOC as usize }> = HashMap::new();
/// Memory to take stacks in: more than one, since who has it may be preempted.
#[btf_map]
static HEAP_SCRATCH: PerCpuArray<OwnedScratch, SCRATCHES> = PerCpuArray::new();
const SCRATCHES: usize = 4;

/// A call that is sampled.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Call {
    stack: u64,
    bytes: u64,
    /// Stack pointer when it was entered.
    sp: u64,
    /// Where the address is written to; 0: it is returned.
    out: u64,
}

#[repr(C)]
struct OwnedScratch {
    /// How many think that it is theirs.
    users: u64,
    scratch: Scratch,
}

#[uprobe]
fn alloc_call(ctx: ProbeContext) -> u32 {
    called(ctx.as_ptr());
    0
}

#[uretprobe]
fn alloc_return(ctx: RetProbeContext) -> u32 {
    returned(ctx.as_ptr());
    0
}

/// Both in one, from Linux 6.13: 1 leaves the function's return alone, which saves its cost for calls that
/// are not sampled.
#[unsafe(no_mangle)]
#[unsafe(link_section = "uprobe.session")]
extern "C" fn alloc_session(ctx: *mut c_void) -> u32 {
    // SAFETY: the context of this program. It gives where the function's probe is, also at its return.
    let probed = unsafe { bpf_get_func_ip(ctx) };
    if probed == register(ctx.cast(), arch::regs::PC) {
        u32::from(!called(ctx))
    } else {
        returned(ctx);
        0
    }
}

/// A function was called; whether its return is to be told.
#[inline(always)]
fn called(ctx: *mut c_void) -> bool {
    // SAFETY: the context of this program.
    let function = unsafe { bpf_get_attach_cookie(ctx) };
    let arguments = Arguments::of(ctx);
    let (pid, tid) = ids();
    let is_wanted = is_target(pid);
    if HeapFunction::freed_of(function) != 0 {
        let address = arguments.get(HeapFunction::freed_of(function));
        freed(is_wanted, address, (pid, tid));
        if address == 0 && HeapFunction::is_other_without_freed_of(function) {
            return false;
        }
    }
    if HeapFunction::bytes_of(function) == 0 {
        return false;
    }
    let Some(ledger) = Counts::of(HeapSite::Call) else { return false };
    ledger.seen();
    let mut bytes = arguments.get(HeapFunction::bytes_of(function));
    if HeapFunction::count_of(function) != 0 {
        bytes = bytes.wrapping_mul(arguments.get(HeapFunction::count_of(function)));
    }
    // SAFETY: a helper without arguments.
    let drawn = unsafe { bpf_get_prandom_u32() } & u32::MAX;
    if !is_wanted || u64::from(drawn) >= heap_chance(bytes, config!(heap_mean_bytes)) {
        ledger.filtered();
        return false;
    }
    let sp = register(ctx.cast(), arch::regs::SP);
    if let Some(outer) = HEAP_CALLS.get_ptr(tid)
        // SAFETY: a map value of this thread.
        && unsafe { (*outer).sp } > sp
    {
        // One function of the allocator calls another, and is told itself.
        ledger.filtered();
        return false;
    }
    let out = arguments.get(HeapFunction::out_of(function));
    let call = Call { stack: take_stack(ctx, pid, tid), bytes, sp, out };
    if HEAP_CALLS.insert(tid, call, 0).is_err() {
        ledger.read_failed();
        return false;
    }
    ledger.submitted();
    true
}

/// A function returned.
#[inline(always)]
fn returned(ctx: *mut c_void) {
    let Some(ledger) = Counts::of(HeapSite::Return) else { return };
    ledger.seen();
    let (pid, tid) = ids();
    let Some(call) = HEAP_CALLS.get_ptr(tid) else { return ledger.filtered() };
    // SAFETY: a map value of this thread, copied out.
    let Call { stack, bytes, sp, out } = unsafe { *call };
    // Where the return address is on the stack, it is taken already.
    if register(ctx.cast(), arch::regs::SP).wrapping_sub(sp) > 8 {
        return ledger.filtered();
    }
    let _ = HEAP_CALLS.remove(tid);
    let result = register(ctx.cast(), arch::regs::RESULT);
    let address = if out == 0 { Some(result) } else { written(out, result) };
    let Some(address) = address else { return ledger.read_failed() };
    if address == 0 {
        return ledger.filtered();
    }
    let mut header = header(Kind::HeapAlloc, pid, tid, 0);
    let Some(ring) = ring(&header) else { return ledger.ring_full() };
    let Some(mut slot) = ring.reserve_untyped::<HeapAlloc>(0) else { return ledger.ring_full() };
    let key = HeapKey { address, pid, reserved: 0 };
    if HEAP_LIVE.insert(key, 0, 0).is_err() {
        header.arg = HEAP_UNTRACKED;
    }
    slot.write(HeapAlloc { header, stack, address, bytes, mean_bytes: config!(heap_mean_bytes) });
    slot.submit(u64::from(BPF_RB_NO_WAKEUP));
    ledger.submitted();
}

/// The address that a function wrote, 0 if it says that it did not; `None` if that cannot be read.
#[inline(always)]
fn written(out: u64, status: u64) -> Option<u64> {
    let mut address = 0_u64;
    if status as u32 != 0 {
        return Some(0);
    }
    // SAFETY: a word to write to; the kernel checks the address.
    let read = unsafe { bpf_probe_read_user((&raw mut address).cast(), 8, out as *const c_void) };
    (read == 0).then_some(address)
}

/// Memory is given back.
#[inline(always)]
fn freed(is_wanted: bool, address: u64, (pid, tid): (u32, u32)) {
    let Some(ledger) = Counts::of(HeapSite::Free) else { return };
    ledger.seen();
    let key = HeapKey { address, pid, reserved: 0 };
    if !is_wanted || HEAP_LIVE.remove(key).is_err() {
        return ledger.filtered();
    }
    let header = header(Kind::HeapFree, pid, tid, 0);
    let Some(ring) = ring(&header) else { return ledger.ring_full() };
    let Some(mut slot) = ring.reserve_untyped::<HeapFree>(0) else { return ledger.ring_full() };
    slot.write(HeapFree { header, address });
    slot.submit(u64::from(BPF_RB_NO_WAKEUP));
    ledger.submitted();
}

/// Process and thread.
#[inline(always)]
fn ids() -> (u32, u32) {
    let both = aya_ebpf::helpers::bpf_get_current_pid_tgid();
    ((both >> 32) as u32, both as u32)
}

/// The function's first arguments.
struct Arguments(u64, u64, u64);

impl Arguments {
    /// All are read: where the verifier lets a program look into its context, it must know beforehand.
    #[inline(always)]
    fn of(ctx: *mut c_void) -> Self {
        let argument = |number: usize| register(ctx.cast(), arch::regs::CALL_ARGS[number]);
        Self(argument(0), argument(1), argument(2))
    }

    /// One of them, from 1; 0 for none.
    #[inline(always)]
    fn get(&self, number: u64) -> u64 {
        match number {
            1 => self.0,
            2 => self.1,
            3 => self.2,
            _ => 0,
        }
    }
}

/// Takes and tells the stack of the current thread; 0 if there is no memory to take it in.
#[inline(always)]
fn take_stack(ctx: *mut c_void, pid: u32, tid: u32) -> u64 {
    let Some(ledger) = Counts::of(HeapSite::Stack) else { return 0 };
    ledger.seen();
    for place in 0..SCRATCHES as u32 {
        let Some(owned) = HEAP_SCRATCH.get_ptr_mut(place) else { break };
        // SAFETY: a map value of this CPU.
        let users = unsafe { &raw mut (*owned).users };
        add(users, 1);
        // SAFETY: a map value of this CPU.
        if unsafe { users.read_volatile() } != 1 {
            // Somebody else has it, and is preempted.
            add(users, -1);
            continue;
        }
        // SAFETY: a map value of this CPU, which is this thread's until it says otherwise.
        let scratch = unsafe { &raw mut (*owned).scratch };
        // SAFETY: a helper without arguments.
        let task: *mut c_void = unsafe { bpf_get_current_task_btf() }.cast();
        walk::take_user(ctx, pid, user_registers(task.cast()), scratch);
        // SAFETY: as above.
        let id = unsafe { (*scratch).head.id };
        match tell_stack(&header(Kind::StackTrace, pid, tid, 0), scratch) {
            Tell::Known => ledger.filtered(),
            Tell::Told => ledger.submitted(),
            Tell::Full => ledger.ring_full(),
        }
        add(users, -1);
        return id;
    }
    ledger.read_failed();
    0
}

/// Adds to a number of a map value, whoever else does.
#[inline(always)]
fn add(number: *mut u64, more: i64) {
    // SAFETY: adds to an aligned number inside that value and touches nothing else.
    unsafe {
        asm!("lock *(u64 *)({number} + 0) += {more}", number = in(reg) number, more = in(reg) more);
    }
}

/// One site's row on this CPU, counted whoever preempts whom.
struct Counts(*mut Loss);

macro_rules! counters {
    ($($name:ident)*) => {$(
        #[inline(always)]
        fn $name(&self) {
            // SAFETY: the pointer is a map value, which lives as long as the program.
            add(unsafe { &raw mut (*self.0).$name }, 1);
        }
    )*};
}

impl Counts {
    /// `None` never happens, but the verifier does not know.
    #[inline(always)]
    fn of(site: HeapSite) -> Option<Self> {
        HEAP_LEDGER.get_ptr_mut(site as u32).map(Self)
    }

    counters!(seen submitted filtered ring_full read_failed);
}
