//! Records in the running kernel, for tests.

use hz_trace::{
    model::Model,
    recording::{Meta, Recording},
    replay::{Range, replay},
    session::{self, Observer, Outcome, Progress, Settings, TargetSpec},
};
use rustix::{
    process::{Pid, Signal, kill_process_group},
    thread::{CpuSet, sched_setaffinity},
};
use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Kernel tests measure the machine they share: one at a time.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a workload once recording has begun, and ends the recording when it is done.
pub(crate) struct Driver<F> {
    work: Option<F>,
    is_done: bool,
}

impl<F: FnOnce()> Observer for Driver<F> {
    fn recording(&mut self, _: &Meta) {}
    fn warn(&mut self, _: &str) {}
    fn progress(&mut self, _: &Progress) {}

    fn wants_stop(&mut self) -> bool {
        // The first question comes when everything is attached.
        if let Some(work) = self.work.take() {
            work();
            self.is_done = true;
        }
        self.is_done
    }
}

/// A recording that was made, and what it says.
pub(crate) struct Recorded {
    pub(crate) outcome: Outcome,
    pub(crate) model: Model,
    pub(crate) recording: Recording,
    _directory: tempfile::TempDir,
}

/// Records while `work` runs on a thread of its own, so that the rings are read meanwhile.
pub(crate) fn record_while<T: Send + 'static>(
    settings: &Settings,
    work: impl FnOnce() -> T + Send + 'static,
) -> (Recorded, T) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("test.hzt");
    let file = fs::File::create(&path).expect("a temporary file");
    let mut observer = InBackground { work: Some(work), running: None, result: None };
    let outcome = session::record(settings, file, &mut observer).expect("recording works here");
    // A recording ends with its target, too, which is before the workload has ended if that ends it.
    let running = observer.running.map(|running| running.join().expect("the workload succeeds"));
    let result = observer.result.or(running).expect("it was run");
    (read(outcome, &path, directory), result)
}

/// Records until the target ends or the duration is over.
pub(crate) fn record(settings: &Settings) -> Recorded {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("test.hzt");
    let file = fs::File::create(&path).expect("a temporary file");
    let mut observer = Driver { work: None::<fn()>, is_done: false };
    let outcome = session::record(settings, file, &mut observer).expect("recording works here");
    read(outcome, &path, directory)
}

fn read(outcome: Outcome, path: &Path, directory: tempfile::TempDir) -> Recorded {
    let recording = Recording::open(path).expect("a recording");
    let replayed = replay(&recording, Range::default());
    assert_eq!(replayed.damaged_chunks, 0);
    Recorded { outcome, model: replayed.model, recording, _directory: directory }
}

struct InBackground<F, T> {
    work: Option<F>,
    running: Option<std::thread::JoinHandle<T>>,
    result: Option<T>,
}

impl<F: FnOnce() -> T + Send + 'static, T: Send + 'static> Observer for InBackground<F, T> {
    fn recording(&mut self, _: &Meta) {}
    fn warn(&mut self, _: &str) {}
    fn progress(&mut self, _: &Progress) {}

    fn wants_stop(&mut self) -> bool {
        if let Some(work) = self.work.take() {
            self.running = Some(std::thread::spawn(work));
        }
        if self.running.as_ref().is_some_and(std::thread::JoinHandle::is_finished) {
            let running = self.running.take().expect("just seen");
            self.result = Some(running.join().expect("the workload succeeds"));
        }
        self.result.is_some()
    }
}

/// Settings for this very process.
pub(crate) fn own_process() -> Settings {
    Settings { follow_children: false, ..Settings::new(TargetSpec::Pids(vec![std::process::id()])) }
}

/// Binds the calling thread, and what it starts, to one CPU.
pub(crate) fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).expect("the CPU is there");
}

/// The last CPU, which is the quieter one.
pub(crate) fn last_cpu() -> usize {
    hz_trace::host::possible_cpus() - 1
}

/// Keeps the CPU busy.
pub(crate) fn burn(duration: Duration) {
    let start = Instant::now();
    while start.elapsed() < duration {
        std::hint::spin_loop();
    }
}

/// A child that ends with the test.
pub(crate) struct Reaped(pub(crate) Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // A shell's group is its own, and has what it left in the background.
        if let Ok(None) = self.0.try_wait() {
            let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a shell script.
pub(crate) fn shell(script: &str) -> Reaped {
    let shell = Command::new("sh").arg("-c").arg(script).process_group(0).spawn();
    Reaped(shell.expect("sh is there"))
}

/// The calling thread's id.
pub(crate) fn own_tid() -> u32 {
    u32::try_from(Pid::as_raw(Some(rustix::thread::gettid()))).expect("ids are positive")
}

/// The second figure of a thread's `schedstat`: nanoseconds it was runnable and did not run.
pub(crate) fn run_delay_ns(tid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/self/task/{tid}/schedstat")).expect("schedstat");
    let field = text.split_whitespace().nth(1).expect("three figures");
    field.parse().expect("a number")
}

/// The hz-trace command: the one named by `HZ_TRACE_BIN`, or cargo's.
pub(crate) fn hz_trace() -> PathBuf {
    std::env::var_os("HZ_TRACE_BIN")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_hz-trace")), PathBuf::from)
}

/// Waits until `condition` holds.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
