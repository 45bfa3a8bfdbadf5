//! A channel as its ends share it: the state, its lock, and who is woken after it.

use super::error::{RecvError, SendError, TryRecvError, TrySendError};
use super::line::Key;
use super::state::{Nothing, Refused, State, Told};
use crate::probe::{self, Cause, Wait};
use crate::scheduler::budget;
use crate::scheduler::sync::{AtomicBool, Mutex, MutexGuard, Ordering, lock};
use std::task::{Context, Poll, Waker, ready};

/// One lock for all of it: a message goes in or out in some 10 ns, and two workers that meet there
/// spin for that long. A lock-free queue with a locked list of who waits (`async-channel`) took 1.9
/// and 2.1 times as long for ping-pong and fan-in (`cargo bench --bench tokio`), since each wait
/// passes both.
#[derive(Debug)]
pub(super) struct Shared<T> {
    state: Mutex<State<T>>,
    /// Written before those who wait are woken, so that whoever has waited and was not woken may go
    /// by this alone.
    is_closed: AtomicBool,
}

impl<T> Shared<T> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { state: Mutex::new(State::new(capacity)), is_closed: AtomicBool::new(false) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State<T>> {
        lock(&self.state)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Wakes, and drops wakers; the lock must be released.
    #[inline]
    fn tell(&self, told: Told) {
        let Told { sender, receiver, replaced } = told;
        if sender.is_some() || receiver.is_some() {
            probe::with_cause(Cause::Channel(self.address()), || {
                // The receiver last: it then goes before the sender.
                [sender, receiver].into_iter().flatten().for_each(Waker::wake);
            });
        }
        drop(replaced);
    }

    pub(super) fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let sent = self.lock().send(message, &mut Key::default());
        match sent {
            Ok(told) => {
                self.tell(told);
                Ok(())
            }
            Err(Refused::Full(message)) => Err(TrySendError::Full(message)),
            Err(Refused::Closed(message)) => Err(TrySendError::Closed(message)),
        }
    }

    pub(super) fn try_receive(&self) -> Result<T, TryRecvError> {
        let received = self.lock().receive(&mut Key::default());
        match received {
            Ok((message, told)) => {
                self.tell(told);
                Ok(message)
            }
            Err(Nothing::Yet) => Err(TryRecvError::Empty),
            Err(Nothing::Ever) => Err(TryRecvError::Closed),
        }
    }

    /// Sends `message`, or leaves it there and waits.
    pub(super) fn poll_send(
        &self,
        key: &mut Key,
        message: &mut Option<T>,
        cx: &Context<'_>,
    ) -> Poll<Result<(), SendError<T>>> {
        ready!(budget::consume(cx));
        let mut state = self.lock();
        match state.send(message.take().expect("polled again after it was ready"), key) {
            Ok(told) => {
                drop(state);
                self.tell(told);
                Poll::Ready(Ok(()))
            }
            Err(Refused::Full(refused)) => {
                let told = state.wait_for_room(key, cx.waker());
                drop(state);
                *message = Some(refused);
                self.wait(told)
            }
            Err(Refused::Closed(message)) => {
                let told = state.leave_sending(key);
                drop(state);
                self.tell(told);
                Poll::Ready(Err(SendError(message)))
            }
        }
    }

    /// Receives a message, or waits for one.
    pub(super) fn poll_receive(
        &self,
        key: &mut Key,
        cx: &Context<'_>,
    ) -> Poll<Result<T, RecvError>> {
        ready!(budget::consume(cx));
        let mut state = self.lock();
        match state.receive(key) {
            Ok((message, told)) => {
                drop(state);
                self.tell(told);
                Poll::Ready(Ok(message))
            }
            Err(Nothing::Yet) => {
                let told = state.wait_for_message(key, cx.waker());
                drop(state);
                self.wait(told)
            }
            Err(Nothing::Ever) => {
                let told = state.leave_receiving(key);
                drop(state);
                self.tell(told);
                Poll::Ready(Err(RecvError))
            }
        }
    }

    fn wait<R>(&self, told: Told) -> Poll<R> {
        self.tell(told);
        probe::waiting(Wait::Channel(self.address()));
        Poll::Pending
    }

    /// A sender that waited is dropped.
    pub(super) fn leave_sending(&self, key: &mut Key) {
        if !key.is_out() {
            let told = self.lock().leave_sending(key);
            self.tell(told);
        }
    }

    /// A receiver that waited is dropped; if it was told, another is told in its place.
    pub(super) fn leave_receiving(&self, key: &mut Key) {
        if !key.is_out() {
            let told = self.lock().leave_receiving(key);
            self.tell(told);
        }
    }

    /// Takes no more messages; false if it was closed before.
    pub(super) fn close(&self) -> bool {
        let mut state = self.lock();
        let told = state.close();
        self.is_closed.store(true, Ordering::Release);
        drop(state);
        let is_first = told.is_some();
        let wake = || told.into_iter().flatten().for_each(Waker::wake);
        probe::with_cause(Cause::Channel(self.address()), wake);
        is_first
    }

    /// A sender is gone; with the last one the channel closes.
    pub(super) fn drop_sender(&self) {
        let mut state = self.lock();
        state.senders -= 1;
        let is_last = state.senders == 0;
        drop(state);
        if is_last {
            self.close();
        }
    }

    /// A receiver is gone; with the last one the channel closes and what is in it is dropped, so that whoever waits for an
    /// answer to it hears that there will be none.
    pub(super) fn drop_receiver(&self) {
        let mut state = self.lock();
        state.receivers -= 1;
        let is_last = state.receivers == 0;
        drop(state);
        if is_last {
            self.close();
            let messages = self.lock().take_messages();
            drop(messages);
        }
    }
}
