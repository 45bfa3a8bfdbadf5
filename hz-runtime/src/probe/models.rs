//! Every order of the shared memory's words, by loom:
//! `RUSTFLAGS="--cfg hz_loom" cargo test -p hz-runtime --release --lib probe::models`.
//!
//! The readers here do what `hz_probes_ebpf::runtime_ring` asks of readers, since those are another
//! program's.

use super::directory::Identity;
use super::emit::Record;
use super::lease::{Claims, sweep};
use super::note::WakeNote;
use super::ring::Ring;
use super::slots::FreeSlots;
use super::taken::Taken;
use super::words::{LeaseWords, RecordWords, TaskWords};
use hz_probes_ebpf::runtime::{TASK_IDLE, TASK_READY, WAIT_TIMER};
use hz_probes_ebpf::runtime_ring::LEASE_MAX_NS;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use loom::sync::atomic::{AtomicU32, AtomicU64, fence};
use loom::thread;

/// Every order with so many switches from a thread that could go on.
fn model(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(body);
}

fn word() -> AtomicU64 {
    AtomicU64::new(0)
}

fn half() -> AtomicU32 {
    AtomicU32::new(0)
}

struct RingMemory {
    slots: [RecordWords; 2],
    head: AtomicU64,
}

impl RingMemory {
    fn new() -> Self {
        let slots = std::array::from_fn(|_| RecordWords(std::array::from_fn(|_| word())));
        Self { slots, head: word() }
    }

    /// Writes record `number`, all of whose words are the number after it.
    fn write(&self, number: u64) {
        Ring { slots: &self.slots, head: &self.head }.write(number, [number + 1; 4]);
    }
}

/// A reader of a ring: what it got whole, and how much it lost.
#[derive(Default)]
struct RingReader {
    cursor: u64,
    records: Vec<[u64; 4]>,
    lost: u64,
}

impl RingReader {
    fn look(&mut self, ring: &RingMemory) {
        let slots = ring.slots.len() as u64;
        let oldest = |head: u64| (head + 1).saturating_sub(slots);
        let head = ring.head.load(Acquire);
        let start = self.cursor.max(oldest(head));
        let copied: Vec<_> = (start..head)
            .map(|number| {
                let RecordWords(words) = &ring.slots[(number % slots) as usize];
                (number, words.each_ref().map(|word| word.load(Relaxed)))
            })
            .collect();
        fence(Acquire);
        let oldest = oldest(ring.head.load(Relaxed));
        for (number, words) in copied.into_iter().filter(|(number, _)| *number >= oldest) {
            assert_eq!(words, [number + 1; 4], "a torn record");
            self.records.push(words);
            self.lost += number - self.cursor;
            self.cursor = number + 1;
        }
        let lost = head.max(self.cursor) - self.cursor;
        self.lost += lost;
        self.cursor += lost;
    }
}

#[test]
fn a_record_that_is_read_is_whole_and_one_that_is_not_is_counted() {
    model(3, || {
        let ring = Arc::new(RingMemory::new());
        let writer = thread::spawn({
            let ring = Arc::clone(&ring);
            move || (0..3).for_each(|number| ring.write(number))
        });
        let mut reader = RingReader::default();
        reader.look(&ring);
        writer.join().unwrap();
        reader.look(&ring);
        assert_eq!(reader.records.len() as u64 + reader.lost, 3);
        assert_eq!(reader.records.last(), Some(&[3; 4]), "the last record stays");
    });
}

#[test]
fn a_ring_has_one_writer_which_goes_on_where_the_last_one_ended() {
    model(3, || {
        let shared = Arc::new((Taken::new(1), RingMemory::new()));
        let write_one = |(taken, ring): &(Taken, RingMemory)| {
            let Some(0) = taken.claim() else { return 0 };
            let head = ring.head.load(Relaxed);
            ring.write(head);
            assert_eq!(ring.head.load(Relaxed), head + 1, "another wrote");
            taken.release(0);
            1
        };
        let other = thread::spawn({
            let shared = Arc::clone(&shared);
            move || write_one(&shared)
        });
        let written = write_one(&shared) + other.join().unwrap();
        assert!(written > 0, "one of the two gets it");
        let mut reader = RingReader::default();
        reader.look(&shared.1);
        assert_eq!(reader.records.len() as u64 + reader.lost, written);
    });
}

fn task_words() -> TaskWords {
    TaskWords {
        seq: half(),
        site: half(),
        task: word(),
        parent: word(),
        spawned: word(),
        future: word(),
        priority: half(),
        name: half(),
        unused: std::array::from_fn(|_| word()),
        state: word(),
        polls: word(),
        last_poll: word(),
        wait: word(),
        wait_value: word(),
        woken: word(),
        idle: std::array::from_fn(|_| word()),
    }
}

fn enter(words: &TaskWords, task: u32) {
    let (wide, half) = (u64::from(task), task);
    let identity = Identity {
        task: wide,
        site: half,
        name: half,
        parent: wide,
        spawned: wide,
        priority: half,
    };
    words.enter(&identity);
}

/// A slot with task 1 in it, which `act` does something with; meanwhile it ends and task 2 has its slot.
fn beside_the_next_task(act: impl Fn(&TaskWords) + Sync + Send + Copy + 'static) {
    model(3, move || {
        let words = Arc::new(task_words());
        enter(&words, 1);
        let other = thread::spawn({
            let words = Arc::clone(&words);
            move || act(&words)
        });
        words.waits(WAIT_TIMER, 1, 1);
        words.leave();
        enter(&words, 2);
        other.join().unwrap();
        // Loom may order an exchange of task 1's state behind the store of task 2's, which cannot be:
        // what counts is that no state of task 2 was made.
        let state = words.state.load(Relaxed);
        let is_second = state >> 8 & 0xff == 2;
        let Some((state, ..)) = words.look(2) else { unreachable!("task 2 is there") };
        assert!(!is_second || state == TASK_IDLE, "nobody woke task 2: {state}");
    });
}

#[test]
fn what_is_read_under_one_sequence_is_of_one_task() {
    beside_the_next_task(|words| {
        let before = words.seq.load(Acquire);
        let task = words.task.load(Relaxed);
        let wide = [&words.parent, &words.spawned].map(|word| word.load(Relaxed));
        let half = [&words.site, &words.name, &words.priority].map(|half| half.load(Relaxed));
        fence(Acquire);
        let is_sound = before.is_multiple_of(2) && words.seq.load(Relaxed) == before;
        if is_sound && task != 0 {
            assert_eq!((wide, half), ([task; 2], [task as u32; 3]));
        }
    });
}

#[test]
fn a_wake_up_that_comes_late_does_not_touch_the_next_task() {
    beside_the_next_task(|words| words.woken(1));
}

#[test]
fn what_a_task_waits_for_is_not_what_the_next_one_does() {
    beside_the_next_task(|words| {
        if let Some((_, _, (what, _, value))) = words.look(1) {
            let is_its = what != WAIT_TIMER || value <= 1;
            assert!(is_its, "{what} {value}");
        }
    });
}

#[test]
fn a_task_that_is_woken_in_its_poll_or_after_it_is_ready() {
    model(3, || {
        let words = Arc::new(task_words());
        enter(&words, 1);
        words.poll_begins(0, 1, 1);
        let waker = thread::spawn({
            let words = Arc::clone(&words);
            move || words.woken(1)
        });
        words.poll_pends(0, false);
        waker.join().unwrap();
        let state = words.look(1).map(|(state, ..)| state);
        assert_eq!(state, Some(TASK_READY), "the directory says that it waits");
    });
}

/// What woke it in one poll says nothing of the next.
#[test]
fn a_task_that_waits_after_its_next_poll_waits() {
    model(3, || {
        let words = Arc::new(task_words());
        enter(&words, 1);
        words.poll_begins(0, 1, 1);
        let waker = thread::spawn({
            let words = Arc::clone(&words);
            move || words.woken(1)
        });
        words.poll_pends(0, false);
        waker.join().unwrap();
        words.poll_begins(0, 2, 2);
        words.poll_pends(0, false);
        let state = words.look(1).map(|(state, ..)| state);
        assert_eq!(state, Some(TASK_IDLE), "nobody has woken it since");
    });
}

#[test]
fn the_cause_that_is_noted_is_one_of_those_that_there_were() {
    model(3, || {
        let note = Arc::new(WakeNote::new());
        let cause = |of: u32| Record { task: 1, value: u64::from(of), arg: of, aux: of };
        let wakers: Vec<_> = (1..3)
            .map(|of| {
                let note = Arc::clone(&note);
                thread::spawn(move || note.write(|| cause(of)))
            })
            .collect();
        if let Some(Record { value, arg, aux, .. }) = note.read(1) {
            assert!(u64::from(arg) == value && arg == aux, "{value} {arg} {aux}");
        }
        wakers.into_iter().for_each(|waker| waker.join().unwrap());
        assert!(note.read(1).is_some(), "there were two");
    });
}

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
