//! A program with async tasks whose number and polls are known: it does what it is told on standard
//! input, a command a line, and answers each with a line.
//!
//! | command | what it does | answer |
//! |---|---|---|
//! | `spawn N` | N tasks `reader` that wait for file 7, and as many `timer` that wait for a minute | `ok` |
//! | `wait on`, `wait off` | waits until polls are recorded, or no longer | `ok` |
//! | `poll N` | two workers poll a task N times each, as fast as they can | `ok` |
//! | `rate N SECONDS` | two workers record N events a second together | how many |
//! | `burn MS` | two workers run a task `busy`, a millisecond a poll | `ok` |
//! | `rest MS` | two workers sleep in a task `sleepy`, 5 ms a poll | `ok` |
//! | `leak N BYTES` | a task `hoarder` keeps N allocations of so many bytes, and frees as many | `ok` |
//! | `fork` | a child that has inherited the same memory, and ends with its parent | its process id |
//! | `exec` | becomes the same program again | |

use hz_runtime::alloc::{MEAN_VARIABLE, SampledAllocator, prepare};
use hz_runtime::probe::{
    Kind, Operation, Spawn, TaskProbe, Wait, is_on, start, waiting, worker_started, worker_tick,
};
use std::{
    io::{self, BufRead as _, Write as _},
    os::unix::process::CommandExt as _,
    panic::Location,
    process::Command,
    task::Poll,
    time::{Duration, Instant},
};

/// Threads that poll.
const WORKERS: u32 = 2;

/// Events that are written between two looks at the clock.
const BURST: u64 = 100;

#[global_allocator]
static ALLOCATOR: SampledAllocator = SampledAllocator::system();

fn main() -> io::Result<()> {
    start(2).map_err(io::Error::other)?;
    // Only when a test wants samples.
    if std::env::var_os(MEAN_VARIABLE).is_some() {
        prepare().map_err(io::Error::other)?;
    }
    worker_started(0);
    say(std::process::id())?;
    let (mut tasks, mut kept) = (Vec::new(), Vec::new());
    for line in io::stdin().lock().lines() {
        let line = line?;
        let mut words = line.split_whitespace();
        let command = words.next().unwrap_or_default();
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(1);
        match command {
            "spawn" => spawn(&mut tasks, number()),
            "wait" => wait(line.ends_with("on")),
            "poll" => _ = on_workers("busy", |task| poll_often(task, number_of(&line, 1))),
            "rate" => {
                let (per_second, seconds) = (number(), number());
                let each = per_second / u64::from(WORKERS);
                say(on_workers("busy", |task| poll_at(task, each, Duration::from_secs(seconds))))?;
                continue;
            }
            "burn" => _ = on_workers("busy", |task| poll_for(task, number_of(&line, 1), churn)),
            "rest" => _ = on_workers("sleepy", |task| poll_for(task, number_of(&line, 1), doze)),
            "leak" => leak(&mut kept, (number(), number())),
            "fork" => {
                say(fork())?;
                continue;
            }
            "exec" => return Err(Command::new(std::env::current_exe()?).exec()),
            _ => return Err(io::Error::other(format!("no command: {line}"))),
        }
        say("ok")?;
    }
    drop(tasks);
    Ok(())
}

fn say(answer: impl std::fmt::Display) -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{answer}")?;
    out.flush()
}

fn number_of(line: &str, place: usize) -> u64 {
    line.split_whitespace().nth(place).and_then(|word| word.parse().ok()).unwrap_or(1)
}

#[track_caller]
fn task(name: &str) -> TaskProbe {
    TaskProbe::spawned(&Spawn {
        name: Some(name),
        location: Location::caller(),
        future: "workload",
        future_bytes: 64,
        priority: 2,
    })
}

fn spawn(tasks: &mut Vec<TaskProbe>, count: u64) {
    for _ in 0..count {
        let reader = task("reader");
        let wait = Wait::Io { operation: Operation::Read, fd: 7, cookie: 0 };
        poll(&reader, || waiting(wait));
        let timer = task("timer");
        let minute = hz_runtime::clock::monotonic_ns() + 60_000_000_000;
        poll(&timer, || waiting(Wait::Timer(minute)));
        tasks.extend([reader, timer]);
    }
}

/// One poll, of which there are two records.
fn poll(task: &TaskProbe, work: impl FnOnce()) {
    let polled: Poll<()> = task.poll(|| {
        work();
        Poll::Pending
    });
    debug_assert!(polled.is_pending(), "as it was told");
}

fn wait(on: bool) {
    while is_on(Kind::PollBegin) != on {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Runs `work` with a task on every worker; the sum of what it returns.
fn on_workers(name: &'static str, work: impl Fn(&TaskProbe) -> u64 + Sync) -> u64 {
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|index| {
                let work = &work;
                scope.spawn(move || {
                    worker_started(index);
                    work(&task(name))
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or(0)).sum()
    })
}

fn poll_often(task: &TaskProbe, count: u64) -> u64 {
    (0..count).for_each(|_| poll(task, || ()));
    2 * count
}

/// Records `per_second` events, evenly: those that were recorded.
fn poll_at(task: &TaskProbe, per_second: u64, duration: Duration) -> u64 {
    let (start, mut events) = (Instant::now(), 0);
    while start.elapsed() < duration {
        let due = start.elapsed().as_secs_f64() * per_second as f64;
        while (events as f64) < due {
            events += poll_often(task, BURST / 2);
        }
        worker_tick();
        std::thread::yield_now();
    }
    events
}

/// Polls for so many milliseconds.
fn poll_for(task: &TaskProbe, millis: u64, work: fn()) -> u64 {
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(millis) {
        poll(task, work);
        worker_tick();
    }
    0
}

/// Takes a CPU for a millisecond.
#[inline(never)]
fn churn() {
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(1) {
        (0..1000_u64).for_each(|each| _ = std::hint::black_box(each));
    }
}

#[inline(never)]
fn doze() {
    std::thread::sleep(Duration::from_millis(5));
}

/// Keeps allocations, and frees as many others at once; no faster than a ring is read.
fn leak(kept: &mut Vec<Box<[u8]>>, (count, bytes): (u64, u64)) {
    let hoarder = task("hoarder");
    for round in 0..count {
        poll(&hoarder, || {
            kept.push(hoard(bytes));
            drop(std::hint::black_box(waste(bytes)));
        });
        if round % 200 == 0 {
            worker_tick();
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[inline(never)]
fn hoard(bytes: u64) -> Box<[u8]> {
    vec![1; bytes as usize].into_boxed_slice()
}

#[inline(never)]
fn waste(bytes: u64) -> Box<[u8]> {
    vec![2; bytes as usize].into_boxed_slice()
}

fn fork() -> i32 {
    // SAFETY: the child does nothing but wait for the end of its standard input.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // Standard input is the parent's alone: a child that read it would take its commands.
        // SAFETY: the kernel ends the child with its parent.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        loop {
            // SAFETY: it waits for a signal.
            unsafe { libc::pause() };
        }
    }
    pid
}
