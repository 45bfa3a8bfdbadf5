//! What a recording says while it runs, on standard error, and how it is told to end.

use super::say;
use hz_trace::{
    recording::Meta,
    session::{Observer, Progress},
    text,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::{
    fmt,
    io::{self, IsTerminal as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

/// Shows progress and ends the recording at the first SIGINT, SIGTERM or SIGHUP; a second one
/// ends hz at once.
#[derive(Debug)]
pub(crate) struct Console {
    stop: Arc<AtomicBool>,
    is_terminal: bool,
    is_quiet: bool,
}

impl Console {
    pub(crate) fn new(is_quiet: bool) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop))?;
            signal_hook::flag::register(signal, Arc::clone(&stop))?;
        }
        Ok(Self { stop, is_terminal: io::stderr().is_terminal(), is_quiet })
    }
}

impl Observer for Console {
    fn recording(&mut self, meta: &Meta) {
        if !self.is_quiet {
            say(format_args!(
                "recording {} with {}; Ctrl-C ends",
                meta.target,
                meta.probes.join(", ")
            ));
        }
    }

    fn warn(&mut self, warning: &str) {
        say(format_args!("warning: {warning}"));
    }

    fn progress(&mut self, progress: &Progress) {
        if self.is_quiet || !self.is_terminal {
            return;
        }
        let elapsed = progress.elapsed.as_secs();
        let (records, lost) = (text::count(progress.records), text::count(progress.lost));
        show(format_args!("\r\x1b[K{elapsed} s, {records} records, {lost} lost"));
    }

    fn wants_stop(&mut self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // Nobody asks any longer: from here on the first signal ends hz.
        self.stop.store(true, Ordering::Relaxed);
        if self.is_terminal && !self.is_quiet {
            show(format_args!("\r\x1b[K"));
        }
    }
}

/// How far something is, on a terminal, that takes long enough to ask.
#[derive(Debug)]
pub(crate) struct Bar {
    what: &'static str,
    is_shown: bool,
    began: Instant,
}

/// Cells of a bar.
const CELLS: usize = 30;

impl Bar {
    pub(crate) fn new(what: &'static str, is_quiet: bool) -> Self {
        let is_shown = !is_quiet && io::stderr().is_terminal();
        Self { what, is_shown, began: Instant::now() }
    }

    pub(crate) fn show(&self, done: usize, total: usize) {
        if !self.is_shown || self.began.elapsed().as_millis() < 200 {
            return;
        }
        let full = CELLS * done / total.max(1);
        let (bar, rest) = ("█".repeat(full), "░".repeat(CELLS - full));
        show(format_args!("\r\x1b[K{} {bar}{rest} {done} of {total}", self.what));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if self.is_shown {
            show(format_args!("\r\x1b[K"));
        }
    }
}

/// Shows progress; if the terminal has gone, nobody misses it.
fn show(text: fmt::Arguments<'_>) {
    let mut stderr = io::stderr();
    let _ = stderr.write_fmt(text).and_then(|()| stderr.flush());
}
