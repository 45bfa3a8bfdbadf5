//! From a file's bytes to a picture, per record: each stage alone, then all of them.
//!
//! The recording is invented: on each of two CPUs a pair of threads that wake each other, the
//! records of `perf bench sched pipe`. Budget: 10 ns to decode a record; 333 ns from the file to
//! the finished SVG, which is 3 million records a second. `docs/performance.md` has the figures.

use divan::{Bencher, black_box, counter::ItemsCount};
use hz_probes_ebpf::{Header, Kind, Switch, Wakeup, Waking, runtime::RuntimeEvent};
use hz_trace::{
    decode::{Event, decode},
    export::{About, EXPORTERS, Subject},
    model::Folder,
    recording::{Batch, Meta, RECORDS_PER_CHUNK, Recording, State, Writer},
    replay::{Range, replay},
};
use std::path::PathBuf;
use tempfile::TempDir;
use zerocopy::IntoBytes as _;

const CPUS: u16 = 2;

/// Wake-ups per CPU; three records each.
const WAKES: u64 = 100_000;

/// Between two wake-ups on a CPU.
const STEP_NS: u64 = 2_000;

fn main() {
    divan::main();
}

/// One thread of a pair wakes the other, then sleeps.
fn wake(cpu: u16, number: u64) -> [[u8; 32]; 3] {
    let pid = 1_000 + 10 * u32::from(cpu);
    let one = pid + u32::from(number.is_multiple_of(2));
    let other = pid + u32::from(!number.is_multiple_of(2));
    let at = |after_ns: u64, kind: Kind, tid, arg| Header {
        // Real times never repeat as exactly as these would.
        time_ns: 1_000 + number * STEP_NS + after_ns + number.wrapping_mul(0x9e37_79b9) % 97,
        kind: kind as u16,
        cpu,
        tid,
        pid,
        arg,
    };
    let waking = Waking { header: at(0, Kind::Waking, other, one), waker_pid: pid, flags: 0 };
    let header = at(300, Kind::Wakeup, other, u32::from(cpu));
    let wakeup = Wakeup { header, occupant_tid: u32::MAX, occupant_pid: 0 };
    let header = at(900, Kind::Switch, one, other);
    let switch = Switch { header, next_pid: pid, prev_state: 1, flags: 0, next_prio: 120 };
    [waking.as_bytes(), wakeup.as_bytes(), switch.as_bytes()]
        .map(|bytes| bytes.try_into().expect("these records have 32 bytes"))
}

fn records(cpu: u16) -> impl Iterator<Item = [u8; 32]> {
    (0..WAKES).flat_map(move |number| wake(cpu, number))
}

/// What a worker of an HTTP service tells of one request after the other, of a thousand connections.
fn polls() -> impl Iterator<Item = RuntimeEvent> {
    const KINDS: [(Kind, u64); 7] = [
        (Kind::TaskWake, 300),
        (Kind::PollBegin, 4_000),
        (Kind::IoWaitEnd, 60),
        (Kind::RequestBegin, 1_100),
        (Kind::RequestEnd, 700),
        (Kind::IoWaitBegin, 3_500),
        (Kind::PollEnd, 90),
    ];
    let mut time_ns = 1_000;
    (0_u64..).flat_map(|number| KINDS.map(|of| (number, of))).map(move |(number, (kind, after))| {
        let random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        time_ns += after + random % (after / 4);
        let connection = random % 1_000;
        let header = Header { time_ns, kind: kind as u16, cpu: u16::MAX, tid: 77, pid: 70, arg: 0 };
        let arg = if kind == Kind::PollBegin { 0 } else { connection as u32 + 9 };
        let value = if kind == Kind::PollEnd { 0 } else { connection + 4_097 };
        RuntimeEvent {
            header: Header { arg, ..header },
            task: connection + 2,
            value,
            aux: 0,
            reserved: 0,
        }
    })
}

/// A recording that is gone when the bench is.
struct Invented {
    _directory: TempDir,
    path: PathBuf,
    records: u64,
}

fn invented() -> Invented {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("invented.hzt");
    let file = std::fs::File::create(&path).expect("a file in it");
    let meta = Meta { cpus: CPUS.into(), start_ns: 1_000, ..Meta::default() };
    let mut writer = Writer::new(file, &meta).expect("it can be written");
    for cpu in 0..CPUS {
        let records: Vec<[u8; 32]> = records(cpu).collect();
        for chunk in records.chunks(RECORDS_PER_CHUNK) {
            let mut batch = Batch::new(cpu);
            chunk.iter().for_each(|record| assert!(batch.push(record)));
            writer.records(&batch).expect("it can be written");
        }
    }
    writer.finish(&State { is_final: true, ..State::default() }).expect("it can be written");
    Invented { _directory: directory, path, records: 3 * WAKES * u64::from(CPUS) }
}

impl Invented {
    fn open(&self) -> Recording {
        Recording::open(&self.path).expect("it was just written")
    }
}

/// Bytes to an event.
#[divan::bench]
fn decode_record(bencher: Bencher<'_, '_>) {
    let records: Vec<[u8; 32]> = records(0).collect();
    bencher.counter(ItemsCount::new(records.len())).bench_local(|| {
        for record in &records {
            let _ = black_box(decode(black_box(record)));
        }
    });
}

/// Records to chunks: columns, zstd and checksum. On one thread of the recorder.
#[divan::bench]
fn write_file(bencher: Bencher<'_, '_>) {
    let mut batch = Batch::new(0);
    records(0).take(RECORDS_PER_CHUNK).for_each(|record| assert!(batch.push(&record)));
    let mut writer = Writer::new(std::io::sink(), &Meta::default()).expect("it takes everything");
    bencher.counter(ItemsCount::new(batch.len())).bench_local(|| writer.records(black_box(&batch)));
}

/// The same of what the ring of an async runtime's worker holds.
#[divan::bench]
fn write_file_of_tasks(bencher: Bencher<'_, '_>) {
    let mut batch = Batch::new(0);
    polls().take(RECORDS_PER_CHUNK).for_each(|record| assert!(batch.push(record.as_bytes())));
    let mut writer = Writer::new(std::io::sink(), &Meta::default()).expect("it takes everything");
    bencher.counter(ItemsCount::new(batch.len())).bench_local(|| writer.records(black_box(&batch)));
}

/// File to events in the order of time: checksum, zstd, columns, merge and decode.
#[divan::bench]
fn read_file(bencher: Bencher<'_, '_>) {
    let invented = invented();
    let recording = invented.open();
    bencher
        .counter(ItemsCount::new(invented.records))
        .bench_local(|| recording.events().map(black_box).count());
}

/// Events to a model.
#[divan::bench]
fn fold(bencher: Bencher<'_, '_>) {
    let recording = invented().open();
    let events: Vec<Event> = recording.events().map(|event| event.expect("whole")).collect();
    bencher.counter(ItemsCount::new(events.len())).bench_local(|| {
        let mut folder = Folder::new(recording.meta.start_ns, false);
        events.iter().for_each(|event| folder.fold(event));
        folder.finish(recording.end_ns())
    });
}

/// Model to SVG.
#[divan::bench]
fn draw_svg(bencher: Bencher<'_, '_>) {
    let invented = invented();
    let replayed = replay(&invented.open(), Range::default());
    bencher.counter(ItemsCount::new(invented.records)).bench_local(|| {
        let mut bytes = Vec::new();
        let about = About::default();
        EXPORTERS[0].export(&Subject::new(&replayed.model, &about), &mut bytes).map(|()| bytes)
    });
}

/// File to SVG: all of the above.
#[divan::bench]
fn file_to_svg(bencher: Bencher<'_, '_>) {
    let invented = invented();
    bencher.counter(ItemsCount::new(invented.records)).bench_local(|| {
        let replayed = replay(&invented.open(), Range::default());
        let mut bytes = Vec::new();
        let about = About::default();
        EXPORTERS[0].export(&Subject::new(&replayed.model, &about), &mut bytes).map(|()| bytes)
    });
}
