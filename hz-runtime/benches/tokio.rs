//! The executor beside Tokio's, in one process: alternating runs, medians, and the ratio.
//!
//! `cargo bench -p hz-runtime --bench tokio [-- CASE…]`. Both have two workers. A ratio above 1 is how
//! many times as fast hz-runtime is.

use std::time::{Duration, Instant};

/// Runs of each case in each runtime.
const RUNS: usize = 11;
const WORKERS: usize = 2;

macro_rules! cases {
    ($runtime:ident, $spawn:path, $yield_now:path, $channel:path, $sleep:path $(, $mut:tt)?) => {
        mod $runtime {
            use super::*;

            /// Spawns a task and awaits it, one after another.
            pub(super) async fn spawn_join(n: usize) {
                for _ in 0..n {
                    $spawn(async {}).await.expect("it ends");
                }
            }

            /// Spawns many tasks, then awaits them.
            pub(super) async fn spawn_many_join(n: usize) {
                let tasks: Vec<_> = (0..n).map(|i| $spawn(async move { i })).collect();
                for task in tasks {
                    task.await.expect("it ends");
                }
            }

            /// One task per worker that only yields.
            pub(super) async fn yields(n: usize) {
                let task = || {
                    $spawn(async move {
                        for _ in 0..n / WORKERS {
                            $yield_now().await;
                        }
                    })
                };
                let tasks: Vec<_> = (0..WORKERS).map(|_| task()).collect();
                for task in tasks {
                    task.await.expect("it ends");
                }
            }

            /// A thousand tasks that yield.
            pub(super) async fn yield_crowd(n: usize) {
                let task = || {
                    $spawn(async move {
                        for _ in 0..n / 1000 {
                            $yield_now().await;
                        }
                    })
                };
                let tasks: Vec<_> = (0..1000).map(|_| task()).collect();
                for task in tasks {
                    task.await.expect("it ends");
                }
            }

            /// Two tasks that send one message to and fro.
            pub(super) async fn ping_pong(n: usize) {
                let (there, $($mut)? pinged) = $channel(1);
                let (back, $($mut)? ponged) = $channel(1);
                let other = $spawn(async move {
                    for i in 0..n {
                        let _ = pinged.recv().await;
                        back.send(i).await.expect("it is received");
                    }
                });
                for i in 0..n {
                    there.send(i).await.expect("it is received");
                    let _ = ponged.recv().await;
                }
                other.await.expect("it ends");
            }

            /// One task gives work to 100 and gathers what they send back.
            pub(super) async fn fan_out_in(n: usize) {
                let (result, $($mut)? results) = $channel(1000);
                for _ in 0..100 {
                    let result = result.clone();
                    drop($spawn(async move {
                        for i in 0..n / 100 {
                            result.send(i).await.expect("it is received");
                        }
                    }));
                }
                drop(result);
                for _ in 0..n / 100 * 100 {
                    let _ = results.recv().await;
                }
            }

            /// Sleepers, all at once, each for up to 20 ms.
            pub(super) async fn timers(n: usize) {
                let sleeper = |i: usize| {
                    $spawn(
                        async move { $sleep(Duration::from_micros(i as u64 * 7 % 20_000)).await },
                    )
                };
                let tasks: Vec<_> = (0..n).map(sleeper).collect();
                for task in tasks {
                    task.await.expect("it ends");
                }
            }
        }
    };
}

cases!(
    hz,
    hz_runtime::spawn,
    hz_runtime::yield_now,
    hz_runtime::sync::bounded,
    hz_runtime::time::sleep
);
cases!(
    tokio_rt,
    tokio::spawn,
    tokio::task::yield_now,
    tokio::sync::mpsc::channel,
    tokio::time::sleep,
    mut
);

struct Runtimes {
    hz: hz_runtime::Runtime,
    tokio: tokio::runtime::Runtime,
}

impl Runtimes {
    fn new() -> Self {
        let hz = hz_runtime::Runtime::builder().worker_threads(WORKERS).build();
        let tokio = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .enable_all()
            .build();
        Self { hz: hz.expect("hz-runtime starts"), tokio: tokio.expect("Tokio starts") }
    }
}

/// Runs both alternately, on a worker, and prints the medians.
fn compare<H, T>(name: &str, n: usize, hz: impl Fn(usize) -> H, tokio: impl Fn(usize) -> T)
where
    H: Future<Output = ()> + Send + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    let wanted: Vec<_> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    if !wanted.is_empty() && !wanted.iter().any(|wanted| wanted == name) {
        return;
    }
    let runtimes = Runtimes::new();
    let time_hz = || {
        let begin = Instant::now();
        let task = runtimes.hz.spawn(hz(n));
        runtimes.hz.block_on(task).expect("it ends");
        begin.elapsed()
    };
    let time_tokio = || {
        let begin = Instant::now();
        let task = runtimes.tokio.spawn(tokio(n));
        runtimes.tokio.block_on(task).expect("it ends");
        begin.elapsed()
    };
    time_hz();
    time_tokio();
    let times: Vec<_> = (0..RUNS).map(|_| (time_hz(), time_tokio())).collect();
    let hz = median_ns(times.iter().map(|times| times.0), n);
    let tokio = median_ns(times.iter().map(|times| times.1), n);
    println!("{name:16} {n:8}  {hz:9.1} {tokio:9.1}  {:6.2}", tokio / hz);
}

/// Median over the runs of the time per operation.
fn median_ns(times: impl Iterator<Item = Duration>, n: usize) -> f64 {
    let mut times: Vec<_> = times.collect();
    times.sort();
    times[times.len() / 2].as_nanos() as f64 / n as f64
}

fn main() {
    println!("{:16} {:>8}  {:>9} {:>9}  {:>6}", "case", "n", "hz, ns", "Tokio, ns", "ratio");
    compare("spawn_join", 200_000, hz::spawn_join, tokio_rt::spawn_join);
    compare("spawn_many_join", 100_000, hz::spawn_many_join, tokio_rt::spawn_many_join);
    compare("yield", 1_000_000, hz::yields, tokio_rt::yields);
    compare("yield_crowd", 1_000_000, hz::yield_crowd, tokio_rt::yield_crowd);
    compare("ping_pong", 200_000, hz::ping_pong, tokio_rt::ping_pong);
    compare("fan_out_in", 400_000, hz::fan_out_in, tokio_rt::fan_out_in);
    compare("timers", 100_000, hz::timers, tokio_rt::timers);
}
