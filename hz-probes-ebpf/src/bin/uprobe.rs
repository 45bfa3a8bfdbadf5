//! User probe `uprobe`: marks and spans of functions in user space.
//!
//! Blind spots: a function left by `longjmp`, an exception or the end of its thread has no return;
//! nor has a call nested more than 64 deep among return probes of one thread
//! (`MAX_URETPROBE_DEPTH`), which the kernel does not count.
#![no_std]
#![no_main]
// For one instruction: the target has no atomic additions of its own, since it counts as one
// without compare-and-swap. hz-trace's build script permits it to this program by name.
#![feature(asm_experimental_arch)]

use aya_ebpf::{
    EbpfContext, Global,
    bindings::{BPF_F_NO_PREALLOC, BPF_RB_NO_WAKEUP},
    helpers::generated::{
        bpf_get_attach_cookie, bpf_get_current_ancestor_cgroup_id, bpf_get_smp_processor_id,
        bpf_ktime_get_ns,
    },
    macros::{btf_tracepoint, map, uprobe, uretprobe},
    maps::{HashMap, PerCpuArray, RingBuf},
    programs::{BtfTracePointContext, ProbeContext, RetProbeContext},
};
use aya_log_ebpf::debug;
use core::arch::asm;
use hz_probes_ebpf::{
    FILTER_ALL, FILTER_PIDS, Header, Kind, Loss, UPROBE_RETURN, UprobeHit, UprobeSite,
};

/// Which threads count: one of the `FILTER_*`. Like every global here it is frozen before the
/// programs are verified, so that branches which are not taken cost nothing.
#[unsafe(no_mangle)]
static FILTER: Global<u32> = Global::new(FILTER_ALL);
/// Id of the control group.
#[unsafe(no_mangle)]
static CGROUP_ID: Global<u64> = Global::new(0);
/// Depth of the control group below the root of its hierarchy.
#[unsafe(no_mangle)]
static CGROUP_LEVEL: Global<i32> = Global::new(0);
/// Offset of `task_struct.pid`, in bytes. rustc emits no CO-RE relocations, the loader asks BTF.
#[unsafe(no_mangle)]
static TASK_TID: Global<u32> = Global::new(0);
/// Offset of `task_struct.tgid`, in bytes.
#[unsafe(no_mangle)]
static TASK_PID: Global<u32> = Global::new(0);

/// One ring for all CPUs. A hit costs a trap of half a microsecond or more, so that no machine
/// gets near the ~10 million records a second that the ring's lock allows, and one ring keeps the
/// enter and the return of a call in order. 8 MiB hold 209,715 records: 10 ms at 20 million a
/// second.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

/// One row for each [`UprobeSite`].
#[map]
static LEDGER: PerCpuArray<Loss> = PerCpuArray::with_max_entries(3, 0);

/// Processes that are targets; the value says nothing. Bounded: what does not fit is counted.
#[map]
static PIDS: HashMap<u32, u8> = HashMap::with_max_entries(16384, BPF_F_NO_PREALLOC);

/// Hits per site and CPU that are reported in messages.
const HITS_TOLD: u64 = 4;

#[uprobe]
fn uprobe_enter(ctx: ProbeContext) -> u32 {
    hit(&ctx, UprobeSite::Enter, 0)
}

#[uretprobe]
fn uprobe_return(ctx: RetProbeContext) -> u32 {
    hit(&ctx, UprobeSite::Return, UPROBE_RETURN)
}

/// Makes the children of targets targets. The parent is `current`, also under `CLONE_PARENT`.
#[btf_tracepoint(function = "sched_process_fork")]
fn uprobe_fork(ctx: BtfTracePointContext) -> i32 {
    let Some(ledger) = Ledger::of(UprobeSite::Fork) else { return 0 };
    ledger.seen();
    let parent_pid = ctx.tgid();
    let child_pid = task_field(ctx.arg(1), &TASK_PID);
    if child_pid == parent_pid || !is_target_pid(parent_pid) {
        ledger.filtered();
    } else if PIDS.insert(child_pid, 0, 0).is_err() {
        ledger.read_failed();
        debug!(&ctx, "process {} is not followed: too many processes", child_pid);
    } else {
        ledger.submitted();
        debug!(&ctx, "process {} is followed, a child of {}", child_pid, parent_pid);
    }
    0
}

/// Forgets a process that is gone, before its number can be another's. Its leader's task is freed
/// last; `sched_process_exit` would come too early for a leader that exits before its threads.
#[btf_tracepoint(function = "sched_process_free")]
fn uprobe_free(ctx: BtfTracePointContext) -> i32 {
    let pid = task_field(ctx.arg(0), &TASK_PID);
    if task_field(ctx.arg(0), &TASK_TID) == pid {
        let _ = PIDS.remove(pid);
    }
    0
}

/// Writes the record of a hit, if its thread counts.
#[inline(always)]
fn hit<C: EbpfContext>(ctx: &C, site: UprobeSite, flags: u32) -> u32 {
    let Some(ledger) = Ledger::of(site) else { return 0 };
    ledger.seen();
    let (pid, tid) = (ctx.tgid(), ctx.pid());
    if !is_target(pid) {
        ledger.filtered();
        return 0;
    }
    let Some(mut slot) = EVENTS.reserve::<UprobeHit>(0) else {
        ledger.ring_full();
        return 0;
    };
    // SAFETY: the context is the one this program was called with.
    let number = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) } as u32;
    let header = Header {
        // SAFETY: a helper without arguments.
        time_ns: unsafe { bpf_ktime_get_ns() },
        kind: Kind::Uprobe as u16,
        // SAFETY: a helper without arguments.
        cpu: unsafe { bpf_get_smp_processor_id() } as u16,
        tid,
        pid,
        arg: number,
    };
    slot.write(UprobeHit { header, flags, reserved: 0 });
    slot.submit(u64::from(BPF_RB_NO_WAKEUP));
    ledger.submitted();
    if ledger.was_submitted() <= HITS_TOLD {
        debug!(ctx, "probe {} hit by thread {} of process {}, flags {}", number, tid, pid, flags);
    }
    0
}

#[inline(always)]
fn is_target(pid: u32) -> bool {
    match FILTER.load() {
        FILTER_ALL => true,
        FILTER_PIDS => is_target_pid(pid),
        // SAFETY: a helper that takes a number; it gives 0, no group's id, for a level too deep.
        _ => unsafe { bpf_get_current_ancestor_cgroup_id(CGROUP_LEVEL.load()) == CGROUP_ID.load() },
    }
}

#[inline(always)]
fn is_target_pid(pid: u32) -> bool {
    PIDS.get_ptr(pid).is_some()
}

/// Reads a number of a task at the offset that the loader patched in.
#[inline(always)]
fn task_field(task: *const u8, offset: &Global<u32>) -> u32 {
    // SAFETY: the kernel's BTF places the field inside the task.
    let field = unsafe { task.add(offset.load() as usize) };
    // SAFETY: the verifier knows the task as trusted and checks the offset; the field is a `pid_t`.
    unsafe { field.cast::<u32>().read() }
}

/// One site's row on this CPU.
///
/// Programs on user probes can be preempted by another thread that hits one on the same CPU, so
/// that plain additions would lose counts: they are atomic.
struct Ledger(*mut Loss);

macro_rules! counters {
    ($($name:ident)*) => {$(
        #[inline(always)]
        fn $name(&self) {
            // SAFETY: the pointer is a map value, which lives as long as the program.
            let counter = unsafe { &raw mut (*self.0).$name };
            // SAFETY: adds to an aligned number inside that value and touches nothing else.
            unsafe {
                asm!("lock *(u64 *)({counter} + 0) += {one}", counter = in(reg) counter, one = in(reg) 1_u64);
            }
        }
    )*};
}

impl Ledger {
    /// `None` never happens, but the verifier does not know.
    #[inline(always)]
    fn of(site: UprobeSite) -> Option<Self> {
        LEDGER.get_ptr_mut(site as u32).map(Self)
    }

    counters!(seen submitted filtered ring_full read_failed);

    #[inline(always)]
    fn was_submitted(&self) -> u64 {
        // SAFETY: the pointer is a map value; a torn read cannot happen on 64 bits.
        unsafe { (&raw const (*self.0).submitted).read_volatile() }
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// The kernel lends its helpers to GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
