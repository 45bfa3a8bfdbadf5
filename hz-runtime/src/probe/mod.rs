//! What a runtime tells of itself. Usable without the executor: another runtime calls the same
//! functions.
//!
//! Each function is a site: off, it costs a load and a branch. On, it writes a record into this
//! thread's ring, in memory that readers map; `docs/probes/runtime.md` says how they turn sites on,
//! and `hz_probes_ebpf::runtime_ring` how the memory is laid out.

mod activity;
mod atomic;
mod cache;
mod cause;
mod directory;
mod emit;
mod fork;
mod keeper;
mod kinds;
mod layout;
mod lease;
mod memory;
mod note;
mod program;
mod ring;
mod settings;
mod sites;
mod slots;
mod stacks;
mod status;
mod tables;
mod task;
mod thread;
pub mod usdt;
mod words;

pub use activity::Activity;
pub use cause::{Cause, Operation, Wait, io_wait_end, waiting, with_cause};
pub use hz_probes_ebpf::Kind;
pub use memory::ShareError;
pub use note::WakeNote;
pub use program::{
    Span, alloc_sampled, free_sampled, intern_stack, mark, request_begin, request_end, span,
};
pub use sites::{
    blocking_begin, blocking_end, blocking_queued, buffer_returned, buffer_taken, current_task,
    park, queue_depth, register_thread, steal, timer_fired, unpark, worker_started, worker_tick,
};
pub use status::{Status, is_on, offer, set_alloc_mean_bytes, start, status};
pub use task::{Enclosing, PollEnd, Spawn, TaskProbe, TaskRef};
