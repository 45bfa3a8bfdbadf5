//! The sites of workers, timers, the blocking pool and the buffer pool.

use super::atomic::Ordering;
use super::emit::{Record, emit};
use super::{memory, thread};
use hz_probes_ebpf::Kind;
use hz_probes_ebpf::runtime::NO_WORKER;
use std::sync::atomic::AtomicU64;

/// Says that this thread is worker `index`, and takes a ring.
pub fn worker_started(index: u32) {
    let Some(memory) = memory::get_or_make(0) else {
        thread::with(|local| local.worker.set(index));
        return;
    };
    memory.page.workers.fetch_max(index.saturating_add(1), Ordering::Relaxed);
    thread::with(|local| {
        local.become_worker(index, memory);
        local.tick();
    });
}

/// Takes a ring for this thread before its first event, so that it is not taken in the middle of
/// something that is being measured.
pub fn register_thread() {
    if let Some(memory) = memory::get_or_make(0) {
        thread::with(|local| local.register(memory));
    }
}

/// Reads the clock for the task directory's `last_poll`; a worker calls it when it has unparked and
/// now and then while it is busy.
#[inline]
pub fn worker_tick() {
    thread::with(thread::Local::tick);
}

/// Emits what is of this thread's worker.
#[inline(always)]
fn emit_of_worker(kind: Kind, aux: u32, value: u64) {
    emit(kind, || Record { aux, arg: thread::with(|local| local.worker.get()), task: 0, value });
}

/// Emits what is of the task being polled.
#[inline(always)]
pub(super) fn emit_of_task(kind: Kind, aux: u32, arg: u32, value: u64) {
    emit(kind, || Record { aux, arg, task: current_task(), value });
}

/// A worker took `count` tasks from another's queues.
#[inline]
pub fn steal(from: u32, count: u32) {
    emit_of_worker(Kind::Steal, from, u64::from(count));
}

/// How many tasks are in a worker's queues by priority, `None`: in the injector.
#[inline]
pub fn queue_depth(worker: Option<u32>, depths: impl FnOnce() -> [u16; 4]) {
    emit(Kind::QueueDepth, || {
        let depths = depths().map(u64::from);
        let value = depths[0] | depths[1] << 16 | depths[2] << 32 | depths[3] << 48;
        Record { arg: worker.unwrap_or(NO_WORKER), value, ..Record::default() }
    });
}

/// This worker goes to sleep.
#[inline]
pub fn park() {
    emit_of_worker(Kind::Park, 0, 0);
}

/// This worker looks for work again.
#[inline]
pub fn unpark() {
    emit_of_worker(Kind::Unpark, 0, 0);
}

/// A timer of `task` (0: of none) fired `late_ns` after its deadline.
#[inline]
pub fn timer_fired(task: u64, late_ns: u64) {
    emit(Kind::TimerFired, || Record { task, value: late_ns, ..Record::default() });
}

/// A call on the blocking pool is queued, by the task being polled; returns the call's id.
#[inline]
pub fn blocking_queued() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    emit_of_task(Kind::BlockingQueued, 0, 0, id);
    id
}

/// Blocking call `id` of `task` begins on this thread.
#[inline]
pub fn blocking_begin(task: u64, id: u64) {
    emit(Kind::BlockingBegin, || Record { task, value: id, ..Record::default() });
}

/// Blocking call `id` of `task` ended on this thread.
#[inline]
pub fn blocking_end(task: u64, id: u64) {
    emit(Kind::BlockingEnd, || Record { task, value: id, ..Record::default() });
}

/// A buffer was taken from the pool: its address, size and the size of its memory's pages.
#[inline]
pub fn buffer_taken(address: usize, bytes: u32, page_bytes: u32) {
    emit_of_task(Kind::BufferTaken, page_bytes.max(1).ilog2(), bytes, address as u64);
}

/// A buffer went back to the pool.
#[inline]
pub fn buffer_returned(address: usize, bytes: u32, page_bytes: u32) {
    emit_of_task(Kind::BufferReturned, page_bytes.max(1).ilog2(), bytes, address as u64);
}

/// Id of the task being polled on this thread, 0: none.
#[must_use]
#[inline]
pub fn current_task() -> u64 {
    thread::with(|local| local.current.get().task)
}
