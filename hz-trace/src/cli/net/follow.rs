//! `hz-trace net --follow`: prints events as they happen.
//!
//! A thread of its own prints. What it is given waits in a line that never grows: what has no room
//! there is counted, and the count is printed where it is missing.

use super::lines::Lines;
use crate::cli::progress::Console;
use anyhow::Result;
use hz_trace::{
    decode::decode,
    recording::{Batch, Meta},
    session::{Observer, Progress},
    text,
};
use std::{
    io::{self, BufWriter, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
};

/// Portions that may wait to be printed: some 250 ms of events each, or 8,192.
const WAITING_MAX: usize = 16;

/// Streams with events of sockets, and what hz itself says of them.
const STREAMS: std::ops::RangeInclusive<u16> = 0x8010..=0x8012;

/// Records of a stream, copied.
type Portion = Vec<Vec<u8>>;

/// Follows a recording and prints.
#[derive(Debug)]
pub(super) struct Follower {
    console: Console,
    as_json: bool,
    sender: Option<SyncSender<Portion>>,
    printer: Option<JoinHandle<io::Result<()>>>,
    untold: Arc<AtomicU64>,
    not_shown: u64,
    has_no_reader: Arc<AtomicBool>,
}

impl Follower {
    pub(super) fn new(console: Console, as_json: bool) -> Self {
        Self {
            console,
            as_json,
            sender: None,
            printer: None,
            untold: Arc::default(),
            not_shown: 0,
            has_no_reader: Arc::default(),
        }
    }

    /// Waits until all is printed; how many events were not.
    pub(super) fn finish(mut self) -> Result<u64> {
        self.sender = None;
        if let Some(printer) = self.printer.take() {
            printer
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the printing thread panicked")))?;
        }
        Ok(self.not_shown)
    }
}

impl Observer for Follower {
    fn recording(&mut self, meta: &Meta) {
        self.console.recording(meta);
        let (sender, receiver) = sync_channel(WAITING_MAX);
        let (untold, has_no_reader) = (Arc::clone(&self.untold), Arc::clone(&self.has_no_reader));
        let (start_ns, as_json) = (meta.start_ns, self.as_json);
        let printer = std::thread::spawn(move || {
            let printed =
                print_all(io::stdout(), &receiver, Lines::new(start_ns), as_json, &untold);
            has_no_reader.store(printed.is_err(), Ordering::Relaxed);
            printed
        });
        self.sender = Some(sender);
        self.printer = Some(printer);
    }

    fn warn(&mut self, warning: &str) {
        self.console.warn(warning);
    }

    fn progress(&mut self, _progress: &Progress) {}

    fn batch(&mut self, batch: &Batch) {
        if !STREAMS.contains(&batch.stream) {
            return;
        }
        let Some(sender) = &self.sender else { return };
        let portion: Portion = batch.records().map(<[u8]>::to_vec).collect();
        if let Err(TrySendError::Full(portion)) = sender.try_send(portion) {
            self.not_shown += portion.len() as u64;
            self.untold.fetch_add(portion.len() as u64, Ordering::Relaxed);
        }
    }

    fn wants_stop(&mut self) -> bool {
        self.console.wants_stop() || self.has_no_reader.load(Ordering::Relaxed)
    }
}

fn print_all(
    out: impl Write,
    portions: &Receiver<Portion>,
    mut lines: Lines,
    as_json: bool,
    untold: &AtomicU64,
) -> io::Result<()> {
    let mut out = BufWriter::new(out);
    for portion in portions {
        let missing = untold.swap(0, Ordering::Relaxed);
        if missing > 0 {
            say_missing(&mut out, missing, as_json)?;
        }
        let events = portion.iter().filter_map(|record| decode(record).ok());
        for line in events.filter_map(|event| lines.line(&event)) {
            if as_json {
                serde_json::to_writer(&mut out, &line)?;
                out.write_all(b"\n")?;
            } else {
                writeln!(out, "{}", line.text())?;
            }
        }
        out.flush()?;
    }
    let missing = untold.swap(0, Ordering::Relaxed);
    if missing > 0 {
        say_missing(&mut out, missing, as_json)?;
    }
    out.flush()
}

fn say_missing(out: &mut impl Write, missing: u64, as_json: bool) -> io::Result<()> {
    if as_json {
        return writeln!(out, r#"{{"event":"not_shown","count":{missing}}}"#);
    }
    let records = text::plural(missing, "record");
    writeln!(out, "… {records} not shown: whoever reads this is too slow")
}

#[cfg(test)]
mod tests {
    use super::*;
    use hz_probes_ebpf::{
        Header, Kind,
        net::{NET_WINDOW_CLOSED, NetWindow},
    };
    use std::time::{Duration, Instant};
    use zerocopy::IntoBytes as _;

    fn batch(records: u64) -> Batch {
        let mut batch = Batch::new(0x8010);
        for time_ns in 0..records {
            let kind = Kind::NetWindow as u16;
            let header = Header { time_ns, kind, arg: NET_WINDOW_CLOSED, ..Header::default() };
            batch.push(NetWindow { header, ..NetWindow::default() }.as_bytes());
        }
        batch
    }

    /// A reader that takes nothing until it is let.
    struct Slow(Arc<AtomicBool>, Arc<std::sync::Mutex<Vec<u8>>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let began = Instant::now();
            while !self.0.load(Ordering::Relaxed) && began.elapsed() < Duration::from_secs(20) {
                std::thread::sleep(Duration::from_millis(1));
            }
            self.1.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_slow_reader_costs_events_that_are_counted_and_no_memory() {
        let (go, text) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let mut follower = Follower::new(Console::new(true).unwrap(), false);
        let (sender, receiver) = sync_channel(WAITING_MAX);
        let (untold, slow) =
            (Arc::clone(&follower.untold), Slow(Arc::clone(&go), Arc::clone(&text)));
        follower.sender = Some(sender);
        follower.printer = Some(std::thread::spawn(move || {
            print_all(slow, &receiver, Lines::new(0), false, &untold)
        }));
        let sent: u64 = (0..100).map(|_| batch(1_000)).fold(0, |sum, batch| {
            follower.batch(&batch);
            sum + batch.len() as u64
        });
        go.store(true, Ordering::Relaxed);
        let not_shown = follower.finish().unwrap();
        let text = String::from_utf8(text.lock().unwrap().clone()).unwrap();
        let shown = text.lines().filter(|line| line.contains("takes no more")).count() as u64;
        assert!(not_shown >= 80_000, "{not_shown} of {sent}");
        assert_eq!(shown + not_shown, sent);
        let told = text.lines().filter(|line| line.starts_with('…'));
        let told: u64 = told
            .map(|line| line.split(' ').nth(1).unwrap().replace(',', "").parse::<u64>().unwrap())
            .sum();
        assert_eq!(told, not_shown);
    }
}
