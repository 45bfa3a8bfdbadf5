//! Nothing leaks: what a process holds before and after many runtimes have come and gone. Alone in
//! its process, since it counts what the whole process has.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]
#![expect(clippy::panic, reason = "tasks of the test panic as asked")]

#[expect(dead_code, reason = "each test needs a part of it")]
mod support;

use hz_runtime::net::{TcpListener, TcpStream, UdpSocket, UnixStream};
use hz_runtime::pool::Pool;
use hz_runtime::time::{interval, sleep, timeout};
use hz_runtime::{Runtime, Scope, TaskMeta, spawn, spawn_blocking, sync, yield_now};
use std::alloc::{GlobalAlloc, Layout, System};
use std::future::pending;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;
use support::{Reader, wait_until};

/// Counts what is allocated.
struct Counting;

static ALLOCATIONS: AtomicI64 = AtomicI64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: the system's allocator, unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        ALLOCATIONS.fetch_sub(1, Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.dealloc(block, layout) }
    }
}

/// What a process holds.
#[derive(Debug, PartialEq, Eq, PartialOrd)]
struct Held {
    threads: usize,
    fds: usize,
    tasks: usize,
    buffers: u64,
    waiting: usize,
}

fn entries(directory: &str) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

fn held(reader: &Reader, pool: &Pool) -> Held {
    let stats = pool.stats();
    Held {
        threads: entries("/proc/self/task"),
        fds: entries("/proc/self/fd"),
        tasks: reader.tasks().len(),
        buffers: stats.in_use,
        waiting: stats.waiting,
    }
}

/// Every way in which a task, a socket, a timer or a buffer can be left.
async fn work(pool: Pool) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = spawn(async move {
        // Both ends are dropped in the middle of a conversation.
        while let Ok((stream, _)) = listener.accept().await {
            drop(spawn(async move { stream.read(&mut [0; 64]).await }));
        }
    });
    let mut streams = Vec::new();
    for _ in 0..4 {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        streams.push(stream.into_split());
    }
    let (reader, writer) = streams.pop().unwrap();
    drop(reader);
    drop(writer);
    let (left, right) = UnixStream::pair().unwrap();
    let reading = spawn(async move { left.read(&mut [0; 8]).await });
    let datagrams = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let receiving = spawn(async move { datagrams.receive(&mut [0; 8]).await });
    yield_now().await;
    reading.abort();
    receiving.abort();
    drop(right);
    assert!(timeout(Duration::from_millis(1), sleep(Duration::from_secs(60))).await.is_err());
    let mut ticks = interval(Duration::from_millis(1));
    ticks.tick().await;
    drop(spawn(async move { timeout(Duration::from_secs(60), ticks.tick()).await }));
    spawn(async { panic!("as asked") }).await.unwrap_err();
    spawn_blocking(|| std::thread::sleep(Duration::from_millis(1))).await.unwrap();
    spawn_blocking(|| panic!("as asked")).await.unwrap_err();
    let (sender, receiver) = sync::bounded::<Vec<u8>>(1);
    sender.send(vec![1; 100]).await.unwrap();
    drop(spawn(async move { sender.send(vec![2; 100]).await }));
    let keeps = receiver.clone();
    drop(spawn(async move {
        pending::<()>().await;
        drop(keeps);
    }));
    buffers(&pool).await;
    scopes().await;
    accepting.abort();
    // The end of the runtime takes what is left, the task that is polled meanwhile as well.
    drop(spawn(async {
        let _kept = vec![0; 1 << 16];
        loop {
            yield_now().await;
        }
    }));
}

/// Buffers that are dropped, frozen, split, held by a task that is cancelled, and waited for.
async fn buffers(pool: &Pool) {
    let mut first = pool.take(4096).await.unwrap();
    let second = first.split_to(100).freeze();
    drop((first, second));
    let all: Vec<_> = std::iter::from_fn(|| pool.try_take(1 << 20).unwrap()).collect();
    let waits = pool.clone();
    let waiter = spawn(async move { waits.take(1 << 20).await });
    let holds = pool.clone();
    yield_now().await;
    waiter.abort();
    drop(all);
    drop(spawn(async move {
        let buffer = holds.take(8192).await;
        pending::<()>().await;
        drop(buffer);
    }));
    yield_now().await;
}

async fn scopes() {
    let scope = Scope::new("kept");
    let child = scope.child("child");
    drop(child.spawn(pending::<()>()));
    drop(scope.spawn_graceful(TaskMeta::named("ends"), |cancelled| cancelled));
    drop(child.spawn(async { panic!("as asked") }));
    let outlives = child.cancelled();
    scope.shutdown(Duration::from_secs(20)).await.unwrap();
    outlives.await;
    let dropped = Scope::new("dropped");
    drop(dropped.child("child").spawn(pending::<()>()));
    drop(dropped.spawn(pending::<()>()));
    let late = Scope::new("late");
    drop(late.spawn_graceful(TaskMeta::default(), |_| pending::<()>()));
    late.shutdown(Duration::ZERO).await.unwrap_err();
}

fn cycle(pool: &Pool) {
    let runtime = Runtime::builder().worker_threads(3).build().unwrap();
    runtime.block_on(work(pool.clone()));
    let task = runtime.spawn(pending::<()>());
    drop(runtime);
    assert!(task.is_finished());
    let deterministic = Runtime::builder().deterministic(7).build().unwrap();
    deterministic.block_on(scopes());
    drop(deterministic.spawn(pending::<()>()));
}

#[test]
fn nothing_is_left_of_runtimes_that_are_over() {
    const CYCLES: i64 = 20;
    // Panics as asked would fill the log.
    std::panic::set_hook(Box::new(|panic| {
        let asked = panic.payload().downcast_ref::<&str>() == Some(&"as asked");
        assert!(asked, "{panic}");
    }));
    hz_runtime::probe::start(3).unwrap();
    let reader = Reader::of(std::process::id()).unwrap();
    let pool = Pool::builder().bytes(8 << 20).build().unwrap();
    // What is made once: interned names, caches of this thread and of the pool.
    (0..3).for_each(|_| cycle(&pool));
    let quiet = |what: &Held| what.tasks == 0 && what.buffers == 0;
    wait_until("the first ones are over", || quiet(&held(&reader, &pool)));
    let before = held(&reader, &pool);
    let allocated = ALLOCATIONS.load(Relaxed);
    (0..CYCLES).for_each(|_| cycle(&pool));
    wait_until(&format!("as before: {before:?}"), || held(&reader, &pool) == before);
    let more = ALLOCATIONS.load(Relaxed) - allocated;
    assert!(more < CYCLES, "{more} allocations more after {CYCLES} cycles");
}
