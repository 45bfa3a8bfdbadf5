//! How much a task may do in one poll, so that one that always finds something ready lets others in.

use super::sync::thread_local;
use crate::probe::{self, Cause};
use std::cell::Cell;
use std::task::{Context, Poll};

/// Operations of one poll. At about 1 µs each the others wait for 0.1 ms.
const OPERATIONS: u32 = 128;

/// No poll of a task: everything is granted.
const UNLIMITED: u32 = u32::MAX;

thread_local! {
    static LEFT: Cell<u32> = const { Cell::new(UNLIMITED) };
}

/// A poll of a task begins.
#[inline]
pub(crate) fn refill() {
    LEFT.with(|left| left.set(OPERATIONS));
}

/// No task is polled any more.
#[inline]
pub(crate) fn lift() {
    LEFT.with(|left| left.set(UNLIMITED));
}

/// Takes one operation from the budget of the task being polled; pending if there is none left: the
/// task is woken and comes again after the others. For the leaf futures: sockets, channels, timers.
#[inline]
pub(crate) fn consume(cx: &Context<'_>) -> Poll<()> {
    match LEFT.with(Cell::get) {
        UNLIMITED => Poll::Ready(()),
        0 => {
            probe::with_cause(Cause::Yield, || cx.waker().wake_by_ref());
            Poll::Pending
        }
        left => {
            LEFT.with(|cell| cell.set(left - 1));
            Poll::Ready(())
        }
    }
}
