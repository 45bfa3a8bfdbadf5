//! The command line, and the loop of the screen.

use crate::{
    App, Colours, Effect, Msg, Panel, Theme,
    feed::{self, Pace, Recorder},
    metrics::{self, Exporter},
    once, save, term,
};
use anyhow::{Context as _, Result};
use clap::Parser;
use hz_trace::{
    live::{Watch, WatchSettings, Wishes},
    recording::Recording,
    session::TargetSpec,
};
use ratatui::layout::Size;
use std::{
    fs,
    io::{IsTerminal as _, stdout},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

/// The window before the one that --once prints.
const FIRST: Duration = Duration::from_millis(50);

const EXAMPLES: &str = "\
Examples:
  hz-top                             the whole system; ? shows the keys
  hz-top -p 4711                     a process and its children
  hz-top --once                      one screen, as text
  hz-top --once --json -p 4711       the same figures for a script
  hz-top --once --warnings           what is wrong now; exit code 1 if anything is
  hz-top --replay app.hzt            a recording of hz-trace, through the same panels
  hz-top --prometheus 9469           the same figures at http://127.0.0.1:9469/metrics, too
  hz-top --prometheus 9469 >/dev/null   … without a screen: for a service

Exit codes: 0 fine, 1 failed or, with --warnings, something is wrong, 2 wrong usage.";

const PROMETHEUS: &str = "Serve the figures as OpenMetrics at http://ADDR/metrics, beside the screen or, where standard \
    output is no terminal, without one; a port alone is of this host only";

/// Shows live which task or thread is in trouble, and why
#[derive(Debug, Parser)]
#[command(name = "hz-top", version, after_help = EXAMPLES)]
pub struct Cli {
    /// Watch these processes, all their threads and their children
    #[arg(short, long, value_name = "PID", value_delimiter = ',', conflicts_with_all = ["cgroup", "replay"])]
    pid: Vec<u32>,
    /// Watch a cgroup v2 and all below it, by its directory
    #[arg(long, value_name = "PATH", conflicts_with = "replay")]
    cgroup: Option<PathBuf>,
    /// Replay a recording instead of watching this host
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Panel to begin with
    #[arg(long, value_name = "PANEL", default_value = "overview", value_parser = panel)]
    panel: Panel,
    /// Print one screen as text and end
    #[arg(long)]
    once: bool,
    /// Print the figures as JSON
    #[arg(long, requires = "once", conflicts_with = "warnings")]
    json: bool,
    /// Print what is wrong; exit code 1 if anything is
    #[arg(long, requires = "once")]
    warnings: bool,
    /// Print the screen as an SVG picture
    #[arg(long, requires = "once", conflicts_with_all = ["json", "warnings"])]
    svg: bool,
    /// Size of the screen that --once prints
    #[arg(long, requires = "once", value_name = "COLUMNSxROWS", default_value = "120x40", value_parser = size)]
    size: (u16, u16),
    /// Seconds from one window to the next
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    interval: Duration,
    #[arg(long, help = PROMETHEUS, value_name = "ADDR", conflicts_with_all = ["once", "replay"], value_parser = metrics::address)]
    prometheus: Option<SocketAddr>,
    /// Load no program into the kernel: show what /proc and the runtimes' rings give
    #[arg(long)]
    no_bpf: bool,
}

fn panel(text: &str) -> Result<Panel, String> {
    let names: Vec<_> = Panel::ALL.iter().map(|panel| panel.name()).collect();
    Panel::named(text).ok_or_else(|| format!("there are {}", names.join(", ")))
}

fn size(text: &str) -> Result<(u16, u16), String> {
    let sides = text.split_once('x').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    sides
        .filter(|(width, height)| (1..=1_000).contains(width) && (1..=1_000).contains(height))
        .ok_or_else(|| format!("`{text}` is no size; write it like 120x40"))
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.1..=60.0).contains(seconds));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("`{text}` is not from 0.1 to 60 seconds"))
}

impl Cli {
    /// Does what the arguments say.
    ///
    /// # Errors
    ///
    /// If the target or the recording is not there, or there is no terminal.
    pub fn run(self) -> Result<ExitCode> {
        let colours = if self.once && !self.svg {
            Colours::None
        } else if self.svg {
            Colours::True
        } else {
            Colours::of_environment(|name| std::env::var(name).ok())
        };
        let recording = self.replay.as_ref().map(|path| {
            Recording::open(path).with_context(|| format!("cannot replay {}", path.display()))
        });
        let recording = recording.transpose()?;
        let mut app = App::new(self.title(recording.as_ref()), Theme::new(colours));
        app.show(self.panel);
        if self.once {
            return self.print_once(app, recording.as_ref());
        }
        self.show(app, recording)
    }

    fn target(&self) -> TargetSpec {
        match &self.cgroup {
            Some(path) => TargetSpec::Cgroup(path.clone()),
            None if self.pid.is_empty() => TargetSpec::WholeSystem,
            None => TargetSpec::Pids(self.pid.clone()),
        }
    }

    fn settings(&self) -> WatchSettings {
        WatchSettings { target: self.target(), follow_children: true, may_use_bpf: !self.no_bpf }
    }

    fn title(&self, recording: Option<&Recording>) -> String {
        let Some(recording) = recording else { return hz_trace::host::name() };
        let file = self.replay.as_deref().unwrap_or_else(|| Path::new(""));
        let meta = &recording.meta;
        format!("{} · {} · replay of {}", meta.host, meta.target, file.display())
    }

    fn print_once(&self, mut app: App, recording: Option<&Recording>) -> Result<ExitCode> {
        let windows = match recording {
            Some(recording) => {
                let length_ns = u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX);
                hz_trace::replay::Windows::of(recording, length_ns).collect()
            }
            None => {
                let mut watch = Watch::start(&self.settings())?;
                app.add_title(&watch.target().to_string());
                watch.wishes().set(app.wants());
                // The first says where counters stand, so that the second has what they grew by.
                vec![watch.next(FIRST, || false), watch.next(self.interval, || false)]
            }
        };
        for window in windows {
            app.update(Msg::Window(Box::new(window)));
        }
        let text = match () {
            () if self.json => serde_json::to_string_pretty(app.window())? + "\n",
            () if self.warnings => once::warnings(&app),
            () if self.svg => save::svg(&save::buffer(&app, self.size.0, self.size.1)),
            () => save::text(&save::buffer(&app, self.size.0, self.size.1)),
        };
        once::print(&text)?;
        let is_wrong = self.warnings && !app.findings().is_empty();
        Ok(if is_wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    fn show(&self, mut app: App, recording: Option<Recording>) -> Result<ExitCode> {
        let (sender, messages) = sync_channel(64);
        let (stop, pace) = (Arc::new(AtomicBool::new(false)), Pace::default());
        let exporter = self.prometheus.map(Exporter::start).transpose()?;
        let mut wishes = Wishes::default();
        match recording {
            None => {
                let flag = Arc::clone(&stop);
                let (target, asked) =
                    feed::live(self.settings(), self.interval, sender.clone(), flag)?;
                app.add_title(&target);
                wishes = asked;
            }
            Some(recording) => {
                app.replays();
                feed::replay(recording, self.interval, sender.clone(), pace.clone());
            }
        }
        term::listen_for_signals(&sender)?;
        if let Some(exporter) = exporter.as_ref().filter(|_| !stdout().is_terminal()) {
            eprintln!("hz-top: figures are at http://{}/metrics", exporter.address());
        }
        let mut outside =
            Outside { sender, pace, wishes, target: self.target(), recorder: None, exporter };
        let result = outside.show(&mut app, &messages);
        stop.store(true, Ordering::Relaxed);
        result.map(|()| ExitCode::SUCCESS)
    }
}

/// What keys do outside of the state.
struct Outside {
    sender: SyncSender<Msg>,
    pace: Pace,
    wishes: Wishes,
    target: TargetSpec,
    recorder: Option<Recorder>,
    exporter: Option<Exporter>,
}

impl Outside {
    /// Shows what comes, on a terminal or to scrapers only, until told to leave.
    fn show(&mut self, app: &mut App, messages: &Receiver<Msg>) -> Result<()> {
        if self.exporter.is_some() && !stdout().is_terminal() {
            return self.serve(messages);
        }
        let mut screen = term::Screen::take()?;
        term::listen_for_keys(self.sender.clone());
        let size = screen.terminal.size()?;
        app.update(Msg::Resize(size.width, size.height));
        self.draw(app, &mut screen, messages)
    }

    /// Serves figures without a screen.
    fn serve(&mut self, messages: &Receiver<Msg>) -> Result<()> {
        loop {
            let msg = messages.recv().context("nobody sends any more")?;
            self.export(&msg);
            if matches!(msg, Msg::Quit) {
                return Ok(());
            }
        }
    }

    fn export(&mut self, msg: &Msg) {
        if let (Some(exporter), Msg::Window(window)) = (&mut self.exporter, msg) {
            exporter.add(window);
        }
    }

    /// Draws whenever something has changed.
    fn draw(
        &mut self,
        app: &mut App,
        screen: &mut term::Screen,
        messages: &Receiver<Msg>,
    ) -> Result<()> {
        loop {
            self.wishes.set(app.wants());
            screen.terminal.draw(|frame| crate::view::draw(app, frame))?;
            let mut next = Some(messages.recv().context("nobody sends any more")?);
            // What has come meanwhile is drawn at once.
            while let Some(msg) = next.take() {
                term::panic_if_asked(&msg);
                self.export(&msg);
                if let Some(effect) = app.update(msg) {
                    if effect == Effect::Quit {
                        return Ok(());
                    }
                    self.act(effect, app, screen.terminal.size()?);
                }
                next = messages.try_recv().ok();
            }
        }
    }

    fn act(&mut self, effect: Effect, app: &mut App, size: Size) {
        match effect {
            Effect::Quit => {}
            Effect::Speed(by) => _ = self.pace.power.fetch_add(by.into(), Ordering::Relaxed),
            Effect::Seek(by) => _ = self.pace.skip.fetch_add(by, Ordering::Relaxed),
            Effect::Record => self.record(app),
            Effect::Save => {
                let stem = format!("hz-top-{}", hz_trace::host::clock::realtime_ns() / 1_000_000);
                let buffer = save::buffer(app, size.width, size.height);
                let saved = fs::write(format!("{stem}.svg"), save::svg(&buffer))
                    .and_then(|()| fs::write(format!("{stem}.txt"), save::text(&buffer)));
                app.update(Msg::Notice(match saved {
                    Ok(()) => format!("saved {stem}.svg and {stem}.txt"),
                    Err(error) => format!("cannot save {stem}.svg: {error}"),
                }));
            }
        }
    }

    fn record(&mut self, app: &mut App) {
        if app.is_replay {
            app.update(Msg::Notice("this is a recording already".to_owned()));
            return;
        }
        match self.recorder.take().filter(|recorder| !recorder.is_over()) {
            Some(recorder) => {
                recorder.stop();
                self.recorder = Some(recorder);
            }
            None => {
                let path =
                    format!("hz-top-{}.hzt", hz_trace::host::clock::realtime_ns() / 1_000_000);
                app.update(Msg::Notice(format!("recording {path}; r ends it")));
                app.update(Msg::Recording(true));
                self.recorder =
                    Some(Recorder::start(&self.target, path.into(), self.sender.clone()));
            }
        }
    }
}
