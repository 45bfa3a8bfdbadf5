//! Threads off their CPU: what was known when they left, who woke them, and the record when they are
//! back.
//!
//! A host may hide switches from programs, such as those away from a process that it keeps to itself, and a
//! program may be skipped. A return that was not seen is made up for when the thread leaves again: its CPU
//! time says for how long it was back.

use crate::ledger::Ledger;
use crate::walk::{Taker, register};
use crate::{
    CONFIG, OFF, arch, config, header, is_target, ring, take_stack, task_byte, task_field,
    task_long, user_registers,
};
use aya_ebpf::{
    EbpfContext,
    bindings::BPF_RB_NO_WAKEUP,
    helpers::generated::{bpf_get_prandom_u32, bpf_probe_read_user},
    programs::BtfTracePointContext,
};
use core::ffi::c_void;
use hz_probes_ebpf::{
    Header, Kind, OFF_LOCK, OFF_PREEMPTED, OFF_RETURN_UNSEEN, OFF_SYSCALL, OFF_WOKEN,
    OFF_WOKEN_BY_INTERRUPT, OffCpu, StackSite,
};

/// What is kept of a thread that is off its CPU.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct OffState {
    /// The record as far as it is known. `header.time_ns` is when it left, 0 if it is not off; `runq_ns`
    /// is when it was woken, 0 if it was not.
    record: OffCpu,
    /// CPU time that the thread had had when it left, nanoseconds.
    ran_ns: u64,
}

/// The kernel's `TASK_DEAD`.
const TASK_DEAD: u32 = 0x80;

/// One thread leaves the CPU, another comes.
#[inline(always)]
pub(crate) fn switch(ctx: &BtfTracePointContext) {
    let prev: *const u8 = ctx.arg(1);
    let next: *const u8 = ctx.arg(2);
    leave(ctx, prev);
    let next_tid = task_field(next, config!(task_tid));
    if next_tid != 0 {
        came(next_tid, task_field(next, config!(task_pid)));
    }
}

/// The current thread leaves.
#[inline(always)]
fn leave(ctx: &BtfTracePointContext, task: *const u8) {
    let Some(ledger) = Ledger::of(StackSite::Leave) else { return };
    ledger.seen();
    let (pid, tid) = (ctx.tgid(), ctx.pid());
    if tid == 0 || !is_target(pid) {
        return ledger.filtered();
    }
    let ran_ns = task_long(task, config!(task_ran_ns));
    let kept = OFF.get_ptr_mut(tid);
    if let Some(kept) = kept {
        was_back(kept, pid, tid, ran_ns);
    }
    let state = state_of(ctx, task);
    if state & TASK_DEAD != 0 {
        let _ = OFF.remove(tid);
        return ledger.filtered();
    }
    let one_in = config!(off_one_in);
    // SAFETY: a helper without arguments.
    if one_in > 1 && unsafe { bpf_get_prandom_u32() } % one_in != 0 {
        return ledger.filtered();
    }
    let mut header = header(Kind::OffCpu, pid, tid, 0);
    let is_preempted = state == 0 || ctx.arg::<u64>(0) & 1 != 0;
    if is_preempted {
        header.arg = OFF_PREEMPTED;
    }
    let stack = take_stack(ctx.as_ptr(), &header, task, Taker::Leave).id;
    let mut record =
        OffCpu { header, stack, state, syscall: -1, weight: one_in, ..OffCpu::default() };
    note_syscall(task, &mut record);
    let off = OffState { record, ran_ns };
    if let Some(kept) = kept {
        // SAFETY: a map value; a waker on another CPU writes only what it knows.
        unsafe { kept.write(off) };
    } else if OFF.insert(tid, off, 0).is_err() {
        return ledger.read_failed();
    }
    ledger.submitted();
}

/// The state that the current thread leaves in; 0: it stays runnable.
///
/// From Linux 5.18 to 6.13 what the tracepoint passes was read before the scheduler looked for signals:
/// a thread that a signal keeps runnable passes for asleep. It is asleep if it has left the run queue,
/// or stays there only until its lag is gone.
#[inline(always)]
fn state_of(ctx: &BtfTracePointContext, task: *const u8) -> u32 {
    let state = if config!(switch_has_state) != 0 {
        ctx.arg::<u64>(3) as u32
    } else {
        task_field(task, config!(task_state))
    };
    if state == 0 || task_field(task, config!(task_on_rq)) == 0 {
        return state;
    }
    let delayed = config!(task_sched_delayed);
    if delayed != 0 && task_byte(task, delayed) != 0 {
        return state;
    }
    0
}

/// Notes the system call that the current thread is in, and the lock that it waits for.
#[inline(always)]
fn note_syscall(task: *const u8, off: &mut OffCpu) {
    let regs = user_registers(task);
    if regs.is_null() {
        return;
    }
    let number = register(regs, arch::regs::SYSCALL) as i32;
    if number < 0 {
        return;
    }
    off.syscall = number;
    off.header.arg |= OFF_SYSCALL;
    off.args[0] = register(regs, arch::regs::ARGS[0]);
    off.args[1] = register(regs, arch::regs::ARGS[1]);
    off.args[2] = register(regs, arch::regs::ARGS[2]);
    off.args[3] = register(regs, arch::regs::ARGS[3]);
    if number == arch::FUTEX {
        note_lock(off);
    }
}

/// Reads a futex and what a mutex of glibc has behind it: its owner.
#[inline(always)]
fn note_lock(off: &mut OffCpu) {
    let mut words = [0_u32; 3];
    let address = off.args[0] as *const c_void;
    // SAFETY: memory to write to as long as said; the kernel checks the address.
    if unsafe { bpf_probe_read_user((&raw mut words).cast(), 12, address) } == 0 {
        off.lock_value = words[0];
        off.lock_owner = words[2];
        off.header.arg |= OFF_LOCK;
    }
}

/// A thread got this CPU: tells how long it was off, if it was kept.
#[inline(always)]
fn came(tid: u32, pid: u32) {
    let Some(kept) = OFF.get_ptr_mut(tid) else { return };
    // SAFETY: a map value, and the thread's own: it cannot leave before this is over.
    let off = unsafe { &mut (*kept).record };
    if off.header.time_ns != 0 {
        tell(off, header(Kind::OffCpu, pid, tid, off.header.arg));
    }
}

/// The current thread leaves, which has had `ran_ns` of CPU time: if it is still kept as off, its return
/// was not seen.
#[inline(always)]
fn was_back(kept: *mut OffState, pid: u32, tid: u32, ran_ns: u64) {
    // SAFETY: a map value, and the thread's own.
    let (off, before_ns) = unsafe { (&mut (*kept).record, (*kept).ran_ns) };
    let left_ns = off.header.time_ns;
    if left_ns == 0 {
        return;
    }
    let mut back = header(Kind::OffCpu, pid, tid, off.header.arg | OFF_RETURN_UNSEEN);
    let back_ns = back.time_ns.saturating_sub(ran_ns.saturating_sub(before_ns));
    back.time_ns = if back_ns < left_ns { left_ns } else { back_ns };
    tell(off, back);
}

/// Tells of a time off the CPU that ends with `back`, and that it is over.
#[inline(always)]
fn tell(off: &mut OffCpu, back: Header) {
    let left_ns = off.header.time_ns;
    off.header.time_ns = 0;
    let Some(ledger) = Ledger::of(StackSite::Return) else { return };
    ledger.seen();
    let off_ns = back.time_ns.saturating_sub(left_ns);
    if off_ns < config!(off_min_ns) {
        return ledger.filtered();
    }
    let Some(ring) = ring(&back) else { return ledger.ring_full() };
    let Some(mut slot) = ring.reserve_untyped::<OffCpu>(0) else { return ledger.ring_full() };
    let woken_ns = if off.header.arg & OFF_PREEMPTED != 0 { left_ns } else { off.runq_ns };
    let runq_ns = if woken_ns == 0 { 0 } else { back.time_ns.saturating_sub(woken_ns) };
    slot.write(OffCpu { header: back, off_ns, runq_ns, ..*off });
    slot.submit(u64::from(BPF_RB_NO_WAKEUP));
    ledger.submitted();
}

/// The current thread, or an interrupt in its place, wakes another.
#[inline(always)]
pub(crate) fn waking(ctx: &BtfTracePointContext) {
    let Some(ledger) = Ledger::of(StackSite::Wake) else { return };
    ledger.seen();
    let woken: *const u8 = ctx.arg(0);
    let Some(kept) = OFF.get_ptr_mut(task_field(woken, config!(task_tid))) else {
        return ledger.filtered();
    };
    // SAFETY: a map value; its thread writes it only before and after it is off.
    let off = unsafe { &mut (*kept).record };
    if off.header.time_ns == 0 || off.header.arg & (OFF_PREEMPTED | OFF_WOKEN) != 0 {
        return ledger.filtered();
    }
    let (pid, tid) = (ctx.tgid(), ctx.pid());
    let header: Header = header(Kind::OffCpu, pid, tid, 0);
    off.runq_ns = header.time_ns;
    off.waker_tid = tid;
    off.waker_pid = pid;
    // SAFETY: a helper without arguments.
    let task = unsafe { aya_ebpf::helpers::generated::bpf_get_current_task_btf() };
    let taken = take_stack(ctx.as_ptr(), &header, task.cast(), Taker::Wake);
    off.waker_stack = taken.id;
    // Nobody else wakes in the name of the idle thread.
    let by_interrupt = if tid == 0 || taken.is_interrupt { OFF_WOKEN_BY_INTERRUPT } else { 0 };
    off.header.arg |= OFF_WOKEN | by_interrupt;
    ledger.submitted();
}
