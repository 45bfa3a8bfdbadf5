//! What a channel is under its lock. Pure: nothing here wakes or waits.
//!
//! **Nobody is forgotten.** While somebody waits for messages, as many receivers are on their way as
//! there are messages, or all that waited. While somebody waits for room, [`SENDERS_TOLD`] senders
//! are on their way, or as many as there is room for. Whoever was told comes back, takes what there
//! is and says who is next, or leaves and says so too.

use super::line::{Key, Line};
use std::collections::VecDeque;
use std::task::Waker;

/// Senders that are told of room at a time.
///
/// A sender that is told may find room for many messages, then all others would have been woken for
/// nothing: with one wake-up for each message a crowd of senders costs three times as much. Two, so
/// that one that waits behind a long poll, in the slot of the worker that woke it, does not hold up
/// the others.
const SENDERS_TOLD: usize = 2;

/// Whom to wake, and which wakers to drop, once the lock is released.
#[derive(Debug, Default)]
#[must_use = "who is told is to be woken"]
pub(super) struct Told {
    pub(super) sender: Option<Waker>,
    pub(super) receiver: Option<Waker>,
    /// Dropped only: that may end a task, whose end may come back to this channel.
    pub(super) replaced: Option<Waker>,
}

/// A message that could not be sent.
#[derive(Debug)]
pub(super) enum Refused<T> {
    Full(T),
    Closed(T),
}

/// Why there is no message.
#[derive(Debug)]
pub(super) enum Nothing {
    Yet,
    Ever,
}

#[derive(Debug)]
pub(super) struct State<T> {
    messages: VecDeque<T>,
    capacity: usize,
    is_closed: bool,
    pub(super) senders: usize,
    pub(super) receivers: usize,
    sending: Line,
    receiving: Line,
}

impl<T> State<T> {
    /// With one sender and one receiver.
    pub(super) const fn new(capacity: usize) -> Self {
        Self {
            messages: VecDeque::new(),
            capacity,
            is_closed: false,
            senders: 1,
            receivers: 1,
            sending: Line::new(),
            receiving: Line::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Puts a message in; who stands at `key` leaves, unless it has to wait for room.
    pub(super) fn send(&mut self, message: T, key: &mut Key) -> Result<Told, Refused<T>> {
        if self.is_closed {
            return Err(Refused::Closed(message));
        }
        if self.messages.len() >= self.capacity {
            return Err(Refused::Full(message));
        }
        self.messages.push_back(message);
        Ok(self.leave_sending(key))
    }

    /// Takes a message out; who stands at `key` leaves, unless it has to wait for one.
    pub(super) fn receive(&mut self, key: &mut Key) -> Result<(T, Told), Nothing> {
        let Some(message) = self.messages.pop_front() else {
            return Err(if self.is_closed { Nothing::Ever } else { Nothing::Yet });
        };
        Ok((message, self.leave_receiving(key)))
    }

    pub(super) fn wait_for_room(&mut self, key: &mut Key, waker: &Waker) -> Told {
        let replaced = self.sending.wait(key, waker);
        Told { replaced, ..Told::default() }
    }

    pub(super) fn wait_for_message(&mut self, key: &mut Key, waker: &Waker) -> Told {
        let replaced = self.receiving.wait(key, waker);
        Told { replaced, ..Told::default() }
    }

    /// Who stands at `key` waits no more for room.
    pub(super) fn leave_sending(&mut self, key: &mut Key) -> Told {
        let replaced = self.sending.leave(key);
        self.next(replaced)
    }

    /// Who stands at `key` waits no more for a message.
    pub(super) fn leave_receiving(&mut self, key: &mut Key) -> Told {
        let replaced = self.receiving.leave(key);
        self.next(replaced)
    }

    /// Takes no more messages; returns who is to be woken, `None` if it was closed before.
    pub(super) fn close(&mut self) -> Option<Vec<Waker>> {
        if std::mem::replace(&mut self.is_closed, true) {
            return None;
        }
        let mut told = self.sending.tell_all();
        told.append(&mut self.receiving.tell_all());
        Some(told)
    }

    /// What nobody will receive any more.
    pub(super) fn take_messages(&mut self) -> VecDeque<T> {
        std::mem::take(&mut self.messages)
    }

    /// Keeps the promise of this module after one step: a message or a place more, or one less who
    /// was on its way, makes at most one more to be told at each end.
    fn next(&mut self, replaced: Option<Waker>) -> Told {
        let room = self.capacity - self.messages.len();
        let sender = self.sending.tell(room.min(SENDERS_TOLD));
        let receiver = self.receiving.tell(self.messages.len());
        Told { sender, receiver, replaced }
    }
}
