//! From a counter's ticks to nanoseconds of `CLOCK_MONOTONIC`. Pure.
//!
//! The kernel steers its clock: NTP and `adjtime` change its rate by up to 500 ppm. A line through two
//! readings is therefore good for a short time only: at most [`ANCHORED_NS`] after the last reading,
//! in which a rate that changes by 1000 ppm makes an error of half a microsecond.

/// How long one reading of both clocks is good for.
pub(super) const ANCHORED_NS: u64 = 500_000;

/// Twice as long for who meets another that is reading the clocks just now.
pub(super) const GRACE: u64 = 2;

/// Bits of [`Conversion::rate`] after the point.
const FRACTION: u32 = 32;

/// A line: the counter and the clock at one moment, and how they go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Conversion {
    /// The counter.
    pub(super) stamp: u64,
    /// What the clock was said to be then: not before anything that was said earlier.
    pub(super) ns: u64,
    /// What the kernel's clock was then.
    pub(super) kernel_ns: u64,
    /// Nanoseconds a tick, times 2³². 0: not known yet.
    pub(super) rate: u64,
    /// Ticks for which it holds.
    pub(super) ticks: u64,
}

impl Conversion {
    /// The time at `stamp`; `None` if this line does not reach so far, `grace` times its length.
    #[inline(always)]
    pub(super) const fn ns(&self, stamp: u64, grace: u64) -> Option<u64> {
        let ticks = stamp.wrapping_sub(self.stamp);
        if ticks <= self.ticks * grace {
            return Some(self.ns + along(ticks, self.rate));
        }
        // Read just before this line began, perhaps on another CPU.
        let is_close = self.stamp.wrapping_sub(stamp) <= self.ticks;
        if is_close { Some(self.ns) } else { None }
    }

    /// The line that goes on from a new reading of both clocks, and by how much this one was off.
    ///
    /// Time does not go back: where this line was ahead of the kernel, the next one is slower until
    /// they meet, at its end.
    pub(super) fn next(&self, stamp: u64, kernel_ns: u64) -> (Self, u64) {
        let start = Self { stamp, ns: kernel_ns, kernel_ns, rate: 0, ticks: 0 };
        let passed = (stamp.checked_sub(self.stamp), kernel_ns.checked_sub(self.kernel_ns));
        // A counter that went back has begun anew: the machine slept.
        let (Some(ticks @ 1..), Some(ns)) = passed else { return (start, 0) };
        if self.kernel_ns == 0 {
            return (start, 0);
        }
        if ns < ANCHORED_NS / 4 {
            // Too short a time to see a rate.
            return (*self, 0);
        }
        let rate = u64::try_from((u128::from(ns) << FRACTION) / u128::from(ticks)).unwrap_or(1);
        let length = divided(ANCHORED_NS, rate);
        let next = Self { rate, ticks: length, ..start };
        let Some(said) = self.ns(stamp, GRACE).filter(|_| self.ticks != 0) else {
            return (next, 0);
        };
        let begin = said.max(kernel_ns);
        let end = (kernel_ns + along(length, rate)).max(begin);
        let rate = divided(end - begin, length);
        (Self { ns: begin, rate, ..next }, said.abs_diff(kernel_ns))
    }
}

/// `ns` by `by`, with the fraction's bits.
fn divided(ns: u64, by: u64) -> u64 {
    u64::try_from((u128::from(ns) << FRACTION) / u128::from(by.max(1))).unwrap_or(u64::MAX)
}

#[inline(always)]
const fn along(ticks: u64, rate: u64) -> u64 {
    ((ticks as u128 * rate as u128) >> FRACTION) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel's clock whose rate is steered, and a counter that is not.
    struct Machine {
        /// Nanoseconds of the counter's own time.
        own_ns: f64,
        kernel_ns: f64,
        ppm: f64,
        random: u64,
        ghz: f64,
    }

    impl Machine {
        fn new(ghz: f64) -> Self {
            Self { own_ns: 1e12, kernel_ns: 1e12, ppm: 0.0, random: 7, ghz }
        }

        fn random(&mut self, below: u64) -> u64 {
            self.random = self
                .random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (self.random >> 33) % below
        }

        fn pass(&mut self, ns: f64) {
            self.own_ns += ns;
            self.kernel_ns += ns * (1.0 + self.ppm / 1e6);
        }

        fn stamp(&self) -> u64 {
            (self.own_ns * self.ghz) as u64
        }

        /// Both clocks, as far apart as a reading takes.
        fn read(&mut self) -> (u64, u64) {
            let off = self.random(41) as i64 - 20;
            (self.stamp(), (self.kernel_ns as u64).saturating_add_signed(off))
        }
    }

    /// For an hour the kernel's clock is slewed at random by up to 500 ppm, as NTP and adjtime do, and
    /// sometimes nobody asks for the time for a while.
    fn drift(ghz: f64) -> (f64, u64) {
        let mut machine = Machine::new(ghz);
        let mut line = Conversion::default();
        let (mut worst, mut last, mut measured) = (0.0_f64, 0, 0);
        let end = machine.own_ns + 3600e9;
        while machine.own_ns < end {
            if machine.random(2000) == 0 {
                machine.ppm = machine.random(1001) as f64 - 500.0;
            }
            let step = if machine.random(500) == 0 { 3_000_000_000 } else { 400_000 };
            let step = machine.random(step) as f64;
            machine.pass(step);
            let stamp = machine.stamp();
            let now = match line.ns(stamp, 1) {
                Some(ns) => ns,
                None => {
                    let (stamp, kernel_ns) = machine.read();
                    let (next, off) = line.next(stamp, kernel_ns);
                    line = next;
                    measured = measured.max(off);
                    line.ns(stamp, 1).unwrap_or(kernel_ns)
                }
            };
            assert!(now >= last, "time goes back by {} ns", last - now);
            last = now;
            worst = worst.max((now as f64 - machine.kernel_ns).abs());
        }
        (worst, measured)
    }

    #[test]
    fn an_hour_of_a_steered_clock_is_followed_to_less_than_a_microsecond() {
        for ghz in [0.1, 2.6] {
            let (worst, measured) = drift(ghz);
            assert!(worst < 1000.0, "{worst} ns off at {ghz} GHz");
            assert!(measured as f64 <= worst + 40.0, "says {measured} ns, was {worst} ns");
            assert!(measured as f64 >= worst / 4.0, "says {measured} ns, was {worst} ns");
        }
    }

    #[test]
    fn a_line_says_nothing_of_a_time_it_does_not_reach() {
        let line = Conversion { stamp: 1000, ns: 5000, kernel_ns: 5000, rate: 1 << 32, ticks: 100 };
        assert_eq!(line.ns(1100, 1), Some(5100));
        assert_eq!((line.ns(1101, 1), line.ns(1101, 2)), (None, Some(5101)));
        assert_eq!(line.ns(990, 1), Some(5000));
        assert_eq!(Conversion::default().ns(1, 1), None);
    }
}
