//! What readers find in the shared memory of a process that emits.

mod support;

use hz_probes_ebpf::Kind;
use hz_probes_ebpf::runtime::{
    END_CANCELLED, END_COMPLETED, END_PANICKED, END_UNKNOWN, NO_WORKER, POLL_OVER, POLL_PANICKED,
    POLL_PENDING, POLL_READY, TASK_IDLE, TASK_POLLING, TASK_READY, WAIT_TIMER, WAIT_UNKNOWN,
    WAKE_IO, WAKE_SPAWN, WAKE_TASK, WAKE_THREAD,
};
use hz_probes_ebpf::runtime_ring::{DirectorySlot, RingSlot, SLOT_OWNER, STATE_MASK};
use hz_runtime::probe::{self, Cause, PollEnd, Spawn, TaskProbe, Wait};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::task::Poll;
use support::{Reader, wait_until};

#[track_caller]
fn spawned(name: Option<&str>) -> TaskProbe {
    let location = Location::caller();
    TaskProbe::spawned(&Spawn { name, location, future: "a future", future_bytes: 24, priority: 2 })
}

fn reader() -> Reader {
    probe::start(2).expect("memory");
    Reader::of(std::process::id()).expect("a reader")
}

fn all_runtime_kinds() -> Vec<Kind> {
    Kind::ALL.iter().copied().filter(|kind| kind.is_runtime_event()).collect()
}

/// What `task` did, in the order of one thread's ring.
fn of_task(reader: &mut Reader, task: u64) -> Vec<(u16, u16, u32, u64)> {
    let records = reader.read().into_iter().flatten();
    records
        .filter(|record| record.task == task && record.kind != SLOT_OWNER)
        .map(|record| (record.kind, record.aux, record.arg, record.value))
        .collect()
}

/// Whether a kind that no reader of this process wants is off, unless a recorder of the whole system wants it.
fn is_off(reader: &Reader, kind: Kind) -> bool {
    !probe::is_on(kind) || reader.is_wanted_elsewhere(kind)
}

fn entry(reader: &Reader, task: u64) -> Option<DirectorySlot> {
    reader.tasks().into_iter().find(|slot| slot.task == task)
}

#[test]
fn a_task_s_life_is_in_the_ring_in_its_order() {
    let mut reader = reader();
    reader.lease(&all_runtime_kinds());
    let task = spawned(Some("echo"));
    task.task().woken();
    let _ = task.poll(|| Poll::<()>::Pending);
    probe::with_cause(Cause::Io { fd: 7, cookie: 99 }, || task.task().woken());
    let _ = task.poll(|| Poll::Ready(()));
    let id = task.id();
    drop(task);
    let life = of_task(&mut reader, id);
    let site = life[0].2;
    assert_eq!(
        life,
        [
            (Kind::TaskSpawn as u16, 2, site, 0),
            (Kind::TaskWake as u16, WAKE_SPAWN as u16, 0, 0),
            (Kind::PollBegin as u16, 2, NO_WORKER, 0),
            (Kind::PollEnd as u16, POLL_PENDING as u16, NO_WORKER, 0),
            (Kind::TaskWake as u16, WAKE_IO as u16, 7, 99),
            (Kind::PollBegin as u16, 2, NO_WORKER, 0),
            (Kind::PollEnd as u16, POLL_READY as u16, NO_WORKER, 0),
            (Kind::TaskEnd as u16, END_COMPLETED as u16, NO_WORKER, 2),
        ]
    );
    let site = reader.site(site);
    assert_eq!(reader.text(site.name), "echo");
    assert_eq!(reader.text(site.future), "a future");
    assert!(reader.text(site.file).ends_with("tests/probe.rs"), "{}", reader.text(site.file));
    assert_eq!(site.future_bytes, 24);
}

#[test]
fn a_panic_and_a_cancellation_end_a_task() {
    let mut reader = reader();
    reader.lease(&[Kind::PollEnd, Kind::TaskEnd]);
    let panics = spawned(None);
    let caught =
        catch_unwind(AssertUnwindSafe(|| panics.poll(|| -> Poll<()> { panic!("as asked") })));
    assert!(caught.is_err());
    assert_eq!(probe::current_task(), 0, "a task that panicked is still current");
    let dropped = spawned(None);
    let (panicked, cancelled) = (panics.id(), dropped.id());
    drop((panics, dropped));
    let mut lives = reader.read().into_iter().flatten().collect::<Vec<RingSlot>>();
    // Other readers, of tests beside this one or of a recorder of the whole system, have more kinds on.
    let asked = [Kind::PollEnd as u16, Kind::TaskEnd as u16];
    lives.retain(|record| {
        [panicked, cancelled].contains(&record.task) && asked.contains(&record.kind)
    });
    let lives: Vec<_> = lives.iter().map(|record| (record.task, record.kind, record.aux)).collect();
    assert_eq!(
        lives,
        [
            (panicked, Kind::PollEnd as u16, POLL_PANICKED as u16),
            (panicked, Kind::TaskEnd as u16, END_PANICKED as u16),
            (cancelled, Kind::TaskEnd as u16, END_CANCELLED as u16),
        ]
    );
}

#[test]
fn a_poll_may_be_told_in_halves_and_within_another() {
    let mut reader = reader();
    reader.lease(&[Kind::PollEnd, Kind::TaskEnd]);
    let (outer, inner) = (spawned(None), spawned(None));
    let around_outer = outer.poll_begin();
    let around_inner = inner.poll_begin();
    assert_eq!(probe::current_task(), inner.id());
    inner.poll_end(around_inner, PollEnd::Over);
    assert_eq!(probe::current_task(), outer.id());
    outer.poll_end(around_outer, PollEnd::Pending);
    assert_eq!(probe::current_task(), 0);
    let inner_id = inner.id();
    drop(inner);
    let mut records = of_task(&mut reader, inner_id);
    records.retain(|record| [Kind::PollEnd as u16, Kind::TaskEnd as u16].contains(&record.0));
    assert_eq!(
        records,
        [
            (Kind::PollEnd as u16, POLL_OVER as u16, NO_WORKER, 0),
            (Kind::TaskEnd as u16, END_UNKNOWN as u16, NO_WORKER, 1),
        ]
    );
}

#[test]
fn a_process_offers_what_any_of_its_runtimes_can_tell() {
    let reader = reader();
    let all = all_runtime_kinds().iter().fold(0, |mask, kind| mask | kind.runtime_bit());
    assert_eq!(reader.page().offered_kinds, all, "nobody has said anything");
    probe::offer(&[Kind::Park]);
    probe::offer(&[Kind::Steal]);
    let both = Kind::Park.runtime_bit() | Kind::Steal.runtime_bit();
    assert_eq!(reader.page().offered_kinds, both);
}

#[test]
fn who_wakes_is_the_running_task_or_the_thread() {
    let mut reader = reader();
    reader.lease(&[Kind::TaskWake]);
    let (waker, woken) = (spawned(None), spawned(None));
    let _ = woken.poll(|| Poll::<()>::Pending);
    let _ = waker.poll(|| {
        woken.task().woken();
        Poll::<()>::Pending
    });
    woken.task().woken();
    let mut wakes = of_task(&mut reader, woken.id());
    wakes.retain(|record| record.0 == Kind::TaskWake as u16);
    assert_eq!(
        wakes,
        [
            (Kind::TaskWake as u16, WAKE_TASK as u16, 0, waker.id()),
            (Kind::TaskWake as u16, WAKE_THREAD as u16, 0, 0),
        ]
    );
}

#[test]
fn the_directory_follows_a_task() {
    let reader = reader();
    let task = spawned(Some("walker"));
    let id = task.id();
    task.future_at(0x1234);
    let state = |reader: &Reader| (entry(reader, id).expect("entry").state & STATE_MASK) as u32;
    let fresh = entry(&reader, id).expect("an entry");
    assert_eq!((fresh.polls, fresh.future, fresh.priority), (0, 0x1234, 2));
    assert_eq!((fresh.state >> 32) as u32, NO_WORKER);
    assert_eq!(reader.text(fresh.name), "walker");
    task.task().woken();
    assert_eq!(state(&reader), TASK_READY);
    let _ = task.poll(|| {
        assert_eq!(state(&reader), TASK_POLLING);
        probe::waiting(Wait::Timer(777));
        Poll::<()>::Pending
    });
    let idle = entry(&reader, id).expect("an entry");
    assert_eq!((idle.state & STATE_MASK) as u32, TASK_IDLE);
    assert_eq!((idle.wait as u32, idle.wait_value, idle.polls), (WAIT_TIMER, 777, 1));
    assert!(idle.last_poll >= idle.spawned, "{} < {}", idle.last_poll, idle.spawned);
    let _ = task.poll(|| Poll::<()>::Pending);
    assert_eq!(entry(&reader, id).expect("an entry").wait as u32, WAIT_UNKNOWN);
    drop(task);
    assert!(entry(&reader, id).is_none(), "the task is gone, its entry is not");
}

#[test]
fn a_late_wake_up_does_not_touch_the_slot_s_next_task() {
    let reader = reader();
    let first = spawned(None);
    let stale = first.task();
    drop(first);
    // The slot that was given back last is the next that is taken.
    let second = spawned(None);
    stale.woken();
    let slot = entry(&reader, second.id()).expect("an entry");
    assert_eq!((slot.state & STATE_MASK) as u32, TASK_IDLE);
}

#[test]
fn two_readers_at_once_both_get_everything() {
    let (mut one, mut other) = (reader(), reader());
    one.lease(&[Kind::Mark]);
    other.lease(&[Kind::Mark, Kind::TimerFired]);
    one.end_lease();
    probe::timer_fired(0, 1);
    for number in 0..100 {
        probe::mark("both", number);
    }
    let marks = |reader: &mut Reader| {
        let records = reader.read().into_iter().flatten();
        let mine = records.filter(|record| record.kind == Kind::Mark as u16);
        mine.filter(|record| reader.text(record.arg) == "both")
            .map(|record| record.value)
            .collect::<Vec<_>>()
    };
    assert_eq!(marks(&mut one), (0..100).collect::<Vec<_>>());
    assert_eq!(marks(&mut other), (0..100).collect::<Vec<_>>());
}

#[test]
fn a_thread_that_ends_gives_its_ring_back() {
    let mut reader = reader();
    reader.lease(&[Kind::Mark]);
    let rings = reader.page.rings as usize;
    for number in 0..3 * rings as u64 {
        std::thread::spawn(move || probe::mark("short-lived", number)).join().expect("joined");
    }
    let records: Vec<_> = reader.read().into_iter().flatten().collect();
    let owners = records.iter().filter(|record| record.kind == SLOT_OWNER).count();
    assert!(owners >= 3 * rings, "{owners} signatures");
    let mut marks: Vec<u64> = records
        .iter()
        .filter(|record| {
            record.kind == Kind::Mark as u16 && reader.text(record.arg) == "short-lived"
        })
        .map(|record| record.value)
        .collect();
    marks.sort_unstable();
    assert_eq!(marks, (0..3 * rings as u64).collect::<Vec<_>>());
}

#[test]
fn stacks_are_written_once() {
    let reader = reader();
    let stack = [0x1000, 0x2000, 0x3000];
    let number = probe::intern_stack(&stack, false);
    assert_ne!(number, 0);
    assert_eq!(probe::intern_stack(&stack, false), number);
    assert_ne!(probe::intern_stack(&stack, true), number, "a cut stack is another one");
    let slot = reader.stack(number);
    assert_eq!((slot.frames, slot.is_cut), (3, 0));
    assert_eq!(slot.addresses[..3], stack);
    let deep: Vec<u64> = (1..100).collect();
    let cut = reader.stack(probe::intern_stack(&deep, false));
    assert_eq!((cut.frames, cut.is_cut), (30, 1));
}

#[test]
fn a_lease_that_runs_out_turns_its_kinds_off() {
    let mut reader = reader();
    reader.lease(&[Kind::BufferTaken]);
    assert!(probe::is_on(Kind::BufferTaken));
    wait_until("the lease is over", || reader.has_no_lease());
    wait_until("the kind is off", || is_off(&reader, Kind::BufferTaken));
}

#[test]
fn a_lease_without_an_end_is_cut() {
    let mut reader = reader();
    reader.lease(&[Kind::BufferReturned]);
    reader.set_deadline(u64::MAX);
    wait_until("the lease is over", || reader.has_no_lease());
    wait_until("the kind is off", || is_off(&reader, Kind::BufferReturned));
}

#[cfg(feature = "executor")]
#[test]
fn a_task_is_from_the_line_that_spawned_it() {
    let runtime = hz_runtime::Runtime::builder().worker_threads(1).build().expect("a runtime");
    let reader = reader();
    let _entered = runtime.enter();
    let meta = hz_runtime::TaskMeta::default;
    let spawned = [
        (line!(), hz_runtime::spawn(std::future::pending::<()>())),
        (line!(), hz_runtime::spawn_with(meta(), std::future::pending())),
        (line!(), runtime.spawn(std::future::pending())),
        (line!(), runtime.handle().spawn_with(meta(), std::future::pending())),
    ];
    for (line, task) in &spawned {
        let site = reader.site(entry(&reader, task.id()).expect("it lives").site);
        assert_eq!((reader.text(site.file).as_str(), site.line), (file!(), *line));
    }
}
