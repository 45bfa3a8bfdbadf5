//! What is where.

use super::PX;
use super::draw_page::footer_height;
use super::lanes::Lanes;
use super::sockets;
use super::strips::{Strip, Strips};
use super::survey::Wait;
use super::tasks::as_runner;
use crate::export::Subject;
use crate::model::{Runtime, ThreadIndex};
use std::ops::Range;

/// Width of the picture in units.
pub(super) const WIDTH: i32 = 1_280 * PX;
/// The part of it that is time, in units.
pub(super) const PLOT: Range<i32> = 168 * PX..1_256 * PX;
/// Left margin of headings in units.
pub(super) const MARGIN: i32 = 16 * PX;
/// Height of a row of what is below a lane, in units.
pub(super) const ROW_HEIGHT: i32 = 7 * PX;

/// Height of the line under a thread's lane that says something about it, in units.
pub(super) const NOTE_HEIGHT: i32 = 14 * PX;

/// What a lane shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shows {
    /// How busy a CPU was: its place in [`crate::model::Model::cpus`].
    Density(usize),
    /// Who had a CPU: its place in [`crate::model::Model::cpus`].
    Cpu(usize),
    /// What a thread did.
    Thread(ThreadIndex),
    /// What all threads without a lane did.
    Folded,
    /// How many tasks waited: the place of their runtime in [`crate::model::Model::runtimes`].
    Queue(usize),
    /// What a task did: its place in [`super::tasks::TaskLanes::own`].
    Task(usize),
    /// What tasks of one name did: its place in [`super::tasks::TaskLanes::folds`].
    TaskFold(usize),
    /// What a connection held: its place in [`crate::model::net::Network::sockets`].
    Socket(usize),
}

/// A stripe of the picture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lane {
    pub(super) shows: Shows,
    /// Its top, in units.
    pub(super) top: i32,
    /// In units, without what is below.
    pub(super) height: i32,
    /// Rows of what is below.
    pub(super) rows: u8,
}

impl Lane {
    pub(super) const fn y(&self) -> Range<i32> {
        self.top..self.top + self.height
    }

    /// Height of what is below, in units.
    pub(super) fn rows_height(&self) -> i32 {
        i32::from(self.rows) * ROW_HEIGHT
    }

    /// Where its label's baseline is.
    pub(super) const fn baseline(&self) -> i32 {
        self.top + self.height / 2 + 4 * PX
    }
}

/// A line of text between lanes.
#[derive(Clone, Debug)]
pub(super) struct Heading {
    pub(super) text: String,
    /// What is said after it, lighter.
    pub(super) aside: String,
    /// Its baseline, in units.
    pub(super) baseline: i32,
    /// Whether it names a process, not a section.
    pub(super) is_process: bool,
}

/// Where everything is.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) lanes: Vec<Lane>,
    pub(super) headings: Vec<Heading>,
    /// Top and bottom of the plot in units.
    pub(super) plot_y: Range<i32>,
    /// Height of the picture in units.
    pub(super) height: i32,
}

/// Builds a [`Layout`] from top to bottom.
#[derive(Debug)]
struct Stack {
    layout: Layout,
    at: i32,
}

impl Layout {
    /// Puts everything in its place; what is below lanes and waits that are pointed out need room.
    pub(super) fn of(
        subject: &Subject<'_>,
        lanes: &Lanes,
        (strips, notes): (&Strips, &[Wait]),
    ) -> Self {
        let top = 84 * PX;
        let plot_y = top..top;
        let empty = Self { lanes: Vec::new(), headings: Vec::new(), plot_y, height: 0 };
        let mut stack = Stack { layout: empty, at: top };
        stack.cpus(subject);
        stack.tasks(subject, lanes, strips);
        stack.sockets(subject);
        stack.threads(lanes, (strips, notes));
        stack.layout.plot_y.end = stack.at + 4 * PX;
        stack.layout.height = stack.at + 4 * PX + footer_height(subject);
        stack.layout
    }
}

impl Stack {
    fn heading(&mut self, text: &str, aside: &str, is_process: bool) {
        self.at += if is_process { 13 } else { 18 } * PX;
        self.layout.headings.push(Heading {
            text: text.to_owned(),
            aside: aside.to_owned(),
            baseline: self.at,
            is_process,
        });
        self.at += if is_process { 4 } else { 6 } * PX;
    }

    fn lane(&mut self, shows: Shows, height: i32, gap: i32) {
        let lane = Lane { shows, top: self.at, height: height * PX, rows: 0 };
        self.layout.lanes.push(lane);
        self.at += (height + gap) * PX;
    }

    fn cpus(&mut self, subject: &Subject<'_>) {
        let cpus = subject.model.cpus.len();
        // Many CPUs get thinner lanes, so that the threads stay in sight.
        let (density, lane, gap) = match cpus {
            0..=8 => (14, 22, 4),
            9..=32 => (10, 12, 3),
            33..=128 => (4, 6, 1),
            _ => (2, 3, 0),
        };
        self.heading(
            "Density",
            if subject.model.runtimes.is_empty() {
                "busy share of each CPU (height), by how many different threads (shade)"
            } else {
                "busy share of each CPU (height), by how many different tasks or threads (shade)"
            },
            false,
        );
        for cpu in 0..cpus {
            self.lane(Shows::Density(cpu), density, 3.min(gap));
        }
        let who = if subject.model.runtimes.is_empty() {
            "who ran: a colour per process, a shade per thread"
        } else {
            "who ran: a colour per name of tasks, else per process; a shade per task or thread"
        };
        self.heading("CPUs", who, false);
        for cpu in 0..cpus {
            self.lane(Shows::Cpu(cpu), lane, gap);
        }
    }

    fn tasks(&mut self, subject: &Subject<'_>, lanes: &Lanes, strips: &Strips) {
        let runtimes = &subject.model.runtimes;
        if runtimes.is_empty() {
            return;
        }
        self.heading(
            "Tasks",
            "idle (line), ready, polled: with what the kernel did inside the poll; longest polled first",
            false,
        );
        for (place, _) in runtimes.iter().enumerate().filter(|(_, each)| has_queues(each)) {
            self.lane(Shows::Queue(place), 14, 4);
        }
        for (place, own) in lanes.tasks.own.iter().enumerate() {
            self.lane(Shows::Task(place), 14, 4);
            self.strip(strips.get(as_runner(subject.model, own.task)));
            if lanes.tasks.notes.contains(&place) {
                self.at += NOTE_HEIGHT;
            }
        }
        for place in 0..lanes.tasks.folds.len() {
            self.lane(Shows::TaskFold(place), 14, 4);
        }
    }

    fn sockets(&mut self, subject: &Subject<'_>) {
        let shown = sockets::shown(subject.model);
        if shown.is_empty() {
            return;
        }
        let all = subject.model.network.sockets.iter().filter(|socket| !socket.is_listener());
        let more = match all.count().saturating_sub(shown.len()) {
            0 => String::new(),
            more => format!("; {more} more without a lane"),
        };
        let what = "in flight (green), unsent (orange), unread (violet); closed window or timer on top (red); \
                    sent again (ticks)";
        self.heading("Connections", &format!("{what}{more}"), false);
        for place in shown {
            self.lane(Shows::Socket(place), 20, 5);
        }
    }

    fn threads(&mut self, lanes: &Lanes, (strips, notes): (&Strips, &[Wait])) {
        self.heading("Threads", "worst wait for a CPU first, then busiest", false);
        for group in &lanes.groups {
            if lanes.groups.len() > 1 {
                self.heading(&group.name, &format!("pid {}", group.pid), true);
            }
            for thread in &group.threads {
                self.lane(Shows::Thread(*thread), 14, 4);
                self.strip(strips.get(*thread));
                if notes.iter().any(|wait| wait.thread == *thread) {
                    self.at += NOTE_HEIGHT;
                }
            }
        }
        if !lanes.folded.is_empty() {
            self.at += 6 * PX;
            self.lane(Shows::Folded, 22, 4);
        }
    }

    /// Makes room for what is below the lane that was put last.
    fn strip(&mut self, strip: Option<&Strip>) {
        let Some((strip, lane)) = strip.zip(self.layout.lanes.last_mut()) else { return };
        lane.rows = strip.rows;
        self.at += lane.rows_height();
    }
}

/// Whether a runtime told that tasks waited, or who took them.
fn has_queues(runtime: &Runtime) -> bool {
    let depths = runtime.workers.iter().map(|worker| &worker.depths).chain([&runtime.injector]);
    depths.flatten().any(|depth| depth.total() > 0) || !runtime.steals.is_empty()
}
