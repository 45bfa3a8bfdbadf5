//! Every order of a scope's operations on two threads, by loom:
//! `RUSTFLAGS="--cfg hz_loom" cargo test -p hz-runtime --release --lib scope::models`.

use super::node::{Event, Member, Node, Stage};
use crate::probe::TaskRef;
use loom::sync::atomic::{AtomicBool, Ordering::SeqCst};
use loom::thread;
use std::panic::Location;
use std::sync::Arc;
use std::task::{Wake, Waker};

/// Whether somebody was woken.
struct Bell(AtomicBool);

impl Bell {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(false)))
    }

    fn rang(&self) -> bool {
        self.0.load(SeqCst)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

fn member(task: u64, bell: &Arc<Bell>) -> Member {
    Member {
        task: TaskRef::of_model(task),
        waker: Waker::from(Arc::clone(bell)),
        is_graceful: false,
        name: None,
        location: Location::caller(),
    }
}

/// Runs `act` on a thread of its own.
fn beside<R: 'static>(
    node: &Arc<Node>,
    act: impl FnOnce(&Arc<Node>) -> R + 'static,
) -> thread::JoinHandle<R> {
    let node = Arc::clone(node);
    thread::spawn(move || act(&node))
}

#[test]
fn a_task_is_refused_by_a_cancelled_scope_or_woken_to_end() {
    loom::model(|| {
        let node = Node::root("scope".into());
        let canceller = beside(&node, |node| node.end(Stage::Cancelled));
        let bell = Bell::new();
        let is_in = node.enter(member(1, &bell)).is_ok();
        canceller.join().unwrap();
        assert_eq!(node.stage(), Stage::Cancelled);
        assert!(!is_in || bell.rang(), "it waits in a cancelled scope");
    });
}

#[test]
fn a_task_of_a_new_child_is_refused_or_woken_when_the_parent_is_cancelled() {
    loom::model(|| {
        let root = Node::root("root".into());
        let canceller = beside(&root, |root| root.end(Stage::Cancelled));
        let bell = Bell::new();
        let child = root.child("child".into());
        let is_in = child.enter(member(1, &bell)).is_ok();
        canceller.join().unwrap();
        assert_eq!(child.stage(), Stage::Cancelled);
        assert!(!is_in || bell.rang(), "it waits in a cancelled scope");
    });
}

#[test]
fn who_waits_for_a_cancellation_has_it_or_is_woken() {
    loom::model(|| {
        let node = Node::root("scope".into());
        let canceller = beside(&node, |node| node.end(Stage::Cancelled));
        let bell = Bell::new();
        let is_cancelled = node.poll(Event::Cancelled, &mut None, &Waker::from(Arc::clone(&bell)));
        canceller.join().unwrap();
        assert!(is_cancelled || bell.rang(), "it waits for what has been");
    });
}

#[test]
fn who_waits_for_the_end_is_woken_by_the_last_task_below() {
    loom::model(|| {
        let root = Node::root("root".into());
        let child = root.child("child".into());
        let task = Bell::new();
        root.enter(member(1, &task)).expect("it is open");
        child.enter(member(2, &task)).expect("it is open");
        let other = beside(&child, |child| child.leave(2));
        let last = beside(&root, |root| root.leave(1));
        let bell = Bell::new();
        let is_empty = root.poll(Event::Empty, &mut None, &Waker::from(Arc::clone(&bell)));
        other.join().unwrap();
        last.join().unwrap();
        assert!(root.is_empty());
        assert!(is_empty || bell.rang(), "it waits for what has been");
    });
}
