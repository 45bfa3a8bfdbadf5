//! A recording survives the round trip, the kill and the damage.

use super::*;
use crate::decode::Event;
use hz_probes_ebpf::{Header, Kind, Switch};
use proptest::prelude::*;
use std::io::Write as _;

fn switch(time_ns: u64, cpu: u16, tid: u32) -> Switch {
    let header = Header { time_ns, kind: Kind::Switch as u16, cpu, tid, pid: tid, arg: tid + 1 };
    Switch { header, next_pid: 9, prev_state: 1, flags: 0, next_prio: 120 }
}

fn recorded(batches: &[Batch]) -> Vec<u8> {
    let meta = Meta { start_ns: 1, schema: schema(), ..Meta::default() };
    let mut writer = Writer::new(Vec::new(), &meta).unwrap();
    for batch in batches {
        writer.records(batch).unwrap();
    }
    writer.finish(&State { is_final: true, received: 3, ..State::default() }).unwrap()
}

fn batch(stream: u16, times: impl IntoIterator<Item = u64>) -> Batch {
    let mut batch = Batch::new(stream);
    for time in times {
        assert!(batch.push(switch(time, stream, 7).as_bytes()), "a switch is a record");
    }
    batch
}

fn open(bytes: &[u8]) -> Result<Recording, ReadError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    Recording::open(file.path())
}

fn times(recording: &Recording) -> Vec<u64> {
    recording.events().map(|event| event.unwrap().header().time_ns).collect()
}

#[test]
fn streams_come_back_merged_by_time() {
    let bytes =
        recorded(&[batch(0, [10, 20, 30]), batch(1, [5, 25]), batch(0, [40]), batch(1, [35])]);
    let recording = open(&bytes).unwrap();
    assert_eq!(times(&recording), [5, 10, 20, 25, 30, 35, 40]);
    assert!(recording.is_complete);
    assert_eq!(recording.damaged_bytes, 0);
    assert_eq!(recording.record_count(), 7);
}

#[test]
fn a_record_written_by_an_interrupt_in_the_middle_of_another_is_put_in_order() {
    let recording = open(&recorded(&[batch(0, [10, 30, 20, 40])])).unwrap();
    assert_eq!(times(&recording), [10, 20, 30, 40]);
}

#[test]
fn a_cut_at_any_byte_reads_up_to_the_last_whole_chunk() {
    let bytes = recorded(&[batch(0, [10, 20]), batch(1, [15]), batch(0, [30])]);
    let mut most = 0;
    for cut in 0..bytes.len() {
        match open(&bytes[..cut]) {
            Ok(recording) => {
                let count = times(&recording).len();
                assert!(count >= most, "cut at {cut}: {count} records, {most} before");
                assert!(!recording.is_complete || count == 4, "cut at {cut} passes for complete");
                most = count;
            }
            Err(error) => assert_eq!(most, 0, "cut at {cut}: {error}"),
        }
    }
    assert_eq!(most, 4);
}

#[test]
fn a_flipped_byte_anywhere_costs_at_most_its_chunk() {
    let bytes = recorded(&[batch(0, [10, 20]), batch(1, [15]), batch(0, [30])]);
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x55;
        let Ok(recording) = open(&damaged) else { continue };
        for event in recording.events() {
            let Ok(Event::Switch(read)) = event else { panic!("byte {at}: {event:?}") };
            let time_ns = read.header.time_ns;
            assert!([10, 15, 20, 30].contains(&time_ns), "byte {at}: a record at {time_ns}");
        }
        assert!(times(&recording).len() >= 2, "byte {at} cost more than a chunk");
    }
}

#[test]
fn what_is_no_recording_is_refused() {
    assert!(matches!(open(b""), Err(ReadError::NotARecording { .. })));
    assert!(matches!(open(b"<svg>not a recording</svg>"), Err(ReadError::NotARecording { .. })));
    let mut newer = recorded(&[]);
    newer[8] = 3;
    assert!(matches!(open(&newer), Err(ReadError::TooNew { version: 3, .. })));
}

proptest! {
    #[test]
    fn any_records_come_back(times_ns in proptest::collection::vec(any::<u64>(), 1..200), tids in any::<u32>()) {
        let mut batch = Batch::new(3);
        for time in &times_ns {
            batch.push(switch(*time, 3, tids & 0xffff).as_bytes());
        }
        let recording = open(&recorded(&[batch])).unwrap();
        let mut sorted = times_ns;
        sorted.sort_unstable();
        prop_assert_eq!(times(&recording), sorted);
    }

    #[test]
    fn any_file_opens_or_is_refused(tail in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = recorded(&[batch(0, [10])]);
        bytes.truncate(bytes.len() / 2);
        bytes.extend(tail);
        if let Ok(recording) = open(&bytes) {
            let _ = recording.events().count();
        }
    }
}

#[test]
fn symbols_are_added_behind_what_was_there_and_survive_the_kill() {
    use crate::{
        model::Place,
        symbol::{SymbolChunk, SymbolTable},
    };
    let bytes = recorded(&[batch(0, [10, 20])]);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes).unwrap();
    let named = |name: &str, address| {
        let mut table = SymbolTable::default();
        table.add(&SymbolChunk {
            texts: vec![name.to_owned()],
            places: vec![[0, 0, address]],
            functions: vec![vec![[1, 0, 0]]],
            ..SymbolChunk::default()
        });
        table
    };
    for (name, address) in [("first", 1), ("second", 2)] {
        let recording = Recording::open(file.path()).unwrap();
        add_symbols(&recording, file.as_file(), &named(name, address)).unwrap();
    }
    let whole = std::fs::read(file.path()).unwrap();
    for cut in [whole.len(), whole.len() - 1, whole.len() - 20] {
        let recording = open(&whole[..cut]).unwrap();
        assert_eq!(times(&recording), [10, 20], "{cut}");
        assert_eq!(recording.damaged_bytes == 0, cut == whole.len(), "{cut}");
        let symbols = recording.symbols();
        for (name, address) in [("first", 1), ("second", 2)] {
            let functions = symbols.functions(Place::Kernel(address)).unwrap();
            assert_eq!(symbols.text(functions[0].name), name, "{cut}");
        }
    }
    // Killed before any of the new was written: as it was, but for its new end.
    assert_eq!(open(&whole[..bytes.len() + 7]).unwrap().damaged_bytes, 7);
}
