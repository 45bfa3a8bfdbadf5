//! What the sampling allocator adds to the system's, per allocation and per free.
//!
//! `cargo bench -p hz-runtime --bench alloc`. Both allocators take their turns in one loop, round by
//! round; each number is a median over the rounds, so that what disturbs the machine disturbs both.

use hz_runtime::alloc::{self, Event, SampledAllocator};
use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::time::Instant;

static SAMPLED: SampledAllocator = SampledAllocator::system();

/// So few that the largest do not reach what glibc gives back to the kernel (128 KiB).
const BLOCKS: usize = 200;
const ROUNDS: usize = 10_000;

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

/// Prints medians for one size.
fn compare(name: &str, bytes: usize) {
    let layout = Layout::from_size_align(bytes, 8).expect("a small size");
    let mut blocks = Vec::with_capacity(BLOCKS);
    let (mut bare, mut sampled) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(round(&System, layout, &mut blocks));
        sampled.push(round(&SAMPLED, layout, &mut blocks));
    }
    let of =
        |rounds: &[[f64; 2]], what: usize| median(rounds.iter().map(|round| round[what]).collect());
    let mean = |rounds: &[[f64; 2]], what: usize| {
        rounds.iter().map(|round| round[what]).sum::<f64>() / rounds.len() as f64
    };
    println!(
        "{name:<32} {bytes:>5} B  alloc {:>5.1} {:>+5.2} ns  free {:>5.1} {:>+5.2} ns  \
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
fn live_samples(count: usize) -> Vec<*mut u8> {
    let layout = Layout::from_size_align(1_000, 8).expect("a small size");
    let before = alloc::status().samples;
    let mut all = Vec::new();
    while alloc::status().samples < before + count as u64 {
        // SAFETY: the layout is not of size 0.
        all.push(unsafe { SAMPLED.alloc(layout) });
    }
    all
}

fn main() {
    let sizes = [16, 64, 256];
    sizes.into_iter().for_each(|bytes| compare("not prepared", bytes));
    alloc::set_mean_bytes(0);
    sizes.into_iter().for_each(|bytes| compare("off", bytes));
    alloc::set_mean_bytes(alloc::DEFAULT_MEAN_BYTES);
    let start = Instant::now();
    let status = alloc::load_modules();
    println!(
        "rules of {} modules read in {:?}: {} KiB",
        status.modules,
        start.elapsed(),
        status.row_bytes >> 10
    );
    sizes.into_iter().for_each(|bytes| compare("on, nobody listens", bytes));
    assert!(alloc::listen(ignore), "nobody listens yet");
    sizes.into_iter().for_each(|bytes| compare("on, somebody listens", bytes));
    // As on a heap of 500 MiB, and in full.
    alloc::set_mean_bytes(alloc::DEFAULT_MEAN_BYTES);
    let live = live_samples(1_000);
    sizes.into_iter().for_each(|bytes| compare("and 1,000 samples are live", bytes));
    let status = alloc::status();
    println!("{} blocks live; {status:?}", live.len());
    let start = Instant::now();
    let before = status.samples;
    alloc::set_mean_bytes(1);
    let layout = Layout::from_size_align(256, 8).expect("a small size");
    let mut blocks = Vec::with_capacity(BLOCKS);
    for _ in 0..200 {
        round(&SAMPLED, layout, &mut blocks);
    }
    let samples = alloc::status().samples - before;
    println!("a sample and its free: {:.0} ns", start.elapsed().as_nanos() as f64 / samples as f64);
}
