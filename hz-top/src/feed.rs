//! Windows, from a host or from a recording, on a thread of their own: the screen never waits for
//! them, nor they for the screen.

use crate::app::Msg;
use hz_trace::{
    error::TargetError,
    live::{Watch, WatchSettings, Wishes},
    recording::Recording,
    replay::Windows,
    session::{self, Observer, Progress, Settings, TargetSpec},
};
use std::{
    fs::File,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, Ordering},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    time::Duration,
};

/// The first window: figures are to be there soon.
const FIRST: Duration = Duration::from_millis(250);

/// Watches until nobody listens; what is watched, and where to say what is looked at.
///
/// # Errors
///
/// If the target is not there.
pub(crate) fn live(
    settings: WatchSettings,
    interval: Duration,
    sender: SyncSender<Msg>,
    stop: Arc<AtomicBool>,
) -> Result<(String, Wishes), TargetError> {
    let (tell, told) = sync_channel(1);
    // A watch stays on the thread that it began on.
    std::thread::spawn(move || match Watch::start(&settings) {
        Ok(watch) => {
            let _ = tell.send(Ok((watch.target().to_string(), watch.wishes())));
            gather(watch, interval, &sender, &stop);
        }
        Err(error) => _ = tell.send(Err(error)),
    });
    told.recv().unwrap_or_else(|_| Ok((String::new(), Wishes::default())))
}

fn gather(mut watch: Watch, interval: Duration, sender: &SyncSender<Msg>, stop: &AtomicBool) {
    let mut dropped = 0;
    let mut length = FIRST.min(interval);
    while !stop.load(Ordering::Relaxed) {
        let mut window = watch.next(length, || stop.load(Ordering::Relaxed));
        window.own.dropped_windows = dropped;
        length = interval;
        match sender.try_send(Msg::Window(Box::new(window))) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => dropped += 1,
            Err(TrySendError::Disconnected(_)) => break,
        }
    }
}

/// How a replay goes, as keys change it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pace {
    /// Speed as a power of two.
    pub(crate) power: Arc<AtomicI32>,
    /// Windows to skip.
    pub(crate) skip: Arc<AtomicI32>,
}

/// Replays a recording.
pub(crate) fn replay(
    recording: Recording,
    interval: Duration,
    sender: SyncSender<Msg>,
    pace: Pace,
) {
    std::thread::spawn(move || {
        let length_ns = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        for window in Windows::of(&recording, length_ns) {
            if sender.send(Msg::Window(Box::new(window))).is_err() {
                return;
            }
            let skip = pace.skip.load(Ordering::Relaxed);
            if skip > 0 {
                pace.skip.store(skip - 1, Ordering::Relaxed);
                continue;
            }
            let power = pace.power.load(Ordering::Relaxed).clamp(-4, 10);
            std::thread::sleep(interval.mul_f64(2_f64.powi(-power)));
        }
        let _ = sender.send(Msg::Ended("the recording is over; [ ] step through it".to_owned()));
    });
}

/// A recording that is being made beside the screen.
#[derive(Debug)]
pub(crate) struct Recorder {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Recorder {
    pub(crate) fn start(target: &TargetSpec, path: PathBuf, sender: SyncSender<Msg>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let settings = Settings::new(target.clone());
        let flag = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let said = match record(&settings, &path, flag) {
                Ok(()) => {
                    format!("recorded {}: hz-trace report {}", path.display(), path.display())
                }
                Err(error) => format!("no recording: {error}"),
            };
            let _ = sender.send(Msg::Recording(false));
            let _ = sender.send(Msg::Notice(said));
        });
        Self { stop, thread: Some(thread) }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(std::thread::JoinHandle::is_finished)
    }

    /// Ends it, in its own time.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn record(
    settings: &Settings,
    path: &std::path::Path,
    stop: Arc<AtomicBool>,
) -> Result<(), String> {
    use std::os::unix::fs::OpenOptionsExt as _;
    // Others' names and addresses are in it.
    let file = File::options().write(true).create_new(true).mode(0o600).open(path);
    let file = file.map_err(|error| format!("cannot create {}: {error}", path.display()))?;
    let outcome = session::record(settings, file, &mut Flag(stop));
    outcome.map(|_| ()).map_err(|error| error.to_string())
}

/// Ends a recording when it is set.
struct Flag(Arc<AtomicBool>);

impl Observer for Flag {
    fn recording(&mut self, _: &hz_trace::recording::Meta) {}
    fn warn(&mut self, _: &str) {}
    fn progress(&mut self, _: &Progress) {}
    fn wants_stop(&mut self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
