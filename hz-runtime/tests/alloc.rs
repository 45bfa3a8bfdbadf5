//! The sampling allocator as a program's allocator.

use hz_runtime::alloc::{self, Event, SampledAllocator};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::sync::Once;
use std::thread;

/// Counts what reaches it.
struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
    static TOLD: RefCell<Told> = const { RefCell::new(Told::new()) };
}

fn count() {
    CALLS.set(CALLS.get() + 1);
}

// SAFETY: the system's allocator, and a count.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller's promises, passed on.
        unsafe { System.dealloc(memory, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: SampledAllocator<Counting> = SampledAllocator::new(Counting);

/// What this thread was told, in memory that is there already.
struct Told {
    samples: u64,
    frees: u64,
    weights: f64,
    /// Of the last sample.
    address: usize,
    bytes: usize,
    stack: [u64; 30],
    frames: usize,
    is_cut: bool,
    freed: usize,
}

impl Told {
    const fn new() -> Self {
        Self {
            samples: 0,
            frees: 0,
            weights: 0.0,
            address: 0,
            bytes: 0,
            stack: [0; 30],
            frames: 0,
            is_cut: false,
            freed: 0,
        }
    }
}

fn listener(event: &Event<'_>) {
    TOLD.with(|told| {
        // A sample that is due while an assertion about the last one is being printed.
        if let Ok(mut told) = told.try_borrow_mut() {
            keep(&mut told, event);
        }
    });
}

fn keep(told: &mut Told, event: &Event<'_>) {
    match *event {
        Event::Sampled { address, bytes, weight, stack, is_cut } => {
            told.samples += 1;
            told.weights += weight;
            (told.address, told.bytes) = (address, bytes);
            told.frames = stack.len();
            told.stack[..stack.len()].copy_from_slice(stack);
            told.is_cut = is_cut;
        }
        Event::Freed { address, .. } => {
            told.frees += 1;
            told.freed = address;
        }
        _ => {}
    }
}

const MEAN: u64 = 512 << 10;
/// So large that it is sampled but once in e^128.
const CERTAIN: usize = 64 << 20;

fn start() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        alloc::load_modules();
        alloc::set_mean_bytes(MEAN);
        assert!(alloc::listen(listener));
    });
    // Past what the thread drew before.
    drop(black_box(vec![0_u8; 1 << 20]));
}

fn told<R>(read: impl FnOnce(&Told) -> R) -> R {
    TOLD.with_borrow(|told| read(told))
}

#[test]
fn the_sum_of_weights_is_what_was_allocated() {
    start();
    let (before, mut truth) = (told(|told| told.weights), 0.0);
    // Some 19,000 samples: their sum is off by 5 % once in some 10^11 runs.
    for size in [1 << 10, 3 << 10, 64 << 10, 100_000, 4 << 10].into_iter().cycle().take(300_000) {
        drop(black_box(Vec::<u8>::with_capacity(size)));
        truth += size as f64;
    }
    let estimate = told(|told| told.weights) - before;
    let error = (estimate - truth) / truth;
    assert!(error.abs() < 0.05, "{estimate} for {truth}: {error}");
    assert_eq!(told(|told| told.samples), told(|told| told.frees), "all were freed here");
}

#[test]
fn a_sampled_allocation_is_one_allocation() {
    start();
    let (calls, samples) = (CALLS.get(), told(|told| told.samples));
    let memory = black_box(Vec::<u8>::with_capacity(CERTAIN));
    assert_eq!(CALLS.get() - calls, 1, "the sampler allocates");
    assert_eq!(told(|told| told.samples) - samples, 1);
    assert_eq!(told(|told| (told.address, told.bytes)), (memory.as_ptr().addr(), CERTAIN));
    let (calls, frees) = (CALLS.get(), told(|told| told.frees));
    drop(memory);
    assert_eq!(CALLS.get() - calls, 1, "the sampler allocates");
    assert_eq!(told(|told| told.frees) - frees, 1);
}

#[test]
fn a_free_is_told_on_whatever_thread_it_happens() {
    start();
    let memory = black_box(Vec::<u8>::with_capacity(CERTAIN));
    let address = memory.as_ptr().addr();
    let freed = thread::spawn(move || {
        drop(memory);
        told(|told| told.freed)
    });
    assert_eq!(freed.join().unwrap(), address);
}

#[test]
fn a_reallocation_frees_the_old_memory_and_allocates_the_new() {
    start();
    let mut memory = black_box(vec![1_u8; CERTAIN]);
    let (address, samples, frees) =
        (memory.as_ptr().addr(), told(|told| told.samples), told(|told| told.frees));
    memory.reserve_exact(CERTAIN);
    assert_eq!(told(|told| told.freed), address);
    assert_eq!(told(|told| (told.address, told.bytes)), (memory.as_ptr().addr(), 2 * CERTAIN));
    assert_eq!(told(|told| (told.samples - samples, told.frees - frees)), (1, 1));
    drop(memory);
    assert_eq!(told(|told| told.frees - frees), 2);
}

#[inline(never)]
fn allocate(depth: usize) -> Vec<u8> {
    if depth == 0 {
        return black_box(Vec::with_capacity(CERTAIN));
    }
    black_box(allocate(depth - 1))
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_stack_is_that_of_the_code_that_allocates_and_whole() {
    start();
    thread::spawn(|| {
        drop(allocate(5));
        told(|told| {
            let stack = &told.stack[..told.frames];
            assert!(!told.is_cut, "{stack:x?}");
            let start = allocate as fn(usize) -> Vec<u8> as usize as u64;
            let inside =
                stack.iter().filter(|address| (start..start + 512).contains(address)).count();
            // The compiler may unroll one call into another.
            assert!((3..=6).contains(&inside), "{inside} frames from {start:x} on in {stack:x?}");
        });
    })
    .join()
    .unwrap();
}

#[test]
fn the_status_counts_samples_and_says_what_the_rules_of_stacks_weigh() {
    start();
    let before = alloc::status().samples;
    drop(allocate(0));
    let status = alloc::status();
    assert!(status.samples > before && status.is_installed, "{status:?}");
    assert_eq!((status.mean_bytes, status.overflow), (MEAN, 0), "{status:?}");
    if cfg!(target_arch = "x86_64") {
        assert!(status.row_bytes > 10_000, "{status:?}");
        println!("{status:?}");
    }
}

/// An allocator that unwinds is undefined: the test runs again in a process that is to end otherwise.
#[test]
fn a_listener_that_panics_ends_the_process() {
    const CHILD: &str = "HZ_TEST_LISTENER_PANICS";
    if std::env::var_os(CHILD).is_some() {
        alloc::set_mean_bytes(MEAN);
        assert!(alloc::listen(|_| panic!("as asked")));
        drop(black_box(vec![0_u8; 1 << 20]));
        let unwound = std::panic::catch_unwind(|| drop(allocate(0)));
        println!("it lives on: {}", unwound.is_err());
        return;
    }
    let mut child = Command::new(std::env::current_exe().expect("a program has a path"));
    child
        .args(["--exact", "a_listener_that_panics_ends_the_process", "--nocapture"])
        .env(CHILD, "1");
    let output = child.output().expect("it runs");
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
    let said = [output.stdout, output.stderr].concat();
    assert!(String::from_utf8_lossy(&said).contains("as asked"), "another reason");
}
