//! The line that converts the counter, which any thread may replace while all others read it.

use super::conversion::{Conversion, GRACE};
use super::sync::{AtomicU64, Mutex, Ordering, fence};

/// A [`Conversion`] under a sequence lock.
#[derive(Debug)]
pub(super) struct Anchor {
    /// Odd while it is written.
    seq: AtomicU64,
    stamp: AtomicU64,
    ns: AtomicU64,
    rate: AtomicU64,
    ticks: AtomicU64,
    /// The largest error that was found so far, ns.
    error_ns: AtomicU64,
    /// As the last writer knows it, with what only writers need.
    line: Mutex<Conversion>,
}

impl Anchor {
    #[cfg(not(hz_loom))]
    pub(super) const fn new() -> Self {
        let line = Conversion { stamp: 0, ns: 0, kernel_ns: 0, rate: 0, ticks: 0 };
        Self {
            seq: AtomicU64::new(0),
            stamp: AtomicU64::new(0),
            ns: AtomicU64::new(0),
            rate: AtomicU64::new(0),
            ticks: AtomicU64::new(0),
            error_ns: AtomicU64::new(0),
            line: Mutex::new(line),
        }
    }

    #[cfg(hz_loom)]
    pub(super) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        let line = Mutex::new(Conversion::default());
        let (seq, stamp, ns, rate) = (zero(), zero(), zero(), zero());
        Self { seq, stamp, ns, rate, ticks: zero(), error_ns: zero(), line }
    }

    /// The time at `stamp`, if the line reaches so far and nobody replaces it just now.
    #[inline(always)]
    pub(super) fn ns(&self, stamp: u64, grace: u64) -> Option<u64> {
        let before = self.seq.load(Ordering::Acquire);
        let line = Conversion {
            stamp: self.stamp.load(Ordering::Relaxed),
            ns: self.ns.load(Ordering::Relaxed),
            kernel_ns: 0,
            rate: self.rate.load(Ordering::Relaxed),
            ticks: self.ticks.load(Ordering::Relaxed),
        };
        fence(Ordering::Acquire);
        let is_whole = before.is_multiple_of(2) && self.seq.load(Ordering::Relaxed) == before;
        if is_whole { line.ns(stamp, grace) } else { None }
    }

    /// The time now, by a new reading of both clocks (`read`: the counter and the kernel's clock).
    /// Where another thread is at that, the old line is followed for a little longer.
    pub(super) fn renew(&self, read: impl Fn() -> (u64, u64)) -> u64 {
        let Ok(mut line) = self.line.try_lock() else {
            let (stamp, kernel_ns) = read();
            return self.ns(stamp, GRACE).unwrap_or(kernel_ns);
        };
        let (stamp, kernel_ns) = read();
        let (next, off_ns) = line.next(stamp, kernel_ns);
        if next != *line {
            *line = next;
            self.publish(&next);
        }
        self.error_ns.fetch_max(off_ns, Ordering::Relaxed);
        next.ns(stamp, GRACE).unwrap_or(kernel_ns)
    }

    fn publish(&self, line: &Conversion) {
        let seq = self.seq.load(Ordering::Relaxed);
        self.seq.store(seq + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        self.stamp.store(line.stamp, Ordering::Relaxed);
        self.ns.store(line.ns, Ordering::Relaxed);
        self.rate.store(line.rate, Ordering::Relaxed);
        self.ticks.store(line.ticks, Ordering::Relaxed);
        self.seq.store(seq + 2, Ordering::Release);
    }

    /// The largest error that was found when the clocks were read, ns.
    pub(super) fn error_ns(&self) -> u64 {
        self.error_ns.load(Ordering::Relaxed)
    }
}

/// Every order of a reader and a writer, by loom:
/// `RUSTFLAGS="--cfg hz_loom" cargo test -p hz-runtime --release --lib anchor::models`.
#[cfg(all(test, hz_loom))]
mod models {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    #[test]
    fn a_reader_sees_no_line_that_is_half_another() {
        loom::model(|| {
            let anchor = Arc::new(Anchor::new());
            // Both say that the clock is ten times the counter.
            let line = |stamp| Conversion {
                stamp,
                ns: 10 * stamp,
                kernel_ns: 10 * stamp,
                rate: 10 << 32,
                ticks: 100,
            };
            anchor.publish(&line(1000));
            let writer = thread::spawn({
                let anchor = Arc::clone(&anchor);
                move || anchor.publish(&line(1050))
            });
            let read = anchor.ns(1060, 1);
            assert!(read.is_none_or(|ns| ns == 10_600), "{read:?}");
            writer.join().expect("it does not panic");
        });
    }
}
