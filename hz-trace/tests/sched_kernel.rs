//! The kernel probe `sched` in the running kernel, on workloads whose truth the kernel itself
//! counts.

#[path = "support/live.rs"]
mod live;

use hz_trace::{
    analyze::{Culprit, Culprits, culprits_of, summarize, waits_of},
    decode::Event,
    error::TargetError,
    host::clock,
    model::{Model, State, Thread, Waker, Who},
    probe::Selection,
    recording::LedgerRow,
    session::{self, RecordError, Settings, TargetSpec},
};
use live::{
    Recorded, alone, burn, last_cpu, own_process, own_tid, pin, record, record_while, shell,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    net::UdpSocket,
    process::Command,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

/// Two threads that hand a word to each other.
fn ping_pong(rounds: usize) {
    let (there, ping) = mpsc::channel();
    let (back, pong) = mpsc::channel();
    let other = std::thread::spawn(move || {
        for word in ping {
            back.send(word).expect("the other side waits");
        }
    });
    for word in 0..rounds {
        there.send(word).expect("the other side waits");
        assert_eq!(pong.recv(), Ok(word));
    }
    drop(there);
    other.join().expect("it ends when the channel does");
}

fn assert_ledger_balances(recorded: &Recorded) {
    for row in &recorded.outcome.state.ledger {
        let explained = row.submitted + row.filtered + row.ring_full + row.read_failed;
        assert_eq!(row.seen, explained, "{row:?}");
    }
}

fn assert_counts_agree(recorded: &Recorded) -> usize {
    // Some hosts hide a process of theirs from tracing; our own machines do not.
    if std::env::var_os("HZ_VM").is_some() {
        assert_eq!(recorded.model.contradictions, 0);
    }
    let mut compared = 0;
    for thread in recorded.model.threads.iter().filter(|thread| thread.is_target) {
        let (Some(first), Some(last)) = (thread.kernel_first, thread.kernel_last) else { continue };
        let kernel = last.switches - first.switches;
        let off = kernel.abs_diff(thread.switches);
        assert!(
            off <= 1,
            "{} ({}): {} recorded, {kernel} by the kernel",
            thread.name(),
            thread.tid,
            thread.switches
        );
        compared += 1;
    }
    compared
}

/// States of a thread never overlap and sum to its life; at most one thread runs on a CPU.
fn assert_laws(model: &Model) {
    let mut running: BTreeMap<u16, Vec<(u64, u64)>> = BTreeMap::new();
    for thread in model.threads.iter().filter(|thread| !thread.spans.is_empty()) {
        assert!(thread.spans.is_sorted_by(|a, b| a.start_ns < b.start_ns), "{}", thread.tid);
        let sum: u64 = thread.tiles().map(|tile| tile.duration_ns()).sum();
        assert_eq!(sum, thread.end_ns - thread.spans[0].start_ns, "{}", thread.tid);
        for tile in thread.tiles().filter(|tile| tile.span.state == State::Running) {
            running.entry(tile.span.cpu).or_default().push((tile.span.start_ns, tile.end_ns));
        }
    }
    for (cpu, mut intervals) in running {
        intervals.sort_unstable();
        for pair in intervals.windows(2) {
            assert!(pair[0].1 <= pair[1].0, "two threads at once on CPU {cpu}: {pair:?}");
        }
    }
}

fn thread_of(model: &Model, tid: u32) -> &Thread {
    model.threads.iter().find(|thread| thread.tid == tid).expect("the thread was recorded")
}

fn waited_ns(thread: &Thread) -> u64 {
    waits_of(thread).map(|wait| wait.duration_ns()).sum()
}

fn switches_agree_with_the_kernels_counts(settings: &Settings, hook: &str) {
    let _alone = alone();
    let (recorded, ()) = record_while(settings, || {
        ping_pong(2_000);
        let sleepers: Vec<_> = (0..8)
            .map(|_| {
                std::thread::spawn(|| {
                    for _ in 0..20 {
                        std::thread::sleep(Duration::from_micros(300));
                        std::thread::yield_now();
                    }
                })
            })
            .collect();
        sleepers.into_iter().for_each(|thread| thread.join().expect("it only sleeps"));
    });
    assert!(recorded.outcome.meta.probes[0].contains(hook), "{:?}", recorded.outcome.meta.probes);
    // Nine that were born and died in the recording, and those that were there before and after.
    assert!(assert_counts_agree(&recorded) >= 11);
    let ended = recorded.model.threads.iter().filter(|thread| thread.has_exited);
    assert!(ended.filter(|thread| thread.kernel_last.is_some()).count() >= 9);
    assert_laws(&recorded.model);
    assert_ledger_balances(&recorded);
    assert_eq!(recorded.outcome.state.lost(), 0, "{:?}", recorded.outcome.state.ledger);
    assert_eq!(recorded.recording.record_count(), recorded.outcome.state.received);
}

#[test]
#[ignore = "needs CAP_BPF"]
fn switches_agree_with_the_kernels_counts_on_btf_tracepoints() {
    switches_agree_with_the_kernels_counts(&own_process(), "tp_btf");
}

#[test]
#[ignore = "needs CAP_BPF"]
fn switches_agree_with_the_kernels_counts_on_raw_tracepoints() {
    let settings = Settings { prefer_raw: true, ..own_process() };
    switches_agree_with_the_kernels_counts(&settings, "raw_tp");
}

/// `/proc`'s own count of the calling thread's switches.
fn own_switches() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("procfs is mounted");
    let counts = status.lines().filter(|line| line.contains("ctxt_switches"));
    let counts = counts.filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok());
    counts.sum()
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_live_threads_switches_agree_with_proc() {
    let _alone = alone();
    // The workload's thread is born in the recording and lives when it is asked.
    let (recorded, (tid, by_proc, until_ns)) = record_while(&own_process(), || {
        ping_pong(1_000);
        (own_tid(), own_switches(), clock::monotonic_ns())
    });
    let left = |event: &Event| match event {
        Event::Switch(switch) => switch.header.tid == tid && switch.header.time_ns <= until_ns,
        _ => false,
    };
    let events = recorded.recording.events().map(|event| event.expect("a record"));
    let switches = events.filter(left).count() as u64;
    assert!(switches > 500, "only {switches} switches");
    assert!(switches.abs_diff(by_proc) <= 1, "{switches} recorded, {by_proc} by /proc");
}

#[test]
#[ignore = "needs CAP_BPF"]
fn the_whole_system_agrees_with_the_kernels_counts() {
    let _alone = alone();
    let settings = Settings::new(TargetSpec::WholeSystem);
    let (recorded, ()) = record_while(&settings, || ping_pong(2_000));
    assert!(assert_counts_agree(&recorded) > 20);
    assert_laws(&recorded.model);
    assert_ledger_balances(&recorded);
    let model = &recorded.model;
    let unknown_ns: u64 = model
        .cpus
        .iter()
        .flat_map(|cpu| model.runs_between(cpu.id, model.start_ns, model.end_ns))
        .filter(|(run, _)| run.who == Who::Unknown)
        .map(|(run, end_ns)| end_ns - run.start_ns)
        .sum();
    assert!(unknown_ns * 100 < model.end_ns - model.start_ns, "{unknown_ns} ns are not recorded");
}

/// Two threads burn one CPU: each one's id, what the kernel says it waited, and until when.
fn two_burners() -> (Recorded, [(u32, u64, u64); 2]) {
    record_while(&own_process(), || {
        let start = Arc::new(Barrier::new(2));
        let burner = |start: Arc<Barrier>| {
            move || {
                pin(last_cpu());
                start.wait();
                burn(Duration::from_millis(1_500));
                // All of its life so far, and when that was.
                (own_tid(), live::run_delay_ns(own_tid()), clock::monotonic_ns())
            }
        };
        let threads = [0, 1].map(|_| std::thread::spawn(burner(Arc::clone(&start))));
        threads.map(|thread| thread.join().expect("it only burns"))
    })
}

#[test]
#[ignore = "needs CAP_BPF"]
fn two_burners_on_one_cpu_wait_as_long_as_the_kernel_says() {
    let _alone = alone();
    let (recorded, burners) = two_burners();
    assert_laws(&recorded.model);
    for (tid, kernel_ns, until_ns) in burners {
        let thread = thread_of(&recorded.model, tid);
        let waits = waits_of(thread).take_while(|wait| wait.end_ns <= until_ns);
        let waited_ns: u64 = waits.map(|wait| wait.duration_ns()).sum();
        // A host that hides a process from tracing hides its switches to the burners too. A wait
        // that ended so is of unknown length; on other hosts there is none.
        let unknown = thread.tiles().filter(|tile| tile.span.state == State::Unknown);
        let unknown_ns: u64 = unknown.map(|tile| tile.duration_ns()).sum();
        let said = format!(
            "burner {tid}: {waited_ns} ns, {unknown_ns} ns unknown; kernel: {kernel_ns} ns"
        );
        println!("{said}");
        assert!(kernel_ns > 500_000_000, "{said}");
        assert!(unknown_ns == 0 || recorded.model.contradictions > 0, "{said}");
        assert!(unknown_ns * 5 < kernel_ns, "{said}");
        assert!(waited_ns < kernel_ns + kernel_ns / 100, "{said}");
        assert!(waited_ns + unknown_ns > kernel_ns - kernel_ns / 100, "{said}");
    }
}

#[test]
#[ignore = "needs CAP_BPF"]
fn who_had_the_cpu_is_named_though_it_is_not_of_the_target() {
    let _alone = alone();
    let (recorded, (tid, hog)) = record_while(&own_process(), || {
        pin(last_cpu());
        let hog = shell("while :; do :; done");
        let waits = Duration::from_millis(300);
        burn(waits);
        std::thread::sleep(Duration::from_millis(50));
        burn(waits);
        (own_tid(), hog.0.id())
    });
    let thread = thread_of(&recorded.model, tid);
    let mut all = Culprits::default();
    for wait in waits_of(thread) {
        let culprits = culprits_of(&recorded.model, thread, &wait);
        // All of the wait is explained: threads, nobody, or not recorded.
        let ran_ns: u64 = culprits.ran.iter().map(|culprit| culprit.ran_ns).sum();
        assert_eq!(ran_ns + culprits.idle_ns + culprits.unknown_ns, wait.duration_ns());
        all.add(&culprits);
    }
    let waited_ns = waited_ns(thread);
    assert!(waited_ns > 100_000_000, "it waited only {waited_ns} ns");
    assert!(all.unknown_ns * 100 < waited_ns, "{} of {waited_ns} ns are unknown", all.unknown_ns);
    let named = |culprit: &&Culprit| recorded.model.thread(culprit.thread).tid == hog;
    let culprit = all.ran.iter().find(named).expect("the hog is among the culprits");
    let hog = recorded.model.thread(culprit.thread);
    assert_eq!((hog.name().as_str(), hog.is_target), ("sh", false));
    // Others may be busy on that CPU too, but the hog gets its fair share.
    assert!(culprit.ran_ns * 5 > waited_ns, "{culprit:?} of {waited_ns} ns");
    assert_ledger_balances(&recorded);
}

#[test]
#[ignore = "needs CAP_BPF"]
fn foreign_switches_cost_no_record_while_nobody_waits() {
    let _alone = alone();
    // Processes that are not of the target keep switching; the target sleeps.
    let (recorded, ()) = record_while(&own_process(), || {
        let mut busy = shell("i=0; while [ $i -lt 400 ]; do (:) ; i=$((i+1)); done");
        busy.0.wait().unwrap();
    });
    let row = recorded.outcome.state.ledger.iter().find(|row| row.site == "switch").unwrap();
    assert!(row.filtered > 400, "{row:?}");
    // The target is this process, and what reads the rings belongs to it.
    assert!(row.submitted * 2 < row.filtered, "{row:?}");
}

#[test]
#[ignore = "needs CAP_BPF"]
fn children_are_followed_unless_told_otherwise() {
    let _alone = alone();
    for follow_children in [true, false] {
        let settings = Settings { follow_children, ..own_process() };
        let (recorded, (child, has_ended)) = record_while(&settings, || {
            let mut child = shell("sleep 0.1 & sleep 0.2; wait; :");
            (child.0.id(), child.0.wait().unwrap().success())
        });
        assert!(has_ended);
        let of_child = |thread: &&Thread| thread.is_target && thread.pid == child;
        let grandchildren = |thread: &&Thread| thread.is_target && thread.name() == "sleep";
        let threads = &recorded.model.threads;
        assert_eq!(threads.iter().any(|thread| of_child(&thread)), follow_children);
        let sleeps = threads.iter().filter(grandchildren).count();
        assert_eq!(sleeps, if follow_children { 2 } else { 0 });
        assert_counts_agree(&recorded);
    }
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_command_is_recorded_from_before_its_first_instruction_to_its_end() {
    let _alone = alone();
    let script = "sleep 0.05; exit 3";
    let command = ["sh", "-c", script].map(str::to_owned).to_vec();
    let recorded = record(&Settings::new(TargetSpec::Command(command)));
    let status = recorded.outcome.command_status.expect("it has ended");
    assert_eq!(status.code(), Some(3));
    let shell = recorded.model.threads.iter().find(|thread| thread.name() == "sh").expect("sh");
    assert!(shell.has_exited);
    assert!(shell.kernel_first.is_some_and(|first| first.time_ns <= shell.spans[0].start_ns));
    assert!(
        recorded.model.threads.iter().any(|thread| thread.is_target && thread.name() == "sleep")
    );
    assert_counts_agree(&recorded);
    assert_laws(&recorded.model);
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_control_group_is_recorded_with_all_below_it_and_nothing_else() {
    let _alone = alone();
    let mounts = procfs::process::Process::myself().unwrap().mountinfo().unwrap();
    let Some(mount) = mounts.0.iter().find(|mount| mount.fs_type == "cgroup2") else {
        println!("skipped: no cgroup v2 hierarchy is mounted here");
        return;
    };
    let outer = mount.mount_point.join(format!("hz-test-{}", std::process::id()));
    let inner = outer.join("inner");
    std::fs::create_dir_all(&inner).unwrap();
    let settings = Settings::new(TargetSpec::Cgroup(outer.clone()));
    let procs = inner.join("cgroup.procs");
    let (recorded, inside) = record_while(&settings, move || {
        // The colon: some shells become their last command.
        let script = format!("echo $$ > {}; sleep 0.1; sleep 0.1; :", procs.display());
        let mut inside = shell(&script);
        let mut outside = shell("sleep 0.1; sleep 0.1; :");
        inside.0.wait().unwrap();
        outside.0.wait().unwrap();
        inside.0.id()
    });
    live::wait_until("the group to be empty", || std::fs::remove_dir(&inner).is_ok());
    std::fs::remove_dir(&outer).unwrap();
    let targets: Vec<_> = recorded.model.threads.iter().filter(|thread| thread.is_target).collect();
    assert!(targets.iter().any(|thread| thread.tid == inside), "the shell was not recorded");
    let sleeps = targets.iter().filter(|thread| thread.name() == "sleep").count();
    assert_eq!(
        (targets.len(), sleeps),
        (3, 2),
        "{:?}",
        targets.iter().map(|each| each.name()).collect::<Vec<_>>()
    );
    assert_ledger_balances(&recorded);
}

#[test]
#[ignore = "needs CAP_BPF"]
fn the_kernel_ran_the_programs_as_often_as_the_ledger_says() {
    let _alone = alone();
    let settings = Settings { always_measure: true, ..own_process() };
    let (recorded, ()) = record_while(&settings, || ping_pong(500));
    let state = &recorded.outcome.state;
    if state.bpf.iter().all(|each| each.measured_runs == 0) {
        println!("skipped: this kernel does not let us measure programs");
        return;
    }
    for program in ["sched_switch", "sched_waking", "sched_wakeup", "sched_migrate_task"] {
        let fired = state.bpf.iter().find(|each| each.program == program).expect("it ran");
        let site = program.trim_start_matches("sched_").trim_end_matches("_task");
        let row = state.ledger.iter().find(|row| row.site == site).expect("it has a row");
        // `measured_runs` does not count the runs that the kernel skipped.
        assert_eq!(fired.measured_runs, row.seen, "{program}: {fired:?}, {row:?}");
    }
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_full_ring_is_counted_and_shown_where_it_happened() {
    let _alone = alone();
    let settings = Settings { ring_bytes: 1, ..own_process() };
    let (recorded, ()) = record_while(&settings, || {
        pin(last_cpu());
        ping_pong(20_000);
        // Room again, so that what was lost can be said.
        std::thread::sleep(Duration::from_millis(100));
    });
    let state = &recorded.outcome.state;
    let full: u64 = state.ledger.iter().map(|row| row.ring_full).sum();
    assert!(full > 1_000, "a ring of one page was big enough: {:?}", state.ledger);
    assert_ledger_balances(&recorded);
    let lost = recorded.model.cpus.iter().flat_map(|cpu| &cpu.lost);
    let said: u64 = lost.map(|interval| interval.count).sum();
    assert!(said <= full && full - said < 2_000, "{said} of {full} were said");
    assert_laws(&recorded.model);
}

/// A disk that takes the beginning of a recording and then stands still until a moment.
struct StalledDisk {
    writes: usize,
    until: Instant,
}

impl Write for StalledDisk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writes += 1;
        // The file's header and the first chunk, which the recorder waits for.
        if self.writes > 2 {
            std::thread::sleep(self.until.saturating_duration_since(Instant::now()));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A disk with room for some bytes.
struct SmallDisk {
    left: usize,
}

impl Write for SmallDisk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self.left.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Stops after a time.
struct After(Instant, Duration);

impl session::Observer for After {
    fn recording(&mut self, _: &hz_trace::recording::Meta) {}
    fn warn(&mut self, _: &str) {}
    fn progress(&mut self, _: &session::Progress) {}
    fn wants_stop(&mut self) -> bool {
        self.0.elapsed() > self.1
    }
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_slow_disk_costs_counted_losses_and_no_memory() {
    let _alone = alone();
    let is_over = Arc::new(AtomicBool::new(false));
    let busy = std::thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || {
            while !is_over.load(Ordering::Relaxed) {
                ping_pong(500);
            }
        }
    });
    let before = hz_trace::host::own_memory_peak_bytes();
    let now = Instant::now();
    let disk = StalledDisk { writes: 0, until: now + Duration::from_secs(8) };
    let mut observer = After(now, Duration::from_secs(7));
    let settings = Settings::new(TargetSpec::WholeSystem);
    let outcome = session::record(&settings, disk, &mut observer).unwrap();
    is_over.store(true, Ordering::Relaxed);
    busy.join().unwrap();
    let grown = hz_trace::host::own_memory_peak_bytes() - before;
    let state = &outcome.state;
    let dropped = state.dropped_by_writer;
    assert!(dropped > 0, "the disk was fast enough: {} records", state.received);
    assert!(dropped < state.received);
    let in_kernel = state.ledger.iter().map(LedgerRow::lost).sum::<u64>();
    let skipped = state.bpf.iter().map(|program| program.skipped_by_kernel).sum::<u64>();
    assert_eq!(state.lost(), dropped + in_kernel + skipped);
    assert!(grown < 150 << 20, "memory grew by {grown} bytes");
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_full_disk_ends_the_recording_with_its_error() {
    let _alone = alone();
    let mut observer = After(Instant::now(), Duration::from_secs(20));
    let settings = Settings::new(TargetSpec::WholeSystem);
    let disk = SmallDisk { left: 6_000 };
    let error = session::record(&settings, disk, &mut observer).unwrap_err();
    let RecordError::Write(error) = error else { panic!("{error}") };
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}

#[test]
#[ignore = "needs CAP_BPF"]
fn without_sched_threads_have_names_and_nothing_is_said_of_their_time() {
    let _alone = alone();
    let probes = Selection::none().with("runtime").unwrap();
    let command = ["sh", "-c", "sleep 0.1; exec sleep 0.2"].map(str::to_owned).to_vec();
    let recorded = record(&Settings { probes, ..Settings::new(TargetSpec::Command(command)) });
    let model = &recorded.model;
    let targets: Vec<_> = model.threads.iter().filter(|thread| thread.is_target).collect();
    assert!(targets.iter().any(|thread| thread.name() == "sleep"), "{targets:?}");
    let tiles = targets.iter().flat_map(|thread| thread.tiles());
    let known: Vec<_> = tiles.filter(|tile| tile.span.state != State::Unknown).collect();
    assert!(known.is_empty(), "{known:?}");
    assert_eq!((model.switches, model.contradictions), (0, 0));
    let meta = &recorded.recording.meta;
    let state = &recorded.outcome.state;
    let summary = summarize(meta, state, model);
    assert!(!summary.has_switches);
    assert!(summary.cpus.is_empty(), "{:?}", summary.cpus);
    assert_eq!(summary.check.threads, 0, "{:?}", summary.check);
    assert_eq!(summary.run_queue_wait.count, 0);
    let reason = "switches, wake-ups and waits for a CPU: not among --probes";
    assert!(summary.not_collected.iter().any(|each| each == reason), "{summary:?}");
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_process_that_ends_ends_its_recording() {
    let _alone = alone();
    let target = shell("sleep 0.3");
    // Reaps it, as its parent in the field would.
    let pid = target.0.id();
    let reaper = std::thread::spawn(move || {
        let mut target = target;
        target.0.wait()
    });
    let recorded = record(&Settings::new(TargetSpec::Pids(vec![pid])));
    reaper.join().unwrap().unwrap();
    let because = &recorded.outcome.state.ended_because;
    assert!(because.starts_with(&format!("pid {pid} ended after")), "{because}");
    assert!(recorded.recording.is_complete);
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_target_that_is_not_there_is_named() {
    let _alone = alone();
    let start = |target| {
        session::record(
            &Settings::new(target),
            io::sink(),
            &mut After(Instant::now(), Duration::ZERO),
        )
    };
    let mut gone = Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    let error = start(TargetSpec::Pids(vec![gone.id()])).unwrap_err();
    assert!(
        matches!(error, RecordError::Target(TargetError::NoSuchPid { pid }) if pid == gone.id()),
        "{error}"
    );
    let tid = std::thread::spawn(|| {
        let start = |target| {
            session::record(
                &Settings::new(target),
                io::sink(),
                &mut After(Instant::now(), Duration::ZERO),
            )
        };
        start(TargetSpec::Pids(vec![own_tid()])).unwrap_err()
    });
    let error = tid.join().unwrap();
    assert!(matches!(error, RecordError::Target(TargetError::IsAThread { .. })), "{error}");
    let error = start(TargetSpec::Command(vec!["/no/such/program".to_owned()])).unwrap_err();
    assert_eq!(error.to_string(), "cannot start /no/such/program");
    let error = start(TargetSpec::Cgroup("/proc".into())).unwrap_err();
    assert!(matches!(error, RecordError::Target(TargetError::NotACgroup { .. })), "{error}");
}

#[test]
#[ignore = "needs CAP_BPF"]
fn renamed_threads_have_their_last_name() {
    let _alone = alone();
    let (recorded, tid) = record_while(&own_process(), || {
        let named = std::thread::Builder::new().name("evil<\"&\u{1b}".to_owned());
        let thread = named.spawn(|| {
            std::thread::sleep(Duration::from_millis(1));
            own_tid()
        });
        thread.unwrap().join().unwrap()
    });
    assert_eq!(thread_of(&recorded.model, tid).name(), "evil<\"&\u{fffd}");
}

/// Ids of the kernel's programs that have one of our names.
fn programs_of_ours() -> BTreeSet<u32> {
    let ours = |info: &libbpf_rs::query::ProgramInfo| {
        let name = info.name.to_string_lossy();
        name.starts_with("sched_") || name == "snapshot" || name.starts_with("softirq_e")
    };
    libbpf_rs::query::ProgInfoIter::default().filter(ours).map(|info| info.id).collect()
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_killed_recorder_leaves_a_readable_file_and_nothing_in_the_kernel() {
    let _alone = alone();
    let before = programs_of_ours();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("killed.hzt");
    let mut recorder = Command::new(live::hz_trace())
        .args(["record", "-q", "-a", "-o"])
        .arg(&path)
        .spawn()
        .unwrap();
    let partial = directory.path().join("killed.hzt.partial");
    let has_records = || std::fs::metadata(&partial).is_ok_and(|file| file.len() > 12_000);
    live::wait_until("some records", has_records);
    let attached: BTreeSet<u32> = programs_of_ours().difference(&before).copied().collect();
    assert!(!attached.is_empty(), "nothing was attached");
    recorder.kill().unwrap();
    recorder.wait().unwrap();
    live::wait_until("the kernel to forget it", || programs_of_ours().is_disjoint(&attached));
    let recording = hz_trace::recording::Recording::open(&partial).unwrap();
    assert!(!recording.is_complete);
    assert!(recording.record_count() > 0);
    assert!(recording.events().all(|event| event.is_ok()));
    let report = Command::new(live::hz_trace()).arg("report").arg(&partial).output().unwrap();
    assert!(report.status.success());
    let said = String::from_utf8_lossy(&report.stderr);
    assert!(said.contains("was not ended properly"), "{said}");
}

#[test]
#[ignore = "needs CAP_BPF"]
fn interrupts_take_time_and_wake_threads() {
    let _alone = alone();
    let (recorded, tid) = record_while(&own_process(), || {
        let (here, there) = (udp_socket(), udp_socket());
        let target = there.local_addr().expect("it is bound");
        let receiver = std::thread::spawn(move || {
            let mut word = [0; 8];
            for _ in 0..3_000 {
                there.recv(&mut word).expect("the other side sends");
            }
            own_tid()
        });
        let mut sent = 0;
        while !receiver.is_finished() {
            here.send_to(&[7; 8], target).expect("loopback takes it");
            sent += 1;
            if sent % 8 == 0 {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        receiver.join().expect("it received")
    });
    let wakers = |thread: &Thread| waits_of(thread).map(|wait| wait.waker).collect::<Vec<_>>();
    let receiver = wakers(thread_of(&recorded.model, tid));
    assert!(receiver.contains(&Waker::SoftIrq), "nobody was woken by a packet");
    let mut all = recorded.model.threads.iter().filter(|thread| thread.is_target).flat_map(wakers);
    assert!(all.any(|waker| waker == Waker::HardIrq), "nobody was woken by a timer");
    let model = &recorded.model;
    let taken = || model.cpus.iter().flat_map(|cpu| &cpu.interrupts);
    let soft_ns: u64 = taken().map(|time| time.soft_ns).sum();
    let hard_ns: u64 = taken().map(|time| time.hard_ns).sum();
    let whole_ns = (model.end_ns - model.start_ns) * model.cpus.len() as u64;
    assert!(soft_ns > 0 && hard_ns > 0, "soft {soft_ns} ns, hard {hard_ns} ns");
    assert!(soft_ns + hard_ns < whole_ns, "soft {soft_ns} ns, hard {hard_ns} ns of {whole_ns} ns");
}

fn udp_socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback is up");
    // A datagram that is lost must not hang the test.
    socket.set_read_timeout(Some(live::PATIENCE)).expect("it is a socket");
    socket
}

#[test]
#[ignore = "needs CAP_BPF"]
fn user_probes_are_in_place_before_a_commands_first_instruction() {
    let _alone = alone();
    let binary = live::hz_trace().display().to_string();
    let script = format!("exec '{binary}' probes >/dev/null");
    let command = ["sh", "-c", &script].map(str::to_owned).to_vec();
    let uprobes = vec![format!("{binary}:main%return").parse().expect("a probe")];
    let settings = Settings { uprobes, ..Settings::new(TargetSpec::Command(command)) };
    let recorded = record(&settings);
    let calls = &recorded.model.calls;
    assert_eq!(
        (calls.len(), recorded.outcome.meta.uprobes.as_slice()),
        (1, &["main".to_owned()][..])
    );
    assert!(calls[0].end_ns.is_some_and(|end_ns| end_ns > calls[0].start_ns), "{calls:?}");
}

#[test]
#[ignore = "needs CAP_BPF"]
fn what_doctor_says_of_each_probe_is_what_happens() {
    let _alone = alone();
    let doctor = Command::new(live::hz_trace()).args(["doctor", "--json"]).output().unwrap();
    assert_eq!(doctor.status.code(), Some(0), "{}", String::from_utf8_lossy(&doctor.stdout));
    let said: serde_json::Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let finding = |name: &str| {
        let probes = said["probes"].as_array().unwrap();
        probes.iter().find(|probe| probe["probe"] == name).unwrap().clone()
    };
    let sched = finding("sched");
    let (recorded, ()) = record_while(&own_process(), || ping_pong(100));
    let meta = &recorded.outcome.meta;
    assert_eq!(meta.probes[0], format!("sched ({})", sched["hook"].as_str().unwrap()));
    let not_collected: Vec<&str> = sched["not_collected"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|each| each.as_str())
        .collect();
    assert_eq!(meta.not_collected, not_collected);
    for fallback in sched["fallbacks"].as_array().unwrap() {
        assert_eq!(fallback, "raw_tp");
        let settings = Settings { prefer_raw: true, ..own_process() };
        let (recorded, ()) = record_while(&settings, || ping_pong(100));
        assert_eq!(recorded.outcome.meta.probes[0], "sched (raw_tp)");
        assert!(recorded.model.switches > 0);
    }
    let spec = format!("{}:sched_kernel::probed", std::env::current_exe().unwrap().display());
    assert_eq!(finding("uprobe")["hook"], "uprobe");
    let settings = Settings { uprobes: vec![spec.parse().unwrap()], ..own_process() };
    let (recorded, ()) =
        record_while(&settings, || (0..7).for_each(|call| assert_eq!(probed(call), call + 1)));
    assert_eq!(recorded.model.calls.len(), 7);
    assert_eq!(finding("usdt")["hook"], "uprobe with a semaphore");
    let runtime = finding("runtime");
    assert_eq!(
        (&runtime["hook"], &runtime["not_collected"]),
        (&"shared rings".into(), &serde_json::json!([]))
    );
}

/// What a user probe is put on.
#[inline(never)]
fn probed(value: u64) -> u64 {
    std::hint::black_box(value) + 1
}
