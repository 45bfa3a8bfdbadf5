//! The model says what happened: a scheduler that knows writes records, and the model made of them
//! agrees with it, whether everything was recorded or the target only.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test dies where it fails, its helpers too"
)]

use hz_trace::{
    analyze::{culprits_of, waits_of},
    decode::decode,
    model::{Folder, Model, Span, Thread, ThreadIndex, Waker, Who},
};
use proptest::prelude::*;
use scheduler::{By, Had, START_NS, Scheduler, Task, Was};
use std::collections::BTreeMap;

#[path = "support/scheduler.rs"]
mod scheduler;

fn simulated(cpus: u16, is_filtered: bool, choices: &[u32]) -> (Scheduler, Model) {
    let mut scheduler = Scheduler::new(cpus, is_filtered);
    choices.iter().for_each(|choice| scheduler.step(*choice));
    scheduler.finish();
    let mut folder = Folder::new(START_NS, is_filtered);
    for (_, record) in &scheduler.records {
        folder.fold(&decode(record).unwrap());
    }
    let model = folder.finish(scheduler.now_ns);
    (scheduler, model)
}

fn thread<'a>(model: &'a Model, task: &Task) -> &'a Thread {
    model.threads.iter().find(|thread| thread.tid == task.tid).unwrap_or_else(|| panic!("{task:?}"))
}

fn tid(model: &Model, index: ThreadIndex) -> u32 {
    model.thread(index).tid
}

fn was(model: &Model, span: &Span) -> Was {
    let by = match span.waker {
        Waker::Thread(index) => By::Thread(tid(model, index)),
        Waker::HardIrq => By::HardIrq,
        Waker::SoftIrq => By::SoftIrq,
        _ => By::Nobody,
    };
    Was { start_ns: span.start_ns, state: span.state, cpu: span.cpu, by }
}

fn had(model: &Model, who: Who) -> Had {
    match who {
        Who::Thread(index) => Had::Thread(tid(model, index)),
        Who::Idle => Had::Idle,
        _ => Had::Unknown,
    }
}

fn assert_lives_agree(scheduler: &Scheduler, model: &Model, is_filtered: bool) {
    for task in scheduler.tasks.iter().filter(|task| task.is_target || !is_filtered) {
        let thread = thread(model, task);
        let life: Vec<Was> = thread.spans.iter().map(|span| was(model, span)).collect();
        assert_eq!(life, task.life, "{task:?}");
        assert_eq!(thread.has_exited, task.end_ns.is_some(), "{task:?}");
        assert_eq!(thread.end_ns, task.end_ns.unwrap_or(model.end_ns), "{task:?}");
        assert_eq!(thread.migrations, task.migrations, "{task:?}");
        assert_eq!(thread.parent.map(|parent| tid(model, parent)), task.parent, "{task:?}");
        let (first, last) = (thread.kernel_first.unwrap(), thread.kernel_last.unwrap());
        assert_eq!(last.switches - first.switches, thread.switches, "{task:?}");
    }
}

fn assert_cpus_agree(scheduler: &Scheduler, model: &Model) {
    for cpu in &model.cpus {
        let runs = cpu.runs.iter().map(|run| (run.start_ns, had(model, run.who)));
        assert_eq!(runs.collect::<Vec<_>>(), scheduler.told[usize::from(cpu.id)], "CPU {}", cpu.id);
    }
}

/// Who really had `cpu` in an interval, and for how long.
fn really(scheduler: &Scheduler, cpu: u16, from_ns: u64, to_ns: u64, sum: &mut BTreeMap<u32, u64>) {
    let lane = &scheduler.history[usize::from(cpu)];
    for (place, (start_ns, had)) in lane.iter().enumerate() {
        let end_ns = lane.get(place + 1).map_or(u64::MAX, |(next_ns, _)| *next_ns);
        let overlap_ns = end_ns.min(to_ns).saturating_sub((*start_ns).max(from_ns));
        let tid = if let Had::Thread(tid) = had { *tid } else { 0 };
        if overlap_ns > 0 {
            *sum.entry(tid).or_default() += overlap_ns;
        }
    }
}

/// Also of a filtered recording: who had the CPU while a thread of the target waited.
fn assert_culprits_agree(scheduler: &Scheduler, model: &Model) {
    for thread in model.threads.iter().filter(|thread| thread.is_target) {
        for wait in waits_of(thread) {
            let mut expected = BTreeMap::new();
            let inside = thread
                .tiles()
                .filter(|tile| wait.start_ns <= tile.span.start_ns && tile.end_ns <= wait.end_ns);
            for tile in inside {
                really(scheduler, tile.span.cpu, tile.span.start_ns, tile.end_ns, &mut expected);
            }
            let found = culprits_of(model, thread, &wait);
            let mut named: BTreeMap<u32, u64> =
                found.ran.iter().map(|each| (tid(model, each.thread), each.ran_ns)).collect();
            if found.idle_ns > 0 {
                named.insert(0, found.idle_ns);
            }
            assert_eq!(named, expected, "{wait:?} of {}", thread.tid);
            assert_eq!(found.unknown_ns, 0, "{wait:?} of {}", thread.tid);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn the_model_is_what_happened(
        cpus in 1..4_u16,
        is_filtered: bool,
        choices in prop::collection::vec(any::<u32>(), 0..120),
    ) {
        let (scheduler, model) = simulated(cpus, is_filtered, &choices);
        prop_assert_eq!(model.contradictions, 0);
        assert_lives_agree(&scheduler, &model, is_filtered);
        assert_cpus_agree(&scheduler, &model);
        assert_culprits_agree(&scheduler, &model);
    }
}

#[test]
fn the_simulation_does_all_there_is() {
    let choices: Vec<u32> =
        (0..4_000_u32).map(|number| number.wrapping_mul(2_654_435_761)).collect();
    let (scheduler, model) = simulated(3, true, &choices);
    let waits: usize = model.threads.iter().map(|thread| waits_of(thread).count()).sum();
    let exits =
        scheduler.tasks.iter().filter(|task| task.is_target && task.end_ns.is_some()).count();
    let migrations: u64 = model.threads.iter().map(|thread| thread.migrations).sum();
    assert!(waits > 100 && exits > 1 && migrations > 50, "{waits} {exits} {migrations}");
}
