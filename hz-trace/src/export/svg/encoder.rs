//! Writes lanes and waits for the script, at one resolution.

use super::columns::{ThreadColumns, place};
use super::cpu_columns::runs_between;
use super::data::{LaneData, WaitData};
use super::draw_sockets::socket_words;
use super::draw_tasks::{fold_columns, queue_columns};
use super::encode::Bytes;
use super::layout::{Lane, Shows};
use super::mixes::{mixed_states, write_mix};
use super::pieces::{Slice, gather};
use super::sockets::{SocketColumn, socket_columns};
use super::strips::Strip;
use super::survey::{Wait, tiles_between};
use super::tasks::{Part, as_runner, part, task_words};
use super::words;
use super::{CALL_BYTES, PX, Scene};
use crate::model::{Cpu, Span, State, ThreadIndex, Tile, Waker, Who};
use rustc_hash::FxHashMap;

/// Names that are embedded; threads beyond them are "another thread".
const NAMES: usize = 4_000;

/// Threads that a gathered piece of a CPU's time names.
const NAMED_IN_PIECE: usize = 3;

/// Thread id, process id, name and colour of a thread.
pub(super) type Actor = (u32, u32, String, String);

/// Writes lanes at one resolution.
pub(super) struct Encoder<'a> {
    scene: &'a Scene<'a>,
    pub(super) resolution_ns: u64,
    pub(super) unit_ns: u64,
    /// Everybody who was mentioned. The first is nobody.
    pub(super) actors: Vec<Actor>,
    known: FxHashMap<ThreadIndex, usize>,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(scene: &'a Scene<'a>, resolution_ns: u64) -> Self {
        let mut unit_ns = 1;
        while unit_ns * 1_000 < resolution_ns {
            unit_ns *= 10;
        }
        let nobody = (0, 0, "another thread".to_owned(), String::new());
        let mut new = Self {
            scene,
            resolution_ns,
            unit_ns,
            actors: vec![nobody],
            known: FxHashMap::default(),
        };
        // Those with a lane must have a name, so they come first.
        for thread in scene.lanes.threads() {
            new.actor(thread);
        }
        for own in &scene.lanes.tasks.own {
            new.actor(as_runner(scene.subject.model, own.task));
        }
        new
    }

    /// Threads without a lane of their own can be searched for as well.
    pub(super) fn name_folded(&mut self) {
        for thread in &self.scene.lanes.folded {
            self.actor(*thread);
        }
    }

    fn actor(&mut self, index: ThreadIndex) -> usize {
        if let Some(known) = self.known.get(&index) {
            return *known;
        }
        if self.actors.len() > NAMES {
            return 0;
        }
        let actor = self.new_actor(index);
        self.known.insert(index, self.actors.len());
        self.actors.push(actor);
        self.actors.len() - 1
    }

    /// A task and a reason have no thread id: the script takes their names as they are.
    fn new_actor(&self, index: ThreadIndex) -> Actor {
        let model = self.scene.subject.model;
        match part(model, index) {
            Part::Thread(index) => {
                let thread = model.thread(index);
                (thread.tid, thread.pid, thread.name(), self.scene.colours.paint(index).hex())
            }
            Part::Task(task) => {
                let runtime = model.runtimes.get(model.task(task).runtime as usize);
                let pid = runtime.map_or(0, |runtime| runtime.pid);
                (0, pid, task_words(model, task), self.scene.colours.paint(index).hex())
            }
            Part::Reason(place) => {
                let (pid, words) = self.scene.lanes.tasks.reason_at(place);
                (0, pid, words, String::new())
            }
        }
    }

    const fn units(&self, time_ns: u64) -> u64 {
        self.since(time_ns) / self.unit_ns
    }

    const fn since(&self, time_ns: u64) -> u64 {
        time_ns.saturating_sub(self.scene.subject.from_ns)
    }

    /// Length in units such that the ends of the pieces before do not drift.
    const fn length<T>(&self, piece: &[Slice<T>]) -> u64 {
        self.units(piece[piece.len() - 1].end_ns) - self.units(piece[0].start_ns)
    }

    pub(super) fn lanes(&mut self) -> Vec<LaneData> {
        let scene = self.scene;
        scene.layout.lanes.iter().map(|lane| self.lane(lane)).collect()
    }

    fn lane(&mut self, lane: &Lane) -> LaneData {
        let pixels = |units: i32| f64::from(units) / f64::from(PX);
        let y = (pixels(lane.top), pixels(lane.height));
        let mut data = LaneData { kind: "density", y, ..LaneData::default() };
        let model = self.scene.subject.model;
        match lane.shows {
            // It shows what the lane of the CPU says.
            Shows::Density(cpu) => data.cpu = Some(model.cpus[cpu].id),
            Shows::Cpu(cpu) => {
                let cpu = &model.cpus[cpu];
                (data.kind, data.cpu) = ("cpu", Some(cpu.id));
                data.pieces = self.cpu(cpu).base64();
                data.lost = self.lost(cpu);
            }
            Shows::Thread(index) => {
                (data.kind, data.actor) = ("thread", Some(self.actor(index)));
                data.start = self.units(model.thread(index).start_ns);
                let subject = self.scene.subject;
                let time = subject.from_ns..subject.to_ns;
                data.pieces = self.life(tiles_between(model.thread(index), time)).base64();
                self.below(lane, index, &mut data);
            }
            Shows::Folded => {
                (data.kind, data.threads) = ("rest", Some(self.scene.lanes.folded.len()));
                data.pieces = self.folded().base64();
            }
            Shows::Task(place) => {
                let own = &self.scene.lanes.tasks.own[place];
                let actor = self.actor(as_runner(model, own.task));
                (data.kind, data.actor) = ("task", Some(actor));
                let has_flames = !self.scene.subject.about.flames.is_empty();
                data.task = has_flames.then(|| model.task(own.task).id.to_string());
                data.start = own.tiles.first().map_or(0, |first| self.units(first.span.start_ns));
                data.pieces = self.life(own.tiles.iter().copied()).base64();
                self.below(lane, as_runner(model, own.task), &mut data);
                self.socket_waits(place, &mut data);
            }
            Shows::TaskFold(place) => {
                let fold = &self.scene.lanes.tasks.folds[place];
                data.kind = "rest";
                data.name = Some(format!("{} ×{}", fold.name, fold.tasks.len()));
                data.pieces = self.shares(&fold_columns(self.scene, fold)).base64();
            }
            Shows::Queue(place) => {
                data.kind = "queue";
                data.name = Some(format!("Queues of process {}", model.runtimes[place].pid));
                data.queue = queue_columns(self.scene, &model.runtimes[place]);
            }
            Shows::Socket(place) => {
                let socket = &model.network.sockets[place];
                (data.kind, data.name) = ("socket", Some(socket_words(socket)));
                let columns = socket_columns(self.scene, socket);
                data.socket = columns.iter().map(SocketColumn::numbers).collect();
            }
        }
        data
    }

    fn lost(&self, cpu: &Cpu) -> Vec<(u64, u64, u64)> {
        let subject = self.scene.subject;
        let is_in = |start_ns, end_ns| end_ns >= subject.from_ns && start_ns < subject.to_ns;
        cpu.lost
            .iter()
            .filter(|lost| is_in(lost.start_ns, lost.end_ns))
            .map(|lost| (self.since(lost.start_ns), self.since(lost.end_ns), lost.count))
            .collect()
    }

    /// Pieces of a thread's or task's life: a number of which the lowest six bits are the kind and flags and
    /// the rest is the length, then what the flags ask for.
    fn life(&mut self, tiles: impl Iterator<Item = Tile>) -> Bytes {
        let tiles = tiles.map(|tile| Slice {
            what: tile.span,
            start_ns: tile.span.start_ns,
            end_ns: tile.end_ns,
        });
        let mut bytes = Bytes::default();
        let mut cpu = None;
        gather(tiles, self.resolution_ns, |piece| {
            let length = self.length(piece);
            match piece {
                [tile] => self.state(&mut bytes, (length, tile), &mut cpu),
                many => mixed_states(&mut bytes, (length, self.unit_ns), many, &mut cpu),
            }
        });
        bytes
    }

    fn state(
        &mut self,
        bytes: &mut Bytes,
        (length, tile): (u64, &Slice<Span>),
        cpu: &mut Option<u16>,
    ) {
        let span = tile.what;
        let has_moved = cpu.replace(span.cpu) != Some(span.cpu);
        let waker = match span.waker {
            Waker::HardIrq => Some(0),
            Waker::SoftIrq => Some(1),
            Waker::Thread(waker) => Some(2 + self.actor(waker) as u64),
            Waker::Unknown => None,
        };
        let flags = u64::from(has_moved) << 4 | u64::from(waker.is_some()) << 5;
        bytes.number(length << 6 | flags | place(span.state) as u64);
        if has_moved {
            bytes.number(span.cpu.into());
        }
        if let Some(waker) = waker {
            bytes.number(waker);
        }
    }

    /// Pieces of a CPU's time: a number of which the lowest two bits are the kind (0 not recorded,
    /// 1 idle, 2 a thread, 3 gathered) and the rest is the length, then who it was.
    fn cpu(&mut self, cpu: &Cpu) -> Bytes {
        let subject = self.scene.subject;
        let runs = runs_between(subject.model, cpu, subject.from_ns..subject.to_ns);
        let runs = self.scene.lanes.tasks.split(subject.model, runs).map(|(run, end_ns)| Slice {
            what: run.who,
            start_ns: run.start_ns,
            end_ns,
        });
        let mut bytes = Bytes::default();
        gather(runs, self.resolution_ns, |piece| {
            let length = self.length(piece) << 2;
            match piece {
                [run] => match run.what {
                    Who::Unknown => bytes.number(length),
                    Who::Idle => bytes.number(length | 1),
                    Who::Thread(thread) => {
                        bytes.number(length | 2);
                        bytes.number(self.actor(thread) as u64);
                    }
                },
                many => {
                    bytes.number(length | 3);
                    self.mixed_runs(&mut bytes, many);
                }
            }
        });
        bytes
    }

    fn mixed_runs(&mut self, bytes: &mut Bytes, runs: &[Slice<Who>]) {
        let mut ran: Vec<(ThreadIndex, u64)> = Vec::new();
        let (mut idle_ns, mut unknown_ns) = (0, 0);
        for run in runs {
            match run.what {
                Who::Unknown => unknown_ns += run.duration_ns(),
                Who::Idle => idle_ns += run.duration_ns(),
                Who::Thread(thread) => match ran.iter_mut().find(|(each, _)| *each == thread) {
                    Some((_, ns)) => *ns += run.duration_ns(),
                    None => ran.push((thread, run.duration_ns())),
                },
            }
        }
        ran.sort_by_key(|(thread, ns)| (std::cmp::Reverse(*ns), *thread));
        let named = ran.len().min(NAMED_IN_PIECE);
        let whole = runs.iter().map(Slice::duration_ns).sum();
        bytes.number(ran.len() as u64);
        for (thread, ns) in &ran[..named] {
            bytes.number(self.actor(*thread) as u64);
            bytes.weight(*ns, whole);
        }
        bytes.weight(ran[named..].iter().map(|(_, ns)| ns).sum(), whole);
        bytes.weight(idle_ns, whole);
        bytes.weight(unknown_ns, whole);
    }

    /// What all threads without a lane did, in the picture's columns: as shares of all CPUs.
    fn folded(&self) -> Bytes {
        let (subject, grid) = (self.scene.subject, &self.scene.grid);
        let mut columns = ThreadColumns::of(std::iter::empty(), grid);
        for index in &self.scene.lanes.folded {
            let thread = subject.model.thread(*index);
            columns.add_mixes(tiles_between(thread, subject.from_ns..subject.to_ns), grid);
        }
        self.shares(&columns)
    }

    fn shares(&self, columns: &ThreadColumns) -> Bytes {
        let (subject, grid) = (self.scene.subject, &self.scene.grid);
        let mut bytes = Bytes::default();
        for (column, mix) in columns.mixes.iter().enumerate() {
            let (start_ns, end_ns) = (grid.start_ns(column), grid.start_ns(column + 1));
            let full_ns = (end_ns - start_ns) * subject.model.cpus.len().max(1) as u64;
            let mut seen = *mix;
            (seen[place(State::Unknown)], seen[place(State::Sleeping)]) = (0, 0);
            let busy_ns: u64 = seen.iter().sum();
            seen[place(State::Sleeping)] = full_ns.saturating_sub(busy_ns);
            let length = self.units(end_ns) - self.units(start_ns);
            write_mix(&mut bytes, (length, 0), &seen, 0);
        }
        bytes
    }

    /// When the sockets of a task waited.
    fn socket_waits(&self, place: usize, data: &mut LaneData) {
        let tasks = &self.scene.lanes.tasks;
        let own = &tasks.own[place];
        let waits = own.waits.iter();
        data.waits = waits
            .map(|wait| (self.since(wait.start_ns), self.since(wait.end_ns), wait.words.clone()))
            .collect();
        let note = tasks.note(own).filter(|_| tasks.notes.contains(&place));
        data.note = note.and_then(|note| own.waits.iter().position(|wait| wait == note));
    }

    /// What is below a lane.
    fn below(&self, lane: &Lane, index: ThreadIndex, data: &mut LaneData) {
        if let Some(strip) = self.scene.strips.get(index) {
            data.calls = Some(self.strip(strip).base64());
            data.rows = lane.rows;
        }
    }

    /// Parts by start: time since the start of the one before, name and row, length and one, or 0
    /// for what only happened, and a number. Where they are too many, the shorter ones that begin
    /// within a resolution of another are left to it.
    fn strip(&self, strip: &Strip) -> Bytes {
        const BYTES_PER_PART: usize = 6;
        let mut bytes = Bytes::default();
        let budget = CALL_BYTES / self.scene.strips.len().max(1);
        let spacing_ns = if strip.parts.len() * BYTES_PER_PART > budget {
            self.scene.subject.duration_ns() / (budget / BYTES_PER_PART).max(1) as u64
        } else {
            0
        };
        let mut before_ns = self.scene.subject.from_ns;
        let mut next_ns = vec![0; usize::from(strip.rows).max(1)];
        for part in &strip.parts {
            let length_ns = part.end_ns.map_or(0, |end_ns| end_ns - part.start_ns);
            let next_ns = &mut next_ns[usize::from(part.row)];
            if part.start_ns < *next_ns && length_ns < spacing_ns {
                continue;
            }
            *next_ns = part.start_ns + spacing_ns;
            let start_ns = part.start_ns.max(before_ns);
            bytes.number(self.units(start_ns) - self.units(before_ns));
            bytes.number(part.name as u64 * 8 + u64::from(part.row.min(7)));
            let units =
                |end_ns: u64| self.units(end_ns).saturating_sub(self.units(part.start_ns)) + 1;
            bytes.number(part.end_ns.map_or(0, units));
            bytes.number(part.number);
            before_ns = start_ns;
        }
        bytes
    }

    pub(super) fn wait(&mut self, wait: &Wait) -> WaitData {
        let culprits = wait.culprits(self.scene.subject.model);
        let note = self.scene.notes.iter().any(|noted| noted == wait);
        WaitData {
            actor: self.actor(wait.thread),
            start: self.since(wait.start_ns),
            end: self.since(wait.end_ns),
            ran: culprits
                .ran
                .iter()
                .take(6)
                .map(|culprit| (self.actor(culprit.thread), culprit.ran_ns))
                .collect(),
            rest: [
                culprits.idle_ns,
                culprits.unknown_ns,
                culprits.hard_ns,
                culprits.soft_ns,
                culprits.steal_ns,
            ],
            note: note.then(|| words::wait_note(self.scene.subject.model, wait)),
        }
    }
}
