//! A task's waker: async-task's own, which also notes why.
//!
//! A task that is woken while it is being polled goes into a queue when the poll is over, on its
//! poller's thread. Why it was woken is known only here.

use super::cell::{Job, Meta};
use crate::prefetch;
use std::mem::{self, ManuallyDrop};
use std::ptr::{self, NonNull, null_mut};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::task::{RawWaker, RawWakerVTable, Waker};

/// Of the waker that async-task made for a task: what it wakes through.
///
/// All wakers of one task are the same two words, which [`Inner::of`] makes sure of.
#[derive(Debug)]
pub(super) struct Inner {
    data: AtomicPtr<()>,
    vtable: AtomicPtr<RawWakerVTable>,
}

impl Inner {
    /// Until the task is there.
    pub(super) const fn none() -> Self {
        Self { data: AtomicPtr::new(null_mut()), vtable: AtomicPtr::new(null_mut()) }
    }

    /// Takes it from a task that nobody else has yet.
    pub(super) fn set(&self, job: &Job) {
        let waker = job.waker();
        debug_assert!(waker.will_wake(&waker.clone()), "a task's wakers differ");
        self.data.store(waker.data().cast_mut(), Ordering::Relaxed);
        self.vtable.store(ptr::from_ref(waker.vtable()).cast_mut(), Ordering::Relaxed);
    }

    /// A waker without a reference of its own.
    fn waker(&self) -> ManuallyDrop<Waker> {
        let vtable = self.vtable.load(Ordering::Relaxed);
        // SAFETY: a waker's vtable is static; `set` was called before there was any waker of ours.
        let vtable: &'static RawWakerVTable = unsafe { &*vtable };
        let data = self.data.load(Ordering::Relaxed).cast_const();
        // SAFETY: the two came from one waker of the task. Whoever calls holds a reference to the
        // task, and what is returned drops none.
        ManuallyDrop::new(unsafe { Waker::new(data, vtable) })
    }
}

static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, drop_waker);

/// The task's waker, for as long as the caller holds a reference to the task otherwise.
#[inline]
pub(super) fn borrowed(meta: NonNull<Meta>) -> ManuallyDrop<Waker> {
    // SAFETY: `VTABLE` takes the metadata's address, whose task the caller keeps.
    ManuallyDrop::new(unsafe { Waker::from_raw(RawWaker::new(meta.as_ptr().cast(), &VTABLE)) })
}

/// A waker of the task.
pub(super) fn owned(job: &Job) -> Waker {
    Waker::clone(&borrowed(NonNull::from(job.metadata())))
}

/// Of a task's memory, from the line before its metadata: what is written by a wake-up, and the begin of its future.
const LINES: usize = 4;
const LINE_BYTES: usize = 64;

/// Has the memory of a waker's task brought into the cache, if it is a task's: it is about to be woken and polled.
#[inline]
pub(crate) fn fetch_ahead(waker: &Waker) {
    if is_ours(waker) {
        let before = waker.data().cast::<u8>().wrapping_sub(LINE_BYTES);
        (0..LINES).for_each(|line| prefetch::to_write(before.wrapping_add(line * LINE_BYTES)));
    }
}

/// What [`fetch_ahead`] must have come before, a while ago: brings what the task's memory names, its line of the
/// directory.
#[inline]
pub(crate) fn fetch_line_ahead(waker: &Waker) {
    if is_ours(waker) {
        // SAFETY: it is a waker of ours that lives.
        let meta = unsafe { meta(waker.data()) };
        meta.task.fetch_ahead();
    }
}

fn is_ours(waker: &Waker) -> bool {
    ptr::eq(waker.vtable(), &raw const VTABLE)
}

/// # Safety
///
/// `data` is that of a waker of ours that has not been dropped.
const unsafe fn meta<'a>(data: *const ()) -> &'a Meta {
    // SAFETY: the waker holds a reference to the task, in whose allocation the metadata is.
    unsafe { &*data.cast::<Meta>() }
}

unsafe fn clone(data: *const ()) -> RawWaker {
    // SAFETY: called through a waker.
    let meta = unsafe { meta(data) };
    // The reference belongs to the waker that is returned.
    mem::forget(Waker::clone(&meta.inner.waker()));
    RawWaker::new(data, &VTABLE)
}

unsafe fn wake(data: *const ()) {
    // SAFETY: called through a waker.
    let meta = unsafe { meta(data) };
    meta.note.take_down(meta.task);
    ManuallyDrop::into_inner(meta.inner.waker()).wake();
}

unsafe fn wake_by_ref(data: *const ()) {
    // SAFETY: called through a waker.
    let meta = unsafe { meta(data) };
    meta.note.take_down(meta.task);
    meta.inner.waker().wake_by_ref();
}

unsafe fn drop_waker(data: *const ()) {
    // SAFETY: called through a waker.
    let meta = unsafe { meta(data) };
    drop(ManuallyDrop::into_inner(meta.inner.waker()));
}
