//! Kernel probes `oncpu`, `offcpu` and `alloc`: stacks of threads that run, of threads that leave their
//! CPU, of those who wake them, and of those who allocate.
//!
//! Blind spots: samples that the kernel drops because another BPF program of perf or of a kprobe was
//! running on the CPU; a wake-up that comes while its thread is still leaving.
#![no_std]
#![no_main]
// For an instruction that hides a number from the compiler. hz-trace's build script permits it to
// this program by name.
#![feature(asm_experimental_arch)]

mod alloc;
mod arch;
mod ledger;
mod off;
mod rows;
mod walk;

use aya_ebpf::{
    EbpfContext,
    bindings::{
        BPF_F_INNER_MAP, BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_RB_NO_WAKEUP, bpf_perf_event_data,
    },
    btf_maps::{Array, ArrayOfMaps, HashMap, PerCpuArray, RingBuf},
    helpers::generated::{
        bpf_get_current_ancestor_cgroup_id, bpf_get_current_task_btf, bpf_get_smp_processor_id,
        bpf_ktime_get_ns, bpf_ringbuf_output, bpf_task_pt_regs,
    },
    macros::{btf_map, btf_tracepoint},
    programs::{BtfTracePointContext, PerfEventContext},
};
use core::ffi::c_void;
use hz_probes_ebpf::{
    CpuSample, FILTER_ALL, FILTER_PIDS, Header, Kind, Loss, MAX_RINGS, Places, Row, StackConfig,
    StackSite, TABLES_MAX,
};
use ledger::Ledger;
use off::OffState;
use walk::{Head, Scratch, Taker};

/// What the loader tells the programs. Frozen before they are verified, so that branches which are
/// not taken cost nothing.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata.config")]
static CONFIG: StackConfig = StackConfig {
    cgroup_id: 0,
    off_min_ns: 0,
    heap_mean_bytes: 1,
    cgroup_level: 0,
    filter: FILTER_ALL,
    ring_mask: 0,
    off_one_in: 1,
    has_rows: 0,
    switch_has_state: 1,
    event: 0,
    task_tid: 0,
    task_pid: 0,
    task_flags: 0,
    task_state: 0,
    task_on_rq: 0,
    task_sched_delayed: 0,
    task_ran_ns: 0,
    sample_result: 0,
    reserved: 0,
    interrupts: [0; 2],
};

/// Reads a setting.
macro_rules! config {
    ($field:ident) => {{
        let field = &raw const CONFIG.$field;
        // SAFETY: a static; the loader has changed it behind the compiler's back.
        unsafe { field.read_volatile() }
    }};
}
pub(crate) use config;

/// A ring: the loader makes them.
type Ring = RingBuf<(), 4096>;
/// Rows of one file: the loader makes them, each as long as it must be.
type Rows = Array<Row, 1, { (BPF_F_INNER_MAP | BPF_F_MMAPABLE) as usize }>;

/// One ring per CPU, filled in by the loader.
#[btf_map]
static RINGS: ArrayOfMaps<Ring, MAX_RINGS> = ArrayOfMaps::new();
/// One row for each [`StackSite`].
#[btf_map]
static LEDGER: PerCpuArray<Loss, 5> = PerCpuArray::new();
const _: () = assert!(StackSite::ALL.len() == 5);
/// Processes that are targets; `sched` keeps it, the loader puts it here.
#[btf_map]
static PIDS: HashMap<u32, u8, 16384> = HashMap::new();
/// Memory to take stacks in, one for each [`Taker`].
#[btf_map]
static SCRATCH: PerCpuArray<Scratch, 3> = PerCpuArray::new();
/// Where processes have code, by process.
#[btf_map]
static PLACES: HashMap<u32, Places, 8192, { BPF_F_NO_PREALLOC as usize }> = HashMap::new();
/// Rows by table.
#[btf_map]
static ROWS: ArrayOfMaps<Rows, TABLES_MAX> = ArrayOfMaps::new();
/// Stacks that were told, each at the place that its id names: what another has pushed out is told
/// again.
#[btf_map]
static TOLD: Array<u64, TOLD_MAX> = Array::new();
const TOLD_MAX: usize = 65_536;
/// Threads that are off their CPU, by thread.
#[btf_map]
static OFF: HashMap<u32, OffState, 65_536, { BPF_F_NO_PREALLOC as usize }> = HashMap::new();

/// `task_struct.flags`: a thread of the kernel.
const PF_KTHREAD: u32 = 0x0020_0000;

/// As `#[perf_event]` would make it, but for what it gives back: that would always be 0.
#[unsafe(no_mangle)]
#[unsafe(link_section = "perf_event")]
extern "C" fn oncpu_sample(ctx: *mut bpf_perf_event_data) -> u32 {
    sample(&PerfEventContext::new(ctx));
    config!(sample_result)
}

/// The current thread is on its CPU when a sample is due.
#[inline(always)]
fn sample(ctx: &PerfEventContext) {
    let Some(ledger) = Ledger::of(StackSite::Sample) else { return };
    ledger.seen();
    let (pid, tid) = (ctx.tgid(), ctx.pid());
    if tid == 0 || !is_target(pid) {
        return ledger.filtered();
    }
    let header = header(Kind::CpuSample, pid, tid, 0);
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task_btf() };
    let stack = take_stack(ctx.as_ptr(), &header, task.cast(), Taker::Sample).id;
    let Some(mut slot) = ring(&header).and_then(|ring| ring.reserve_untyped::<CpuSample>(0)) else {
        return ledger.ring_full();
    };
    // SAFETY: the context is the one this program was called with.
    let period = unsafe { (*ctx.ctx).sample_period };
    slot.write(CpuSample { header, stack, period, event: config!(event), reserved: 0 });
    slot.submit(u64::from(BPF_RB_NO_WAKEUP));
    ledger.submitted();
}

#[btf_tracepoint(function = "sched_switch")]
fn offcpu_switch(ctx: BtfTracePointContext) -> i32 {
    off::switch(&ctx);
    0
}

#[btf_tracepoint(function = "sched_waking")]
fn offcpu_waking(ctx: BtfTracePointContext) -> i32 {
    off::waking(&ctx);
    0
}

/// Begins a record of this moment.
#[inline(always)]
fn header(kind: Kind, pid: u32, tid: u32, arg: u32) -> Header {
    // SAFETY: a helper without arguments.
    let time_ns = unsafe { bpf_ktime_get_ns() };
    // SAFETY: a helper without arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() } as u16;
    Header { time_ns, kind: kind as u16, cpu, tid, pid, arg }
}

#[inline(always)]
fn ring(header: &Header) -> Option<&'static Ring> {
    RINGS.get(u32::from(header.cpu) & config!(ring_mask))
}

/// Whether the current thread counts, which is of this process.
#[inline(always)]
fn is_target(pid: u32) -> bool {
    match config!(filter) {
        FILTER_ALL => true,
        FILTER_PIDS => PIDS.get_ptr(pid).is_some(),
        _ => {
            let level = config!(cgroup_level) as i32;
            // SAFETY: a helper that takes a number; it gives 0, no group's id, for a level too deep.
            let id = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
            id == config!(cgroup_id)
        }
    }
}

/// Reads a number of a task.
#[inline(always)]
fn task_field(task: *const u8, offset: u32) -> u32 {
    // SAFETY: the kernel's BTF places the field inside the task.
    let field = unsafe { task.add(offset as usize) };
    // SAFETY: the verifier knows the task as trusted and checks the offset.
    unsafe { field.cast::<u32>().read_volatile() }
}

/// Reads a long number of a task.
#[inline(always)]
fn task_long(task: *const u8, offset: u32) -> u64 {
    // SAFETY: the kernel's BTF places the field inside the task.
    let field = unsafe { task.add(offset as usize) };
    // SAFETY: the verifier knows the task as trusted and checks the offset.
    unsafe { field.cast::<u64>().read_volatile() }
}

/// Reads a byte of a task.
#[inline(always)]
fn task_byte(task: *const u8, offset: u32) -> u8 {
    // SAFETY: the kernel's BTF places the field inside the task.
    let field = unsafe { task.add(offset as usize) };
    // SAFETY: the verifier knows the task as trusted and checks the offset.
    unsafe { field.read_volatile() }
}

/// The registers that a thread has in user mode; null for the kernel's own threads.
#[inline(always)]
fn user_registers(task: *const u8) -> *const u8 {
    if task_field(task, config!(task_flags)) & PF_KTHREAD != 0 {
        return core::ptr::null();
    }
    // SAFETY: a task that the verifier trusts.
    unsafe { bpf_task_pt_regs(task.cast_mut().cast()) as *const u8 }
}

/// A stack that was taken.
#[derive(Clone, Copy)]
struct Taken {
    /// Its id; 0: there was no memory to take it in.
    id: u64,
    /// Whether it was an interrupt's.
    is_interrupt: bool,
}

/// Takes the stack of the current thread, whose task is `task`, and tells it unless it was told.
#[inline(always)]
fn take_stack(ctx: *mut c_void, header: &Header, task: *const u8, taker: Taker) -> Taken {
    let regs = user_registers(task);
    let none = Taken { id: 0, is_interrupt: false };
    let Some(scratch) = SCRATCH.get_ptr_mut(taker as u32) else { return none };
    walk::take(ctx, header.pid, regs, scratch);
    // SAFETY: a map value of this CPU.
    let walk = unsafe { &*scratch };
    let taken = Taken { id: walk.head.id, is_interrupt: walk.is_interrupt != 0 };
    let Some(ledger) = Ledger::of(StackSite::Stack) else { return taken };
    ledger.seen();
    match tell_stack(header, scratch) {
        Tell::Known => ledger.filtered(),
        Tell::Told => ledger.submitted(),
        Tell::Full => ledger.ring_full(),
    }
    taken
}

/// What became of a stack.
enum Tell {
    Known,
    Told,
    Full,
}

/// Tells a stack unless it was told.
#[inline(always)]
fn tell_stack(header: &Header, scratch: *mut Scratch) -> Tell {
    // SAFETY: a map value of this CPU.
    let walk = unsafe { &mut *scratch };
    let id = walk.head.id;
    let Some(told) = TOLD.get_ptr_mut(id as u32 % TOLD_MAX as u32) else { return Tell::Full };
    // SAFETY: a map value; what races with another CPU is told twice.
    if unsafe { told.read() } == id {
        return Tell::Known;
    }
    walk.head.header = Header { kind: Kind::StackTrace as u16, arg: 0, ..*header };
    walk.head.reserved = 0;
    let count = (u64::from(walk.head.kernel_frames) + u64::from(walk.head.user_frames)) & 0xff;
    let bytes = size_of::<Head>() as u64 + 8 * count;
    let Some(ring) = ring(header) else { return Tell::Full };
    let ring: *const Ring = ring;
    // SAFETY: a map that was looked up, and memory as long as said.
    let status = unsafe {
        bpf_ringbuf_output(
            ring.cast_mut().cast(),
            scratch.cast(),
            bytes,
            u64::from(BPF_RB_NO_WAKEUP),
        )
    };
    if status != 0 {
        return Tell::Full;
    }
    // SAFETY: a map value.
    unsafe { told.write(id) };
    Tell::Told
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// The kernel lends its helpers to GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
