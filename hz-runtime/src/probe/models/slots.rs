//! Free slots of the directory, and the threads that take and give them.

use super::model;
use crate::probe::slots::FreeSlots;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

/// Free slots, and for each what its holder does with it: loom finds two that do it at once, and a holder
/// that need not see what the one before did.
struct Slots {
    free: FreeSlots,
    held: [UnsafeCell<u32>; 4],
}

impl Slots {
    /// Two chains, none used yet.
    fn new() -> Arc<Self> {
        let held = std::array::from_fn(|_| UnsafeCell::new(0));
        Arc::new(Self { free: FreeSlots::new(4), held })
    }

    /// Takes a chain and writes to its slots.
    fn take(&self) -> Vec<u32> {
        let mut mine = Vec::new();
        self.free.take(|slot| mine.push(slot));
        self.write(&mine);
        mine
    }

    fn write(&self, mine: &[u32]) {
        for slot in mine {
            self.held[*slot as usize].with_mut(|uses| {
                // SAFETY: whoever took the slot is the only one who has it, which is what loom checks.
                unsafe { *uses += 1 };
            });
        }
    }

    fn give(&self, mine: &[u32]) {
        self.write(mine);
        self.free.give(mine);
    }

    /// Every slot comes out once more.
    fn check(&self) {
        let mut all: Vec<u32> = std::iter::from_fn(|| Some(self.take()))
            .take_while(|chain| !chain.is_empty())
            .flatten()
            .collect();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3]);
    }
}

#[test]
fn fresh_slots_and_those_that_come_back_have_one_taker() {
    model(3, || {
        let slots = Slots::new();
        let other = thread::spawn({
            let slots = Arc::clone(&slots);
            move || {
                let mine = slots.take();
                slots.give(&mine);
                let again = slots.take();
                slots.give(&again);
            }
        });
        let mine = slots.take();
        slots.give(&mine[..1]);
        slots.give(&mine[1..]);
        other.join().unwrap();
        slots.check();
    });
}

/// One looks at the first chain and is held up; meanwhile another takes both and gives the first
/// back: it is the first again, and what was behind it is not.
#[test]
fn a_chain_that_is_first_again_is_not_taken_for_the_stack_of_before() {
    model(3, || {
        let slots = Slots::new();
        let chains = [slots.take(), slots.take()];
        chains.iter().for_each(|chain| slots.give(chain));
        let other = thread::spawn({
            let slots = Arc::clone(&slots);
            move || {
                let (first, second) = (slots.take(), slots.take());
                slots.give(&first);
                slots.give(&second);
            }
        });
        let mine = slots.take();
        slots.give(&mine);
        other.join().unwrap();
        slots.check();
    });
}
