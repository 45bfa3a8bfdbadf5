//! What a runtime tells of itself. Usable without the executor: another runtime calls the same
//! functions.
//!
//! Each function is a site: off, it costs a load and a branch. On, it writes a record into this
//! thread's ring, in memory that readers map; `docs/probes/runtime.md` says how they turn sites on,
//! and `hz_probes_ebpf::runtime_ring` how the memory is laid out.
//!
//! # In another runtime
//!
//! A [`TaskProbe`] beside each task's future, [`TaskProbe::poll`] around its polls and [`TaskRef::woken`] where the task
//! goes into a queue are enough for tasks on threads with their ready times; the rest is told by who knows it.
//!
//! ```
//! use hz_runtime::probe::{self, Cause, Kind, Spawn, TaskProbe, WakeNote};
//! use std::{future::ready, panic::Location, pin::pin, task::{Context, Poll, Waker}};
//!
//! // Once, before the first worker: what this runtime will tell; a reader takes the rest for "not told".
//! probe::offer(&[Kind::TaskSpawn, Kind::TaskWake, Kind::PollBegin, Kind::PollEnd, Kind::TaskEnd]);
//! probe::start(1)?;
//! // On each worker's thread.
//! probe::worker_started(0);
//!
//! // At a spawn, beside the future.
//! let mut future = pin!(ready(7));
//! let task = TaskProbe::spawned(&Spawn {
//!     name: Some("answer"),
//!     location: Location::caller(),
//!     future: "Ready<i32>",
//!     future_bytes: 4,
//!     priority: 2,
//! });
//! // Where it is put into a queue, with the reason in force, and if that is after its own poll, with
//! // what its waker noted in it.
//! probe::with_cause(Cause::Timer, || task.task().scheduled());
//! let note = WakeNote::new();
//! // Around each poll.
//! note.clear();
//! let polled = task.poll(|| future.as_mut().poll(&mut Context::from_waker(Waker::noop())));
//! assert_eq!(polled, Poll::Ready(7));
//! // Its slot of the directory and, had it not been ready, its cancellation.
//! drop(task);
//! # Ok::<(), probe::ShareError>(())
//! ```

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
#[cfg(all(test, hz_loom))]
mod models;
mod note;
mod program;
mod ring;
mod settings;
mod sites;
mod slots;
mod stacks;
mod status;
mod tables;
mod taken;
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
