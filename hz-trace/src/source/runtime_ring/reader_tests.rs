//! What an honest writer wrote is what a reader gets.

use super::{RuntimeMemory, RuntimeReader, error::AttachError, every_kind, find::find, writer::*};
use crate::{
    decode::{Event, decode},
    host::clock::monotonic_ns,
};
use hz_probes_ebpf::{
    Kind,
    runtime::{NO_WORKER, TASK_IDLE, TASK_READY, WAIT_READ},
    runtime_ring::{
        CLOCK_TSC, DirectorySlot, LEASE_MAX_NS, LEASES, RING_MAGIC, RingPage, RingSlot, SiteSlot,
        woken_in_poll,
    },
};
use proptest::prelude::*;
use rustix::fs::SealFlags;
use std::{
    mem::offset_of,
    os::unix::fs::FileExt as _,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};
use zerocopy::{FromZeros as _, IntoBytes as _};

fn reader(writer: &Writer) -> RuntimeReader {
    RuntimeReader::new(writer.open().unwrap(), every_kind()).unwrap()
}

fn drained(reader: &mut RuntimeReader) -> Vec<(u16, Event)> {
    let mut events = Vec::new();
    reader.drain(&mut |lane, record| events.push((lane, decode(record).unwrap())));
    events
}

/// Tasks of the polls among the events.
fn polled(events: &[(u16, Event)]) -> Vec<u64> {
    let task = |event: &Event| match event {
        Event::Runtime(event) if event.header.kind == Kind::PollBegin as u16 => Some(event.task),
        _ => None,
    };
    events.iter().filter_map(|(_, event)| task(event)).collect()
}

fn lost(events: &[(u16, Event)]) -> u64 {
    let count = |event: &Event| if let Event::RuntimeLost(lost) = event { lost.count } else { 0 };
    events.iter().map(|(_, event)| count(event)).sum()
}

#[track_caller]
fn assert_adds_up(reader: &RuntimeReader) {
    for row in reader.ledger() {
        let explained = row.submitted + row.filtered + row.ring_full + row.read_failed;
        assert_eq!(row.seen, explained, "{row:?}");
    }
}

#[test]
fn what_a_ring_held_before_the_reader_came_is_read_first_then_what_comes() {
    let writer = Writer::new(2, 8);
    writer.own(0, 1_000, 77);
    (1..=3).for_each(|task| writer.poll(0, 1_000 + task, task));
    let mut reader = reader(&writer);
    let events = drained(&mut reader);
    let (_, Event::RuntimeFound(found)) = events[0] else { panic!("{events:?}") };
    assert_eq!((found.header.time_ns, found.header.arg), (1_000, 2), "no later than any record");
    assert_eq!(polled(&events), [1, 2, 3]);
    writer.poll(0, 1_004, 4);
    writer.poll(1, 1_005, 5);
    let events = drained(&mut reader);
    // The ring that was first last time is last now.
    assert_eq!(polled(&events), [5, 4]);
    let lanes: Vec<u16> = events.iter().map(|(lane, _)| *lane).collect();
    assert_eq!(lanes, [2, 1]);
    assert_eq!(drained(&mut reader), []);
    assert_adds_up(&reader);
}

#[test]
fn records_have_the_thread_that_owns_the_ring_then() {
    let writer = Writer::new(1, 16);
    writer.poll(0, 1, 1);
    writer.own(0, 2, 77);
    writer.poll(0, 3, 2);
    let mut reader = reader(&writer);
    let mut events = drained(&mut reader);
    writer.own(0, 4, 88);
    writer.poll(0, 5, 3);
    events.extend(drained(&mut reader));
    let who = events.iter().filter_map(|(_, event)| match event {
        Event::Runtime(event) => Some((event.header.tid, event.task)),
        Event::RuntimeThread(thread) => Some((thread.header.tid, 0)),
        _ => None,
    });
    // Who wrote before the first owner that the ring tells of is not known.
    assert_eq!(who.collect::<Vec<_>>(), [(0, 1), (77, 0), (77, 2), (88, 0), (88, 3)]);
}

#[test]
fn a_lapped_reader_counts_what_it_lost_and_knows_the_thread_again() {
    let writer = Writer::new(1, 8);
    writer.own(0, 1, 77);
    let mut reader = reader(&writer);
    drained(&mut reader);
    (1..=20).for_each(|task| writer.poll(0, 10 + task, task));
    let events = drained(&mut reader);
    // Of eight slots, one may be in use for the next record.
    assert_eq!(polled(&events), (14..=20).collect::<Vec<_>>());
    assert_eq!(lost(&events), 13);
    let (_, Event::RuntimeLost(gap)) = events[0] else { panic!("{events:?}") };
    assert_eq!((gap.since_ns, gap.header.time_ns, gap.header.tid), (1, 24, 77));
    let (_, Event::Runtime(last)) = events.last().unwrap() else { panic!("{events:?}") };
    assert_eq!(last.header.tid, 77);
    assert!(reader.has_lost());
    let row = &reader.ledger()[0];
    assert_eq!((row.seen, row.submitted, row.ring_full), (21, 8, 13), "{row:?}");
    assert_adds_up(&reader);
}

#[test]
fn two_readers_at_once_both_get_everything() {
    let writer = Writer::new(1, 64);
    let mut readers = [reader(&writer), reader(&writer)];
    let mut got = [Vec::new(), Vec::new()];
    for round in 0..50 {
        (0..30).for_each(|task| writer.poll(0, 1, round * 30 + task));
        // One of them comes half as often, but often enough.
        for (place, reader) in readers.iter_mut().enumerate() {
            if place == 0 || round % 2 == 1 {
                got[place].extend(polled(&drained(reader)));
            }
        }
    }
    let all: Vec<u64> = (0..1500).collect();
    assert_eq!(got, [all.clone(), all]);
}

#[test]
fn texts_and_sites_come_before_the_events_that_name_them() {
    let writer = Writer::new(1, 8);
    let mut reader = reader(&writer);
    drained(&mut reader);
    let stamp = monotonic_ns();
    let file = writer.text("src/main.rs");
    let site = writer.site(SiteSlot { file, line: 7, ..SiteSlot::new_zeroed() });
    let kind = Kind::TaskSpawn as u16;
    writer.push(0, RingSlot { stamp, kind, aux: 2, arg: site, task: 1, value: 0 });
    let events = drained(&mut reader);
    let [(0, Event::Text(text)), (0, Event::SpawnSite(site)), (1, Event::Runtime(spawn))] =
        events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!(&text.text[..12], b"src/main.rs\0");
    assert_eq!((site.header.arg, site.file, site.line), (spawn.header.arg, text.header.arg, 7));
    // A reader merges streams by time.
    assert!(text.header.time_ns <= stamp && site.header.time_ns <= stamp, "{stamp}: {events:?}");
    assert_eq!(drained(&mut reader), []);
}

#[test]
fn the_directory_tells_every_live_task() {
    let writer = Writer::new(1, 8);
    let name = writer.text("accept");
    let slot = DirectorySlot {
        seq: 2,
        task: 12,
        parent: 3,
        spawned: 1_000,
        priority: 1,
        name,
        state: u64::from(TASK_IDLE) | 1 << 32,
        polls: 9,
        last_poll: 2_000,
        wait: u64::from(WAIT_READ) | 7 << 32,
        wait_value: 55,
        ..DirectorySlot::new_zeroed()
    };
    writer.task(0, slot);
    writer.task(1, DirectorySlot { seq: 4, task: 0, ..slot });
    writer.task(2, DirectorySlot { seq: 5, ..slot });
    let mut memory = writer.open().unwrap();
    let tasks = memory.tasks();
    assert_eq!((tasks.entries.len(), tasks.unreadable), (1, 1), "{tasks:?}");
    let task = tasks.entries[0];
    assert_eq!((task.task, task.parent, task.polls, task.worker), (12, 3, 9, 1));
    assert_eq!((task.spawned_ns, task.last_poll_ns), (1_000, 2_000));
    assert_eq!((task.waits_for, task.wait_arg, task.wait_value), (WAIT_READ, 7, 55));
    assert_eq!(memory.text(task.name).unwrap().bytes, 6);
    let mut reader = reader(&writer);
    let mut seen = Vec::new();
    reader.snapshot(&mut |_, record| seen.push(decode(record).unwrap()));
    let entries = seen.iter().filter(|event| matches!(event, Event::TaskEntry(_))).count();
    assert_eq!(entries, 1, "{seen:?}");
    assert_adds_up(&reader);
}

#[test]
fn a_lease_is_claimed_renewed_and_given_back() {
    let writer = Writer::new(1, 8);
    let before = monotonic_ns();
    let mut reader = RuntimeReader::new(writer.open().unwrap(), 0b101).unwrap();
    let (pid, kinds, deadline) = writer.lease(0);
    assert_eq!((pid, kinds), (std::process::id(), 0b101));
    assert!(deadline > before && deadline <= monotonic_ns() + LEASE_MAX_NS);
    assert_eq!(writer.leases_changed(), 1);
    // The runtime took it back: the reader was too late, and asks again.
    writer.clear_lease(0);
    let start = monotonic_ns();
    while writer.lease(0).0 == 0 {
        assert!(monotonic_ns() - start < 20_000_000_000, "never renewed");
        drained(&mut reader);
    }
    assert!(writer.lease(0).2 > deadline);
    drop(reader);
    assert_eq!(writer.lease(0), (0, 0, 0));
    assert_eq!(writer.leases_changed(), 3);
}

#[test]
fn a_reader_does_not_take_the_lease_of_another_in_its_process_for_its_own() {
    let writer = Writer::new(1, 8);
    let mut late = RuntimeReader::new(writer.open().unwrap(), 0b001).unwrap();
    // The runtime took it back, and another reader of this process has it now.
    writer.clear_lease(0);
    let other = RuntimeReader::new(writer.open().unwrap(), 0b100).unwrap();
    assert_eq!(writer.lease(0).1, 0b100);
    let start = monotonic_ns();
    while writer.lease(1).0 == 0 {
        assert!(monotonic_ns() - start < 20_000_000_000, "never renewed");
        drained(&mut late);
    }
    assert_eq!((writer.lease(0).1, writer.lease(1).1), (0b100, 0b001));
    let others_ns = writer.lease(0).2;
    drop(late);
    assert_eq!(writer.lease(0).2, others_ns, "it gave the other's back");
    drop(other);
    assert_eq!(writer.lease(0), (0, 0, 0));
}

#[test]
fn a_task_that_was_woken_in_the_poll_that_is_over_is_ready() {
    let writer = Writer::new(1, 8);
    let at = writer.page.directory_offset;
    let idle = u64::from(TASK_IDLE) | 7 << 8;
    for (polls, woken, state) in [
        (0, 0, TASK_IDLE),
        (5, woken_in_poll(idle, 5), TASK_READY),
        (6, woken_in_poll(idle, 5), TASK_IDLE),
        // The task before had the slot then.
        (5, woken_in_poll(6 << 8, 5), TASK_IDLE),
    ] {
        writer.set_word(at + offset_of!(DirectorySlot, task) as u64, 3);
        writer.set_word(at + offset_of!(DirectorySlot, state) as u64, idle);
        writer.set_word(at + offset_of!(DirectorySlot, polls) as u64, polls);
        writer.set_word(at + offset_of!(DirectorySlot, woken) as u64, woken);
        writer.set_half(offset_of!(RingPage, directory_used), 1);
        let tasks = writer.open().unwrap().tasks();
        assert_eq!(tasks.entries[0].state, state, "after {polls} polls");
    }
}

#[test]
fn one_reader_too_many_is_told_who_the_others_are() {
    let writer = Writer::new(1, 8);
    let readers: Vec<RuntimeReader> = (0..LEASES).map(|_| reader(&writer)).collect();
    let error = RuntimeReader::new(writer.open().unwrap(), 1).unwrap_err();
    let AttachError::NoFreeLease { readers: 16, ref pids, .. } = error else { panic!("{error}") };
    assert_eq!(pids[..], [std::process::id(); 16]);
    drop(readers);
    assert!(RuntimeReader::new(writer.open().unwrap(), 1).is_ok());
}

#[test]
fn kinds_that_were_not_asked_for_are_left_out_and_counted() {
    let writer = Writer::new(1, 8);
    let mut reader = RuntimeReader::new(writer.open().unwrap(), Kind::Park.runtime_bit()).unwrap();
    writer.poll(0, 1, 1);
    let kind = Kind::Park as u16;
    writer.push(0, RingSlot { kind, ..RingSlot::new_zeroed() });
    writer.push(0, RingSlot { kind: 999, ..RingSlot::new_zeroed() });
    assert!(polled(&drained(&mut reader)).is_empty());
    let row = &reader.ledger()[0];
    assert_eq!((row.submitted, row.filtered, row.read_failed, row.seen), (1, 1, 1, 3), "{row:?}");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn stamps_of_the_time_stamp_counter_become_nanoseconds() {
    let mut page = page(1, 64);
    page.clock = CLOCK_TSC;
    let writer = Writer::with_page(page);
    let mut reader = reader(&writer);
    drained(&mut reader);
    for round in 0..50 {
        let before = monotonic_ns();
        // SAFETY: every x86-64 CPU has the instruction.
        let stamp = unsafe { std::arch::x86_64::_rdtsc() };
        let after = monotonic_ns();
        writer.poll(0, stamp, round);
        let events = drained(&mut reader);
        let (_, Event::Runtime(event)) = events[0] else { panic!("{events:?}") };
        let time_ns = event.header.time_ns;
        // A reading of both clocks may be interrupted; three in a row hardly are.
        let slack = 20_000;
        assert!(
            before <= time_ns + slack && time_ns <= after + slack,
            "{round}: {before} {time_ns} {after}"
        );
    }
}

/// All of it in one test: others in this process must not have a memory of this name meanwhile.
#[test]
fn only_a_process_s_own_sealed_memory_is_found() {
    let pid = std::process::id();
    let open = || RuntimeMemory::open(pid);
    assert!(matches!(open(), Err(AttachError::NoRuntime { .. })));
    let whole = page(1, 8);
    let named = |page: &RingPage, seals| {
        let file = memfd("hz_runtime", page.bytes, seals);
        file.write_all_at(page.as_bytes(), 0).unwrap();
        file
    };
    let unsealed = named(&whole, SealFlags::GROW);
    assert!(matches!(open(), Err(AttachError::NotSealed { .. })));
    let mut of_parent = whole;
    of_parent.pid = pid + 1;
    let inherited = named(&of_parent, SEALS);
    drop(unsealed);
    assert!(matches!(open(), Err(AttachError::NoRuntime { .. })));
    let own = named(&whole, SEALS);
    let memory = open().unwrap();
    assert!(memory.is_there());
    drop(own);
    assert!(!memory.is_there());
    assert_eq!(memory.workers(), 1, "it can still be read");
    drop(inherited);
    let early = named(&RingPage { magic: 0, ..whole }, SEALS);
    assert!(matches!(open(), Err(AttachError::NotReady { .. })));
    let patient = |patience| RuntimeMemory::open_when_ready(pid, Duration::from_millis(patience));
    assert!(matches!(patient(20), Err(AttachError::NotReady { .. })));
    thread::scope(|scope| {
        let waiting = scope.spawn(|| patient(60_000));
        thread::sleep(Duration::from_millis(20));
        early.write_all_at(RING_MAGIC.as_bytes(), offset_of!(RingPage, magic) as u64).unwrap();
        assert!(waiting.join().unwrap().is_ok());
    });
    assert!(matches!(find(u32::MAX), Err(AttachError::NoSuchProcess { .. })));
}

#[test]
fn a_writer_that_never_waits_is_read_whole_or_counted() {
    let writer = Writer::new(1, 256);
    let mut reader = reader(&writer);
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            (1..=200_000_u64).for_each(|task| {
                let kind = Kind::PollBegin as u16;
                let value = !task;
                writer.push(0, RingSlot { stamp: task, kind, aux: 0, arg: 0, task, value });
            });
            is_done.store(true, Ordering::Release);
        });
        let (mut sum, mut last) = (0, 0);
        loop {
            let was_done = is_done.load(Ordering::Acquire);
            let events = drained(&mut reader);
            for (_, event) in &events {
                if let Event::Runtime(event) = event {
                    assert!(event.task > last && event.value == !event.task, "torn: {event:?}");
                    last = event.task;
                }
            }
            sum += polled(&events).len() as u64 + lost(&events);
            if was_done {
                break;
            }
        }
        assert_eq!(sum, 200_000);
    });
    assert_adds_up(&reader);
}

proptest! {
    #[test]
    fn however_much_is_written_between_looks_it_is_read_or_counted(
        rounds in proptest::collection::vec(0_u64..40, 1..20),
        slots_log in 0_u32..6,
    ) {
        let writer = Writer::new(1, 1 << slots_log);
        let mut reader = reader(&writer);
        let (mut written, mut next) = (0, 0);
        for count in rounds {
            (0..count).for_each(|task| writer.poll(0, 1, written + task));
            written += count;
            let events = drained(&mut reader);
            next += lost(&events);
            for task in polled(&events) {
                prop_assert_eq!(task, next);
                next += 1;
            }
            prop_assert_eq!(next, written);
        }
        assert_adds_up(&reader);
    }
}

#[test]
fn an_unowned_ring_s_lost_records_have_no_thread() {
    let writer = Writer::new(1, 2);
    let mut reader = reader(&writer);
    (0..9).for_each(|task| writer.poll(0, 1, task));
    let events = drained(&mut reader);
    let gap = events.iter().find_map(|(_, event)| match event {
        Event::RuntimeLost(gap) => Some((gap.header.tid, gap.header.arg, gap.count)),
        _ => None,
    });
    assert_eq!(gap, Some((0, NO_WORKER, 8)));
}
