//! State: what is shown. [`App::update`] is the only way it changes.

use crate::{
    flame::FlameState,
    history::{History, Point},
    keys,
    queues::{QueueRow, queues},
    table::TableState,
    theme::Theme,
    view,
    warning::{Finding, Recent, findings},
};
use hz_trace::{
    live::Wants,
    model::window::{FlameGraph, Window},
};
use ratatui::{
    crossterm::event::{KeyEvent, MouseEvent},
    layout::Rect,
};
use regex_lite::{Regex, RegexBuilder};

/// A panel of the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Panel {
    /// Everything at a glance.
    #[default]
    Overview,
    /// Tasks of async runtimes.
    Tasks,
    /// Threads.
    Threads,
    /// Who runs where.
    Placement,
    /// Sockets.
    Sockets,
    /// Queues.
    Queues,
    /// Memory.
    Memory,
    /// Flame graph.
    Flame,
    /// What hz itself costs and loses.
    Hz,
}

impl Panel {
    /// Every panel, by its key from 1 on.
    pub const ALL: [Self; 9] = [
        Self::Overview,
        Self::Tasks,
        Self::Threads,
        Self::Placement,
        Self::Sockets,
        Self::Queues,
        Self::Memory,
        Self::Flame,
        Self::Hz,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Overview => "overview",
            Self::Tasks => "tasks",
            Self::Threads => "threads",
            Self::Placement => "placement",
            Self::Sockets => "sockets",
            Self::Queues => "queues",
            Self::Memory => "memory",
            Self::Flame => "flame",
            Self::Hz => "hz",
        }
    }

    /// The panel of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|panel| panel.name() == name)
    }
}

/// Windows that warnings look back at.
const RECENT: usize = 120;

/// Windows that a queue's trend is of.
const TREND: usize = 10;

/// What happened.
#[derive(Debug)]
pub enum Msg {
    /// A second is over.
    Window(Box<Window>),
    /// A key was pressed.
    Key(KeyEvent),
    /// The mouse was used.
    Mouse(MouseEvent),
    /// The screen has so many columns and rows.
    Resize(u16, u16),
    /// Something to be said in the last line.
    Notice(String),
    /// Whether a recording is being made now.
    Recording(bool),
    /// The recording that is replayed is over, or the target has ended.
    Ended(String),
    /// A signal asks to leave.
    Quit,
}

/// What is to be done outside of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Leave.
    Quit,
    /// Save the screen.
    Save,
    /// Start or stop a recording.
    Record,
    /// Replay faster or slower: by this power of two.
    Speed(i8),
    /// Skip so many windows of the replay.
    Seek(i32),
}

/// What is looked at more closely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Drill {
    /// The tasks of a group: process, name, place of spawn.
    Group(u32, String, String),
    /// One task: process and number.
    Task(u32, u64),
    /// One thread.
    Thread(u32),
    /// One socket, by its cookie.
    Socket(u64),
}

/// Everything that the screen shows.
#[derive(Debug)]
pub struct App {
    pub(crate) title: String,
    pub(crate) theme: Theme,
    pub(crate) panel: Panel,
    pub(crate) window: Window,
    pub(crate) findings: Vec<Finding>,
    pub(crate) history: History,
    /// How many windows before the last the shown one is; 0: live.
    pub(crate) back: usize,
    pub(crate) is_paused: bool,
    pub(crate) has_window: bool,
    pub(crate) shows_help: bool,
    pub(crate) is_recording: bool,
    pub(crate) is_replay: bool,
    pub(crate) notice: String,
    /// The filter that is being typed.
    pub(crate) typing: Option<String>,
    pub(crate) filter: String,
    pub(crate) wanted: Option<Regex>,
    pub(crate) drills: Vec<Drill>,
    pub(crate) groups: TableState,
    pub(crate) tasks: TableState,
    pub(crate) threads: TableState,
    pub(crate) sockets: TableState,
    pub(crate) listeners: TableState,
    pub(crate) queues: TableState,
    pub(crate) sites: TableState,
    /// Queues of the window that is shown, with how deep they were before.
    pub(crate) queue_rows: Vec<QueueRow>,
    pub(crate) flame: FlameState,
    /// The screen, as far as the mouse is concerned.
    pub(crate) screen: Rect,
}

impl App {
    /// An empty screen with this title.
    #[must_use]
    pub fn new(title: impl Into<String>, theme: Theme) -> Self {
        Self {
            title: title.into(),
            theme,
            panel: Panel::Overview,
            window: Window::default(),
            findings: Vec::new(),
            history: History::default(),
            back: 0,
            is_paused: false,
            has_window: false,
            shows_help: false,
            is_recording: false,
            is_replay: false,
            notice: String::new(),
            typing: None,
            filter: String::new(),
            wanted: None,
            drills: Vec::new(),
            groups: TableState::sorted_by(view::tasks::GROUPS_SORT),
            tasks: TableState::sorted_by(view::tasks::TASKS_SORT),
            threads: TableState::sorted_by(view::threads::SORT),
            sockets: TableState::sorted_by(view::sockets::SORT),
            listeners: TableState::sorted_by(view::sockets::LISTENERS_SORT),
            queues: TableState::sorted_by(view::queues::SORT),
            sites: TableState::sorted_by(view::memory::SORT),
            queue_rows: Vec::new(),
            flame: FlameState::default(),
            screen: Rect::default(),
        }
    }

    /// Adds what is watched to the title.
    pub fn add_title(&mut self, target: &str) {
        self.title = format!("{} · {target}", self.title);
    }

    /// Shows this panel.
    pub fn show(&mut self, panel: Panel) {
        self.panel = panel;
        self.drills.clear();
        self.arrange();
    }

    /// Says that a recording is replayed, so that its keys work.
    pub const fn replays(&mut self) {
        self.is_replay = true;
    }

    /// What was found wrong in the window that is shown.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The window that is shown.
    #[must_use]
    pub const fn window(&self) -> &Window {
        &self.window
    }

    /// Takes what happened; what is to be done outside.
    pub fn update(&mut self, msg: Msg) -> Option<Effect> {
        match msg {
            Msg::Window(window) => self.take(*window),
            Msg::Key(key) => return keys::press(self, key),
            Msg::Mouse(event) => keys::mouse(self, event),
            Msg::Resize(width, height) => self.screen = Rect::new(0, 0, width, height),
            Msg::Notice(text) => self.notice = text,
            Msg::Recording(is_on) => self.is_recording = is_on,
            Msg::Ended(text) => self.notice = text,
            Msg::Quit => return Some(Effect::Quit),
        }
        None
    }

    fn take(&mut self, window: Window) {
        self.history.add(&window);
        self.has_window = true;
        if self.is_paused || self.back > 0 {
            // What is shown stays where it is in time.
            self.back = (self.back + 1).min(self.history.len() - 1);
            return;
        }
        self.window = window;
        self.look();
    }

    /// Steps through the history; negative: towards now.
    pub(crate) fn step_time(&mut self, by: isize) {
        let last = self.history.len().saturating_sub(1);
        let back = self.back.saturating_add_signed(by).min(last);
        if let Some(window) = self.history.back(back) {
            self.back = back;
            self.window = window;
            self.look();
        }
    }

    /// Stops the screen, or lets it go on from now.
    pub(crate) fn pause(&mut self) {
        self.is_paused = !self.is_paused;
        if !self.is_paused && self.back > 0 {
            self.step_time(isize::MIN);
        }
    }

    fn look(&mut self) {
        let points: Vec<&Point> = self.history.points(self.back).rev().take(RECENT).collect();
        let points: Vec<&Point> = points.into_iter().rev().collect();
        self.queue_rows = with_trends(queues(&self.window), &points);
        let groups = points.iter().map(|point| (point.end_ns, point.groups.as_slice())).collect();
        let retransmits = points.iter().filter_map(|point| point.retransmits).collect();
        self.findings = findings(&Recent { window: &self.window, groups, retransmits });
        self.arrange();
    }

    pub(crate) fn set_filter(&mut self, text: String) {
        self.wanted = None;
        if !text.is_empty() {
            match RegexBuilder::new(&text).case_insensitive(true).size_limit(1 << 18).build() {
                Ok(regex) => self.wanted = Some(regex),
                Err(_) => self.notice = format!("`{text}` is no regular expression"),
            }
        }
        self.filter = text;
        self.arrange();
    }

    /// Puts the tables in order.
    pub(crate) fn arrange(&mut self) {
        let Self { window, wanted, drills, groups, tasks, threads, .. } = self;
        let matches = |texts: &[&str]| {
            wanted.as_ref().is_none_or(|regex| texts.iter().any(|text| regex.is_match(text)))
        };
        let is_all = wanted.is_none();
        groups.arrange(&window.groups, view::tasks::GROUPS, |row| {
            matches(&[&row.name, &row.spawned_at, &row.process, &row.pid.to_string()])
        });
        tasks.arrange(&window.tasks, view::tasks::TASKS, |row| {
            let is_inside = match drills.first() {
                Some(Drill::Group(pid, name, place)) => {
                    (row.pid, &row.name, &row.spawned_at) == (*pid, name, place)
                }
                // Single tasks are shown of a group only.
                _ => false,
            };
            let is_wanted =
                || matches(&[&row.name, &row.spawned_at, &row.waits_for, &row.pid.to_string()]);
            is_inside && (is_all || is_wanted())
        });
        threads.arrange(&window.threads, view::threads::COLUMNS, |row| {
            let is_wanted = || {
                let tid = row.tid.to_string();
                matches(&[&row.name, &row.process, &tid, &row.pid.to_string()])
            };
            row.is_target && (is_all || is_wanted())
        });
        self.arrange_network();
    }

    fn arrange_network(&mut self) {
        let Self { window, wanted, sockets, listeners, queues, sites, queue_rows, .. } = self;
        let matches = |texts: &[&str]| {
            wanted.as_ref().is_none_or(|regex| texts.iter().any(|text| regex.is_match(text)))
        };
        let is_all = wanted.is_none();
        let network = window.network.as_ref();
        sockets.arrange(
            network.map_or(&[][..], |network| &network.sockets),
            view::sockets::COLUMNS,
            |row| {
                is_all || {
                    let (local, peer) = (row.local.to_string(), row.peer.to_string());
                    let state = row.state.name();
                    matches(&[&local, &peer, &row.owner, &row.task, &row.pid.to_string(), state])
                }
            },
        );
        listeners.arrange(
            network.map_or(&[][..], |network| &network.listeners),
            view::sockets::LISTENERS,
            |row| {
                is_all
                    || matches(&[
                        &row.local.to_string(),
                        &row.owner,
                        &row.task,
                        &row.pid.to_string(),
                    ])
            },
        );
        queues.arrange(queue_rows, view::queues::COLUMNS, |row| matches(&[&row.name, row.kind]));
        sites.arrange(&window.sites, view::memory::COLUMNS, |row| {
            is_all || matches(&[&row.place, &row.pid.to_string()])
        });
    }

    /// What the screen needs beside what is always gathered: probes for the rest stay off.
    #[must_use]
    pub fn wants(&self) -> Wants {
        let drill = self.drills.last();
        let is_close = matches!(drill, Some(Drill::Task(..) | Drill::Thread(_)));
        let shows_sockets = self.panel == Panel::Sockets || drill.is_some();
        let has_storm = self.findings.iter().any(|finding| finding.warning == "retransmit-storm");
        let shows_flame = self.panel == Panel::Flame;
        Wants {
            has_reasons: shows_sockets || has_storm,
            has_oncpu: is_close || shows_flame && !self.flame.is_off,
            has_offcpu: is_close || shows_flame && self.flame.is_off,
        }
    }

    /// The flame graph that is looked at.
    pub(crate) fn flame_graph(&self) -> Option<&FlameGraph> {
        self.window.flames.iter().find(|graph| graph.kind == self.flame.kind())
    }

    /// The table that keys move in.
    pub(crate) fn table(&mut self) -> Option<(&mut TableState, usize)> {
        match (self.panel, self.drills.last()) {
            (_, Some(Drill::Task(..) | Drill::Thread(_) | Drill::Socket(_))) => None,
            (Panel::Tasks, Some(Drill::Group(..))) => {
                Some((&mut self.tasks, view::tasks::TASKS.len()))
            }
            (Panel::Overview, _) if self.window.groups.is_empty() => {
                Some((&mut self.threads, view::threads::COLUMNS.len()))
            }
            (Panel::Tasks | Panel::Overview, _) => {
                Some((&mut self.groups, view::tasks::GROUPS.len()))
            }
            (Panel::Threads | Panel::Placement, _) => {
                Some((&mut self.threads, view::threads::COLUMNS.len()))
            }
            (Panel::Sockets, _) => Some((&mut self.sockets, view::sockets::COLUMNS.len())),
            (Panel::Queues, _) => Some((&mut self.queues, view::queues::COLUMNS.len())),
            (Panel::Memory, _) => Some((&mut self.sites, view::memory::COLUMNS.len())),
            (Panel::Flame | Panel::Hz, _) => None,
        }
    }

    /// Looks more closely at the chosen row.
    pub(crate) fn drill(&mut self) {
        let drill = match (self.panel, self.drills.last()) {
            (Panel::Overview, None) if self.window.groups.is_empty() => self.chosen_thread(),
            (Panel::Tasks | Panel::Overview, None) => {
                let group = self.groups.row().and_then(|row| self.window.groups.get(row));
                group.map(|row| Drill::Group(row.pid, row.name.clone(), row.spawned_at.clone()))
            }
            (Panel::Tasks, Some(Drill::Group(..))) => {
                let task = self.tasks.row().and_then(|row| self.window.tasks.get(row));
                task.map(|row| Drill::Task(row.pid, row.task))
            }
            (Panel::Threads | Panel::Placement, None) => self.chosen_thread(),
            (Panel::Sockets, None) => {
                let network = self.window.network.as_ref();
                let row = self.sockets.row().zip(network);
                let socket = row.and_then(|(row, network)| network.sockets.get(row));
                socket.map(|row| Drill::Socket(row.cookie))
            }
            _ => None,
        };
        let Some(drill) = drill else { return };
        match drill {
            Drill::Group(..) => self.panel = Panel::Tasks,
            Drill::Thread(_) => self.panel = Panel::Threads,
            Drill::Task(..) | Drill::Socket(_) => {}
        }
        self.drills.push(drill);
        self.tasks.chosen = 0;
        self.arrange();
    }

    fn chosen_thread(&self) -> Option<Drill> {
        let thread = self.threads.row().and_then(|row| self.window.threads.get(row));
        thread.map(|row| Drill::Thread(row.tid))
    }
}

/// Adds how deep queues were in the windows before.
fn with_trends(mut rows: Vec<QueueRow>, points: &[&Point]) -> Vec<QueueRow> {
    let recent = &points[points.len().saturating_sub(TREND)..];
    for row in &mut rows {
        let key = row.key();
        let depth = |point: &&Point| {
            let queues = point.queues.iter();
            queues.filter(|(name, _)| *name == key).map(|(_, depth)| *depth).next_back()
        };
        row.trend = recent.iter().filter_map(depth).collect();
    }
    rows
}
