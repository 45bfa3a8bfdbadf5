use super::*;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll, Wake};
use std::thread;
use std::time::Instant;

const LONG: Duration = Duration::from_secs(20);

#[derive(Debug, Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Count {
    fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn counter() -> (Arc<Count>, Waker) {
    let count = Arc::new(Count::default());
    (Arc::clone(&count), Waker::from(count))
}

fn registered(reactor: &Arc<Reactor>) -> (Registration<UnixStream>, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (Registration::with(Arc::clone(reactor), ours).unwrap(), theirs)
}

fn read(file: &Registration<UnixStream>, waker: &Waker) -> Poll<io::Result<usize>> {
    let mut context = Context::from_waker(waker);
    let mut bytes = [0; 16];
    file.poll_stream(&mut context, crate::probe::Operation::Read, 16, |mut file| {
        file.read(&mut bytes)
    })
}

fn turn_until(reactor: &Reactor, worker: usize, count: &Count, least: usize) {
    let start = Instant::now();
    while count.get() < least {
        assert!(start.elapsed() < LONG, "woken {} times", count.get());
        reactor.turn(worker, Some(Duration::from_millis(50))).unwrap();
    }
}

fn until(is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LONG, "it does not come about");
        thread::yield_now();
    }
}

#[test]
fn a_notification_before_the_turn_ends_it() {
    let reactor = Reactor::new(1).unwrap();
    reactor.notify(0);
    assert_eq!(reactor.turn(0, None).unwrap(), 0);
}

#[test]
fn who_turns_for_a_sibling_leaves_it_its_notification() {
    let reactor = Arc::new(Reactor::new(1).unwrap());
    let (_file, _theirs) = registered(&reactor);
    let worker = &reactor.workers[0];
    worker.turn_for(Some(0)).unwrap();
    assert!(worker.begin_turn());
    worker.notify();
    worker.turn_for_sibling().unwrap();
    let begin = Instant::now();
    worker.turn_for(Some(10_000_000_000)).unwrap();
    assert!(begin.elapsed() < Duration::from_secs(5), "it slept through its notification");
    assert!(worker.end_turn());
}

#[test]
fn a_notification_during_the_turn_ends_it() {
    let reactor = Reactor::new(2).unwrap();
    thread::scope(|scope| {
        let turn = scope.spawn(|| reactor.turn(1, None));
        until(|| reactor.workers[1].is_in_turn());
        reactor.notify(1);
        assert_eq!(turn.join().unwrap().unwrap(), 0);
    });
}

#[test]
fn a_turn_ends_at_its_timeout_and_not_before() {
    let reactor = Reactor::new(1).unwrap();
    let start = Instant::now();
    reactor.turn(0, Some(Duration::from_millis(3))).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(3));
}

#[test]
fn bytes_wake_the_reader_once_per_arrival() {
    let reactor = Arc::new(Reactor::new(1).unwrap());
    let (file, mut peer) = registered(&reactor);
    let (count, waker) = counter();
    for round in 1..=3 {
        assert!(read(&file, &waker).is_pending());
        peer.write_all(b"hello").unwrap();
        turn_until(&reactor, 0, &count, round);
        assert!(matches!(read(&file, &waker), Poll::Ready(Ok(5))));
    }
    assert_eq!(count.get(), 3);
}

#[test]
fn the_end_of_a_stream_is_seen_after_a_short_read() {
    let reactor = Arc::new(Reactor::new(1).unwrap());
    let (file, mut peer) = registered(&reactor);
    let (count, waker) = counter();
    assert!(read(&file, &waker).is_pending());
    peer.write_all(b"bye").unwrap();
    drop(peer);
    turn_until(&reactor, 0, &count, 1);
    assert!(matches!(read(&file, &waker), Poll::Ready(Ok(3))));
    assert!(matches!(read(&file, &waker), Poll::Ready(Ok(0))));
}

#[test]
fn a_slot_that_is_used_again_does_not_hear_of_the_file_before() {
    let reactor = Arc::new(Reactor::new(1).unwrap());
    let (first, _peer) = registered(&reactor);
    let name = first.name;
    drop(first);
    let (second, _peer) = registered(&reactor);
    assert_eq!(name as u32, second.name as u32, "the slot is used again");
    assert_ne!(name, second.name);
    let (count, waker) = counter();
    assert!(read(&second, &waker).is_pending());
    let stale = rustix::event::epoll::Event {
        data: rustix::event::epoll::EventData::new_u64(name),
        flags: rustix::event::epoll::EventFlags::IN,
    };
    reactor.workers[0].sources.dispatch([stale].iter());
    assert_eq!(count.get(), 0);
}

#[test]
fn an_idle_worker_turns_for_a_sibling_that_does_not() {
    let reactor = Arc::new(Reactor::new(2).unwrap());
    let (file, mut peer) = registered(&reactor);
    let (count, waker) = counter();
    assert!(read(&file, &waker).is_pending());
    peer.write_all(b"hello").unwrap();
    let idle = 1 - file.home;
    turn_until(&reactor, idle, &count, 1);
    assert!(matches!(read(&file, &waker), Poll::Ready(Ok(5))));
}

#[test]
fn a_worker_that_sleeps_deeply_watches_again_when_another_becomes_active() {
    let reactor = Arc::new(Reactor::new(2).unwrap());
    let (file, mut peer) = registered(&reactor);
    let (count, waker) = counter();
    assert!(read(&file, &waker).is_pending());
    let idle = 1 - file.home;
    thread::scope(|scope| {
        let sleeper = scope.spawn(|| reactor.turn(idle, Some(LONG)));
        let active = scope.spawn(|| reactor.turn(file.home, Some(LONG)));
        let both = || reactor.workers.iter().all(|worker| worker.is_in_turn());
        until(|| both() && reactor.watching.load(Ordering::SeqCst) == 0);
        reactor.notify(file.home);
        active.join().unwrap().unwrap();
        peer.write_all(b"hello").unwrap();
        assert_eq!(sleeper.join().unwrap().unwrap(), 1);
    });
    assert_eq!(count.get(), 1);
}

#[test]
fn a_timer_that_a_foreign_thread_adds_ends_the_wait() {
    let reactor = Arc::new(Reactor::new(1).unwrap());
    let (count, waker) = counter();
    thread::scope(|scope| {
        let turn = scope.spawn(|| reactor.turn(0, Some(LONG)));
        until(|| reactor.workers[0].is_in_turn());
        let _timer = reactor.add_timer(None, now_ns() + 1_000_000, 0, waker);
        assert_eq!(turn.join().unwrap().unwrap(), 1);
    });
    assert_eq!(count.get(), 1);
}

#[test]
fn more_waiters_than_fit_are_woken_to_ask_again() {
    let reactor = Arc::new(Reactor::new(1).unwrap());
    let (file, _peer) = registered(&reactor);
    let crowd: Vec<_> = (0..65).map(|_| counter()).collect();
    for (_, waker) in &crowd {
        assert!(read(&file, waker).is_pending());
    }
    let woken: Vec<usize> = crowd.iter().map(|(count, _)| count.get()).collect();
    assert_eq!(woken.iter().sum::<usize>(), 64, "{woken:?}");
}

/// Three workers asleep without a limit; one wakes and gets stuck, the one that helps it as well.
#[test]
fn the_last_of_three_helps_two_that_are_stuck() {
    let reactor = Arc::new(Reactor::new(3).unwrap());
    let files: Vec<_> = (0..6).map(|_| registered(&reactor)).collect();
    let mut files: Vec<_> = files.into_iter().filter(|(file, _)| file.home == 0).collect();
    let (count, waker) = counter();
    assert!(files.iter().all(|(file, _)| read(file, &waker).is_pending()));
    thread::scope(|scope| {
        let turn = |worker| {
            let reactor = &reactor;
            scope.spawn(move || reactor.turn(worker, Some(LONG)).unwrap())
        };
        let turns = [turn(0), turn(1), turn(2)];
        let all = || reactor.workers.iter().all(|worker| worker.is_in_turn());
        until(|| all() && reactor.watching.load(Ordering::SeqCst) == 0);
        let [first, second, third] = turns;
        reactor.notify(0);
        assert_eq!(first.join().unwrap(), 0);
        files[0].1.write_all(b"hello").unwrap();
        until(|| second.is_finished() || third.is_finished());
        files[1].1.write_all(b"hello").unwrap();
        assert_eq!([second, third].map(|turn| turn.join().unwrap()), [1, 1]);
    });
    assert_eq!(count.get(), 2);
}
