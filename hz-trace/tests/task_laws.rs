//! The model says what tasks did: a runtime that knows writes records, and the model made of them
//! agrees with it, or says that it does not know.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test dies where it fails, its helpers too"
)]

use hz_probes_ebpf::{Header, Kind, runtime::RuntimeLost};
use hz_trace::{
    analyze::{KernelTime, TaskSummary, summarize_tasks},
    decode::decode,
    model::{Folder, Model, State, Task, TaskState, Why},
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

/// The polls of a task, as they really were: thread, begin, end.
fn polls<'a>(
    runtime: &'a Runtime,
    future: &'a Future,
) -> impl Iterator<Item = (u32, u64, u64)> + 'a {
    let ends = future.life.iter().skip(1).map(|next| next.start_ns);
    let ends = ends.chain([runtime.scheduler.now_ns]);
    let tiles = future.life.iter().zip(ends);
    let polls = tiles.filter(|(was, _)| was.state == TaskState::Polling);
    polls.map(|(was, end_ns)| (was.tid, was.start_ns, end_ns))
}

/// What really became of a thread in some time.
fn really(runtime: &Runtime, (tid, from_ns, to_ns): (u32, u64, u64), sum: &mut KernelTime) {
    let thread = runtime.scheduler.tasks.iter().find(|thread| thread.tid == tid).unwrap();
    let mut known_ns = 0;
    for (place, was) in thread.life.iter().enumerate() {
        let next_ns = thread.life.get(place + 1).map(|next| next.start_ns);
        let end_ns = next_ns.or(thread.end_ns).unwrap_or(u64::MAX);
        let ns = end_ns.min(to_ns).saturating_sub(was.start_ns.max(from_ns));
        known_ns += ns;
        match was.state {
            State::Running => sum.on_cpu_ns += ns,
            State::Woken | State::Preempted => sum.waiting_ns += ns,
            State::Uninterruptible => sum.uninterruptible_ns += ns,
            State::New => sum.not_recorded_ns += ns,
            _ => sum.sleeping_ns += ns,
        }
    }
    sum.not_recorded_ns += to_ns - from_ns - known_ns;
}

/// Time from every wake-up to the poll that followed it.
fn ready_waits(future: &Future) -> Vec<u64> {
    let pairs = future.life.windows(2);
    let pairs = pairs
        .filter(|pair| (pair[0].state, pair[1].state) == (TaskState::Ready, TaskState::Polling));
    pairs.map(|pair| pair[1].start_ns - pair[0].start_ns).collect()
}

fn assert_summary_is_true(runtime: &Runtime, summary: &TaskSummary) {
    let mut time = KernelTime::default();
    let all: Vec<_> = runtime.futures.iter().flat_map(|future| polls(runtime, future)).collect();
    all.iter().for_each(|poll| really(runtime, *poll, &mut time));
    assert_eq!(summary.in_polls, time);
    assert_eq!(summary.polls.count, all.len() as u64);
    assert_eq!(summary.polls.total_ns, time.total_ns());
    let waits: Vec<u64> = runtime.futures.iter().flat_map(ready_waits).collect();
    assert_eq!(summary.ready_wait.total_ns, waits.iter().sum::<u64>());
    assert_eq!(summary.ready_wait.max_ns, waits.iter().copied().max().unwrap_or(0));
    assert_eq!(summary.clock_check.contradictions, 0, "{:?}", summary.clock_check);
    let by_worker: u64 = summary.workers.iter().map(|worker| worker.in_polls.total_ns()).sum();
    assert_eq!(by_worker, time.total_ns());
    for used in &summary.by_poll_time {
        let future = runtime.futures.iter().find(|future| future.id == used.task).unwrap();
        let mut time = KernelTime::default();
        polls(runtime, future).for_each(|poll| really(runtime, poll, &mut time));
        assert_eq!(used.in_polls, time, "{used:?}");
    }
    for row in &summary.placement {
        let used = summary.by_poll_time.iter().find(|used| used.task == row.task).unwrap();
        assert_eq!(row.on_cpu_ns.values().sum::<u64>(), used.in_polls.on_cpu_ns, "{row:?}");
    }
}

/// Polls that took long, and who had the CPU while their thread waited for it.
fn assert_slow_polls_are_true(runtime: &Runtime, summary: &TaskSummary) {
    let all = runtime.futures.iter().flat_map(|future| polls(runtime, future));
    let slow = all.filter(|(_, start_ns, end_ns)| end_ns - start_ns > summary.poll_over_ns).count();
    assert_eq!(summary.polls_over, slow as u64);
    assert_eq!(summary.slow_polls.len(), slow.min(10));
    assert!(summary.slow_polls.is_sorted_by(|a, b| a.duration_ns >= b.duration_ns));
    for poll in &summary.slow_polls {
        let had: u64 = poll
            .culprits
            .iter()
            .filter(|each| is_there(&each.name))
            .map(|each| each.duration_ns)
            .sum();
        assert_eq!(had, poll.kernel.waiting_ns, "{poll:?}");
    }
}

/// Interrupts come on top of whoever had the CPU.
fn is_there(name: &str) -> bool {
    !matches!(name, "hardware interrupts" | "software interrupts" | "hypervisor")
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
        let summary = summarize_tasks(&model, 20_000).unwrap();
        assert_summary_is_true(&runtime, &summary);
        assert_slow_polls_are_true(&runtime, &summary);
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
        let summary = summarize_tasks(&model, 20_000).unwrap();
        prop_assert_eq!(summary.polls.total_ns, summary.in_polls.total_ns());
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
