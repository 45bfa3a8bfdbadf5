//! The contract by which OpenTelemetry's eBPF profiler learns of sampled allocations:
//! <https://github.com/open-telemetry/opentelemetry-ebpf-profiler/tree/main/design-docs/00003-memory-profiling#usdt-contract>.

use super::{GATES, OTEL_ALLOC, OTEL_FREE, site::site};
use std::sync::atomic::Ordering;

/// Whether a tracer is at `otel_memory:alloc` or `otel_memory:free`.
#[must_use]
#[inline(always)]
pub fn otel_is_on() -> bool {
    let alloc = GATES.0[OTEL_ALLOC].load(Ordering::Relaxed);
    (alloc | GATES.0[OTEL_FREE].load(Ordering::Relaxed)) != 0
}

/// A **sampled** allocation of `bytes` at `address`, which stands for `weighted_bytes`: the sum of
/// all is an unbiased estimate of what was allocated. With samples drawn at a mean distance of
/// `mean` bytes that is `bytes / (1 − exp(−bytes / mean))`.
#[inline]
pub fn otel_alloc(address: usize, bytes: usize, weighted_bytes: u64) {
    if GATES.0[OTEL_ALLOC].load(Ordering::Relaxed) != 0 {
        fire_alloc(address as u64, bytes as u64, weighted_bytes);
    }
}

/// The free of an allocation that [`otel_alloc`] was told of, or would have been.
#[inline]
pub fn otel_free(address: usize) {
    if GATES.0[OTEL_FREE].load(Ordering::Relaxed) != 0 {
        fire_free(address as u64);
    }
}

#[cold]
#[inline(never)]
fn fire_alloc(address: u64, bytes: u64, weighted_bytes: u64) {
    site!(
        ("otel_memory", "alloc", OTEL_ALLOC, fire_alloc),
        8 address, 8 bytes, 8 weighted_bytes
    );
}

#[cold]
#[inline(never)]
fn fire_free(address: u64) {
    site!(("otel_memory", "free", OTEL_FREE, fire_free), 8 address);
}
