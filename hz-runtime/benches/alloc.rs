//! What the sampling allocator adds to the system's, per allocation and per free.
//!
//! `cargo bench -p hz-runtime --bench alloc`. Both allocators take their turns in one loop, round by
//! round; each number is a median over the rounds, so that what disturbs the machine disturbs both.

use hz_runtime::alloc::{self, Event, SampledAllocator};
use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::time::Instant;

static SAMPLED: SampledAllocator = SampledAllocator::system();

const BLOCKS: usize = 200;
const ROUNDS: usize = 10_000;

/// Sizes of which hardly a block in a thousand is sampled.
const SMALL: [usize; 3] = [16, 64, 256];
/// Of these every round has samples, at the usual mean.
const LARGE: [usize; 3] = [1 << 10, 4 << 10, 64 << 10];
/// A mean at which nothing is sampled, while everything is counted.
const NEVER: u64 = 1 << 50;

/// Nanoseconds per allocation and per free of one round.
fn round(allocator: &impl GlobalAlloc, layout: Layout, blocks: &mut Vec<*mut u8>) -> [f64; 2] {
    let start = Instant::now();
    for _ in 0..BLOCKS {
        // SAFETY: the layout is not of size 0.
        blocks.push(black_box(unsafe { allocator.alloc(layout) }));
    }
    let allocated = Instant::now();
    for memory in blocks.drain(..) {
        // SAFETY: allocated above, by the same allocator and with the same layout.
        unsafe { allocator.dealloc(black_box(memory), layout) };
    }
    let freed = Instant::now();
    let each = |from: Instant, to: Instant| (to - from).as_nanos() as f64 / BLOCKS as f64;
    [each(start, allocated), each(allocated, freed)]
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Runs `work` on a thread that has drawn no gap to its next sample yet: one that was drawn for another
/// mean is used up first.
fn afresh<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| scope.spawn(work).join().expect("it does not panic"))
}

/// Prints medians for one size.
fn compare(name: &str, bytes: usize) {
    let layout = Layout::from_size_align(bytes, 8).expect("a small size");
    let mut blocks = Vec::with_capacity(BLOCKS);
    let (mut bare, mut sampled) = (Vec::new(), Vec::new());
    // The largest take longer, and vary less.
    let rounds = if bytes < LARGE[0] { ROUNDS } else { ROUNDS / 4 };
    for _ in 0..rounds {
        bare.push(round(&System, layout, &mut blocks));
        sampled.push(round(&SAMPLED, layout, &mut blocks));
    }
    let of =
        |rounds: &[[f64; 2]], what: usize| median(rounds.iter().map(|round| round[what]).collect());
    let mean = |rounds: &[[f64; 2]], what: usize| {
        rounds.iter().map(|round| round[what]).sum::<f64>() / rounds.len() as f64
    };
    println!(
        "{name:<32} {bytes:>6} B  alloc {:>5.1} {:>+5.2} ns  free {:>5.1} {:>+5.2} ns  \
         (means, with samples: {:>+5.2}, {:>+5.2})",
        of(&bare, 0),
        of(&sampled, 0) - of(&bare, 0),
        of(&bare, 1),
        of(&sampled, 1) - of(&bare, 1),
        mean(&sampled, 0) - mean(&bare, 0),
        mean(&sampled, 1) - mean(&bare, 1),
    );
}

fn ignore(event: &Event<'_>) {
    black_box(event);
}

/// Samples that stay: `count` of them among `bytes` each.
fn live_samples(count: usize) -> Vec<usize> {
    let layout = Layout::from_size_align(1_000, 8).expect("a small size");
    let before = alloc::status().samples;
    let mut all = Vec::new();
    while alloc::status().samples < before + count as u64 {
        // SAFETY: the layout is not of size 0.
        all.push(unsafe { SAMPLED.alloc(layout) }.addr());
    }
    all
}

/// Keeps glibc from going to the kernel for what it was given back, or the kernel's pages would be
/// measured.
fn keep_memory() {
    for (option, value) in [
        (libc::M_TRIM_THRESHOLD, 1 << 30),
        (libc::M_MMAP_THRESHOLD, 32 << 20),
        (libc::M_ARENA_MAX, 1),
    ] {
        // SAFETY: two options are numbers of bytes, the third one of arenas.
        let is_set = unsafe { libc::mallopt(option, value) };
        assert_eq!(is_set, 1, "glibc takes it");
    }
}

fn compare_all(name: &str, sizes: &[usize]) {
    sizes.iter().for_each(|bytes| afresh(|| compare(name, *bytes)));
}

fn main() {
    keep_memory();
    compare_all("not prepared", &SMALL);
    alloc::set_mean_bytes(0);
    compare_all("off", &SMALL);
    alloc::set_mean_bytes(NEVER);
    compare_all("on, none sampled", &SMALL);
    compare_all("on, none sampled", &LARGE);
    alloc::set_mean_bytes(alloc::DEFAULT_MEAN_BYTES);
    let start = Instant::now();
    let status = alloc::load_modules();
    println!(
        "rules of {} modules read in {:?}: {} KiB",
        status.modules,
        start.elapsed(),
        status.row_bytes >> 10
    );
    compare_all("on, nobody listens", &SMALL);
    assert!(alloc::listen(ignore), "nobody listens yet");
    compare_all("on, somebody listens", &SMALL);
    compare_all("on, somebody listens", &LARGE);
    // As on a heap of 500 MiB, and in full.
    let live = afresh(|| live_samples(1_000));
    compare_all("and 1,000 samples are live", &SMALL);
    alloc::set_mean_bytes(NEVER);
    compare_all("1,000 live, none sampled", &SMALL);
    compare_all("1,000 live, none sampled", &LARGE);
    let status = alloc::status();
    println!("{} blocks live; {status:?}", live.len());
    afresh(cost_of_samples);
}

/// Prints what a sample takes in full, with its free.
fn cost_of_samples() {
    let before = alloc::status().samples;
    alloc::set_mean_bytes(1);
    let layout = Layout::from_size_align(256, 8).expect("a small size");
    let mut blocks = Vec::with_capacity(BLOCKS);
    let start = Instant::now();
    for _ in 0..200 {
        round(&SAMPLED, layout, &mut blocks);
    }
    let samples = alloc::status().samples - before;
    println!("a sample and its free: {:.0} ns", start.elapsed().as_nanos() as f64 / samples as f64);
}
