//! Waiting for a buffer.

use super::buffer::Buffer;
use super::ledger::Grab;
use super::size::Order;
use super::store::Ticket;
use super::{Pool, TakeError, thread_index};
use crate::probe::{self, Wait};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A wish for a buffer. Dropped before it is ready, it gives its place in the queue up.
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct Take<'a> {
    pool: &'a Pool,
    bytes: usize,
    ticket: Option<(Ticket, Order)>,
}

impl<'a> Take<'a> {
    pub(super) const fn new(pool: &'a Pool, bytes: usize) -> Self {
        Self { pool, bytes, ticket: None }
    }
}

impl Future for Take<'_> {
    type Output = Result<Buffer, TakeError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let (pool, waker) = (self.pool, context.waker());
        let (unit, order) = match self.ticket {
            Some((ticket, order)) => (pool.ledger.claim(ticket, waker), order),
            None => {
                let order = Order::holding(self.bytes).ok_or(TakeError { bytes: self.bytes })?;
                match pool.ledger.grab(thread_index(), order, Some(waker)) {
                    Grab::Block(unit) => (Some(unit), order),
                    Grab::Queued(ticket) => {
                        self.ticket = Some((ticket, order));
                        (None, order)
                    }
                    // Only for those who do not queue.
                    Grab::Exhausted => (None, order),
                }
            }
        };
        let Some(unit) = unit else {
            probe::waiting(Wait::Buffer);
            return Poll::Pending;
        };
        self.ticket = None;
        Poll::Ready(Ok(Buffer::new(&pool.ledger, unit, order, self.bytes)))
    }
}

impl Drop for Take<'_> {
    fn drop(&mut self) {
        if let Some((ticket, _)) = self.ticket {
            self.pool.ledger.cancel(ticket);
        }
    }
}
