//! Channels of many senders and many receivers; each message goes to one receiver.

use super::{RecvError, SendError, TryRecvError, TrySendError, named};
use crate::probe::{self, Cause, Wait};
use crate::scheduler::budget;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Both ends, so that the channel has one address.
#[derive(Debug)]
struct Channel<T> {
    sender: async_channel::Sender<T>,
    receiver: async_channel::Receiver<T>,
    senders: AtomicUsize,
    receivers: AtomicUsize,
}

/// Makes a channel with room for `capacity` messages; a sender waits while it is full.
///
/// # Panics
///
/// If `capacity` is 0.
#[must_use]
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    ends(async_channel::bounded(capacity))
}

/// Makes a channel that always has room.
#[must_use]
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    ends(async_channel::unbounded())
}

fn ends<T>(
    (sender, receiver): (async_channel::Sender<T>, async_channel::Receiver<T>),
) -> (Sender<T>, Receiver<T>) {
    let (senders, receivers) = (AtomicUsize::new(1), AtomicUsize::new(1));
    let channel = Arc::new(Channel { sender, receiver, senders, receivers });
    (Sender { channel: Arc::clone(&channel) }, Receiver { channel })
}

/// The end that messages go in. When the last is dropped, receivers get what is there and then
/// [`RecvError`].
pub struct Sender<T> {
    channel: Arc<Channel<T>>,
}

/// The end that messages come out of. When the last is dropped, senders get [`SendError`].
pub struct Receiver<T> {
    channel: Arc<Channel<T>>,
}

fn address<T>(channel: &Arc<Channel<T>>) -> usize {
    Arc::as_ptr(channel).addr()
}

impl<T> Sender<T> {
    /// Sends a message, when there is room.
    ///
    /// # Errors
    ///
    /// The message, if the channel is closed.
    pub async fn send(&self, message: T) -> Result<(), SendError<T>> {
        poll_fn(|cx| budget::consume(cx)).await;
        match self.try_send(message) {
            Ok(()) => Ok(()),
            Err(TrySendError::Closed(message)) => Err(SendError(message)),
            Err(TrySendError::Full(message)) => {
                let address = address(&self.channel);
                let sending = self.channel.sender.send(message);
                named(sending, Wait::Channel(address), Cause::Channel(address)).await
            }
        }
    }

    /// Sends a message, if there is room.
    ///
    /// # Errors
    ///
    /// The message, if there is none or the channel is closed.
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let send = || self.channel.sender.try_send(message);
        probe::with_cause(Cause::Channel(address(&self.channel)), send)
    }

    /// Sends a message; this thread waits for room. Not for tasks.
    ///
    /// # Errors
    ///
    /// The message, if the channel is closed.
    pub fn send_blocking(&self, message: T) -> Result<(), SendError<T>> {
        let send = || self.channel.sender.send_blocking(message);
        probe::with_cause(Cause::Channel(address(&self.channel)), send)
    }

    /// Closes the channel: receivers get what is there, and no more.
    pub fn close(&self) -> bool {
        close(&self.channel)
    }

    /// Messages in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.channel.sender.len()
    }

    /// Whether there is no message in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.channel.sender.is_empty()
    }

    /// Whether it is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.channel.sender.is_closed()
    }
}

impl<T> Receiver<T> {
    /// Receives a message, when there is one.
    ///
    /// # Errors
    ///
    /// If there is none and the channel is closed.
    pub async fn recv(&self) -> Result<T, RecvError> {
        poll_fn(|cx| budget::consume(cx)).await;
        match self.try_recv() {
            Ok(message) => Ok(message),
            Err(TryRecvError::Closed) => Err(RecvError),
            Err(TryRecvError::Empty) => {
                let address = address(&self.channel);
                let receiving = self.channel.receiver.recv();
                named(receiving, Wait::Channel(address), Cause::Channel(address)).await
            }
        }
    }

    /// Receives a message, if there is one.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        let receive = || self.channel.receiver.try_recv();
        probe::with_cause(Cause::Channel(address(&self.channel)), receive)
    }

    /// Receives a message; this thread waits for one. Not for tasks.
    ///
    /// # Errors
    ///
    /// If there is none and the channel is closed.
    pub fn recv_blocking(&self) -> Result<T, RecvError> {
        let receive = || self.channel.receiver.recv_blocking();
        probe::with_cause(Cause::Channel(address(&self.channel)), receive)
    }

    /// Closes the channel: receivers get what is there, and no more.
    pub fn close(&self) -> bool {
        close(&self.channel)
    }

    /// Messages in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.channel.receiver.len()
    }

    /// Whether there is no message in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.channel.receiver.is_empty()
    }

    /// Whether it is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.channel.receiver.is_closed()
    }
}

fn close<T>(channel: &Arc<Channel<T>>) -> bool {
    probe::with_cause(Cause::Channel(address(channel)), || channel.sender.close())
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.channel.senders.fetch_add(1, Ordering::Relaxed);
        Self { channel: Arc::clone(&self.channel) }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.channel.receivers.fetch_add(1, Ordering::Relaxed);
        Self { channel: Arc::clone(&self.channel) }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.channel.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            close(&self.channel);
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        if self.channel.receivers.fetch_sub(1, Ordering::AcqRel) == 1 {
            close(&self.channel);
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("len", &self.len()).finish_non_exhaustive()
    }
}
