//! State: what is shown. [`App::update`] is the only way it changes.

use crate::{
    history::{History, Point},
    keys,
    table::TableState,
    theme::Theme,
    view,
    warning::{Finding, Recent, findings},
};
use hz_trace::model::window::Window;
use ratatui::crossterm::event::{KeyEvent, MouseEvent};
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

/// What happened.
#[derive(Debug)]
pub enum Msg {
    /// A second is over.
    Window(Box<Window>),
    /// A key was pressed.
    Key(KeyEvent),
    /// The mouse was used.
    Mouse(MouseEvent),
    /// The screen has another size.
    Resize,
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
            Msg::Resize => {}
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
        let points: Vec<&Point> = self.history.points(self.back).rev().take(120).collect();
        let groups =
            points.iter().rev().map(|point| (point.end_ns, point.groups.as_slice())).collect();
        self.findings = findings(&Recent { window: &self.window, groups });
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
        groups.arrange(&window.groups, view::tasks::GROUPS, |row| {
            matches(&[&row.name, &row.spawned_at, &row.process, &row.pid.to_string()])
        });
        tasks.arrange(&window.tasks, view::tasks::TASKS, |row| {
            let is_inside = match drills.first() {
                Some(Drill::Group(pid, name, place)) => {
                    (row.pid, &row.name, &row.spawned_at) == (*pid, name, place)
                }
                _ => true,
            };
            is_inside
                && matches(&[&row.name, &row.spawned_at, &row.waits_for, &row.pid.to_string()])
        });
        threads.arrange(&window.threads, view::threads::COLUMNS, |row| {
            let tid = row.tid.to_string();
            row.is_target && matches(&[&row.name, &row.process, &tid, &row.pid.to_string()])
        });
    }

    /// The table that keys move in.
    pub(crate) fn table(&mut self) -> Option<(&mut TableState, usize)> {
        match (self.panel, self.drills.last()) {
            (_, Some(Drill::Task(..) | Drill::Thread(_))) => None,
            (Panel::Tasks, Some(Drill::Group(..))) => {
                Some((&mut self.tasks, view::tasks::TASKS.len()))
            }
            (Panel::Tasks | Panel::Overview, _) => {
                Some((&mut self.groups, view::tasks::GROUPS.len()))
            }
            (Panel::Threads | Panel::Placement, _) => {
                Some((&mut self.threads, view::threads::COLUMNS.len()))
            }
            _ => None,
        }
    }

    /// Looks more closely at the chosen row.
    pub(crate) fn drill(&mut self) {
        let drill = match (self.panel, self.drills.last()) {
            (Panel::Tasks | Panel::Overview, None) => {
                let group = self.groups.row().and_then(|row| self.window.groups.get(row));
                group.map(|row| Drill::Group(row.pid, row.name.clone(), row.spawned_at.clone()))
            }
            (Panel::Tasks, Some(Drill::Group(..))) => {
                let task = self.tasks.row().and_then(|row| self.window.tasks.get(row));
                task.map(|row| Drill::Task(row.pid, row.task))
            }
            (Panel::Threads | Panel::Placement, None) => {
                let thread = self.threads.row().and_then(|row| self.window.threads.get(row));
                thread.map(|row| Drill::Thread(row.tid))
            }
            _ => None,
        };
        let Some(drill) = drill else { return };
        match drill {
            Drill::Group(..) => self.panel = Panel::Tasks,
            Drill::Thread(_) => self.panel = Panel::Threads,
            Drill::Task(..) => {}
        }
        self.drills.push(drill);
        self.tasks.chosen = 0;
        self.arrange();
    }
}
