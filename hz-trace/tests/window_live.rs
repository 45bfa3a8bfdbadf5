//! Windows made of the kernel's sums, beside those made of a recording of the same workload.

#![expect(clippy::unwrap_used, reason = "a test dies where it fails, its helpers too")]

#[path = "support/live.rs"]
#[expect(dead_code, reason = "other tests need the rest")]
mod live;
#[path = "support/workload.rs"]
mod workload;

use hz_trace::{
    live::{Watch, WatchSettings},
    model::window::{Histogram, Window, WindowFolder},
    session::{Settings, TargetSpec},
};
use live::{
    Reaped, Recorded, alone, burn, last_cpu, own_tid, pin, record_while, run_delay_ns, shell,
    wait_until,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use workload::Workload;

fn watch(target: TargetSpec) -> Watch {
    let settings = WatchSettings { target, follow_children: true, may_use_bpf: true };
    Watch::start(&settings).unwrap()
}

/// Folds what a recording has of the time that a window was made of.
fn replayed(recorded: &Recorded, live: &Window) -> Window {
    let meta = &recorded.recording.meta;
    let mut folder = WindowFolder::new(meta.start_ns, meta.start_realtime_ns, meta.cpus);
    let mut has_begun = false;
    for event in recorded.recording.events().map(Result::unwrap) {
        if !has_begun && event.header().time_ns > live.start_ns {
            has_begun = true;
            folder.close(live.start_ns);
        }
        if event.header().time_ns > live.end_ns {
            break;
        }
        folder.fold(&event);
    }
    folder.close(live.end_ns)
}

/// How far apart two figures are, in percent of the larger.
fn apart(a: u64, b: u64) -> f64 {
    a.abs_diff(b) as f64 * 100.0 / a.max(b).max(1) as f64
}

/// Somebody to wait for on the last CPU, for so long at once that nobody else is to blame for the worst
/// wait there: not the kernel's threads, nor a process that this host hides from tracing.
fn start_neighbour(rest: &str) -> Reaped {
    let cpu = last_cpu();
    shell(&format!(
        "exec chrt -f 1 taskset -c {cpu} \
         sh -c 'while :; do i=0; while [ $i -lt 30000 ]; do i=$((i + 1)); done; sleep {rest}; done'"
    ))
}

#[test]
#[ignore = "needs CAP_BPF"]
fn the_kernels_sums_and_a_recording_make_the_same_window() {
    let _alone = alone();
    pin(0);
    let neighbour = start_neighbour("0.1");
    let worker = shell(&format!(
        "taskset -cp {} $$ >/dev/null; \
         i=0; while [ $i -lt 4000 ]; do /bin/true; i=$((i + 1)); done & \
         while :; do sleep 0.002; j=0; while [ $j -lt 300 ]; do j=$((j + 1)); done; done",
        last_cpu()
    ));
    let pid = worker.0.id();
    let (recorded, window) = record_while(&Settings::new(TargetSpec::Pids(vec![pid])), move || {
        let mut watch = watch(TargetSpec::Pids(vec![pid]));
        // The first one begins before all is attached.
        watch.next(Duration::from_millis(200), || false);
        watch.next(Duration::from_millis(1_500), || false)
    });
    drop((worker, neighbour));
    let recording = replayed(&recorded, &window);
    let shell = window.thread(pid).unwrap();
    let same = recording.thread(pid).unwrap();
    assert!(shell.run_ns > 1_000_000, "{shell:?}");
    assert!(apart(shell.run_ns, same.run_ns) < 1.0, "{shell:?}\n{same:?}");
    assert!(
        shell.wait_ns().abs_diff(same.wait_ns()) < 2_000_000 + shell.wait_ns() / 50,
        "{shell:?}\n{same:?}"
    );
    assert!(shell.yields.abs_diff(same.yields) <= 2 + same.yields / 50, "{shell:?}\n{same:?}");
    assert!(shell.preemptions.abs_diff(same.preemptions) <= 2, "{shell:?}\n{same:?}");
    assert_eq!(shell.name, same.name);
    let (live, folded) = (window.waits.count(), recording.waits.count());
    assert!(live > 500, "{live} waits");
    assert!(apart(live, folded) < 2.0, "{live} waits live, {folded} recorded");
    for share in [0.5, 0.99] {
        let (live, folded) = (window.waits.quantile_ns(share), recording.waits.quantile_ns(share));
        assert!(apart(live, folded) < 30.0, "{share}: {live} {folded}");
    }
    let (_, worst) = window.worst_wait().unwrap();
    let (_, same) = recording.worst_wait().unwrap();
    assert!(apart(worst.wait_ns, same.wait_ns) < 5.0, "{worst:?} {same:?}");
    assert_eq!(worst.by_tid, same.by_tid, "{worst:?} {same:?}");
    assert_eq!(window.lost(), 0, "{:?}", window.ledger);
}

#[test]
#[ignore = "needs CAP_BPF"]
fn figures_agree_with_the_kernels_own() {
    let _alone = alone();
    // Whoever watches is not who is waited for.
    pin(0);
    let neighbour = start_neighbour("0.003");
    let is_over = Arc::new(AtomicBool::new(false));
    let (tid_sender, tids) = std::sync::mpsc::channel();
    let stop = Arc::clone(&is_over);
    let burner = std::thread::spawn(move || {
        pin(last_cpu());
        tid_sender.send(own_tid()).unwrap();
        while !stop.load(Ordering::Relaxed) {
            burn(Duration::from_millis(1));
            std::thread::sleep(Duration::from_micros(200));
        }
    });
    let tid = tids.recv().unwrap();
    let mut watch = watch(TargetSpec::Pids(vec![std::process::id()]));
    watch.next(Duration::from_millis(200), || false);
    let (before, cpu_before) = (run_delay_ns(tid), run_ns(tid));
    let window = watch.next(Duration::from_secs(2), || false);
    let (waited, ran) = (run_delay_ns(tid) - before, run_ns(tid) - cpu_before);
    is_over.store(true, Ordering::Relaxed);
    burner.join().unwrap();
    drop(neighbour);
    let row = window.thread(tid).unwrap();
    assert!(apart(row.run_ns, ran) < 3.0, "{} ms here, {ran} there", row.run_ns);
    assert!(apart(row.wait_ns(), waited) < 5.0, "{} here, {waited} there", row.wait_ns());
    assert!(
        row.place_ns[last_cpu()] == row.run_ns || apart(row.place_ns[last_cpu()], row.run_ns) < 1.0,
        "{row:?}"
    );
    let busy: u64 =
        window.cpus.iter().filter(|row| row.cpu == last_cpu() as u32).map(|row| row.busy_ns).sum();
    assert!(busy > window.length_ns() / 10 * 9, "{busy} of {}", window.length_ns());
    let wait = row.wait.as_ref().unwrap();
    assert_eq!(wait.by, "sh", "{wait:?}");
}

fn run_ns(tid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/self/task/{tid}/schedstat")).unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_sleep_is_told_by_its_system_call_and_a_wait_for_work_is_not() {
    let _alone = alone();
    let sleeper = shell("while :; do sleep 0.05; done");
    let mut watch = watch(TargetSpec::Pids(vec![sleeper.0.id()]));
    let window = watch.next(Duration::from_millis(700), || false);
    let sleeps = window.threads.iter().filter_map(|thread| Some((thread, thread.block.as_ref()?)));
    let slept = sleeps.filter(|(thread, _)| thread.name == "sleep");
    let longest = slept.max_by_key(|(_, block)| block.block_ns).unwrap().1;
    assert!(longest.call.contains("nanosleep"), "{longest:?}");
    assert!(longest.block_ns >= 50_000_000 && longest.block_ns < 400_000_000, "{longest:?}");
}

#[test]
#[ignore = "needs CAP_BPF"]
fn children_belong_to_the_target_and_strangers_do_not() {
    let _alone = alone();
    let target =
        shell("while :; do sh -c 'i=0; while [ $i -lt 5000 ]; do i=$((i + 1)); done'; done");
    let stranger = shell("while :; do :; done");
    let mut watch = watch(TargetSpec::Pids(vec![target.0.id()]));
    let window = watch.next(Duration::from_millis(800), || false);
    let mine = window.threads.iter().filter(|thread| thread.is_target);
    assert!(mine.clone().count() > 2, "{:?}", window.threads);
    let other = window.thread(stranger.0.id()).unwrap();
    assert!(!other.is_target && other.run_ns > 0, "{other:?}");
    assert!(mine.clone().all(|thread| thread.pid != other.pid));
}

#[test]
#[ignore = "needs CAP_BPF"]
fn tasks_of_a_runtime_are_counted_live_as_in_a_recording() {
    let _alone = alone();
    let mut workload = Workload::start();
    workload.ask("spawn 3");
    let pid = workload.pid();
    let settings = Settings::new(TargetSpec::Pids(vec![pid]));
    let (recorded, (window, workload)) = record_while(&settings, move || {
        let mut watch = watch(TargetSpec::Pids(vec![pid]));
        watch.next(Duration::from_millis(100), || false);
        assert_eq!(workload.ask("wait on"), "ok");
        assert_eq!(workload.ask("poll 5000"), "ok");
        (watch.next(Duration::from_millis(300), || false), workload)
    });
    workload.end();
    let polls: u64 = window.groups.iter().map(|group| group.polls).sum();
    assert_eq!(polls, 10_000, "{:?}", window.groups);
    let recording = replayed(&recorded, &window);
    let same: u64 = recording.groups.iter().map(|group| group.polls).sum();
    assert_eq!(polls, same);
    let waits = |window: &Window| {
        let mut all = Histogram::default();
        window.groups.iter().for_each(|group| all.merge(&group.ready));
        all
    };
    assert_eq!(waits(&window).count(), waits(&recording).count());
    let p99 = |window: &Window| waits(window).quantile_ns(0.99);
    assert!(apart(p99(&window), p99(&recording)) < 30.0);
    let busy = |window: &Window| window.groups.iter().map(|group| group.busy_ns).sum::<u64>();
    // The two readers of the rings have their clocks from different pairs of readings.
    assert!(apart(busy(&window), busy(&recording)) < 0.1, "{} {}", busy(&window), busy(&recording));
    assert!(window.tasks.iter().any(|task| !task.name.is_empty() && task.polls_total > 0));
}

#[test]
#[ignore = "needs CAP_BPF"]
fn nothing_stays_attached_when_a_watch_is_dropped() {
    let _alone = alone();
    let watch = watch(TargetSpec::WholeSystem);
    assert!(own_programs() >= 5, "{} programs", own_programs());
    drop(watch);
    wait_until("programs to be detached", || own_programs() == 0);
}

/// BPF programs that this process holds.
fn own_programs() -> usize {
    let infos = std::fs::read_dir("/proc/self/fdinfo").unwrap().flatten();
    let texts = infos.filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    texts.filter(|text| text.contains("prog_id:")).count()
}

#[test]
fn without_privilege_proc_still_tells_of_threads() {
    let burner = shell("while :; do :; done");
    let target = TargetSpec::Pids(vec![burner.0.id()]);
    let settings = WatchSettings { target, follow_children: false, may_use_bpf: false };
    // A window begins where the one before ended, whatever it took to gather that one.
    let began = Instant::now();
    let mut watch = Watch::start(&settings).unwrap();
    watch.next(Duration::from_millis(50), || false);
    let window = watch.next(Duration::from_millis(400), || false);
    assert!(began.elapsed() >= Duration::from_millis(450));
    assert_eq!(window.origin, "proc");
    let row = window.thread(burner.0.id()).unwrap();
    assert!(row.run_ns + row.wait_ns() > 200_000_000, "{row:?}");
    assert!(window.why_not("culprits").is_some_and(|why| why.contains("--no-bpf")));
    assert!(!window.cpus.is_empty());
}
