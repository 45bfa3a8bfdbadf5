//! Laws that hold whatever a recording says: torn, damaged, out of order or made up.

use super::*;
use crate::model::TaskSpan;
use hz_probes_ebpf::{
    Exec, Exit, Fork, Kind, Rename,
    runtime::{RuntimeEvent, RuntimeLost},
};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A number for every field of a record; few enough values that records meet.
#[derive(Clone, Copy, Debug)]
struct Seed {
    kind: Kind,
    time_ns: u64,
    cpu: u16,
    tid: u32,
    arg: u32,
    bits: u16,
    other: u32,
    since_ns: u64,
}

const START_NS: u64 = 100;

fn seed() -> impl Strategy<Value = Seed> {
    let kind = prop::sample::select(Kind::ALL);
    let bits = prop_oneof![0..32_u16, Just(0x80), Just(0x402), any::<u16>()];
    // 9 is in no range of CPUs, u32::MAX is `NOT_ASKED`.
    let other = prop_oneof![8 => 0..6_u32, 1 => Just(9), 1 => Just(u32::MAX)];
    (kind, 80..400_u64, 0..3_u16, 0..6_u32, 0..6_u32, bits, other, 0..500_u64).prop_map(
        |(kind, time_ns, cpu, tid, arg, bits, other, since_ns)| Seed {
            kind,
            time_ns,
            cpu,
            tid,
            arg,
            bits,
            other,
            since_ns,
        },
    )
}

fn event(seed: &Seed) -> Event {
    let Seed { kind, time_ns, cpu, tid, arg, bits, other, since_ns } = *seed;
    let header = Header { time_ns, kind: kind as u16, cpu, tid, pid: tid & !1, arg };
    let wakeup = Wakeup { header, occupant_tid: other, occupant_pid: other & !1 };
    let counts = (since_ns, u64::from(bits), since_ns * 7);
    let comm = [0; 16];
    match kind {
        Kind::Switch => Event::Switch(Switch {
            header,
            next_pid: arg & !1,
            prev_state: bits,
            flags: (other & 1) as u8,
            next_prio: 120,
        }),
        Kind::Waking => {
            Event::Waking(Waking { header, waker_pid: arg & !1, flags: u32::from(bits) & 3 })
        }
        Kind::Wakeup => Event::Wakeup(wakeup),
        Kind::WakeupNew => Event::WakeupNew(wakeup),
        Kind::Migrate => {
            Event::Migrate(Migrate { header, from_cpu: u32::from(cpu), occupant_tid: other })
        }
        Kind::Fork => Event::Fork(Fork { header, parent_pid: arg, reserved: 0, comm }),
        Kind::Exec => Event::Exec(Exec { header, comm }),
        Kind::Exit => {
            Event::Exit(Exit { header, nvcsw: counts.0, nivcsw: counts.1, run_delay_ns: counts.2 })
        }
        Kind::Rename => Event::Rename(Rename { header, comm }),
        Kind::Thread => Event::Thread(hz_probes_ebpf::Thread {
            header,
            nvcsw: counts.0,
            nivcsw: counts.1,
            run_delay_ns: counts.2,
            start_ns: since_ns,
            state: (other & 3) as u16,
            flags: bits & 31,
            prio: 120,
            comm,
        }),
        Kind::Interrupts => Event::Interrupts(Interrupts {
            header,
            since_ns,
            hard_ns: counts.0,
            soft_ns: counts.1,
            steal_ns: counts.2,
        }),
        Kind::Lost => Event::Lost(Lost { header, since_ns, count: counts.1 }),
        Kind::Uprobe => {
            Event::Uprobe(UprobeHit { header, flags: u32::from(bits) & 1, reserved: 0 })
        }
        kind if kind.is_runtime_event() => Event::Runtime(RuntimeEvent {
            header,
            task: u64::from(other % 3),
            value: since_ns % 3,
            aux: u32::from(bits) % 4,
            reserved: 0,
        }),
        Kind::RuntimeLost => Event::RuntimeLost(RuntimeLost { header, since_ns, count: counts.1 }),
        kind if kind as u16 >= Kind::TaskSpawn as u16 => {
            crate::decode::decode(zerocopy::IntoBytes::as_bytes(&header)).unwrap()
        }
        other => panic!("{other:?}: a new kind, which the laws should hold for too"),
    }
}

/// Every thread's tiles begin with its life, in order, and end with it.
fn assert_lives_are_tiled(model: &Model) {
    for thread in &model.threads {
        assert!(model.start_ns <= thread.start_ns, "{thread:?}");
        assert!(thread.start_ns <= thread.end_ns, "{thread:?}");
        assert!(thread.end_ns <= model.end_ns, "{thread:?}");
        assert!(thread.spans.is_sorted_by(|a, b| a.start_ns < b.start_ns), "{thread:?}");
        let Some(first) = thread.spans.first() else { continue };
        assert!(thread.is_target, "{thread:?}");
        assert!(thread.start_ns <= first.start_ns, "{thread:?}");
        let sum: u64 = thread.tiles().map(|tile| tile.duration_ns()).sum();
        assert_eq!(sum, thread.end_ns - first.start_ns, "{thread:?}");
    }
}

fn assert_cpus_are_tiled(model: &Model) {
    for cpu in &model.cpus {
        assert_eq!(cpu.runs[0].start_ns, model.start_ns, "{cpu:?}");
        assert!(cpu.runs.is_sorted_by(|a, b| a.start_ns < b.start_ns), "{cpu:?}");
        assert!(cpu.runs.iter().all(|run| run.start_ns <= model.end_ns), "{cpu:?}");
        assert!(cpu.interrupts.is_sorted_by_key(|time| time.end_ns), "{cpu:?}");
        assert!(cpu.lost.iter().all(|lost| lost.start_ns <= lost.end_ns), "{cpu:?}");
    }
}

/// Every task's tiles begin with its life, in order, and end with it.
fn assert_tasks_are_tiled(model: &Model) {
    for task in &model.tasks {
        assert!(task.start_ns <= task.end_ns && task.end_ns <= model.end_ns, "{task:?}");
        assert!(task.spans.is_sorted_by(|a, b| a.start_ns < b.start_ns), "{task:?}");
        let sum: u64 = task.tiles().map(|tile| tile.duration_ns()).sum();
        assert_eq!(sum, task.end_ns - task.start_ns, "{task:?}");
        let polled = task.spans.iter().filter_map(TaskSpan::thread);
        assert!(polled.into_iter().all(|thread| (thread.0 as usize) < model.threads.len()));
        let others = task.spans.iter().filter_map(TaskSpan::task);
        assert!(others.into_iter().all(|other| (other.0 as usize) < model.tasks.len()));
        let objects = task.spans.iter().filter_map(TaskSpan::object);
        assert!(objects.into_iter().all(|object| (object.0 as usize) < model.objects.len()));
    }
}

/// At most one thread runs on a CPU at a time, and the CPU's own tiles say that it does.
fn assert_one_thread_runs_on_a_cpu(model: &Model) {
    let mut running: BTreeMap<u16, Vec<(u64, u64, ThreadIndex)>> = BTreeMap::new();
    for (index, thread) in (0..).map(ThreadIndex).zip(&model.threads) {
        for tile in thread.tiles().filter(|tile| tile.span.state == State::Running) {
            let times = (tile.span.start_ns, tile.end_ns, index);
            running.entry(tile.span.cpu).or_default().push(times);
        }
    }
    for (cpu, mut times) in running {
        times.sort_unstable();
        for pair in times.windows(2) {
            assert!(pair[0].1 <= pair[1].0, "CPU {cpu}: {pair:?}");
        }
        for (start_ns, end_ns, index) in times {
            for (run, _) in model.runs_between(cpu, start_ns, end_ns) {
                assert_eq!(run.who, Who::Thread(index), "CPU {cpu} from {start_ns} to {end_ns}");
            }
        }
    }
}

fn assert_calls_are_in_order(model: &Model) {
    assert!(model.calls.is_sorted_by_key(|call| call.start_ns), "{:?}", model.calls);
    for call in &model.calls {
        assert!(call.end_ns.is_none_or(|end_ns| call.start_ns <= end_ns), "{call:?}");
    }
}

/// Each CPU's count of waiting threads is the number of threads whose last tile waits there.
fn assert_waiting_is_counted(folder: &Folder) {
    let mut waiting: BTreeMap<usize, u32> = BTreeMap::new();
    for thread in folder.model.threads.iter().filter(|thread| !thread.has_exited) {
        if let Some(last) = thread.spans.last().filter(|last| last.state.is_waiting()) {
            *waiting.entry(last.cpu.into()).or_default() += 1;
        }
    }
    for (cpu, now) in folder.cpus.iter().enumerate() {
        assert_eq!(now.waiting, waiting.get(&cpu).copied().unwrap_or(0), "CPU {cpu}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn whatever_is_folded_the_laws_hold(is_filtered: bool, seeds in prop::collection::vec(seed(), 0..60)) {
        let mut folder = Folder::new(START_NS, is_filtered);
        for seed in &seeds {
            folder.fold(&event(seed));
            assert_waiting_is_counted(&folder);
        }
        let model = folder.finish(300);
        prop_assert_eq!(model.records, seeds.len() as u64);
        assert_lives_are_tiled(&model);
        assert_cpus_are_tiled(&model);
        assert_one_thread_runs_on_a_cpu(&model);
        assert_tasks_are_tiled(&model);
        let _ = crate::analyze::summarize_tasks(&model, 10);
        assert_calls_are_in_order(&model);
    }
}

#[test]
fn a_thread_that_another_takes_the_cpu_from_unseen_is_unknown_from_then_on() {
    let switch = |time_ns, tid, arg| {
        let header = Header { time_ns, kind: Kind::Switch as u16, cpu: 0, tid, pid: tid, arg };
        Event::Switch(Switch { header, next_pid: arg, prev_state: 1, ..Switch::default() })
    };
    let mut folder = Folder::new(START_NS, false);
    // The switch from 1 to 2 is missing.
    folder.fold(&switch(110, 0, 1));
    folder.fold(&switch(150, 2, 3));
    let model = folder.finish(200);
    assert_eq!(model.contradictions, 1);
    let states = |tid| {
        let thread = model.threads.iter().find(|thread| thread.tid == tid).unwrap();
        let spans = thread.spans.iter().map(|span| (span.start_ns, span.state));
        spans.collect::<Vec<_>>()
    };
    assert_eq!(states(1), [(110, State::Running), (150, State::Unknown)]);
    assert_eq!(states(2), [(150, State::Sleeping)]);
    assert_eq!(states(3), [(150, State::Running)]);
}

#[test]
fn a_thread_that_leaves_a_cpu_in_its_sleep_did_not_sleep_all_the_while() {
    let switch = |time_ns, tid, arg| {
        let header = Header { time_ns, kind: Kind::Switch as u16, cpu: 0, tid, pid: tid, arg };
        Event::Switch(Switch { header, next_pid: arg, prev_state: 1, ..Switch::default() })
    };
    let mut folder = Folder::new(START_NS, false);
    folder.fold(&switch(110, 1, 0));
    // Its wake-up and the switch to it are missing.
    folder.fold(&switch(150, 1, 0));
    let model = folder.finish(200);
    let spans: Vec<_> =
        model.threads[0].spans.iter().map(|span| (span.start_ns, span.state)).collect();
    assert_eq!(spans, [(110, State::Unknown), (150, State::Sleeping)]);
}
