//! The channel beside a model of it: a queue, and who must not be left waiting.

use super::{Receiving, RecvError, SendError, Sending, bounded};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// Counts its wake-ups.
#[derive(Debug, Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Bell {
    fn rings(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A future that waits, as an executor holds it.
struct Task<F> {
    future: F,
    bell: Arc<Bell>,
    heard: usize,
}

impl<F: Future + Unpin> Task<F> {
    fn new(future: F) -> Self {
        Self { future, bell: Arc::default(), heard: 0 }
    }

    fn is_woken(&self) -> bool {
        self.bell.rings() > self.heard
    }

    fn poll(&mut self) -> Poll<F::Output> {
        self.heard = self.bell.rings();
        let waker = Waker::from(Arc::clone(&self.bell));
        Pin::new(&mut self.future).poll(&mut Context::from_waker(&waker))
    }
}

/// What happens next; numbers choose among the tasks that wait.
#[derive(Clone, Debug)]
enum Step {
    Send,
    Receive,
    TrySend,
    TryReceive,
    /// Polls one that waits, whether it was woken or not.
    Poll(usize),
    /// Drops one that waits.
    Cancel(usize),
    Close,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::Send),
        6 => Just(Step::Receive),
        2 => Just(Step::TrySend),
        2 => Just(Step::TryReceive),
        6 => any::<usize>().prop_map(Step::Poll),
        3 => any::<usize>().prop_map(Step::Cancel),
    ];
    let closing = prop_oneof![60 => step, 1 => Just(Step::Close)];
    proptest::collection::vec(closing, 1..200)
}

/// The channel's users, and what the channel must do.
struct Users<'a> {
    sending: Vec<(u32, Task<Sending<'a, u32>>)>,
    receiving: Vec<Task<Receiving<'a, u32>>>,
    queue: VecDeque<u32>,
    capacity: usize,
    is_closed: bool,
}

impl<'a> Users<'a> {
    fn send(&mut self, number: u32, mut task: Task<Sending<'a, u32>>) {
        match task.poll() {
            Poll::Ready(Ok(())) => {
                assert!(!self.is_closed && self.queue.len() < self.capacity);
                self.queue.push_back(number);
            }
            Poll::Ready(Err(SendError(message))) => assert!(self.is_closed && message == number),
            Poll::Pending => {
                assert!(!self.is_closed && self.queue.len() == self.capacity);
                self.sending.push((number, task));
            }
        }
    }

    fn receive(&mut self, mut task: Task<Receiving<'a, u32>>) {
        match task.poll() {
            Poll::Ready(Ok(message)) => assert_eq!(Some(message), self.queue.pop_front()),
            Poll::Ready(Err(RecvError)) => assert!(self.is_closed && self.queue.is_empty()),
            Poll::Pending => {
                assert!(!self.is_closed && self.queue.is_empty());
                self.receiving.push(task);
            }
        }
    }

    fn poll(&mut self, which: usize) {
        let all = self.sending.len() + self.receiving.len();
        if all == 0 {
            return;
        }
        let which = which % all;
        if which < self.sending.len() {
            let (number, task) = self.sending.remove(which);
            self.send(number, task);
        } else {
            let task = self.receiving.remove(which - self.sending.len());
            self.receive(task);
        }
    }

    fn cancel(&mut self, which: usize) {
        let all = self.sending.len() + self.receiving.len();
        if all == 0 {
            return;
        }
        let which = which % all;
        if which < self.sending.len() {
            drop(self.sending.remove(which));
        } else {
            drop(self.receiving.remove(which - self.sending.len()));
        }
    }

    /// Where there is something to be had, somebody who waits for it is on the way.
    fn check(&self) {
        let woken = |count: usize, of: usize| count.min(of);
        let receivers = self.receiving.iter().filter(|task| task.is_woken()).count();
        let senders = self.sending.iter().filter(|(_, task)| task.is_woken()).count();
        if self.is_closed {
            assert_eq!((receivers, senders), (self.receiving.len(), self.sending.len()));
            return;
        }
        assert!(receivers >= woken(self.queue.len(), self.receiving.len()), "a message waits");
        let room = self.capacity - self.queue.len();
        assert!(senders >= woken(room.min(1), self.sending.len()), "there is room");
    }

    /// Polls whoever is woken until nobody is.
    fn settle(&mut self) {
        while let Some(which) = self.woken() {
            self.poll(which);
            self.check();
        }
    }

    fn woken(&self) -> Option<usize> {
        let sender = self.sending.iter().position(|(_, task)| task.is_woken());
        let receiver = || self.receiving.iter().position(Task::is_woken);
        sender.or_else(|| receiver().map(|at| self.sending.len() + at))
    }
}

proptest! {
    #[test]
    fn a_channel_is_a_queue_and_leaves_nobody_waiting(steps in steps(), capacity in 1_usize..5) {
        let (sender, receiver) = bounded(capacity);
        let mut users = Users {
            sending: Vec::new(),
            receiving: Vec::new(),
            queue: VecDeque::new(),
            capacity,
            is_closed: false,
        };
        for (number, step) in (0_u32..).zip(steps) {
            match step {
                Step::Send => users.send(number, Task::new(sender.send(number))),
                Step::Receive => users.receive(Task::new(receiver.recv())),
                Step::TrySend => {
                    let has_room = !users.is_closed && users.queue.len() < capacity;
                    prop_assert_eq!(sender.try_send(number).is_ok(), has_room);
                    if has_room {
                        users.queue.push_back(number);
                    }
                }
                Step::TryReceive => {
                    prop_assert_eq!(receiver.try_recv().ok(), users.queue.pop_front());
                }
                Step::Poll(which) => users.poll(which),
                Step::Cancel(which) => users.cancel(which),
                Step::Close => users.is_closed |= sender.close(),
            }
            users.check();
            prop_assert_eq!(sender.len(), users.queue.len());
        }
        users.settle();
        // With all woken ones polled, nobody waits for what is there.
        prop_assert!(users.receiving.is_empty() || users.queue.is_empty());
        prop_assert!(users.sending.is_empty() || users.queue.len() == capacity);
    }
}

#[test]
fn those_who_wait_are_served_in_their_order() {
    let (sender, receiver) = bounded(1);
    let mut waiting: Vec<_> = (0..4).map(|_| Task::new(receiver.recv())).collect();
    assert!(waiting.iter_mut().all(|task| task.poll().is_pending()));
    sender.try_send(1).expect("there is room");
    let woken: Vec<_> = waiting.iter().map(Task::is_woken).collect();
    assert_eq!(woken, [true, false, false, false]);
    // The first gives up: the second goes in its place.
    drop(waiting.remove(0));
    assert!(waiting[0].is_woken());
    // Whoever comes between takes the message; the second then waits in front again.
    assert_eq!(receiver.try_recv(), Ok(1));
    assert!(waiting[0].poll().is_pending());
    sender.try_send(2).expect("there is room");
    assert!(waiting[0].is_woken() && !waiting[1].is_woken());
    assert_eq!(waiting[0].poll(), Poll::Ready(Ok(2)));
}

#[test]
fn a_message_that_nobody_will_receive_is_dropped_with_the_last_receiver() {
    let (sender, receiver) = bounded(1);
    let (answer, answered) = bounded::<()>(1);
    sender.try_send(answer).expect("there is room");
    let mut waiting = Task::new(answered.recv());
    assert!(waiting.poll().is_pending());
    drop(receiver);
    assert!(waiting.is_woken());
    assert_eq!(waiting.poll(), Poll::Ready(Err(RecvError)));
}

#[test]
fn a_task_that_waits_in_the_channel_it_holds_can_be_dropped() {
    // Its waker owns both ends: dropping that within the channel's lock would lock it again.
    struct Holder {
        _ends: (super::Sender<u32>, super::Receiver<u32>),
    }
    impl Wake for Holder {
        fn wake(self: Arc<Self>) {}
    }
    let (sender, receiver) = bounded(1);
    let mut waiting = receiver.recv();
    for _ in 0..2 {
        let holder = Arc::new(Holder { _ends: (sender.clone(), receiver.clone()) });
        let waker = Waker::from(holder);
        assert!(Pin::new(&mut waiting).poll(&mut Context::from_waker(&waker)).is_pending());
    }
    drop(waiting);
    assert!(!sender.is_closed());
}
