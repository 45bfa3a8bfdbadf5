//! hz-runtime's executor in recordings of the running kernel: a service under a load that is known, and
//! all that the model must have of it.

#![expect(clippy::unwrap_used, reason = "a test dies where it fails, its helpers too")]

#[path = "support/live.rs"]
#[expect(dead_code, reason = "other tests need the rest")]
mod live;

use hz_trace::{
    analyze::{TaskSummary, summarize_tasks},
    model::{Model, Object, Runtime, State, Task, TaskSpan, TaskState, Thread, Why},
    session::{Settings, TargetSpec},
};
use live::{Reaped, Recorded, alone, record_while};
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, TcpStream},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

/// Requests of each kind that a client sends, by their byte; see `examples/executor_service.rs`.
const KINDS: [u8; 7] = *b"ecbtspm";
const CLIENTS: usize = 4;
const ROUNDS: usize = 25;
/// Requests of one kind.
const EACH: usize = CLIENTS * ROUNDS;
const PARTS: usize = 8;
const MS: u64 = 1_000_000;

/// The example's binary: in `HZ_WORKLOAD_DIR`, or where cargo puts it beside this test.
fn binary() -> PathBuf {
    let beside = || {
        let test = std::env::current_exe().expect("this test has a path");
        test.parent().and_then(|deps| deps.parent()).expect("target/PROFILE/deps").join("examples")
    };
    let directory = std::env::var_os("HZ_WORKLOAD_DIR").map_or_else(beside, PathBuf::from);
    let path = directory.join("executor_service");
    assert!(path.exists(), "{} is missing: cargo build --examples", path.display());
    path
}

struct Service {
    /// Its standard input is open for as long as it is to serve.
    process: Reaped,
    port: u16,
}

impl Service {
    fn start() -> Self {
        let mut command = Command::new(binary());
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut process = Reaped(child.expect("the service starts"));
        let mut line = String::new();
        let out = process.0.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        Self { process, port: line.trim_end().parse().unwrap() }
    }

    fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// Ends it properly: the runtime is dropped.
    fn end(mut self) {
        drop(self.process.0.stdin.take());
        assert!(self.process.0.wait().unwrap().success());
    }
}

/// Clients that send so many rounds of requests, each after the answer to the one before.
fn load(port: u16, kinds: &[u8], rounds: usize) {
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
                stream.set_nodelay(true).unwrap();
                for number in 0..kinds.len() * rounds {
                    if rounds == ROUNDS && number % kinds.len() == 0 {
                        // The service has gone to wait for the next request.
                        std::thread::sleep(Duration::from_millis(3));
                    }
                    // Not all of them the same at once.
                    let sent = [kinds[(number + client) % kinds.len()]];
                    stream.write_all(&sent).unwrap();
                    let mut answer = [0];
                    stream.read_exact(&mut answer).unwrap();
                    assert_eq!(answer, sent);
                }
                // The task of this connection has ended before the service does.
                stream.shutdown(Shutdown::Write).unwrap();
                assert_eq!(stream.read(&mut [0]).unwrap(), 0);
            });
        }
    });
}

/// Records a service from before the first request until it has ended.
fn record_service(kinds: &'static [u8], rounds: usize) -> (Recorded, u32) {
    let service = Service::start();
    let pid = service.pid();
    let settings = Settings::new(TargetSpec::Pids(vec![pid]));
    let (recorded, ()) = record_while(&settings, move || {
        load(service.port, kinds, rounds);
        service.end();
    });
    (recorded, pid)
}

#[track_caller]
fn assert_nothing_lost(recorded: &Recorded) {
    let ledger = &recorded.outcome.state.ledger;
    assert!(ledger.iter().any(|row| row.site == "runtime_ring" && row.submitted > 0), "{ledger:?}");
    for row in ledger {
        let explained = row.submitted + row.filtered + row.ring_full + row.read_failed;
        assert_eq!(row.seen, explained, "{row:?}");
    }
    assert_eq!(recorded.outcome.state.lost(), 0, "{ledger:?}");
}

/// The one runtime that there is.
#[track_caller]
fn runtime_of(model: &Model, pid: u32) -> &Runtime {
    assert_eq!(model.runtimes.len(), 1);
    let runtime = &model.runtimes[0];
    assert_eq!((runtime.pid, runtime.contradictions), (pid, 0));
    assert!(runtime.lost.is_empty(), "{:?}", runtime.lost);
    runtime
}

fn named<'a>(model: &'a Model, name: &str) -> Vec<&'a Task> {
    let indexes = (0..model.tasks.len() as u32).map(hz_trace::model::TaskIndex);
    indexes.filter(|index| model.task_name(*index) == name).map(|index| model.task(index)).collect()
}

/// Times that these tasks were in a state for a reason.
fn count(tasks: &[&Task], state: TaskState, why: Why) -> usize {
    let spans = tasks.iter().flat_map(|task| &task.spans);
    spans.filter(|span| (span.state, span.why) == (state, why)).count()
}

#[track_caller]
fn assert_tiled(model: &Model) {
    for task in model.tasks.iter().filter(|task| !task.spans.is_empty()) {
        let sum: u64 = task.tiles().map(|tile| tile.duration_ns()).sum();
        assert_eq!(sum, task.end_ns - task.spans[0].start_ns, "task {}", task.id);
        // Each poll of it was begun by a wake-up that was told.
        for pair in task.spans.windows(2) {
            let is_polled_unwoken =
                pair[1].state == TaskState::Polling && pair[0].state == TaskState::Idle;
            assert!(!is_polled_unwoken, "task {}: {pair:?}", task.id);
        }
    }
}

/// Workers that the kernel knows by the name the runtime gave them.
#[track_caller]
fn assert_workers(model: &Model, runtime: &Runtime) {
    assert_eq!(runtime.workers.len(), 2);
    for worker in &runtime.workers {
        let [thread] = worker.threads[..] else { unreachable!("{worker:?}") };
        let name = model.thread(thread).name();
        assert_eq!(name, format!("service-{}", worker.number));
        assert!(!worker.depths.is_empty() && !worker.parks.is_empty(), "worker {}", worker.number);
    }
    let polled_by = |task: &Task| -> Vec<_> {
        let polls = task.spans.iter().filter(|span| span.state == TaskState::Polling);
        polls.filter_map(TaskSpan::thread).collect()
    };
    for thread in model.tasks.iter().flat_map(polled_by) {
        assert!(runtime.worker_of(thread).is_some(), "polled by {}", model.thread(thread).name());
    }
}

#[track_caller]
fn assert_wake_ups(model: &Model) {
    let connections = named(model, "connection");
    assert_eq!(connections.len(), CLIENTS);
    // What a connection waits for is what wakes it. What has come before it would wait is no wait, so that
    // a thread that is kept off the CPU makes some of them fewer.
    let whys = [
        (Why::Read, Why::File, EACH / 2),
        (Why::Timer, Why::Timer, EACH / 2),
        (Why::Blocking, Why::Blocking, EACH / 2),
        (Why::Join, Why::Join, EACH / 2),
        (Why::Channel, Why::Channel, EACH / 4),
    ];
    for (waits, woken, least) in whys {
        let pairs = connections.iter().flat_map(|task| task.spans.windows(2));
        let mut its = pairs.filter(|pair| (pair[0].state, pair[0].why) == (TaskState::Idle, waits));
        let count = its.clone().count();
        assert!((least..=EACH * 8).contains(&count), "{waits:?}: {count} waits, {least} expected");
        let is_cause =
            |pair: &[TaskSpan]| (pair[1].state, pair[1].why) == (TaskState::Ready, woken);
        assert!(its.all(is_cause), "not woken by what it waited for: {waits:?}");
    }
    assert!(count(&named(model, "accept"), TaskState::Ready, Why::File) >= 1);
    assert!(count(&named(model, "relay"), TaskState::Ready, Why::Channel) >= EACH / 4);
    // Which file: each connection's own socket.
    let sockets = connections.iter().map(|task| {
        let mut reads = task.spans.iter().filter(|span| span.why == Why::Read);
        let object = reads.next().and_then(TaskSpan::object).unwrap();
        match model.objects[object.0 as usize] {
            Object::File { fd, cookie, .. } => (fd, cookie),
            other => unreachable!("{other:?}"),
        }
    });
    let mut sockets: Vec<_> = sockets.collect();
    sockets.sort_unstable();
    sockets.dedup();
    assert!(sockets.len() == CLIENTS && sockets.iter().all(|(_, cookie)| *cookie != 0));
}

#[track_caller]
fn assert_tasks(model: &Model) {
    let parts = named(model, "part");
    assert_eq!(parts.len(), EACH * PARTS);
    assert_eq!(count(&parts, TaskState::Ready, Why::Spawn), parts.len());
    assert!(parts.iter().all(|part| part.polls == 1 && part.outcome() == Some(Why::Completed)));
    for part in &parts {
        let parent = model.task_name(part.parent.unwrap());
        assert_eq!(parent, "connection");
    }
    let connections = named(model, "connection");
    assert!(connections.iter().all(|task| task.outcome() == Some(Why::Completed)));
    // The runtime was dropped while this one waited.
    let accept = named(model, "accept");
    assert_eq!((accept.len(), accept[0].outcome()), (1, Some(Why::Cancelled)));
}

#[track_caller]
fn assert_pool(model: &Model, runtime: &Runtime) {
    assert_eq!(runtime.blocking.len(), EACH);
    for call in &runtime.blocking {
        let times = [call.queued_ns, call.start_ns, call.end_ns].map(Option::unwrap);
        assert!(times.is_sorted() && times[2] - times[1] >= MS, "{call:?}");
        assert_eq!(model.task_name(call.task.unwrap()), "connection");
        let thread = model.thread(call.thread.unwrap());
        assert_eq!(thread.name(), "service-blockin", "{call:?}");
        let slept = sleeps_in(thread, times[1], times[2]);
        assert!(slept >= MS / 2, "the kernel saw it sleep for {slept} ns");
    }
}

fn sleeps_in(thread: &Thread, start_ns: u64, end_ns: u64) -> u64 {
    let tiles = hz_trace::analyze::tiles_in(thread, start_ns, end_ns);
    tiles.filter(|tile| tile.span.state == State::Sleeping).map(|tile| tile.duration_ns()).sum()
}

/// What the kernel did inside the polls: the service computed and slept for a time that is known.
#[track_caller]
fn assert_kernel_time(summary: &TaskSummary) {
    let time = summary.in_polls;
    assert_eq!(time.total_ns(), summary.polls.total_ns);
    let each = EACH as u64;
    let computed_ns = each * MS * 3 / 10 + each * PARTS as u64 * MS / 10;
    // It computes until the time has passed, on a CPU or not.
    let busy_ns = time.on_cpu_ns + time.waiting_ns + time.not_recorded_ns;
    assert!(busy_ns >= computed_ns, "{time:?}, and it computed for {computed_ns} ns");
    assert!(time.on_cpu_ns >= computed_ns / 10, "{time:?}");
    assert!((each * MS / 2..each * 10 * MS).contains(&time.sleeping_ns), "{time:?}");
    // This host may hide a process of its own, which then has a CPU that nobody told of.
    assert!(time.not_recorded_ns * 20 <= time.total_ns(), "{time:?}");
}

#[track_caller]
fn assert_clocks_agree(summary: &TaskSummary) {
    let check = summary.clock_check;
    assert_eq!(check.contradictions, 0, "{check:?}");
    assert!(check.not_compared * 20 <= check.polls, "{check:?}");
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_service_under_load_is_in_the_model_with_all_that_it_did() {
    let _alone = alone();
    let (recorded, pid) = record_service(&KINDS, ROUNDS);
    assert_nothing_lost(&recorded);
    let model = &recorded.model;
    let runtime = runtime_of(model, pid);
    assert_tiled(model);
    assert_workers(model, runtime);
    assert_tasks(model);
    assert_wake_ups(model);
    assert_pool(model, runtime);
    let stolen: u64 = runtime.steals.iter().map(|steal| steal.count).sum();
    assert!(stolen > 0 && runtime.steals.iter().all(|steal| steal.from != steal.to));
    assert!((EACH / 2..=EACH).contains(&runtime.timers.len()), "{}", runtime.timers.len());
    assert!(runtime.timers.iter().all(|timer| timer.task.is_some()));
    let ended = runtime.requests.iter().filter(|span| span.end_ns.is_some() && span.status == 200);
    assert_eq!(ended.count(), EACH * KINDS.len());
    let summary = summarize_tasks(model, MS).unwrap();
    assert_kernel_time(&summary);
    assert_clocks_agree(&summary);
}

/// Short polls, as many as come: no poll begins or ends on a thread that the kernel has off the CPU.
#[test]
#[ignore = "needs CAP_BPF"]
fn the_clocks_agree_in_every_poll() {
    let _alone = alone();
    let (recorded, pid) = record_service(b"em", 2_000);
    assert_nothing_lost(&recorded);
    let runtime = runtime_of(&recorded.model, pid);
    assert_eq!(runtime.requests.len(), CLIENTS * 2 * 2_000);
    let summary = summarize_tasks(&recorded.model, MS).unwrap();
    assert!(summary.clock_check.polls > 30_000, "{:?}", summary.clock_check);
    assert_clocks_agree(&summary);
}
