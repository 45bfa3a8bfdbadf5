//! What a file is ready for, in one word.

use crate::scheduler::sync::{AtomicU32, Ordering};

/// Can be read, or accepted from.
pub(super) const READ: u32 = 1;
/// Can be written.
pub(super) const WRITE: u32 = 2;
/// The other side writes no more: a read does not block.
pub(super) const READ_CLOSED: u32 = 4;
/// Nothing can be written any more: a write does not block.
pub(super) const WRITE_CLOSED: u32 = 8;
/// One event, in the counter above the bits.
const TICK: u32 = 16;
const BITS: u32 = TICK - 1;

/// Readiness bits and a count of the events that set them.
///
/// The count is what makes it safe to say "not ready any more" after a system call: an event that
/// arrived in between has moved it on, and stays. It wraps after 2²⁸ events, which cannot happen
/// between a system call's begin and the line after it.
#[derive(Debug)]
pub(super) struct Readiness {
    word: AtomicU32,
}

/// What the readiness was before a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen(u32);

impl Seen {
    pub(super) const fn is_any(self, bits: u32) -> bool {
        self.0 & bits != 0
    }
}

impl Readiness {
    pub(super) fn new(bits: u32) -> Self {
        Self { word: AtomicU32::new(bits & BITS) }
    }

    pub(super) fn seen(&self) -> Seen {
        Seen(self.word.load(Ordering::Acquire))
    }

    /// Adds what an event said.
    pub(super) fn add(&self, bits: u32) {
        let add = |word: u32| Some((word | (bits & BITS)).wrapping_add(TICK));
        let updated = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, add);
        debug_assert!(updated.is_ok(), "the update never declines");
    }

    /// Takes `bits` away unless an event came since `seen`.
    pub(super) fn remove(&self, bits: u32, seen: Seen) {
        let remove = |word: u32| (word & !BITS == seen.0 & !BITS).then_some(word & !(bits & BITS));
        // An event that came meanwhile is no failure: the file is ready again.
        let _ = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, remove);
    }
}

#[cfg(all(test, not(hz_loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_empty_is_not_ready_any_more() {
        let readiness = Readiness::new(READ | WRITE);
        readiness.remove(READ, readiness.seen());
        assert!(!readiness.seen().is_any(READ));
        assert!(readiness.seen().is_any(WRITE));
    }

    #[test]
    fn an_event_since_the_look_is_kept() {
        let readiness = Readiness::new(READ);
        let seen = readiness.seen();
        readiness.add(READ);
        readiness.remove(READ, seen);
        assert!(readiness.seen().is_any(READ));
    }

    #[test]
    fn the_other_direction_may_be_cleared_in_between() {
        let readiness = Readiness::new(READ | WRITE);
        let seen = readiness.seen();
        readiness.remove(WRITE, seen);
        readiness.remove(READ, seen);
        assert!(!readiness.seen().is_any(READ | WRITE));
    }
}

/// Every order of an event and a read that finds nothing:
/// `RUSTFLAGS="--cfg hz_loom" cargo test -p hz-runtime --release --lib readiness::models`.
#[cfg(all(test, hz_loom))]
mod models {
    use super::*;
    use loom::sync::atomic::AtomicBool;
    use loom::sync::{Arc, Mutex};
    use loom::thread;

    /// A file as the reactor keeps it, and what the kernel has in it.
    struct File {
        has_bytes: AtomicBool,
        readiness: Readiness,
        is_awaited: Mutex<bool>,
        was_woken: AtomicBool,
    }

    impl File {
        fn arrive(&self) {
            self.has_bytes.store(true, Ordering::Release);
            self.readiness.add(READ);
            if std::mem::take(&mut *self.is_awaited.lock().unwrap()) {
                self.was_woken.store(true, Ordering::Release);
            }
        }

        /// True: it has read; false: it waits.
        fn poll(&self) -> bool {
            loop {
                let mut seen = self.readiness.seen();
                if !seen.is_any(READ) {
                    *self.is_awaited.lock().unwrap() = true;
                    seen = self.readiness.seen();
                    if !seen.is_any(READ) {
                        return false;
                    }
                }
                if self.has_bytes.load(Ordering::Acquire) {
                    return true;
                }
                self.readiness.remove(READ, seen);
            }
        }
    }

    #[test]
    fn bytes_that_arrive_are_read_or_wake_the_reader() {
        // All orders pass as well, in two minutes.
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let file = Arc::new(File {
                has_bytes: AtomicBool::new(false),
                readiness: Readiness::new(READ | WRITE),
                is_awaited: Mutex::new(false),
                was_woken: AtomicBool::new(false),
            });
            let reactor = thread::spawn({
                let file = Arc::clone(&file);
                move || file.arrive()
            });
            let writer = thread::spawn({
                let file = Arc::clone(&file);
                move || file.readiness.remove(WRITE, file.readiness.seen())
            });
            let has_read = file.poll();
            reactor.join().unwrap();
            writer.join().unwrap();
            let was_woken = file.was_woken.load(Ordering::Acquire);
            assert!(has_read || (was_woken && file.poll()), "the reader sleeps on bytes");
        });
    }
}
