//! Async tasks in recordings of the running kernel.

#![expect(clippy::unwrap_used, reason = "a test dies where it fails, its helpers too")]

#[path = "support/live.rs"]
#[expect(dead_code, reason = "other tests need the rest")]
mod live;
#[path = "support/workload.rs"]
mod workload;

use hz_probes_ebpf::{Kind, runtime::RuntimeEvent};
use hz_trace::{
    decode::Event,
    export::{About, EXPORTERS, Subject},
    recording::{LedgerRow, Recording, State},
    session::{Settings, TargetSpec},
    source::{RuntimeMemory, RuntimeReader, every_kind},
};
use live::{Reaped, Recorded, alone, hz_trace, record, record_while, wait_until};
use std::{
    collections::BTreeSet,
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use workload::Workload;

fn of(pid: u32) -> Settings {
    Settings::new(TargetSpec::Pids(vec![pid]))
}

fn events(recording: &Recording) -> Vec<Event> {
    recording.events().map(Result::unwrap).collect()
}

fn of_kind(events: &[Event], kind: Kind) -> Vec<RuntimeEvent> {
    let events = events.iter().filter_map(|event| match event {
        Event::Runtime(event) if event.header.kind == kind as u16 => Some(*event),
        _ => None,
    });
    events.collect()
}

fn row<'a>(state: &'a State, site: &str) -> &'a LedgerRow {
    state.ledger.iter().find(|row| row.site == site).unwrap()
}

#[track_caller]
fn assert_nothing_lost(recorded: &Recorded) {
    let row = row(&recorded.outcome.state, "runtime_ring");
    assert_eq!((row.ring_full, row.read_failed, row.filtered), (0, 0, 0), "{row:?}");
    assert_eq!(row.seen, row.submitted, "{row:?}");
}

#[test]
#[ignore = "needs CAP_BPF"]
fn every_poll_of_a_program_is_recorded_with_its_thread_and_task() {
    let _alone = alone();
    let mut workload = Workload::start();
    workload.ask("spawn 3");
    let pid = workload.pid();
    let (recorded, workload) = record_while(&of(pid), move || {
        assert_eq!(workload.ask("wait on"), "ok");
        assert_eq!(workload.ask("poll 5000"), "ok");
        workload
    });
    workload.end();
    assert_nothing_lost(&recorded);
    let events = events(&recorded.recording);
    let begun = of_kind(&events, Kind::PollBegin);
    assert_eq!((begun.len(), of_kind(&events, Kind::PollEnd).len()), (10_000, 10_000));
    assert!(begun.iter().all(|event| event.header.pid == pid));
    let threads: BTreeSet<u32> = begun.iter().map(|event| event.header.tid).collect();
    let tasks: BTreeSet<u64> = begun.iter().map(|event| event.task).collect();
    assert_eq!((threads.len(), tasks.len()), (2, 2), "{threads:?} {tasks:?}");
    for tid in threads {
        let thread = recorded.model.threads.iter().find(|thread| thread.tid == tid);
        assert!(thread.is_some(), "thread {tid} is not the kernel's");
        let ordered = begun.iter().filter(|event| event.header.tid == tid);
        assert!(ordered.map(|event| event.header.time_ns).is_sorted());
    }
    // Tasks that were there before are known from the directory, by name.
    let entries = events.iter().filter(|event| matches!(event, Event::TaskEntry(_))).count();
    assert!(entries >= 6, "{entries}");
    let is_named =
        |event: &Event| matches!(event, Event::Text(text) if text.text.starts_with(b"reader\0"));
    assert!(events.iter().any(is_named));
    let processes = &recorded.outcome.state.runtimes;
    assert_eq!((processes.len(), processes[0].pid), (1, pid), "{processes:?}");
    assert_eq!(processes[0].comm, "runtime_workloa");
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_program_that_is_started_is_found_while_recording() {
    let _alone = alone();
    let (recorded, pid) = record_while(&Settings::new(TargetSpec::WholeSystem), || {
        let mut workload = Workload::start();
        workload.ask("wait on");
        workload.ask("poll 100");
        let pid = workload.pid();
        workload.end();
        pid
    });
    let events = events(&recorded.recording);
    let polls = of_kind(&events, Kind::PollBegin);
    assert_eq!(polls.iter().filter(|event| event.header.pid == pid).count(), 200);
    let found = recorded.outcome.state.runtimes.iter().filter(|process| process.pid == pid);
    assert_eq!(found.count(), 1);
}

#[test]
#[ignore = "needs CAP_BPF"]
fn two_recordings_at_once_both_have_everything() {
    let _alone = alone();
    let mut workload = Workload::start();
    let pid = workload.pid();
    let (recorded, (other, workload)) = record_while(&of(pid), move || {
        // Another reader, as another hz would be.
        let memory = RuntimeMemory::open(pid).unwrap();
        let mut reader = RuntimeReader::new(memory, every_kind()).unwrap();
        assert_eq!(workload.ask("wait on"), "ok");
        assert_eq!(workload.ask("poll 3000"), "ok");
        let mut polls = 0;
        reader.drain(&mut |_, record| {
            let event = hz_trace::decode::decode(record).unwrap();
            polls += usize::from(event.header().kind == Kind::PollBegin as u16);
        });
        (polls, workload)
    });
    workload.end();
    assert_nothing_lost(&recorded);
    assert_eq!(of_kind(&events(&recorded.recording), Kind::PollBegin).len(), 6_000);
    assert_eq!(other, 6_000);
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_killed_recorder_leaves_nothing_on() {
    let _alone = alone();
    let mut workload = Workload::start();
    let directory = tempfile::tempdir().unwrap();
    let recorder = Command::new(hz_trace())
        .args(["record", "--quiet", "-p", &workload.pid().to_string(), "-o"])
        .arg(directory.path().join("killed.hzt"))
        .stderr(Stdio::null())
        .spawn();
    let mut recorder = Reaped(recorder.unwrap());
    workload.ask("wait on");
    // SIGKILL: it can clean nothing up.
    recorder.0.kill().unwrap();
    let killed = Instant::now();
    workload.ask("wait off");
    let took = killed.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    workload.end();
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_program_that_dies_is_recorded_to_its_end() {
    let _alone = alone();
    let mut workload = Workload::start();
    let settings = of(workload.pid());
    let work = std::thread::spawn(move || {
        workload.ask("wait on");
        workload.ask("poll 1000");
        // Killed by dropping it, in the middle of a recording.
        drop(workload);
    });
    let recorded = record(&settings);
    work.join().unwrap();
    assert!(recorded.outcome.state.ended_because.contains("ended"));
    assert_nothing_lost(&recorded);
    assert_eq!(of_kind(&events(&recorded.recording), Kind::PollBegin).len(), 2_000);
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_process_that_becomes_another_program_is_found_again_and_a_child_is_not_taken_for_it() {
    let _alone = alone();
    let mut workload = Workload::start();
    let pid = workload.pid();
    let (recorded, workload) = record_while(&of(pid), move || {
        workload.ask("wait on");
        workload.ask("poll 10");
        let child = workload.ask("fork");
        assert_ne!(child, pid.to_string());
        // It answers with its process id once it is itself again.
        assert_eq!(workload.ask("exec"), pid.to_string());
        workload.ask("wait on");
        workload.ask("poll 20");
        workload
    });
    drop(workload);
    let events = events(&recorded.recording);
    let found = events.iter().filter_map(|event| match event {
        Event::RuntimeFound(found) => Some(found.header.pid),
        _ => None,
    });
    assert_eq!(found.collect::<Vec<_>>(), [pid, pid]);
    assert_eq!(of_kind(&events, Kind::PollBegin).len(), 2 * (10 + 20));
    let row = row(&recorded.outcome.state, "runtime_ring");
    assert_eq!(row.seen, row.submitted, "{row:?}");
}

#[test]
#[ignore = "needs CAP_BPF"]
fn no_lease_is_left_when_a_recording_ends() {
    let _alone = alone();
    let mut workload = Workload::start();
    let (_, mut workload) = record_while(&of(workload.pid()), move || {
        workload.ask("wait on");
        workload
    });
    workload.ask("wait off");
    // Every lease can be taken.
    let readers = (0..16).map(|_| {
        RuntimeReader::new(RuntimeMemory::open(workload.pid()).unwrap(), every_kind()).unwrap()
    });
    let readers: Vec<RuntimeReader> = readers.collect();
    wait_until("sites to be on", || workload.ask("wait on") == "ok");
    drop(readers);
    workload.ask("wait off");
    workload.end();
}

#[test]
#[ignore = "needs CAP_BPF"]
fn with_no_target_every_ring_is_recorded_and_a_lone_one_is_what_the_picture_opens_on() {
    let _alone = alone();
    let mut workload = Workload::start();
    let pid = workload.pid();
    let (recorded, workload) = record_while(&Settings::new(TargetSpec::WholeSystem), move || {
        workload.ask("poll 1000");
        workload
    });
    workload.end();
    let found: BTreeSet<u32> = recorded.model.runtimes.iter().map(|runtime| runtime.pid).collect();
    assert!(found.contains(&pid), "{found:?}");
    let target = recorded.recording.meta.target.to_string();
    let about = About { target, ..About::default() };
    let mut svg = Vec::new();
    EXPORTERS[0].export(&Subject::new(&recorded.model, &about), &mut svg).unwrap();
    let opens = format!("opens on pid {pid}, the only one with tasks");
    // Others on this machine may have tasks as well.
    assert_eq!(String::from_utf8(svg).unwrap().contains(&opens), found.len() == 1, "{found:?}");
}
