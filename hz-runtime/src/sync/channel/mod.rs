//! Channels of many senders and many receivers; each message goes to one receiver.

mod error;
mod line;
#[cfg(all(test, hz_loom))]
mod models;
mod shared;
mod state;
#[cfg(all(test, not(hz_loom)))]
mod tests;

pub use error::{RecvError, SendError, TryRecvError, TrySendError};

use futures_lite::future::block_on;
use line::Key;
use shared::Shared;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Makes a channel with room for `capacity` messages; a sender waits while it is full.
///
/// Memory is taken as messages come, not beforehand.
///
/// # Panics
///
/// If `capacity` is 0.
#[must_use]
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a channel without room for a message could never pass one");
    ends(capacity)
}

/// Makes a channel that always has room.
#[must_use]
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    ends(usize::MAX)
}

fn ends<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared::new(capacity));
    (Sender { shared: Arc::clone(&shared) }, Receiver { shared })
}

/// The end that messages go in. When the last is dropped, receivers get what is there and then
/// [`RecvError`].
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

/// The end that messages come out of. When the last is dropped, senders get [`SendError`], and what is
/// in the channel is dropped.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
}

/// [`Sender::send`]'s. Dropped before it is ready, it has not sent the message.
#[must_use = "nothing is sent until it is awaited"]
pub struct Sending<'a, T> {
    shared: &'a Shared<T>,
    /// There until it is sent.
    message: Option<T>,
    key: Key,
}

/// [`Receiver::recv`]'s. Dropped before it is ready, it has taken no message.
#[must_use = "nothing is received until it is awaited"]
pub struct Receiving<'a, T> {
    shared: &'a Shared<T>,
    key: Key,
}

// The message is not pinned: it moves into the channel.
impl<T> Unpin for Sending<'_, T> {}

impl<T> Future for Sending<'_, T> {
    type Output = Result<(), SendError<T>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        this.shared.poll_send(&mut this.key, &mut this.message, cx)
    }
}

impl<T> Drop for Sending<'_, T> {
    fn drop(&mut self) {
        self.shared.leave_sending(&mut self.key);
    }
}

impl<T> Future for Receiving<'_, T> {
    type Output = Result<T, RecvError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        this.shared.poll_receive(&mut this.key, cx)
    }
}

impl<T> Drop for Receiving<'_, T> {
    fn drop(&mut self) {
        self.shared.leave_receiving(&mut self.key);
    }
}

impl<T> Sender<T> {
    /// Sends a message, when there is room.
    ///
    /// # Errors
    ///
    /// The message, if the channel is closed.
    pub fn send(&self, message: T) -> Sending<'_, T> {
        Sending { shared: &self.shared, message: Some(message), key: Key::default() }
    }

    /// Sends a message, if there is room.
    ///
    /// # Errors
    ///
    /// The message, if there is none or the channel is closed.
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        self.shared.try_send(message)
    }

    /// Sends a message; this thread waits for room. Not for tasks.
    ///
    /// # Errors
    ///
    /// The message, if the channel is closed.
    pub fn send_blocking(&self, message: T) -> Result<(), SendError<T>> {
        block_on(self.send(message))
    }

    /// Closes the channel: receivers get what is there, and no more.
    pub fn close(&self) -> bool {
        self.shared.close()
    }

    /// Messages in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.lock().len()
    }

    /// Whether there is no message in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }
}

impl<T> Receiver<T> {
    /// Receives a message, when there is one.
    ///
    /// # Errors
    ///
    /// If there is none and the channel is closed.
    pub fn recv(&self) -> Receiving<'_, T> {
        Receiving { shared: &self.shared, key: Key::default() }
    }

    /// Receives a message, if there is one.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.shared.try_receive()
    }

    /// Receives a message; this thread waits for one. Not for tasks.
    ///
    /// # Errors
    ///
    /// If there is none and the channel is closed.
    pub fn recv_blocking(&self) -> Result<T, RecvError> {
        block_on(self.recv())
    }

    /// Closes the channel: receivers get what is there, and no more.
    pub fn close(&self) -> bool {
        self.shared.close()
    }

    /// Messages in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.lock().len()
    }

    /// Whether there is no message in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.lock().senders += 1;
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.shared.lock().receivers += 1;
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.shared.drop_sender();
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.drop_receiver();
    }
}

macro_rules! show {
    ($($name:ident<$($of:tt),*>: $text:literal;)*) => {$(
        impl<T> fmt::Debug for $name<$($of),*> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let len = self.shared.lock().len();
                f.debug_struct($text).field("len", &len).finish_non_exhaustive()
            }
        }
    )*};
}

show! {
    Sender<T>: "Sender";
    Receiver<T>: "Receiver";
    Sending<'_, T>: "Sending";
    Receiving<'_, T>: "Receiving";
}
