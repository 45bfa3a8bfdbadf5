//! The model says what tasks did: a runtime that knows writes records, and the model made of them
//! agrees with it, or says that it does not know.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test dies where it fails, its helpers too"
)]

use hz_probes_ebpf::{Header, Kind, runtime::RuntimeLost};
use hz_trace::{
    decode::decode,
    model::{Folder, Model, Task, TaskState, Why},
};
use proptest::prelude::*;
use runtime::{Future, Runtime, simulated};
use scheduler::{START_NS, TARGET_PID};
use std::collections::BTreeSet;
use zerocopy::IntoBytes as _;

#[path = "support/runtime.rs"]
mod runtime;
#[path = "support/scheduler.rs"]
mod scheduler;

fn model_of(records: &[(u16, Vec<u8>)], is_filtered: bool, end_ns: u64) -> Model {
    let mut folder = Folder::new(START_NS, is_filtered);
    for (_, record) in records {
        folder.fold(&decode(record).unwrap());
    }
    folder.finish(end_ns)
}

fn task<'a>(model: &'a Model, future: &Future) -> &'a Task {
    let found = model.tasks.iter().find(|task| task.id == future.id);
    found.unwrap_or_else(|| panic!("{future:?}"))
}

/// A wait is known for what it was, or for what ended it, or not at all.
fn is_true_wait(told: Why, really: Why) -> bool {
    told == really || (really == Why::Unknown && matches!(told, Why::Timer | Why::Channel))
}

fn assert_lives_agree(runtime: &Runtime, model: &Model) {
    for future in &runtime.futures {
        let task = task(model, future);
        assert_eq!(task.polls, future.polls, "{future:?}");
        assert_eq!(task.parent.map_or(0, |parent| model.task(parent).id), future.parent);
        assert_eq!(task.spans.len(), future.life.len(), "{task:?}\n{future:?}");
        for (span, was) in task.spans.iter().zip(&future.life) {
            assert_eq!((span.start_ns, span.state), (was.start_ns, was.state), "{future:?}");
            match span.state {
                TaskState::Idle => assert!(is_true_wait(span.why, was.why), "{span:?} {was:?}"),
                _ => assert_eq!(span.why, was.why, "{future:?}"),
            }
            if span.state == TaskState::Polling {
                assert_eq!(span.thread().map(|thread| model.thread(thread).tid), Some(was.tid));
            }
        }
    }
}

fn assert_tiled(model: &Model) {
    for task in model.tasks.iter().filter(|task| !task.spans.is_empty()) {
        assert_eq!(task.spans[0].start_ns, task.start_ns);
        let sum: u64 = task.tiles().map(|tile| tile.duration_ns()).sum();
        assert_eq!(sum, task.end_ns - task.start_ns, "{task:?}");
        assert!(task.spans.is_sorted_by_key(|span| span.start_ns), "{task:?}");
    }
}

/// What the model says it knows is true; of the rest it says that it does not know.
fn assert_nothing_wrong(runtime: &Runtime, model: &Model, tolerance_ns: u64) {
    for future in &runtime.futures {
        let Some(task) = model.tasks.iter().find(|task| task.id == future.id) else { continue };
        for tile in task.tiles().filter(|tile| tile.span.state != TaskState::Unknown) {
            let (from_ns, to_ns) =
                (tile.span.start_ns + tolerance_ns, tile.end_ns.saturating_sub(tolerance_ns));
            let first = future.life.partition_point(|was| was.start_ns <= from_ns);
            let during = future.life[first.saturating_sub(1)..].iter();
            for was in during.take_while(|was| was.start_ns < to_ns) {
                assert_eq!(tile.span.state, was.state, "{tile:?}\n{task:?}\n{future:?}");
            }
        }
    }
}

/// The records without those in which a ring was lapped, and with what its reader says of that.
fn lap(runtime: &Runtime, holes: &[(u32, u8)]) -> Vec<(u16, Vec<u8>)> {
    let told = &runtime.told;
    let mut records: Vec<Option<(u16, Vec<u8>)>> =
        runtime.scheduler.records.iter().cloned().map(Some).collect();
    let mut losses = Vec::new();
    let mut is_lapped = BTreeSet::new();
    for (at, length) in holes {
        let Some(first) = told.get(*at as usize % told.len().max(1)) else { continue };
        let ring: Vec<&runtime::Told> = told.iter().filter(|each| each.tid == first.tid).collect();
        let from = ring.iter().position(|each| each.place == first.place).unwrap();
        if !is_lapped.insert(first.tid) {
            continue;
        }
        let gone = &ring[from..ring.len().min(from + usize::from(*length))];
        let since_ns = from.checked_sub(1).map_or(START_NS, |before| ring[before].time_ns);
        let next_ns = ring.get(from + gone.len()).map(|next| next.time_ns);
        let time_ns = next_ns.unwrap_or(runtime.scheduler.now_ns);
        gone.iter().for_each(|each| records[each.place] = None);
        let kind = Kind::RuntimeLost as u16;
        let (tid, pid) = (first.tid, TARGET_PID);
        let header = Header { time_ns, kind, cpu: u16::MAX, tid, pid, arg: 0 };
        let lost = RuntimeLost { header, since_ns, count: gone.len() as u64 };
        losses.push((time_ns, (100, lost.as_bytes().to_vec())));
    }
    let mut all: Vec<_> = records.into_iter().flatten().collect();
    for (time_ns, loss) in losses {
        let place = all.partition_point(|(_, bytes)| {
            decode(bytes).is_ok_and(|event| event.header().time_ns < time_ns)
        });
        all.insert(place, loss);
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_tasks_did_what_the_model_says(
        cpus in 1..4_u16,
        is_filtered: bool,
        choices in prop::collection::vec(any::<u32>(), 0..300),
    ) {
        let runtime = simulated(cpus, is_filtered, &choices);
        let model = model_of(&runtime.scheduler.records, is_filtered, runtime.scheduler.now_ns);
        prop_assert_eq!(model.contradictions, 0);
        prop_assert_eq!(model.runtimes[0].contradictions, 0);
        assert_lives_agree(&runtime, &model);
        assert_tiled(&model);
    }

    #[test]
    fn what_was_lost_is_unknown_and_nothing_is_wrong(
        choices in prop::collection::vec(any::<u32>(), 100..400),
        holes in prop::collection::vec((any::<u32>(), 1..40_u8), 1..4),
    ) {
        let runtime = simulated(2, false, &choices);
        let model = model_of(&lap(&runtime, &holes), false, runtime.scheduler.now_ns);
        assert_tiled(&model);
        assert_nothing_wrong(&runtime, &model, 0);
    }

    #[test]
    fn clocks_that_differ_by_less_than_a_microsecond_make_nothing_wrong(
        choices in prop::collection::vec(any::<u32>(), 100..400),
        late_ns in prop::collection::vec(0..900_u64, 8),
    ) {
        let runtime = simulated(2, false, &choices);
        let mut records = runtime.scheduler.records.clone();
        for told in &runtime.told {
            let bytes = &mut records[told.place].1;
            let time_ns = told.time_ns + late_ns[told.tid as usize % late_ns.len()];
            bytes[..8].copy_from_slice(&time_ns.to_le_bytes());
        }
        records.sort_by_key(|(_, bytes)| decode(bytes).unwrap().header().time_ns);
        let model = model_of(&records, false, runtime.scheduler.now_ns + 2_000);
        assert_tiled(&model);
        assert_nothing_wrong(&runtime, &model, 2_000);
    }
}

#[test]
fn the_simulation_does_all_there_is() {
    let choices: Vec<u32> =
        (0..6_000_u32).map(|number| number.wrapping_mul(2_654_435_761).rotate_left(7)).collect();
    let runtime = simulated(2, true, &choices);
    let model = model_of(&runtime.scheduler.records, true, runtime.scheduler.now_ns);
    let seen: BTreeSet<_> = model
        .tasks
        .iter()
        .flat_map(|task| &task.spans)
        .map(|span| (span.state as u8, span.why as u8))
        .collect();
    let polls: u64 = model.tasks.iter().map(|task| task.polls).sum();
    let found = &model.runtimes[0];
    assert!(seen.len() >= 15 && polls > 100, "{polls} polls, {seen:?}");
    assert!(found.steals.len() > 5 && found.timers.len() > 20, "{found:?}");
    assert!(found.workers.iter().all(|worker| !worker.threads.is_empty()), "{found:?}");
    assert!(!found.collects(Kind::BufferTaken) && found.collects(Kind::TaskWake));
    let names: BTreeSet<String> =
        (0..).map(hz_trace::model::TaskIndex).take(40).map(|task| model.task_name(task)).collect();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["accept", "connection", "src/main.rs:44"]);
}
