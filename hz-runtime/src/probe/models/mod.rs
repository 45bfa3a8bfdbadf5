//! Every order of the shared memory's words, by loom:
//! `RUSTFLAGS="--cfg hz_loom" cargo test -p hz-runtime --release --lib probe::models`.
//!
//! The readers here do what `hz_probes_ebpf::runtime_ring` asks of readers, since those are another
//! program's.

mod directory;
mod lease;
mod note;
mod ring;
mod slots;
mod stacks;

use loom::sync::atomic::{AtomicU32, AtomicU64};

/// Every order with so many switches from a thread that could go on.
fn model(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(body);
}

fn word() -> AtomicU64 {
    AtomicU64::new(0)
}

fn half() -> AtomicU32 {
    AtomicU32::new(0)
}
