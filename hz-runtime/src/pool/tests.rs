use super::*;
use bytes::Bytes;
use futures_lite::future::{block_on, poll_once};
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(20);

fn pool(bytes: usize) -> Pool {
    Pool::builder().bytes(bytes).build().expect("a small pool can be had")
}

fn take(pool: &Pool, bytes: usize) -> Buffer {
    pool.try_take(bytes).expect("there is such a class").expect("the pool has room")
}

#[test]
fn a_request_is_read_parsed_and_answered_from_the_same_memory() {
    let pool = pool(2 << 20);
    let ((client, server), mut buffer) = (UnixStream::pair().unwrap(), take(&pool, 4096));
    let start = buffer.as_ptr().addr();
    rustix::io::write(&client, b"GET hello world\nrest").unwrap();

    let count = rustix::io::read(&server, &mut buffer[..]).unwrap();
    let line_end = buffer[..count].iter().position(|byte| *byte == b'\n').unwrap();
    let mut rest = {
        let line = buffer.split_to(line_end + 1).freeze();
        // Another thread answers, while this one may read on into the rest of the buffer.
        let (body, second) = (line.slice(4..9), line.slice(10..15));
        assert_eq!(body.as_ptr().addr(), start + 4, "the body is a copy");
        let answer = thread::spawn(move || {
            assert_eq!(second.as_ptr().addr(), start + 10, "the second word is a copy");
            let written = rustix::io::write(&server, &body).unwrap()
                + rustix::io::write(&server, &second).unwrap();
            (written, server)
        });
        let (written, _server) = answer.join().unwrap();
        assert_eq!(written, 10);
        buffer
    };
    assert_eq!(rest.as_ptr().addr(), start + line_end + 1, "the rest is a copy");
    assert_eq!(&rest.split_to(4)[..], b"rest");

    let mut answer = [0; 32];
    assert_eq!(rustix::io::read(&client, &mut answer).unwrap(), 10);
    assert_eq!(&answer[..10], b"helloworld");
    assert_eq!(pool.stats().taken, 1, "one buffer all the way");
    drop(rest);
    assert_eq!(pool.stats().in_use, 0);
}

#[test]
fn a_buffer_returns_when_its_last_part_is_dropped_on_any_thread() {
    let pool = pool(2 << 20);
    let mut rest = take(&pool, 1000);
    let first = rest.split_to(100);
    let mut bytes = first.freeze();
    let head = bytes.split_to(10);
    drop((rest, bytes));
    assert_eq!(pool.stats().in_use, 1, "{head:?} holds it");
    thread::spawn(move || drop(head)).join().unwrap();
    let stats = pool.stats();
    assert_eq!((stats.in_use, stats.in_use_bytes), (0, 0), "{stats:?}");
}

#[test]
fn a_pool_may_go_before_its_buffers() {
    let pool = pool(2 << 20);
    let mut buffer = take(&pool, 512);
    drop(pool);
    buffer.fill(7);
    let bytes: Bytes = buffer.into();
    assert_eq!(bytes[511], 7);
}

#[test]
fn exhaustion_refuses_or_waits_and_never_aborts() {
    let pool = pool(2 << 20);
    let mut all: Vec<Buffer> = (0..4).map(|_| take(&pool, 512 << 10)).collect();
    assert!(pool.try_take(512).unwrap().is_none());
    let mut waiting = pin!(pool.take(512));
    assert!(block_on(poll_once(&mut waiting)).is_none());
    assert_eq!(pool.stats().waiting, 1);
    all.pop();
    assert_eq!(block_on(waiting).unwrap().len(), 512);
    assert_eq!((pool.stats().waiting, pool.stats().waits), (0, 1));
    assert_eq!(pool.try_take(CHUNK_BYTES + 1).unwrap_err(), TakeError { bytes: CHUNK_BYTES + 1 });
}

#[test]
fn who_waits_is_served_in_order_though_a_small_wish_would_fit_sooner() {
    let pool = pool(2 << 20);
    let (first_half, second_half) = (take(&pool, 1 << 20), take(&pool, 1 << 20));
    let mut large = pin!(pool.take(2 << 20));
    let mut small = pin!(pool.take(512));
    assert!(block_on(poll_once(&mut large)).is_none());
    assert!(block_on(poll_once(&mut small)).is_none());
    drop(first_half);
    assert!(block_on(poll_once(&mut small)).is_none(), "the large one is first");
    assert!(pool.try_take(512).unwrap().is_none(), "others wait already");
    drop(second_half);
    let large = block_on(large).unwrap();
    assert!(block_on(poll_once(&mut small)).is_none());
    drop(large);
    block_on(small).unwrap();
    assert_eq!(pool.stats().in_use, 0);
}

#[test]
fn a_wish_that_is_given_up_lets_the_next_one_pass() {
    let pool = pool(2 << 20);
    let half = take(&pool, 1 << 20);
    let mut large = Box::pin(pool.take(2 << 20));
    let mut small = pin!(pool.take(512));
    assert!(block_on(poll_once(&mut large)).is_none());
    assert!(block_on(poll_once(&mut small)).is_none());
    drop(large);
    let small = block_on(small).unwrap();
    let mut granted = Box::pin(pool.take(2 << 20));
    assert!(block_on(poll_once(&mut granted)).is_none());
    drop((half, small));
    // It has its block already, and never looks at it.
    drop(granted);
    let stats = pool.stats();
    assert_eq!((stats.in_use, stats.waiting), (0, 0), "{stats:?}");
    assert_eq!(take(&pool, 2 << 20).len(), 2 << 20);
}

#[test]
fn memory_of_small_buffers_serves_large_ones_later_also_out_of_caches() {
    let pool = pool(2 << 20);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| drop((0..64).map(|_| take(&pool, 512)).collect::<Vec<_>>()));
        }
    });
    assert!(pool.stats().cached_bytes > 0);
    assert_eq!(take(&pool, 2 << 20).len(), 2 << 20);
    assert_eq!(pool.stats().cached_bytes, 0);
}

#[test]
fn nothing_leaks_or_is_shared_when_many_threads_take_wait_and_return() {
    let pool = pool(4 << 20);
    let (sender, receiver) = mpsc::channel::<Bytes>();
    thread::scope(|scope| {
        let returner = scope.spawn(move || {
            for bytes in receiver {
                let mut some = bytes.iter().step_by(509);
                assert!(some.all(|byte| *byte == bytes[0]), "somebody else wrote here");
            }
        });
        for thread in 0..4_usize {
            let (pool, sender) = (&pool, sender.clone());
            scope.spawn(move || {
                for round in 0..2_000_usize {
                    let bytes = 1 << ((round * 7 + thread * 3) % 21);
                    let mut buffer = block_on(pool.take(bytes)).unwrap();
                    buffer.fill((round * 4 + thread) as u8);
                    if round % 3 == 0 {
                        drop(buffer);
                    } else {
                        sender.send(buffer.freeze()).unwrap();
                    }
                }
            });
        }
        drop(sender);
        returner.join().unwrap();
    });
    let stats = pool.stats();
    assert_eq!((stats.in_use, stats.waiting, stats.taken), (0, 0, 8_000), "{stats:?}");
    assert_eq!(stats.chunks, 2, "{stats:?}");
    drop((take(&pool, 2 << 20), take(&pool, 2 << 20)));
}

#[test]
fn memory_comes_on_demand_and_says_what_it_is() {
    let pool = Pool::builder().bytes(8 << 20).pages(Backing::Small).build().unwrap();
    assert_eq!((pool.stats().chunks, pool.stats().chunks_max), (1, 4));
    let all: Vec<Buffer> = (0..3).map(|_| take(&pool, CHUNK_BYTES)).collect();
    let stats = pool.stats();
    assert_eq!((stats.chunks, stats.chunks_small), (3, 3), "{stats:?}");
    assert_eq!(pool.backing(), Backing::Small);
    assert!(all.iter().all(|buffer| buffer.as_ptr().addr() % CHUNK_BYTES == 0));
    assert!(all[2].iter().all(|byte| *byte == 0));
}

#[test]
fn transparent_huge_pages_are_had_where_the_machine_gives_them() {
    let pool = Pool::builder().bytes(4 << 20).pages(Backing::Transparent).build().unwrap();
    let mut buffer = take(&pool, CHUNK_BYTES);
    buffer.fill(1);
    let stats = pool.stats();
    let setting = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    if setting.is_ok_and(|setting| !setting.contains("[never]")) {
        assert_eq!(pool.backing(), Backing::Transparent);
        // Up to the kernel, which may have no huge page free.
        assert!(stats.huge_bytes.is_some_and(|bytes| bytes <= 2 << 20), "{stats:?}");
    } else {
        assert_eq!(pool.backing(), Backing::Small);
    }
}

#[test]
fn the_largest_pages_are_asked_for_first_and_smaller_ones_taken_if_there_are_none() {
    let pool = pool(4 << 20);
    let mut all: Vec<Buffer> = (0..2).map(|_| take(&pool, CHUNK_BYTES)).collect();
    all.iter_mut().for_each(|buffer| buffer.fill(1));
    let stats = pool.stats();
    let sum = stats.chunks_hugetlb + stats.chunks_transparent + stats.chunks_small;
    assert_eq!((stats.chunks, sum), (2, 2), "{stats:?}");
    let certain = (stats.chunks_hugetlb as u64) << 21;
    assert!(stats.huge_bytes.is_some_and(|bytes| bytes >= certain), "{stats:?}");
}

#[test]
fn a_waker_may_return_buffers_itself() {
    let pool = pool(2 << 20);
    let all = take(&pool, 2 << 20);
    let (sender, receiver) = mpsc::channel();
    let waiter = thread::spawn({
        let pool = pool.clone();
        move || {
            let buffer = block_on(pool.take(100)).unwrap();
            sender.send(buffer.len()).unwrap();
        }
    });
    let end = Instant::now() + DEADLINE;
    while pool.stats().waiting == 0 {
        assert!(Instant::now() < end, "nobody waits");
        thread::yield_now();
    }
    drop(all);
    assert_eq!(receiver.recv_timeout(DEADLINE).unwrap(), 100);
    waiter.join().unwrap();
}
