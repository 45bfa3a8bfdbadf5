//! Waiting for a scope's cancellation and for its end.

use super::node::{Event, Node};
use crate::probe::{self, Wait};
use crate::scheduler::budget;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// The wait for a scope's cancellation; see [`ScopeHandle::cancelled`](super::ScopeHandle::cancelled).
///
/// It may be kept, sent and cloned; it does not keep the scope from being dropped.
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct Cancelled(Waiter);

impl Cancelled {
    pub(super) const fn of(node: Arc<Node>) -> Self {
        Self(Waiter { node, event: Event::Cancelled, key: None })
    }

    /// Whether the scope is cancelled already.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.node.stage() != super::node::Stage::Open
    }
}

impl Clone for Cancelled {
    fn clone(&self) -> Self {
        Self::of(Arc::clone(&self.0.node))
    }
}

impl Future for Cancelled {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.poll(context, Wait::Cancel)
    }
}

/// The wait until nothing in a scope is live; see [`ScopeHandle::finished`](super::ScopeHandle::finished).
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct Finished(Waiter);

impl Finished {
    pub(super) const fn of(node: Arc<Node>) -> Self {
        Self(Waiter { node, event: Event::Empty, key: None })
    }
}

impl Future for Finished {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.poll(context, Wait::Scope)
    }
}

#[derive(Debug)]
struct Waiter {
    node: Arc<Node>,
    event: Event,
    key: Option<u64>,
}

impl Waiter {
    fn poll(&mut self, context: &Context<'_>, wait: Wait) -> Poll<()> {
        ready!(budget::consume(context));
        if self.node.poll(self.event, &mut self.key, context.waker()) {
            return Poll::Ready(());
        }
        probe::waiting(wait);
        Poll::Pending
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.node.forget(self.event, key);
        }
    }
}
