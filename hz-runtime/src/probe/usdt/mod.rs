//! USDT probes: `hz_runtime:*`, one for each event of the vocabulary, and `otel_memory:*`.
//!
//! Any tool that knows USDT finds them in the program's notes (`readelf -n`) and turns them on by
//! raising their semaphores. The arguments of `hz_runtime:*`, in this order, are those of
//! [`RuntimeEvent`](hz_probes_ebpf::runtime::RuntimeEvent): `task`, `value`, `arg` and `aux`. Then
//! follow for `request_begin`, `span_begin`, `span_end` and `mark` their text. For `task_spawn` they are
//! the task, its parent, the line, the priority, the task's name and the source file. None has more
//! than the six that bpftrace can name. Texts are NUL-terminated, cut at 127 bytes.
//!
//! A site asks one word, its [`Gate`], whether anyone listens. The lower half of the word is the
//! semaphore, which the kernel counts up and down; the upper half says whether the shared ring wants
//! the event. So two carriers cost no more than one while nobody listens.
//!
//! Semaphores have a page of their own. With rust-lld, the default linker, a file page of `.data`
//! may also be mapped by the segment that becomes read-only (RELRO); the kernel then raises the
//! semaphore there, for processes that start while a tracer is attached, and the program never sees
//! it.

mod otel;
mod site;

pub use otel::{otel_alloc, otel_free, otel_is_on};

use crate::probe::Spawn;
use hz_probes_ebpf::Kind;
use site::site;
use std::sync::atomic::{AtomicU32, Ordering};

/// Kinds of the vocabulary that a runtime emits.
const KINDS: usize = Kind::Mark as usize - Kind::TaskSpawn as usize + 1;

/// What the upper half of a gate is while the ring wants the kind.
const RING: u32 = 1 << 16;

/// Bytes of a text with its NUL.
const TEXT_BYTES: usize = 128;

/// Places of the semaphores of `otel_memory`, behind those of the runtime.
const OTEL_ALLOC: usize = KINDS;
const OTEL_FREE: usize = KINDS + 1;

/// Every word that a site asks. Aligned and as long as the largest page of the architecture.
#[cfg_attr(target_arch = "aarch64", repr(C, align(65536)))]
#[cfg_attr(not(target_arch = "aarch64"), repr(C, align(4096)))]
struct Gates([AtomicU32; KINDS + 2]);

/// The section is what other tools look for; the kernel writes into it through the file's page.
#[unsafe(link_section = ".probes")]
static GATES: Gates = Gates([const { AtomicU32::new(0) }; KINDS + 2]);

/// Who listens to a kind of event now.
#[derive(Clone, Copy, Debug)]
pub struct Gate(u32);

impl Gate {
    /// The gate of a kind; of one that runtimes do not emit it is shut.
    #[must_use]
    #[inline(always)]
    pub fn of(kind: Kind) -> Self {
        Self(GATES.0[..KINDS].get(place(kind)).map_or(0, |gate| gate.load(Ordering::Relaxed)))
    }

    /// Whether anyone listens.
    #[must_use]
    #[inline(always)]
    pub const fn is_open(self) -> bool {
        self.0 != 0
    }

    /// Whether the shared ring wants the event.
    #[must_use]
    #[inline(always)]
    pub const fn wants_ring(self) -> bool {
        self.0 >= RING
    }

    /// Whether a tracer is at the USDT probe.
    #[must_use]
    #[inline(always)]
    pub const fn wants_usdt(self) -> bool {
        self.0 & (RING - 1) != 0
    }
}

/// Opens the gates of `kinds` (bit `kind − 16`) for the shared ring, and shuts it out of the others.
pub fn set_ring_kinds(kinds: u64) {
    for (place, gate) in GATES.0[..KINDS].iter().enumerate() {
        // One instruction on the whole word, so that a count of the kernel's is never written over.
        if kinds >> place & 1 == 1 {
            gate.fetch_or(RING, Ordering::Relaxed);
        } else {
            gate.fetch_and(!RING, Ordering::Relaxed);
        }
    }
}

/// What a probe tells: see [`RuntimeEvent`](hz_probes_ebpf::runtime::RuntimeEvent).
#[derive(Clone, Copy, Debug, Default)]
pub struct Event {
    /// The task it is about.
    pub task: u64,
    /// By kind.
    pub value: u64,
    /// By kind.
    pub arg: u32,
    /// By kind.
    pub aux: u32,
}

/// Passes the probe of `kind`; call it when [`Gate::wants_usdt`]. Those with texts have functions
/// of their own, and nothing happens here.
// One function, so that each probe has one place to attach to.
#[cold]
#[inline(never)]
pub fn fire(kind: Kind, event: Event) {
    macro_rules! sites {
        ($($kind:ident $name:literal)*) => {
            match kind {
                $(Kind::$kind => site!(
                    ("hz_runtime", $name, place(Kind::$kind), fire),
                    8 event.task, 8 event.value, 4 event.arg, 4 event.aux
                ),)*
                _ => {}
            }
        };
    }
    sites! {
        TaskWake "task_wake"
        PollBegin "poll_begin"
        PollEnd "poll_end"
        TaskEnd "task_end"
        IoWaitBegin "io_wait_begin"
        IoWaitEnd "io_wait_end"
        Steal "steal"
        QueueDepth "queue_depth"
        Park "park"
        Unpark "unpark"
        TimerFired "timer_fired"
        BlockingQueued "blocking_queued"
        BlockingBegin "blocking_begin"
        BlockingEnd "blocking_end"
        BufferTaken "buffer_taken"
        BufferReturned "buffer_returned"
        AllocSampled "alloc_sampled"
        FreeSampled "free_sampled"
        RequestEnd "request_end"
    }
}

/// Passes the probe of `request_begin`, `span_begin`, `span_end` or `mark`.
#[cold]
#[inline(never)]
pub fn fire_named(kind: Kind, event: Event, name: &str) {
    let name = terminated(name);
    macro_rules! sites {
        ($($kind:ident $name:literal)*) => {
            match kind {
                $(Kind::$kind => site!(
                    ("hz_runtime", $name, place(Kind::$kind), fire_named),
                    8 event.task, 8 event.value, 4 event.arg, 4 event.aux, 8 name.as_ptr()
                ),)*
                _ => {}
            }
        };
    }
    sites! {
        RequestBegin "request_begin"
        SpanBegin "span_begin"
        SpanEnd "span_end"
        Mark "mark"
    }
}

/// Passes the probe of `task_spawn`.
#[cold]
#[inline(never)]
pub fn fire_spawn(task: u64, parent: u64, spawn: &Spawn<'_>) {
    let name = terminated(spawn.name.unwrap_or_default());
    let file = terminated(spawn.location.file());
    site!(
        ("hz_runtime", "task_spawn", place(Kind::TaskSpawn), fire_spawn),
        8 task, 8 parent, 4 spawn.location.line(), 4 u32::from(spawn.priority),
        8 name.as_ptr(), 8 file.as_ptr()
    );
}

/// Where the gate of a kind is; out of bounds for one that runtimes do not emit.
#[inline(always)]
const fn place(kind: Kind) -> usize {
    kind.runtime_bit().trailing_zeros() as usize
}

/// A copy that ends in NUL; a NUL in it ends it early for whoever reads it.
fn terminated(text: &str) -> [u8; TEXT_BYTES] {
    let mut bytes = [0; TEXT_BYTES];
    for (into, from) in bytes[..TEXT_BYTES - 1].iter_mut().zip(text.as_bytes()) {
        *into = *from;
    }
    bytes
}

#[cfg(test)]
mod tests;
