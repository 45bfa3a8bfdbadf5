//! Why a task was woken while it was being polled.

use super::atomic::{AtomicU32, AtomicU64, Ordering};
use super::emit::{Record, emit};
use super::task::TaskRef;
use super::{cause, is_on, thread};
use hz_probes_ebpf::Kind;

const EMPTY: u32 = 0;
const WRITING: u32 = 1;
const WRITTEN: u32 = 2;

/// Why a task was woken while it was being polled, kept beside the task until its poll is over and
/// it goes into a queue: whoever puts it there no longer knows.
#[derive(Debug, Default)]
pub struct WakeNote {
    state: AtomicU32,
    aux: AtomicU32,
    arg: AtomicU32,
    value: AtomicU64,
}

impl WakeNote {
    /// Nothing is noted.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A poll of the task begins: what was noted before led to it.
    #[inline]
    pub fn clear(&self) {
        // What is being written just now is of a wake-up that is still to come.
        if self.state.load(Ordering::Relaxed) == WRITTEN {
            self.state.store(EMPTY, Ordering::Release);
        }
    }

    /// `task` is about to be woken on this thread: notes the thread's cause, unless there is a note.
    #[inline]
    pub fn take_down(&self, task: TaskRef) {
        if is_on(Kind::TaskWake) {
            self.write(|| {
                let running = thread::with(|local| local.current.get().task);
                let cause = thread::with(|local| local.cause.get());
                cause::record(cause, running, task.id())
            });
        }
    }

    #[inline(never)]
    pub(super) fn write(&self, record: impl FnOnce() -> Record) {
        let claimed =
            self.state.compare_exchange(EMPTY, WRITING, Ordering::Acquire, Ordering::Relaxed);
        if claimed.is_err() {
            return;
        }
        let Record { aux, arg, value, .. } = record();
        self.aux.store(aux, Ordering::Relaxed);
        self.arg.store(arg, Ordering::Relaxed);
        self.value.store(value, Ordering::Relaxed);
        self.state.store(WRITTEN, Ordering::Release);
    }

    pub(super) fn read(&self, task: u64) -> Option<Record> {
        (self.state.load(Ordering::Acquire) == WRITTEN).then(|| Record {
            aux: self.aux.load(Ordering::Relaxed),
            arg: self.arg.load(Ordering::Relaxed),
            value: self.value.load(Ordering::Relaxed),
            task,
        })
    }
}

impl TaskRef {
    /// As [`TaskRef::woken`], for a task that was woken while it was being polled and now goes into a
    /// queue, with the cause that was noted.
    #[inline]
    pub fn woken_in_poll(&self, note: &WakeNote) {
        self.mark_ready();
        // Without a note nobody asked for wake-ups when it came: to name a cause would be a guess.
        if is_on(Kind::TaskWake)
            && let Some(record) = note.read(self.id())
        {
            emit(Kind::TaskWake, || record);
        }
    }
}
