//! The rare part: what happens when an allocation is due, and when a sampled one is freed.

use super::local::{LOCAL, Local};
use super::set::Set;
use super::stack::{self, Frames, Registers};
use super::{gap, modules, tell};
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Room for 65,536 live samples, which a heap of 32 GiB has in the mean: 512 KiB of addresses, of
/// which only what is used takes memory, and 16 KiB of counts.
static SAMPLED: Set<16_384, 8_192> = Set::new();

/// Bytes between two samples in the mean; 0: none is taken.
static MEAN: AtomicU64 = AtomicU64::new(UNPREPARED);
const UNPREPARED: u64 = u64::MAX;
/// Bytes after which a thread asks again whether the sampler is prepared,
const UNPREPARED_BYTES: i64 = 64 << 10;
/// or on.
const OFF_BYTES: i64 = 1 << 30;

/// Whether any thread has allocated through a [`SampledAllocator`](super::SampledAllocator).
pub(super) static IS_INSTALLED: AtomicBool = AtomicBool::new(false);
/// Samples that were told.
pub(super) static SAMPLES: AtomicU64 = AtomicU64::new(0);
/// Samples whose stacks were cut.
pub(super) static CUT_STACKS: AtomicU64 = AtomicU64::new(0);
/// Samples for which there was no room.
pub(super) static OVERFLOW: AtomicU64 = AtomicU64::new(0);

pub(super) fn set_mean(mean: u64) {
    MEAN.store(mean.min(UNPREPARED - 1), Relaxed);
}

/// As [`set_mean`] said, `None`: it has not been called.
pub(super) fn mean() -> Option<u64> {
    Some(MEAN.load(Relaxed)).filter(|mean| *mean != UNPREPARED)
}

/// An allocation of `bytes` at `address` (0: it failed) used up the thread's gap.
#[cold]
#[inline(never)]
pub(super) fn due(address: usize, bytes: usize) {
    // Here, so that the stack begins at this function's caller.
    let registers = stack::registers();
    LOCAL.with(|local| {
        let left = local.left.get();
        local.at_work(|| {
            let next = left_after(local, left, address, bytes, registers);
            local.left.set(next);
        });
    });
}

impl Local {
    /// Runs `work` with the sampler at work on this thread; it sets `left`.
    fn at_work(&self, work: impl FnOnce()) {
        self.left.set(i64::MAX);
        self.is_busy.set(true);
        let no_panic = NoPanic;
        work();
        mem::forget(no_panic);
        self.is_busy.set(false);
    }
}

/// An allocator must not unwind: a listener that panics ends the process here.
struct NoPanic;

impl Drop for NoPanic {
    fn drop(&mut self) {
        std::process::abort();
    }
}

/// Bytes up to the next look.
fn left_after(
    local: &Local,
    left: i64,
    address: usize,
    bytes: usize,
    registers: Option<Registers>,
) -> i64 {
    let Some(mean) = mean().filter(|mean| *mean != 0) else {
        IS_INSTALLED.store(true, Relaxed);
        local.mean.set(0);
        return if mean() == Some(0) { OFF_BYTES } else { UNPREPARED_BYTES };
    };
    if address == 0 {
        return left.saturating_add_unsigned(bytes as u64);
    }
    if local.mean.replace(mean) != mean {
        // The gap that is used up was no draw: this allocation gets its own.
        seed(local, address);
        let left = gap::gap(&local.random, mean).saturating_sub_unsigned(bytes as u64);
        if left >= 0 {
            return left;
        }
    }
    sample(local, address, bytes, registers);
    gap::gap(&local.random, mean)
}

fn seed(local: &Local, address: usize) {
    let place = std::ptr::from_ref(local).addr();
    let mixed = place.rotate_left(32) ^ address;
    local.random.set(local.random.get() ^ mixed as u64 ^ crate::clock::now_ns().rotate_left(20));
}

fn sample(local: &Local, address: usize, bytes: usize, registers: Option<Registers>) {
    if !tell::is_wanted() {
        return;
    }
    if !SAMPLED.insert(address) {
        OVERFLOW.fetch_add(1, Relaxed);
        return;
    }
    let frames = registers.map_or_else(Frames::none, |registers| {
        let limits = local.stack.get().unwrap_or_else(|| {
            let limits = stack::limits();
            local.stack.set(Some(limits));
            limits
        });
        stack::walk(modules::current(), registers, limits)
    });
    SAMPLES.fetch_add(1, Relaxed);
    CUT_STACKS.fetch_add(u64::from(frames.is_cut), Relaxed);
    tell::sampled(address, bytes, local.mean.get(), &frames);
}

/// Whether an address may be that of a sampled allocation; if not, it certainly is not.
#[inline(always)]
pub(super) fn may_be_sampled(address: usize) -> bool {
    SAMPLED.may_hold(address)
}

/// Forgets an address, before its memory is given back and becomes another's; `false`: it was none
/// of the sampled.
#[cold]
#[inline(never)]
pub(super) fn forget(address: usize) -> bool {
    SAMPLED.remove(address)
}

/// After a reallocation of a sample that was forgotten for it: the old memory is no more, or, if it
/// failed, is what it was.
#[cold]
#[inline(never)]
pub(super) fn moved(address: usize, bytes: usize, is_moved: bool) {
    if is_moved {
        freed(address, bytes);
    } else if !SAMPLED.insert(address) {
        OVERFLOW.fetch_add(1, Relaxed);
    }
}

/// A sampled allocation is no more.
#[cold]
#[inline(never)]
pub(super) fn freed(address: usize, bytes: usize) {
    LOCAL.with(|local| {
        // Who is told must not free what was sampled: it would be told of that meanwhile.
        if local.is_busy.get() {
            return;
        }
        let left = local.left.get();
        local.at_work(|| {
            tell::freed(address, bytes);
            local.left.set(left);
        });
    });
}
