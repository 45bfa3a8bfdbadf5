//! The sites of the program itself: requests, spans, marks, and its allocator's.

use super::emit::{Record, emit_named};
use super::sites::{current_task, emit_of_task};
use super::{kinds, memory};
use hz_probes_ebpf::Kind;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

/// Request `id` begins in the task being polled; `route` groups requests of one sort.
#[inline]
pub fn request_begin(id: u64, route: &'static str) {
    emit_of_task_named(Kind::RequestBegin, route, id);
}

/// Request `id` is answered with `status`, 0: not said.
#[inline]
pub fn request_end(id: u64, status: u32) {
    emit_of_task(Kind::RequestEnd, 0, status, id);
}

/// A span of the program's own, from now until it is dropped.
#[inline]
pub fn span(name: &'static str) -> Span {
    let id = if kinds::is_on(Kind::SpanBegin) { begin(name) } else { 0 };
    Span { name, id, of_this_thread: PhantomData }
}

/// A span that ends when it is dropped, on the thread on which it began.
#[derive(Debug)]
#[must_use = "a span ends when it is dropped"]
pub struct Span {
    name: &'static str,
    /// 0: nobody wanted its begin, so nobody gets its end.
    id: u64,
    of_this_thread: PhantomData<*const ()>,
}

impl Drop for Span {
    #[inline]
    fn drop(&mut self) {
        if self.id != 0 {
            emit_of_task_named(Kind::SpanEnd, self.name, self.id);
        }
    }
}

fn begin(name: &'static str) -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    emit_of_task_named(Kind::SpanBegin, name, id);
    id
}

/// Says that the program is here, and `value`.
#[inline]
pub fn mark(name: &'static str, value: u64) {
    emit_of_task_named(Kind::Mark, name, value);
}

/// An allocation was sampled; `stack` is from [`intern_stack`]. Never allocates.
#[inline]
pub fn alloc_sampled(address: usize, bytes: usize, stack: u32) {
    let (value, aux) = pack(address, bytes);
    emit_of_task(Kind::AllocSampled, aux, stack, value);
}

/// A sampled allocation was freed. Never allocates.
#[inline]
pub fn free_sampled(address: usize, bytes: usize) {
    let (value, aux) = pack(address, bytes);
    emit_of_task(Kind::FreeSampled, aux, 0, value);
}

/// The number of a stack of return addresses, leaf first; 0: there is no room for it, or nobody to
/// tell. Never allocates, locks or unwinds.
#[must_use]
pub fn intern_stack(addresses: &[u64], is_cut: bool) -> u32 {
    memory::get().map_or(0, |memory| memory.stacks().intern(addresses, is_cut))
}

#[inline(always)]
fn emit_of_task_named(kind: Kind, name: &'static str, value: u64) {
    emit_named(kind, name, || Record { task: current_task(), value, arg: 0, aux: 0 });
}

/// Bits of an address that a record holds: of 47, without the four that alignment makes 0.
const ADDRESS_BITS: u32 = 43;
const SIZE_LOW_BITS: u32 = 64 - ADDRESS_BITS;

/// An address and a size as the value and aux of a record.
fn pack(address: usize, bytes: usize) -> (u64, u32) {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    let place = (address as u64 >> 4) & ((1 << ADDRESS_BITS) - 1);
    (place | u64::from(bytes) << ADDRESS_BITS, bytes >> SIZE_LOW_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_address_and_a_size_fit_into_a_record(address in 0_usize..1 << 43, bytes: u32) {
            let address = address << 4;
            let (value, aux) = pack(address, bytes as usize);
            prop_assert_eq!((value & ((1 << 43) - 1)) << 4, address as u64);
            prop_assert_eq!((value >> 43) | u64::from(aux) << 21, u64::from(bytes));
            prop_assert!(aux <= u32::from(u16::MAX));
        }
    }

    #[test]
    fn a_size_too_large_is_the_largest() {
        let (value, aux) = pack(16, usize::MAX);
        assert_eq!((value >> 43) | u64::from(aux) << 21, u64::from(u32::MAX));
    }
}
