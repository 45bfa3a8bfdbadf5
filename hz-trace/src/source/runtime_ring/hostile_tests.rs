//! A process that lies gives an error or events: never a panic, a hang or a read outside.

use super::{RuntimeReader, every_kind, find::Found, writer::*};
use crate::decode::decode;
use hz_probes_ebpf::runtime_ring::{CLOCK_HPET, RingPage};
use proptest::prelude::*;
use std::{
    mem::offset_of,
    os::unix::fs::FileExt as _,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// Opens it, reads it all and asks for everything that can be named.
fn exercise(writer: &Writer) {
    let Ok(memory) = writer.open() else { return };
    let mut reader = RuntimeReader::new(memory, every_kind());
    let mut sink = |_: u16, record: &[u8]| {
        decode(record).unwrap();
    };
    if let Ok(reader) = &mut reader {
        for _ in 0..3 {
            reader.drain(&mut sink);
            reader.snapshot(&mut sink);
        }
        for row in reader.ledger() {
            let explained = row.submitted + row.filtered + row.ring_full + row.read_failed;
            assert_eq!(row.seen, explained, "{row:?}");
        }
        let memory = reader.memory();
        for number in [0, 1, 2, 32, 33, u32::MAX] {
            let _ = (memory.text(number), memory.site(number));
        }
    }
}

/// Numbers that break arithmetic.
fn nasty() -> impl Strategy<Value = u64> {
    let edges = [0, 1, 7, 8, 4095, 4096, 1 << 31, 1 << 32, 1 << 62, u64::MAX, u64::MAX - 7];
    prop_oneof![
        any::<u64>(),
        0_u64..200_000,
        (0..edges.len()).prop_map(move |place| edges[place]),
        (0_u32..64).prop_map(|bit| 1 << bit),
    ]
}

fn filled() -> Writer {
    let writer = Writer::new(2, 16);
    writer.own(0, 5, 77);
    writer.text("a text");
    (0..20).for_each(|task| writer.poll(0, task, task));
    writer
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 1..9000)) {
        let mut page = page(1, 8);
        page.bytes = bytes.len() as u64 + 4096;
        let writer = Writer::with_page(page);
        writer.file.write_all_at(&bytes, 0).unwrap();
        exercise(&writer);
        // The same with a first page that may pass.
        writer.file.write_all_at(&page.magic.to_le_bytes(), 0).unwrap();
        writer.file.write_all_at(&page.version.to_le_bytes(), 8).unwrap();
        exercise(&writer);
    }

    #[test]
    fn a_page_with_false_words_is_refused_or_read(
        lies in proptest::collection::vec((1_u64..40, nasty()), 1..6),
    ) {
        let writer = filled();
        lies.iter().for_each(|(place, lie)| writer.set_word(8 * place, *lie));
        exercise(&writer);
    }

    #[test]
    fn false_words_anywhere_are_read(
        lies in proptest::collection::vec((5_u64..4000, nasty()), 1..40),
        clock in 0_u32..4,
    ) {
        let writer = filled();
        writer.set_half(offset_of!(RingPage, clock), clock);
        let words = writer.page.bytes / 8;
        let page_end = 512;
        for (place, lie) in lies {
            writer.set_word(8 * (page_end + place % (words - page_end)), lie);
        }
        exercise(&writer);
    }

    #[test]
    fn heads_that_jump_are_told_as_such(heads in proptest::collection::vec(nasty(), 1..20)) {
        let writer = filled();
        let memory = writer.open().unwrap();
        let mut reader = RuntimeReader::new(memory, every_kind()).unwrap();
        for head in heads {
            writer.set_head(0, head);
            reader.drain(&mut |_, record| { decode(record).unwrap(); });
        }
        for row in reader.ledger() {
            let explained = row.submitted + row.filtered + row.ring_full + row.read_failed;
            prop_assert_eq!(row.seen, explained);
        }
    }

    #[test]
    fn clock_pairs_of_any_kind_give_no_time_that_has_not_come(
        pairs in proptest::collection::vec((nasty(), nasty()), 0..70),
        written in nasty(),
        stamps in proptest::collection::vec(nasty(), 1..20),
        clock in 1..=CLOCK_HPET,
    ) {
        let mut page = page(1, 64);
        page.clock = clock;
        #[expect(clippy::cast_possible_truncation, reason = "any number will do")]
        let written = written as u32;
        page.pairs_written = written;
        let writer = Writer::with_page(page);
        for (place, (stamp, ns)) in (0..64).zip(&pairs) {
            writer.set_word(page.pairs_offset + 16 * place, *stamp);
            writer.set_word(page.pairs_offset + 16 * place + 8, *ns);
        }
        stamps.iter().for_each(|stamp| writer.poll(0, *stamp, 1));
        let memory = writer.open().unwrap();
        let mut reader = RuntimeReader::new(memory, every_kind()).unwrap();
        let mut times = Vec::new();
        reader.drain(&mut |_, record| times.push(decode(record).unwrap().header().time_ns));
        let now_ns = crate::host::clock::monotonic_ns();
        prop_assert!(times.iter().all(|time| *time <= now_ns), "{now_ns}: {times:?}");
    }
}

#[test]
fn a_memory_that_changes_all_the_time_holds_nobody_up() {
    let writer = filled();
    let is_over = AtomicBool::new(false);
    let start = Instant::now();
    let words = writer.page.bytes / 8;
    let memory = Found::in_file(&writer.file, std::process::id()).unwrap();
    let memory = super::RuntimeMemory::of(memory, std::process::id());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut seed = 1_u64;
            while !is_over.load(Ordering::Relaxed) {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // The places are read once; all else is read again and again.
                let place = 14 + (seed >> 33) % (words - 14);
                writer.set_word(8 * place, seed);
                writer.set_head(0, seed >> 50);
            }
        });
        // A panic must end the thread too.
        let _ends = Ends(&is_over);
        let mut reader = RuntimeReader::new(memory, every_kind());
        let mut count = 0_u64;
        while let Ok(reader) = &mut reader
            && start.elapsed() < Duration::from_millis(300)
        {
            reader.drain(&mut |_, _| count += 1);
            reader.snapshot(&mut |_, _| count += 1);
        }
    });
    assert!(start.elapsed() < Duration::from_secs(20), "held up for {:?}", start.elapsed());
}

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
