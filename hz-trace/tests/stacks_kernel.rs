//! Stacks in recordings of the running kernel, against what their threads know of themselves.

#![expect(clippy::unwrap_used, reason = "a test dies where it fails, its helpers too")]

#[path = "support/emulated.rs"]
mod emulated;
#[path = "support/live.rs"]
#[expect(dead_code, reason = "other tests need the rest")]
mod live;

use emulated::is_emulated;
use hz_probes_ebpf::{
    CpuSample, Kind, MappedFile, Mapping, OFF_LOCK, OFF_PREEMPTED, OFF_RETURN_UNSEEN, OFF_SYSCALL,
    OFF_UNFINISHED, OFF_WOKEN, OFF_WOKEN_BY_INTERRUPT, OffCpu, StackEnd,
};
use hz_trace::{
    decode::Event,
    probe::Selection,
    session::{DEFAULT_SAMPLE_HZ, Settings, TargetSpec},
};
use live::{
    Reaped, Recorded, alone, last_cpu, own_process, own_tid, pin, record, record_while, wait_until,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hint::black_box,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Often enough for figures that do not depend on chance.
const SAMPLE_HZ: u32 = 4999;

/// A whole stack.
#[derive(Clone, Debug)]
struct Stack {
    pid: u32,
    user: Vec<u64>,
    kernel: Vec<u64>,
    user_end: StackEnd,
    guessed: u8,
}

/// What a recording has of stacks.
#[derive(Debug, Default)]
struct Found {
    stacks: HashMap<u64, Stack>,
    samples: Vec<CpuSample>,
    off: Vec<OffCpu>,
    mappings: Vec<Mapping>,
    files: Vec<MappedFile>,
}

fn found(recorded: &Recorded) -> Found {
    let mut found = Found::default();
    let mut parts: HashMap<u64, BTreeMap<u32, hz_probes_ebpf::StackTrace>> = HashMap::new();
    for event in recorded.recording.events().map(Result::unwrap) {
        match event {
            Event::StackTrace(part) => {
                parts.entry(part.id).or_default().insert(part.header.arg, part);
            }
            Event::CpuSample(sample) => found.samples.push(sample),
            Event::OffCpu(off) => found.off.push(off),
            Event::Mapping(mapping) => found.mappings.push(mapping),
            Event::MappedFile(file) => found.files.push(file),
            _ => {}
        }
    }
    for (id, parts) in parts {
        let first = parts.values().next().unwrap();
        let (kernel, user) = (usize::from(first.kernel_frames), usize::from(first.user_frames));
        let addresses: Vec<u64> = parts.values().flat_map(|part| part.addresses).collect();
        let stack = Stack {
            pid: first.header.pid,
            kernel: addresses[..kernel].to_vec(),
            user: addresses[kernel..kernel + user].to_vec(),
            user_end: StackEnd::from_wire(first.user_end).unwrap(),
            guessed: first.guessed_frames,
        };
        found.stacks.insert(id, stack);
    }
    found
}

fn with(probes: &[&str], settings: Settings) -> Settings {
    let probes = probes.iter().try_fold(Selection::none(), |all, name| all.with(name)).unwrap();
    Settings { probes, ..settings }
}

/// Says so, if there is no python3.
fn has_no_python() -> bool {
    let has_none = Command::new("python3").arg("-V").output().is_err();
    if has_none {
        println!("skipped: no python3 here");
    }
    has_none
}

/// CPU time that nobody can trace: of a process 1 that its host hides, and what a hypervisor took.
struct Stolen {
    cpus: usize,
    hidden: Duration,
    stolen: Duration,
}

impl Stolen {
    fn now() -> Self {
        let run = |task: std::io::Result<std::fs::DirEntry>| -> Option<u64> {
            let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse().ok()
        };
        let tasks = std::fs::read_dir("/proc/1/task").unwrap();
        let hidden = Duration::from_nanos(tasks.filter_map(run).sum());
        let text = std::fs::read_to_string("/proc/stat").unwrap();
        // In hundredths of a second, as all of it.
        let stolen = text.lines().next().unwrap().split_whitespace().nth(8).unwrap();
        let stolen = Duration::from_millis(stolen.parse::<u64>().unwrap() * 10);
        Self { cpus: hz_trace::host::online_cpus(), hidden, stolen }
    }

    fn since(&self) -> (Duration, Duration) {
        let now = Self::now();
        (now.hidden.saturating_sub(self.hidden), now.stolen.saturating_sub(self.stolen))
    }
}

fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// Every counter of the ledger explains every run, and nothing was lost.
fn assert_accounted(recorded: &Recorded) {
    let state = &recorded.outcome.state;
    for row in state.ledger.iter().filter(|row| row.seen > 0) {
        let explained = row.submitted + row.filtered + row.ring_full + row.read_failed;
        assert_eq!(row.seen, explained, "{row:?}");
        assert_eq!(row.lost(), 0, "{row:?}");
    }
}

#[inline(never)]
fn work(units: u64) -> u64 {
    let mut sum = 0_u64;
    for unit in 0..units * 20_000 {
        sum = black_box(sum.wrapping_mul(31).wrapping_add(unit));
    }
    sum
}

macro_rules! parts_of_the_work {
    ($($name:ident)*) => {$(
        #[inline(never)]
        fn $name(units: u64) -> u64 {
            black_box(work(units)) ^ black_box(u64::from(line!()) + stringify!($name).len() as u64)
        }
    )*};
}
parts_of_the_work!(sixty thirty ten_of_a_hundred);

/// Whether the stack goes through a function, which is no longer than 256 bytes.
fn goes_through(stack: &Stack, function: fn(u64) -> u64) -> bool {
    let start = function as usize as u64;
    stack.user.iter().any(|address| (start..start + 256).contains(address))
}

#[test]
#[ignore = "needs CAP_BPF"]
fn samples_have_the_shares_of_functions_and_add_up_to_the_cpu_time() {
    let _alone = alone();
    let settings = Settings { sample_hz: SAMPLE_HZ, ..with(&["oncpu"], own_process()) };
    let before = Stolen::now();
    let (recorded, (tid, cpu)) = record_while(&settings, || {
        let (start, before) = (Instant::now(), thread_cpu());
        while start.elapsed() < Duration::from_secs(4) {
            black_box((sixty(6), thirty(3), ten_of_a_hundred(1)));
        }
        (own_tid(), thread_cpu() - before)
    });
    let (hidden, stolen) = before.since();
    let found = found(&recorded);
    assert_accounted(&recorded);
    let own: Vec<_> = found.samples.iter().filter(|sample| sample.header.tid == tid).collect();
    let total: u64 = own.iter().map(|sample| sample.period).sum();
    let ratio = Duration::from_nanos(total).as_secs_f64() / cpu.as_secs_f64();
    // An emulated CPU stands still while the other one runs, and the guest's clock does not.
    assert!(
        is_emulated() || (ratio - 1.0).abs() < 0.02,
        "{total} ns of samples, {cpu:?} of CPU time"
    );
    let share = |function: fn(u64) -> u64| {
        let through =
            own.iter().filter(|sample| goes_through(&found.stacks[&sample.stack], function));
        through.count() as f64 / own.len() as f64 * 100.0
    };
    let shares = [share(sixty), share(thirty), share(ten_of_a_hundred)];
    println!("{shares:?}, {ratio} of the CPU time");
    for (share, expected) in shares.into_iter().zip([60.0, 30.0, 10.0]) {
        assert!((share - expected).abs() < 2.0, "{shares:?}");
    }
    // Every sample's process has told where its code is.
    let pids: BTreeSet<u32> = found.mappings.iter().map(|mapping| mapping.header.pid).collect();
    assert!(own.iter().all(|sample| pids.contains(&sample.header.pid)), "{pids:?}");
    let sample_cost = recorded.outcome.state.bpf.iter().find(|cost| cost.program == "oncpu_sample");
    let skipped = sample_cost.unwrap().skipped_by_kernel;
    if is_emulated() {
        println!("{skipped} samples were due while the emulator ran the other CPU");
        return;
    }
    let due = recorded.outcome.state.ledger.iter().find(|row| row.site == "oncpu_sample");
    let due = due.unwrap().seen + skipped;
    let explained = (hidden + stolen).as_nanos() / u128::from(1_000_000_000 / SAMPLE_HZ);
    let unexplained = u128::from(skipped).saturating_sub(explained);
    println!("{skipped} of {due} samples were skipped: {hidden:?} are hidden, {stolen:?} stolen");
    assert!(
        unexplained * 100 <= u128::from(due),
        "{unexplained} of {due} were skipped for no reason"
    );
}

#[test]
#[ignore = "needs CAP_BPF"]
fn by_frame_pointers_alone_stacks_say_that_they_guess() {
    let _alone = alone();
    let settings = with(&["oncpu"], own_process());
    let settings = Settings { sample_hz: SAMPLE_HZ, has_rows: false, ..settings };
    let (recorded, tid) = record_while(&settings, || {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(500) {
            black_box(work(1));
        }
        own_tid()
    });
    let found = found(&recorded);
    let own = found.samples.iter().filter(|sample| sample.header.tid == tid);
    let stacks: Vec<_> = own.map(|sample| &found.stacks[&sample.stack]).collect();
    assert!(!stacks.is_empty());
    assert!(stacks.iter().all(|stack| stack.user_end == StackEnd::FramePointer), "{:?}", stacks[0]);
    assert!(stacks.iter().all(|stack| usize::from(stack.guessed) == stack.user.len()));
}

/// Of the samples with a user stack: how many there are, the share of those that go to the outermost
/// function without a guess, and how the others end.
fn completeness(found: &Found, pid: Option<u32>) -> (usize, f64, BTreeMap<&'static str, usize>) {
    let (mut all, mut complete, mut ends) = (0, 0, BTreeMap::new());
    for sample in &found.samples {
        let Some(stack) = found.stacks.get(&sample.stack) else { continue };
        if stack.user.is_empty() || pid.is_some_and(|pid| stack.pid != pid) {
            continue;
        }
        all += 1;
        if stack.user_end == StackEnd::Outermost && stack.guessed == 0 {
            complete += 1;
        } else {
            *ends.entry(stack.user_end.tag()).or_insert(0) += 1;
        }
    }
    (all, f64::from(complete) / all.max(1) as f64, ends)
}

fn command(words: &[&str]) -> Settings {
    Settings::new(TargetSpec::Command(words.iter().map(|word| (*word).to_owned()).collect()))
}

#[test]
#[ignore = "needs CAP_BPF"]
fn stacks_of_python_are_complete() {
    let _alone = alone();
    if has_no_python() {
        return;
    }
    let script = "import time,json\nend=time.time()+4\nwhile time.time()<end: json.dumps([{'a':i} for i in range(500)])";
    // It runs already, so that its tables are there when recording begins.
    let child = Reaped(Command::new("python3").args(["-c", script]).spawn().unwrap());
    let has_begun = || {
        std::fs::read_to_string(format!("/proc/{}/maps", child.0.id())).unwrap().contains("json")
    };
    wait_until("python3 to have loaded what it needs", has_begun);
    let settings = with(&["oncpu"], Settings::new(TargetSpec::Pids(vec![child.0.id()])));
    let recorded = record(&Settings { sample_hz: 999, ..settings });
    let found = found(&recorded);
    assert_accounted(&recorded);
    let (all, complete, ends) = completeness(&found, None);
    assert!(all > 300, "{all} samples");
    assert!(complete >= 0.99, "{complete} of {all} are complete, others end by {ends:?}");
    assert!(found.files.iter().any(|file| file.build_id_bytes == 20), "{:?}", found.files);
}

#[test]
#[ignore = "needs CAP_BPF"]
fn time_off_the_cpu_is_the_rest_of_a_threads_time() {
    let _alone = alone();
    let settings = with(&["offcpu"], own_process());
    let before = Stolen::now();
    let (recorded, threads) = record_while(&settings, || {
        let spans = [10_u64, 25, 50].map(|sleep_ms| {
            thread::spawn(move || {
                let (start, before) = (Instant::now(), thread_cpu());
                while start.elapsed() < Duration::from_secs(2) {
                    thread::sleep(Duration::from_millis(sleep_ms));
                    black_box(work(2));
                }
                let (wall, cpu) = (start.elapsed(), thread_cpu() - before);
                (own_tid(), wall.saturating_sub(cpu))
            })
        });
        spans.map(|span| span.join().unwrap())
    });
    let (hidden, stolen) = before.since();
    let found = found(&recorded);
    assert_accounted(&recorded);
    let unseen = found.off.iter().filter(|off| off.header.arg & OFF_RETURN_UNSEEN != 0).count();
    println!("process 1 ran {hidden:?}, {stolen:?} were stolen; {unseen} returns were not seen");
    for (tid, expected) in threads {
        let own: Vec<_> = found.off.iter().filter(|off| off.header.tid == tid).collect();
        let off = Duration::from_nanos(own.iter().map(|off| off.off_ns).sum());
        println!("{tid}: {off:?} recorded, {expected:?} true, {} times", own.len());
        // What a hypervisor takes from a thread that runs is in neither clock: it is not off its CPU.
        let mut bound = expected.mul_f64(0.01) + stolen;
        if is_emulated() {
            // A switch takes so long there, and each clock has it begin elsewhere.
            bound += Duration::from_micros(100) * u32::try_from(own.len()).unwrap();
        }
        assert!(
            off.abs_diff(expected) <= bound,
            "{off:?} recorded, {expected:?} true, {stolen:?} stolen"
        );
        // clock_nanosleep
        let asleep =
            own.iter().filter(|off| off.header.arg & OFF_SYSCALL != 0 && off.syscall == 230);
        assert!(asleep.clone().count() >= 30, "{own:?}");
        let nobody = asleep.clone().filter(|off| off.header.arg & (OFF_PREEMPTED | OFF_WOKEN) == 0);
        assert!(nobody.clone().all(|off| (off.waker_tid, off.runq_ns) == (0, 0)), "{own:?}");
        // Timers wake, on CPUs that others may have: whom they interrupt is no waker. What fires while the
        // hidden process has the CPU is hidden, too.
        let by_timer = asleep.clone().filter(|off| off.header.arg & OFF_WOKEN != 0);
        assert!(
            by_timer.clone().all(|off| off.header.arg & OFF_WOKEN_BY_INTERRUPT != 0),
            "{own:?}"
        );
        let share = hidden.as_secs_f64() / (before.cpus as f64 * 2.0);
        let expected = share * asleep.clone().count() as f64;
        let nobody = nobody.count();
        assert!(
            nobody == 0 || (nobody as f64) < 4.0 + 4.0 * expected,
            "{nobody}, {expected} expected: {own:?}"
        );
        assert!(nobody == 0 || !hidden.is_zero(), "{own:?}");
        for off in asleep.filter(|off| off.header.arg & OFF_PREEMPTED == 0) {
            assert!(off.runq_ns < off.off_ns, "{off:?}");
            let stack = &found.stacks[&off.stack];
            assert!(!stack.kernel.is_empty() && stack.user.len() > 3, "{stack:?}");
            assert_eq!((stack.user_end, stack.guessed), (StackEnd::Outermost, 0), "{stack:?}");
        }
    }
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_thread_that_waits_for_a_lock_names_it_and_who_released_it() {
    let _alone = alone();
    let settings = with(&["offcpu"], own_process());
    let (recorded, (lock, holder, waiter)) = record_while(&settings, || {
        let lock = Arc::new(Mutex::new(0));
        let held = lock.lock().unwrap();
        let theirs = Arc::clone(&lock);
        let waiting = thread::spawn(move || {
            *theirs.lock().unwrap() += 1;
            own_tid()
        });
        thread::sleep(Duration::from_millis(300));
        drop(held);
        let waiter = waiting.join().unwrap();
        // The word that is waited for is in the lock.
        (Arc::as_ptr(&lock) as usize as u64, own_tid(), waiter)
    });
    let found = found(&recorded);
    let is_wait = |off: &&OffCpu| off.header.tid == waiter && off.header.arg & OFF_LOCK != 0;
    let wait = found.off.iter().find(is_wait).expect("the wait was recorded");
    assert!((lock..lock + 16).contains(&wait.args[0]), "{:#x} is not at {lock:#x}", wait.args[0]);
    assert!((250_000_000..400_000_000).contains(&wait.off_ns), "{wait:?}");
    assert_eq!(wait.waker_tid, holder, "{wait:?}");
    assert_eq!(wait.header.arg & OFF_WOKEN_BY_INTERRUPT, 0, "{wait:?}");
    assert!(found.stacks[&wait.waker_stack].user.len() > 3);
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_timer_that_wakes_on_a_busy_cpu_is_told_from_whom_it_interrupts() {
    let _alone = alone();
    let settings = with(&["offcpu"], own_process());
    let (recorded, (sleeper, burner)) = record_while(&settings, || {
        pin(last_cpu());
        let is_over = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&is_over);
        let burner = thread::spawn(move || {
            while !theirs.load(Ordering::Relaxed) {
                black_box(work(1));
            }
            own_tid()
        });
        for _ in 0..100 {
            thread::sleep(Duration::from_millis(5));
        }
        is_over.store(true, Ordering::Relaxed);
        (own_tid(), burner.join().unwrap())
    });
    let found = found(&recorded);
    // clock_nanosleep
    let is_sleep = |off: &&OffCpu| {
        off.header.tid == sleeper && off.syscall == 230 && off.header.arg & OFF_WOKEN != 0
    };
    let asleep: Vec<&OffCpu> = found.off.iter().filter(is_sleep).collect();
    assert!(asleep.len() > 80, "{} sleeps", asleep.len());
    let interrupted = asleep.iter().filter(|off| off.waker_tid == burner).count();
    assert!(interrupted > 20, "{interrupted} of {} interrupted the burner", asleep.len());
    let told = asleep.iter().filter(|off| off.header.arg & OFF_WOKEN_BY_INTERRUPT != 0).count();
    assert_eq!(told, asleep.len(), "{asleep:?}");
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_thread_that_is_off_at_the_end_is_told_and_short_times_are_not() {
    let _alone = alone();
    let settings = with(&["offcpu"], own_process());
    let settings = Settings { off_min: Duration::from_millis(20), ..settings };
    let (recorded, (sleeper, short)) = record_while(&settings, || {
        let (tell, told) = std::sync::mpsc::channel();
        thread::spawn(move || {
            tell.send(own_tid()).unwrap();
            thread::sleep(Duration::from_secs(60));
        });
        let sleeper = told.recv().unwrap();
        for _ in 0..50 {
            thread::sleep(Duration::from_millis(2));
        }
        (sleeper, own_tid())
    });
    let found = found(&recorded);
    let unfinished = found.off.iter().find(|off| off.header.tid == sleeper).unwrap();
    assert!(
        unfinished.header.arg & OFF_UNFINISHED != 0 && unfinished.off_ns > 90_000_000,
        "{unfinished:?}"
    );
    let shorts = found.off.iter().filter(|off| off.header.tid == short && off.off_ns < 20_000_000);
    assert_eq!(shorts.count(), 0);
    let row = recorded.outcome.state.ledger.iter().find(|row| row.site == "offcpu_return").unwrap();
    assert!(row.filtered >= 40, "{row:?}");
}

#[test]
#[ignore = "needs CAP_BPF"]
fn code_that_is_loaded_while_recording_is_told_and_unwound() {
    let _alone = alone();
    if has_no_python() {
        return;
    }
    // The shell becomes another program, in a process of its own.
    let script = "sleep 0.3; python3 -c 'import time,zlib\nend=time.time()+8\nd=b\"x\"*100000\nwhile time.time()<end: zlib.compress(d)'; true";
    let settings = with(&["oncpu"], command(&["sh", "-c", script]));
    let recorded = record(&Settings { sample_hz: 999, ..settings });
    let found = found(&recorded);
    let name = |file: &MappedFile| String::from_utf8_lossy(&file.path).into_owned();
    let zlib =
        found.files.iter().find(|file| name(file).contains("libz.so")).expect("libz was loaded");
    let mapping =
        found.mappings.iter().find(|mapping| mapping.header.arg == zlib.header.arg).unwrap();
    let inside: Vec<_> = found
        .stacks
        .values()
        .filter(|stack| {
            stack.user.first().is_some_and(|pc| (mapping.start..mapping.end).contains(pc))
        })
        .collect();
    assert!(inside.len() > 3, "{} stacks in libz", inside.len());
    let complete = inside.iter().filter(|stack| stack.user_end == StackEnd::Outermost).count();
    // Its table is made meanwhile, by a program that was not optimised.
    assert!(complete > 0, "none of {} is complete", inside.len());
}

#[test]
#[ignore = "needs CAP_BPF"]
fn the_usual_rate_samples_all_threads_of_the_system() {
    let _alone = alone();
    let settings = with(&["oncpu"], Settings::new(TargetSpec::WholeSystem));
    let (recorded, tid) = record_while(&settings, || {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(1) {
            black_box(work(1));
        }
        own_tid()
    });
    let found = found(&recorded);
    assert_accounted(&recorded);
    assert!(found.samples.iter().any(|sample| sample.header.tid == tid));
    let period = 1_000_000_000 / u64::from(DEFAULT_SAMPLE_HZ);
    assert!(found.samples.iter().all(|sample| sample.period == period && sample.header.tid != 0));
    assert!(found.samples.iter().all(|sample| sample.header.kind == Kind::CpuSample as u16));
}
