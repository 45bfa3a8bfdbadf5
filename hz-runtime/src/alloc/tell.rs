//! Whom samples are told.

use super::gap;
use super::stack::Frames;
use crate::probe::{self, Kind, usdt};
use std::sync::OnceLock;

/// What the sampler tells of.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// An allocation was sampled.
    Sampled {
        /// Where it is.
        address: usize,
        /// How large it is.
        bytes: usize,
        /// Bytes for which it stands: the sum of all is an unbiased estimate of what was allocated.
        weight: f64,
        /// Return addresses, leaf first: the first is in the allocator.
        stack: &'a [u64],
        /// Whether the stack goes on beyond, or was guessed in parts.
        is_cut: bool,
    },
    /// A sampled allocation was freed, or moved.
    Freed {
        /// Where it was.
        address: usize,
        /// How large it was.
        bytes: usize,
    },
}

/// A function of the program's own that is told of samples, on the thread that allocates or frees.
/// What it allocates is not sampled, and what it frees is not told. If it panics, the process ends: an allocator must not unwind.
pub type Listener = fn(&Event<'_>);

static LISTENER: OnceLock<Listener> = OnceLock::new();

/// Tells `listener` of samples from now on; `false`: there is one already.
pub fn listen(listener: Listener) -> bool {
    LISTENER.set(listener).is_ok()
}

/// Whether anyone wants to be told.
pub(super) fn is_wanted() -> bool {
    probe::is_on(Kind::AllocSampled)
        || probe::is_on(Kind::FreeSampled)
        || usdt::otel_is_on()
        || LISTENER.get().is_some()
}

pub(super) fn sampled(address: usize, bytes: usize, mean: u64, frames: &Frames) {
    let weight = gap::weight(bytes, mean);
    let stack = if probe::is_on(Kind::AllocSampled) {
        probe::intern_stack(frames.addresses(), frames.is_cut)
    } else {
        0
    };
    probe::alloc_sampled(address, bytes, stack);
    usdt::otel_alloc(address, bytes, weight as u64);
    if let Some(listener) = LISTENER.get() {
        let (stack, is_cut) = (frames.addresses(), frames.is_cut);
        listener(&Event::Sampled { address, bytes, weight, stack, is_cut });
    }
}

pub(super) fn freed(address: usize, bytes: usize) {
    probe::free_sampled(address, bytes);
    usdt::otel_free(address);
    if let Some(listener) = LISTENER.get() {
        listener(&Event::Freed { address, bytes });
    }
}
