//! Readers' leases and the runtime's sweep.

use super::{half, model, word};
use crate::probe::lease::{Claims, sweep};
use crate::probe::words::LeaseWords;
use hz_probes_ebpf::runtime_ring::LEASE_MAX_NS;
use loom::sync::Arc;
use loom::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use loom::thread;

fn leases<const N: usize>() -> Arc<[LeaseWords; N]> {
    Arc::new(std::array::from_fn(|_| LeaseWords {
        pid: half(),
        reader: half(),
        start_ticks: word(),
        kinds: word(),
        deadline_ns: word(),
        unused: std::array::from_fn(|_| word()),
    }))
}

/// What a sweep finds: kinds, and how many leases are taken.
fn swept(leases: &[LeaseWords], claims: &mut Claims, now_ns: u64) -> (u64, u32) {
    let live = sweep(leases, claims, now_ns);
    (live.kinds, live.count)
}

/// A reader that holds a lease.
struct Reader {
    pid: u32,
    number: u32,
    place: usize,
    deadline_ns: u64,
}

impl Reader {
    fn claim(leases: &[LeaseWords], pid: u32, kinds: u64, deadline_ns: u64) -> Option<Self> {
        Self::claim_as((pid, 1), leases, kinds, deadline_ns)
    }

    /// Reader `number` of process `pid`.
    fn claim_as(
        (pid, number): (u32, u32),
        leases: &[LeaseWords],
        kinds: u64,
        deadline_ns: u64,
    ) -> Option<Self> {
        let claimed =
            |lease: &LeaseWords| lease.pid.compare_exchange(0, pid, AcqRel, Relaxed).is_ok();
        let place = leases.iter().position(claimed)?;
        leases[place].reader.store(number, Relaxed);
        leases[place].kinds.store(kinds, Release);
        leases[place].deadline_ns.store(deadline_ns, Release);
        Some(Self { pid, number, place, deadline_ns })
    }

    fn is_own(&self, lease: &LeaseWords) -> bool {
        lease.pid.load(Acquire) == self.pid && lease.reader.load(Acquire) == self.number
    }

    /// Moves the deadline on; false: the lease is over.
    fn renew(&mut self, leases: &[LeaseWords], deadline_ns: u64) -> bool {
        let word = &leases[self.place].deadline_ns;
        loop {
            match word.compare_exchange(self.deadline_ns, deadline_ns, AcqRel, Acquire) {
                Ok(_) => return true,
                Err(0) => return false,
                Err(moved_ns) if self.is_own(&leases[self.place]) => self.deadline_ns = moved_ns,
                Err(_) => return false,
            }
        }
    }

    /// Gives it back; false: it was over.
    fn release(mut self, leases: &[LeaseWords]) -> bool {
        if !self.renew(leases, 0) {
            return false;
        }
        leases[self.place].kinds.store(0, Release);
        leases[self.place].pid.store(0, Release);
        true
    }
}

#[test]
fn two_readers_at_once_both_get_what_they_want() {
    model(3, || {
        let leases = leases::<2>();
        let readers: Vec<_> = [1, 2]
            .map(|of| {
                let leases = Arc::clone(&leases);
                thread::spawn(move || {
                    Reader::claim(&*leases, of, u64::from(of), 100).expect("there is room");
                })
            })
            .into();
        let mut claims = Claims::default();
        let before = swept(&*leases, &mut claims, 10);
        assert_eq!(before.0 & !3, 0, "nobody asked for more");
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        assert_eq!(swept(&*leases, &mut claims, 20), (3, 2));
    });
}

#[test]
fn a_lease_is_over_for_its_reader_if_it_is_for_the_runtime() {
    model(3, || {
        let leases = leases::<1>();
        let mut reader = Reader::claim(&*leases, 1, 1, 10).expect("there is room");
        let reader = thread::spawn({
            let leases = Arc::clone(&leases);
            move || reader.renew(&*leases, 100)
        });
        let mut claims = Claims::default();
        swept(&*leases, &mut claims, 11);
        let is_renewed = reader.join().unwrap();
        let live = swept(&*leases, &mut claims, 12);
        let expected = if is_renewed { (1, 1) } else { (0, 0) };
        assert_eq!(live, expected, "renewed: {is_renewed}");
    });
}

#[test]
fn a_killed_readers_lease_passes_to_the_next_and_leaves_it_nothing() {
    model(3, || {
        let leases = leases::<1>();
        // It was killed after this, and will not give it back.
        Reader::claim(&*leases, 1, 1, 10).expect("there is room");
        let next = thread::spawn({
            let leases = Arc::clone(&leases);
            move || Reader::claim(&*leases, 2, 2, 100).is_some()
        });
        let mut claims = Claims::default();
        let live = swept(&*leases, &mut claims, 11);
        assert_eq!(live, (0, 0), "it is over");
        let is_next = next.join().unwrap();
        let live = swept(&*leases, &mut claims, 12);
        let expected = if is_next { (2, 1) } else { (0, 0) };
        assert_eq!(live, expected);
    });
}

#[test]
fn a_lease_that_is_given_back_when_it_is_over_stays_the_next_readers() {
    model(3, || {
        let leases = leases::<1>();
        let reader = Reader::claim(&*leases, 1, 1, 10).expect("there is room");
        let reader = thread::spawn({
            let leases = Arc::clone(&leases);
            move || reader.release(&*leases)
        });
        let next = thread::spawn({
            let leases = Arc::clone(&leases);
            move || Reader::claim(&*leases, 2, 2, 100).is_some()
        });
        let mut claims = Claims::default();
        swept(&*leases, &mut claims, 11);
        reader.join().unwrap();
        let is_next = next.join().unwrap();
        let live = swept(&*leases, &mut claims, 12);
        let expected = if is_next { (2, 1) } else { (0, 0) };
        assert_eq!(live, expected);
    });
}

/// As the last one, and the next reader is of the same process.
#[test]
fn a_reader_tells_its_lease_from_that_of_another_in_its_process() {
    model(3, || {
        let leases = leases::<1>();
        let mut late = Reader::claim_as((1, 1), &*leases, 1, 10).expect("there is room");
        swept(&*leases, &mut Claims::default(), 11);
        let next = thread::spawn({
            let leases = Arc::clone(&leases);
            move || Reader::claim_as((1, 2), &*leases, 2, 100).expect("it is free")
        });
        assert!(!late.renew(&*leases, 200), "it took the other's for its own");
        let mut next = next.join().unwrap();
        assert!(!late.release(&*leases), "it gave the other's back");
        assert!(next.renew(&*leases, 300));
        assert_eq!(swept(&*leases, &mut Claims::default(), 12), (2, 1));
    });
}

#[test]
fn a_reader_that_is_killed_before_it_has_a_deadline_is_not_waited_for() {
    loom::model(|| {
        let leases = leases::<1>();
        leases[0].pid.store(1, Relaxed);
        let mut claims = Claims::default();
        assert_eq!(swept(&*leases, &mut claims, 10).1, 1, "it may be about to write it");
        assert_eq!(swept(&*leases, &mut claims, 11 + LEASE_MAX_NS).1, 0);
        assert!(Reader::claim(&*leases, 2, 2, 100).is_some());
    });
}
