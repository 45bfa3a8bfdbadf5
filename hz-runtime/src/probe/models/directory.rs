//! A line of the task directory: the task's poller, its wakers, readers, and the next task in its place.

use super::{half, model, word};
use crate::probe::directory::Identity;
use crate::probe::words::TaskWords;
use hz_probes_ebpf::runtime::{TASK_IDLE, TASK_POLLING, TASK_READY, WAIT_TIMER};
use loom::sync::Arc;
use loom::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use loom::sync::atomic::{AtomicU32, fence};
use loom::thread;

fn task_words() -> TaskWords {
    TaskWords {
        seq: half(),
        site: half(),
        task: word(),
        parent: word(),
        spawned: word(),
        future: word(),
        priority: half(),
        name: half(),
        unused: std::array::from_fn(|_| word()),
        state: word(),
        polls: word(),
        last_poll: word(),
        wait: word(),
        wait_value: word(),
        woken: word(),
        idle: std::array::from_fn(|_| word()),
    }
}

fn enter(words: &TaskWords, task: u32) {
    let (wide, half) = (u64::from(task), task);
    let identity = Identity {
        task: wide,
        site: half,
        name: half,
        parent: wide,
        spawned: wide,
        priority: half,
    };
    words.enter(&identity);
}

/// A slot with task 1 in it, which `act` does something with; meanwhile it ends and task 2 has its slot.
fn beside_the_next_task(act: impl Fn(&TaskWords) + Sync + Send + Copy + 'static) {
    model(3, move || {
        let words = Arc::new(task_words());
        enter(&words, 1);
        let other = thread::spawn({
            let words = Arc::clone(&words);
            move || act(&words)
        });
        words.waits(WAIT_TIMER, 1, 1);
        words.leave();
        enter(&words, 2);
        other.join().unwrap();
        // Loom may order an exchange of task 1's state behind the store of task 2's, which cannot be:
        // what counts is that no state of task 2 was made.
        let state = words.state.load(Relaxed);
        let is_second = state >> 8 & 0xff == 2;
        let Some((state, ..)) = words.look(2) else { unreachable!("task 2 is there") };
        assert!(!is_second || state == TASK_IDLE, "nobody woke task 2: {state}");
    });
}

#[test]
fn what_is_read_under_one_sequence_is_of_one_task() {
    beside_the_next_task(|words| {
        let before = words.seq.load(Acquire);
        let task = words.task.load(Relaxed);
        let wide = [&words.parent, &words.spawned].map(|word| word.load(Relaxed));
        let half = [&words.site, &words.name, &words.priority].map(|half| half.load(Relaxed));
        fence(Acquire);
        let is_sound = before.is_multiple_of(2) && words.seq.load(Relaxed) == before;
        if is_sound && task != 0 {
            assert_eq!((wide, half), ([task; 2], [task as u32; 3]));
        }
    });
}

#[test]
fn a_wake_up_that_comes_late_does_not_touch_the_next_task() {
    beside_the_next_task(|words| words.woken(1));
}

#[test]
fn what_a_task_waits_for_is_not_what_the_next_one_does() {
    beside_the_next_task(|words| {
        if let Some((_, _, (what, _, value))) = words.look(1) {
            let is_its = what != WAIT_TIMER || value <= 1;
            assert!(is_its, "{what} {value}");
        }
    });
}

/// Task 1 after its first poll, in which or after which it was woken.
fn polled_while_woken() -> Arc<TaskWords> {
    let words = Arc::new(task_words());
    enter(&words, 1);
    words.poll_begins(0, 1, 1);
    let waker = thread::spawn({
        let words = Arc::clone(&words);
        move || words.woken(1)
    });
    words.poll_pends(0, false);
    waker.join().unwrap();
    words
}

#[test]
fn a_task_that_is_woken_in_its_poll_or_after_it_is_ready() {
    model(3, || {
        let words = polled_while_woken();
        let state = words.look(1).map(|(state, ..)| state);
        assert_eq!(state, Some(TASK_READY), "the directory says that it waits");
    });
}

/// What woke it in one poll says nothing of the next.
#[test]
fn a_task_that_waits_after_its_next_poll_waits() {
    model(3, || {
        let words = polled_while_woken();
        words.poll_begins(0, 2, 2);
        words.poll_pends(0, false);
        let state = words.look(1).map(|(state, ..)| state);
        assert_eq!(state, Some(TASK_IDLE), "nobody has woken it since");
    });
}

/// What of a task's cell decides on who may have it polled, as async-task keeps it.
struct Cell {
    words: TaskWords,
    /// [`SCHEDULED`] and [`RUNNING`].
    state: AtomicU32,
}

const SCHEDULED: u32 = 1;
const RUNNING: u32 = 2;

impl Cell {
    /// Task 1, which was polled and waits.
    fn new() -> Arc<Self> {
        let words = task_words();
        enter(&words, 1);
        words.poll_begins(0, 1, 1);
        words.poll_pends(0, false);
        Arc::new(Self { words, state: half() })
    }

    /// Wakes the task; true: this thread puts it into a queue, and has its turn.
    fn wake(&self) -> bool {
        let has_turn = self.state.fetch_or(SCHEDULED, AcqRel) == 0;
        if has_turn {
            self.words.scheduled();
        }
        has_turn
    }

    /// Polls it, whose turn this is; true: it was woken in that, and goes into a queue again.
    fn run(&self, polls: u64) -> bool {
        self.state.fetch_xor(SCHEDULED | RUNNING, AcqRel);
        self.words.poll_begins(0, polls, polls);
        assert_eq!(
            self.look(),
            TASK_POLLING,
            "somebody else changes the state of a task in its poll"
        );
        self.words.poll_pends(0, false);
        let is_woken = self.state.fetch_and(!RUNNING, AcqRel) & SCHEDULED != 0;
        if is_woken {
            self.words.scheduled();
        }
        is_woken
    }

    fn look(&self) -> u32 {
        self.words.look(1).expect("task 1 is there").0
    }
}

/// Two wake it, whoever is first polls it; what the directory says in the end is what it does.
#[test]
fn a_task_that_is_scheduled_is_ready_until_it_is_polled_and_no_longer() {
    model(3, || {
        let cell = Cell::new();
        let wake_and_run = |cell: &Cell| cell.wake().then(|| cell.run(2));
        let other = thread::spawn({
            let cell = Arc::clone(&cell);
            move || wake_and_run(&cell)
        });
        let polls = [wake_and_run(&cell), other.join().unwrap()];
        let is_queued = polls.contains(&Some(true));
        assert!(polls.iter().any(Option::is_some), "nobody polls a task that was woken");
        let expected = if is_queued { TASK_READY } else { TASK_IDLE };
        assert_eq!(cell.look(), expected, "in a queue: {is_queued}");
    });
}

/// The queue hands it to a thread that has not woken it.
#[test]
fn a_task_goes_through_its_states_in_order_for_whoever_looks() {
    model(3, || {
        let cell = Cell::new();
        let queue = Arc::new(half());
        let waker = thread::spawn({
            let (cell, queue) = (Arc::clone(&cell), Arc::clone(&queue));
            move || {
                assert!(cell.wake(), "it waited");
                queue.store(1, loom::sync::atomic::Ordering::Release);
            }
        });
        let worker = thread::spawn({
            let (cell, queue) = (Arc::clone(&cell), Arc::clone(&queue));
            move || queue.load(Acquire) == 1 && !cell.run(2)
        });
        let (before, after) = (cell.look(), cell.look());
        if before != TASK_IDLE {
            let is_in_order = after == before || before == TASK_READY || after == TASK_IDLE;
            assert!(is_in_order, "{after} after {before}");
        }
        waker.join().unwrap();
        let expected = if worker.join().unwrap() { TASK_IDLE } else { TASK_READY };
        assert_eq!(cell.look(), expected);
    });
}

/// `beside_the_next_task`, and the next one is scheduled.
fn beside_the_next_one_that_is_scheduled(act: impl Fn(&TaskWords) + Sync + Send + Copy + 'static) {
    model(3, move || {
        let words = Arc::new(task_words());
        enter(&words, 1);
        let other = thread::spawn({
            let words = Arc::clone(&words);
            move || act(&words)
        });
        words.leave();
        enter(&words, 2);
        words.scheduled();
        other.join().unwrap();
    });
}

#[test]
fn that_a_task_is_ready_is_not_said_of_the_one_before_in_its_place() {
    beside_the_next_one_that_is_scheduled(|words| {
        if let Some((state, ..)) = words.look(1) {
            assert_eq!(state, TASK_IDLE, "nobody woke task 1");
        }
    });
}
