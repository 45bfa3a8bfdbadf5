//! The table of stacks: threads that enter the same or others at once, and a reader.

use super::{half, model, word};
use crate::probe::stacks::{Index, Interner};
use crate::probe::words::StackWords;
use loom::sync::Arc;
use loom::sync::atomic::Ordering::{Acquire, Relaxed};
use loom::sync::atomic::{AtomicU32, AtomicU64, fence};
use loom::thread;

struct Table {
    index: Index,
    slots: [StackWords; 2],
    used: AtomicU32,
    overflow: AtomicU64,
}

impl Table {
    fn new() -> Arc<Self> {
        let slot = |_| StackWords {
            frames: half(),
            is_cut: half(),
            addresses: std::array::from_fn(|_| word()),
            hash: word(),
        };
        let slots = std::array::from_fn(slot);
        Arc::new(Self { index: Index::new(2), slots, used: half(), overflow: word() })
    }

    fn intern(&self, frames: &[u64]) -> u32 {
        let Self { index, slots, used, overflow } = self;
        Interner { index, slots, used, overflow }.intern(frames, false)
    }

    /// Stack `number`, as readers read it; `None`: it is not whole yet.
    fn read(&self, number: u32) -> Option<Vec<u64>> {
        let slot = &self.slots[number as usize - 1];
        let frames = slot.frames.load(Relaxed);
        fence(Acquire);
        let words = slot.addresses.iter().take(frames as usize);
        (frames > 0).then(|| words.map(|word| word.load(Relaxed)).collect())
    }
}

/// Two threads enter a stack each, and a reader looks at what there is meanwhile.
fn enter_both(stacks: [&'static [u64]; 2], check: fn([u32; 2], &Table)) {
    model(3, move || {
        let table = Table::new();
        let other = thread::spawn({
            let table = Arc::clone(&table);
            move || table.intern(stacks[1])
        });
        let first = table.intern(stacks[0]);
        for number in 1..=table.used.load(Relaxed) {
            if let Some(read) = table.read(number) {
                assert!(stacks.iter().any(|stack| *stack == read), "half a stack: {read:?}");
            }
        }
        let numbers = [first, other.join().unwrap()];
        for (number, stack) in numbers.iter().zip(stacks) {
            assert_eq!(table.read(*number).as_deref(), Some(stack), "{numbers:?}");
        }
        check(numbers, &table);
    });
}

#[test]
fn the_same_stack_has_one_number_from_then_on() {
    enter_both([&[7, 8], &[7, 8]], |numbers, table| {
        let again = table.intern(&[7, 8]);
        assert!(numbers.contains(&again), "{again}, not {numbers:?}");
        assert_eq!(table.intern(&[7, 8]), again);
        assert_eq!(table.overflow.load(Relaxed), 0);
    });
}

#[test]
fn different_stacks_have_different_numbers() {
    enter_both([&[7, 8], &[9]], |numbers, table| {
        assert_ne!(numbers[0], numbers[1]);
        assert_eq!([table.intern(&[7, 8]), table.intern(&[9])], numbers);
        assert_eq!(table.overflow.load(Relaxed), 0);
    });
}

/// The reader sees the whole of what a thread that it does not know of entered.
#[test]
fn a_stack_that_has_frames_is_whole() {
    model(3, || {
        let table = Table::new();
        let other = thread::spawn({
            let table = Arc::clone(&table);
            move || table.intern(&[7, 8])
        });
        if let Some(read) = table.read(1) {
            assert_eq!(read, [7, 8]);
        }
        assert_eq!(other.join().unwrap(), 1);
    });
}
