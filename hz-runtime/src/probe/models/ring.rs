//! A ring, its one writer and its readers.

use super::{model, word};
use crate::probe::ring::Ring;
use crate::probe::taken::Taken;
use crate::probe::words::RecordWords;
use loom::sync::Arc;
use loom::sync::atomic::Ordering::{Acquire, Relaxed};
use loom::sync::atomic::{AtomicU64, fence};
use loom::thread;

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
