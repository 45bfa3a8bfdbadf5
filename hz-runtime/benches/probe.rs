//! What a probe site costs: off, over an identical loop without it; on, over a bare reading of the
//! counter.
//!
//! Each figure is the median of rounds in which the loops take turns, so that a change of the
//! machine's speed meets both. `cargo bench -p hz-runtime --bench probe`

use hz_runtime::clock;
use hz_runtime::probe::{self, Cause, Operation, Spawn, TaskProbe};
use std::env;
use std::hint::black_box;
use std::panic::Location;
use std::process::Command;
use std::task::Poll;
use std::time::Instant;

const TURNS: u32 = 5_000;
const ROUNDS: usize = 401;
/// Set in the processes that measure: which kinds are on is said when a process starts.
const CHILD: &str = "HZ_BENCH_CHILD";

fn main() {
    match env::var(CHILD).as_deref() {
        Ok("off") => off(),
        Ok("on") => on(),
        Ok(_) => tasks(),
        Err(_) => {
            measure("off", Some("none"));
            measure("on", Some("all"));
            println!("the default flight recorder");
            measure("tasks", None);
            println!("flight recorder: task_spawn,task_end");
            measure("tasks", Some("task_spawn,task_end"));
        }
    }
}

/// Each site in a loop of its own: were it called through a pointer, that would be what is measured.
macro_rules! sites {
    ($compare:ident) => {
        $compare("timer_fired", &mut looped(|turn| probe::timer_fired(work(turn), turn)));
        $compare(
            "queue_depth",
            &mut looped(|turn| probe::queue_depth(Some(0), || [work(turn) as u16; 4])),
        );
        $compare(
            "park",
            &mut looped(|turn| {
                work(turn);
                probe::park();
            }),
        );
        $compare("mark", &mut looped(|turn| probe::mark("turn", work(turn))));
        $compare(
            "buffer_taken",
            &mut looped(|turn| probe::buffer_taken(work(turn) as usize, 4096, 4096)),
        );
        $compare(
            "io_wait_end",
            &mut looped(|turn| probe::io_wait_end(Operation::Read, 7, work(turn))),
        );
        $compare(
            "with_cause",
            &mut looped(|turn| probe::with_cause(Cause::Timer, || keep(work(turn)))),
        );
    };
}

fn measure(what: &str, flight: Option<&str>) {
    let mut command = Command::new(env::current_exe().expect("this program has a path"));
    match flight {
        Some(flight) => command.env("HZ_FLIGHT", flight),
        None => command.env_remove("HZ_FLIGHT"),
    };
    let status = command.env(CHILD, what).status();
    assert!(status.is_ok_and(|status| status.success()), "the process {what}");
}

fn off() {
    println!("no kind is on, nobody reads");
    println!("  {:34} {:>8} {:>8} {:>8}", "ns per turn", "without", "with", "adds");
    let compare = |name, site: &mut dyn FnMut() -> f64| {
        let [without, with] = medians([&mut looped(|turn| keep(work(turn))), site]);
        println!("  {name:34} {without:8.2} {with:8.2} {:8.2}", with - without);
    };
    sites!(compare);
    tasks();
}

fn on() {
    probe::worker_started(0);
    println!("every kind is on, nobody reads");
    println!("  {:34} {:>8} {:>8} {:>8}", "ns per turn", "counter", "event", "ratio");
    let compare = |name, site: &mut dyn FnMut() -> f64| {
        let mut bare = looped(|turn| keep(clock::stamp() ^ work(turn)));
        let [bare, event] = medians([&mut bare, site]);
        println!("  {name:34} {bare:8.2} {event:8.2} {:8.2}", event / bare);
    };
    sites!(compare);
    tasks();
    clocks();
}

/// The life of a task without an executor.
fn tasks() {
    probe::worker_started(0);
    let spawn = || {
        let location = Location::caller();
        TaskProbe::spawned(&Spawn {
            name: None,
            location,
            future: "()",
            future_bytes: 0,
            priority: 2,
        })
    };
    let task = spawn();
    let [bare, poll, wake, life] = medians([
        &mut looped(|turn| keep(work(turn))),
        &mut looped(|turn| keep(task.poll(|| pending(work(turn))))),
        &mut looped(|turn| {
            keep(task.poll(|| pending(work(turn))));
            task.task().woken();
        }),
        &mut looped(|turn| {
            let task = spawn();
            task.task().woken();
            keep(task.poll(|| Poll::Ready(work(turn))));
        }),
    ]);
    println!("  {:34} {:8.2}", "task: poll", poll - bare);
    println!("  {:34} {:8.2}", "task: poll, wake", wake - bare);
    println!("  {:34} {:8.2}", "task: spawn, wake, poll, end", life - bare);
}

fn clocks() {
    let [now, kernel, stamp] = medians([
        &mut looped(|_| keep(clock::now_ns())),
        &mut looped(|_| keep(clock::monotonic_ns())),
        &mut looped(|_| keep(clock::stamp())),
    ]);
    println!("  {:34} {now:8.2}", "clock::now_ns");
    println!("  {:34} {kernel:8.2}", "clock_gettime");
    println!("  {:34} {stamp:8.2}", "clock::stamp");
}

/// Something that takes a nanosecond or two and can't be left out.
#[inline(always)]
fn work(turn: u64) -> u64 {
    black_box(turn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32)
}

#[inline(always)]
fn pending(_: u64) -> Poll<u64> {
    Poll::Pending
}

#[inline(always)]
fn keep<T>(value: T) {
    black_box(value);
}

/// Nanoseconds per turn of a loop.
fn looped(mut run: impl FnMut(u64)) -> impl FnMut() -> f64 {
    move || {
        let begin = Instant::now();
        for turn in 0..u64::from(TURNS) {
            run(turn);
        }
        begin.elapsed().as_secs_f64() * 1e9 / f64::from(TURNS)
    }
}

/// The median of each over rounds in which they take turns.
fn medians<const N: usize>(mut loops: [&mut dyn FnMut() -> f64; N]) -> [f64; N] {
    let mut rounds = [const { Vec::new() }; N];
    for _ in 0..ROUNDS {
        for (run, times) in loops.iter_mut().zip(&mut rounds) {
            times.push(run());
        }
    }
    rounds.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[ROUNDS / 2]
    })
}
