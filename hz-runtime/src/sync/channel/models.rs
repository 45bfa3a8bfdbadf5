//! Every order of a channel's operations on two threads, by loom:
//! `RUSTFLAGS="--cfg hz_loom" cargo test -p hz-runtime --release --lib sync::channel::models`.

use super::{RecvError, bounded};
use loom::sync::{Condvar, Mutex};
use loom::thread;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

/// Wakes a thread. One that nobody wakes is a deadlock, which loom finds.
#[derive(Debug)]
struct Bell {
    rang: Mutex<bool>,
    ringing: Condvar,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        *self.rang.lock().expect("no panic") = true;
        self.ringing.notify_one();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let bell = Arc::new(Bell { rang: Mutex::new(false), ringing: Condvar::new() });
    let waker = Waker::from(Arc::clone(&bell));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        let mut rang = bell.rang.lock().expect("no panic");
        while !*rang {
            rang = bell.ringing.wait(rang).expect("no panic");
        }
        *rang = false;
    }
}

/// Polls once and gives up.
fn try_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// With room for one message, each side waits for the other.
#[test]
fn every_message_arrives_and_then_the_end() {
    loom::model(|| {
        let (sender, receiver) = bounded(1);
        let other = thread::spawn(move || {
            for n in 0..2 {
                block_on(sender.send(n)).expect("somebody receives");
            }
        });
        assert_eq!(block_on(receiver.recv()), Ok(0));
        assert_eq!(block_on(receiver.recv()), Ok(1));
        assert_eq!(block_on(receiver.recv()), Err(RecvError));
        other.join().expect("no panic");
    });
}

/// One of two receivers gives up whenever it likes: what it was told reaches the other.
#[test]
fn a_receiver_that_gives_up_takes_no_message_with_it() {
    loom::model(|| {
        let (sender, receiver) = bounded(1);
        let impatient = receiver.clone();
        let other = thread::spawn(move || try_once(impatient.recv()));
        let waiting = thread::spawn(move || block_on(receiver.recv()));
        block_on(sender.send(1)).expect("somebody receives");
        let got = other.join().expect("no panic");
        // If that one has it, there is none for the other until the channel closes.
        drop(sender);
        let rest = waiting.join().expect("no panic");
        assert_ne!(got == Some(Ok(1)), rest == Ok(1), "{got:?}, {rest:?}");
    });
}

/// The same at the other end.
#[test]
fn a_sender_that_gives_up_leaves_its_room_to_others() {
    // Three threads that lock some ten times each: with all their orders it takes hours.
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let (sender, receiver) = bounded(1);
        sender.try_send(0).expect("there is room");
        let impatient = sender.clone();
        let other = thread::spawn(move || try_once(impatient.send(1)).is_some());
        let waiting = thread::spawn(move || block_on(sender.send(2)));
        let mut got = [block_on(receiver.recv()), block_on(receiver.recv()), Err(RecvError)];
        let was_sent = other.join().expect("no panic");
        if was_sent {
            got[2] = block_on(receiver.recv());
        }
        waiting.join().expect("no panic").expect("somebody receives");
        got[1..].sort_by_key(|got| got.unwrap_or(9));
        let rest = if was_sent { [Ok(1), Ok(2)] } else { [Ok(2), Err(RecvError)] };
        assert_eq!((got[0], &got[1..]), (Ok(0), &rest[..]));
    });
}

/// The last receiver goes while a sender waits.
#[test]
fn whoever_waits_hears_of_the_end() {
    loom::model(|| {
        let (sender, receiver) = bounded(1);
        sender.try_send(0).expect("there is room");
        let other = thread::spawn(move || block_on(sender.send(1)));
        drop(receiver);
        assert!(other.join().expect("no panic").is_err());
    });
}
