//! Async runtimes that are watched: found, read, and given up when their processes end.

use crate::{
    decode,
    host::clock,
    model::window::{NotCollected, TaskFolder, Window},
    recording::{LedgerRow, Target},
    session::candidates::Candidates,
    source::{AttachError, RuntimeMemory, RuntimeReader, Scope},
    text,
};
use hz_probes_ebpf::{Header, Kind, runtime::RuntimeEvent};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::{Duration, Instant},
};
use zerocopy::FromBytes as _;

/// How often the list of processes is read anew.
const LISTED: Duration = Duration::from_secs(2);

/// What is asked of runtimes.
const KINDS: [Kind; 11] = [
    Kind::TaskSpawn,
    Kind::TaskWake,
    Kind::PollBegin,
    Kind::PollEnd,
    Kind::TaskEnd,
    Kind::Steal,
    Kind::QueueDepth,
    Kind::AllocSampled,
    Kind::FreeSampled,
    Kind::BufferTaken,
    Kind::BufferReturned,
];

/// The async runtimes of a target.
#[derive(Debug)]
pub(super) struct LiveRuntimes {
    candidates: Candidates,
    readers: Vec<RuntimeReader>,
    folder: TaskFolder,
    /// Events that may be followed by earlier ones of other rings.
    pending: Vec<RuntimeEvent>,
    refused: BTreeMap<u32, String>,
    not_permitted: BTreeSet<u32>,
    /// Rows of readers that have ended.
    earlier: Vec<LedgerRow>,
    listed: Option<Instant>,
    /// Polls that ended in this window, for who wants to know what threads did: begin, end, process and
    /// task by thread.
    polls: Option<BTreeMap<u32, Vec<Poll>>>,
}

/// A poll of a thread.
#[derive(Clone, Copy, Debug)]
struct Poll {
    begin_ns: u64,
    end_ns: u64,
    pid: u32,
    task: u64,
}

impl LiveRuntimes {
    pub(super) fn new(
        target: &Target,
        scope: &Scope,
        follow_children: bool,
        start_ns: u64,
    ) -> Self {
        Self {
            candidates: Candidates::new(target.clone(), scope.clone(), follow_children),
            readers: Vec::new(),
            folder: TaskFolder::new(start_ns),
            pending: Vec::new(),
            refused: BTreeMap::new(),
            not_permitted: BTreeSet::new(),
            earlier: Vec::new(),
            listed: None,
            polls: None,
        }
    }

    /// Empties the rings, and finds new runtimes. At least once a second, or leases run out.
    pub(super) fn tick(&mut self) {
        let cut_ns = clock::monotonic_ns();
        self.drain();
        self.fold_until(cut_ns);
        let now = Instant::now();
        if self.listed.is_none_or(|listed| now - listed >= LISTED) {
            self.listed = Some(now);
            self.give_up_ended();
            self.candidates.list(now);
        }
        self.look(now);
    }

    fn drain(&mut self) {
        let Self { readers, folder, pending, .. } = self;
        for reader in readers {
            reader.drain(&mut |_, record| take(record, folder, pending));
        }
    }

    /// What rings held when they were looked at is in order up to then, all rings together.
    fn fold_until(&mut self, cut_ns: u64) {
        self.pending.sort_by_key(|event| event.header.time_ns);
        let count = self.pending.partition_point(|event| event.header.time_ns <= cut_ns);
        for event in self.pending.drain(..count) {
            if let Some(polls) = &mut self.polls {
                note_poll(polls, &event);
            }
            self.folder.fold_runtime(&event);
        }
    }

    /// Keeps which task each thread polled, or does not.
    pub(super) fn keep_polls(&mut self, is_so: bool) {
        match (is_so, &self.polls) {
            (true, None) => self.polls = Some(BTreeMap::new()),
            (false, Some(_)) => self.polls = None,
            _ => {}
        }
    }

    /// The name of the task that a thread polled at `time_ns` in this window.
    pub(super) fn polled(&self, tid: u32, time_ns: u64) -> Option<String> {
        let polls = self.polls.as_ref()?.get(&tid)?;
        let behind = polls.partition_point(|poll| poll.begin_ns <= time_ns);
        let poll = polls[..behind].last().filter(|poll| time_ns < poll.end_ns)?;
        self.folder.task_name(poll.pid, poll.task)
    }

    /// Forgets polls that have ended, but the last of each thread: a stack may come a little late.
    pub(super) fn forget_polls(&mut self) {
        for polls in self.polls.iter_mut().flat_map(BTreeMap::values_mut) {
            let last = polls.len().saturating_sub(1);
            polls.drain(..last);
        }
    }

    fn give_up_ended(&mut self) {
        let gone = self.readers.extract_if(.., |reader| !reader.memory().is_there());
        for reader in gone {
            let pid = reader.memory().pid();
            add(&mut self.earlier, reader.ledger());
            self.folder.forget(pid);
            self.candidates.look_again(pid, Instant::now());
        }
    }

    fn look(&mut self, now: Instant) {
        for pid in self.candidates.due(now, |_| {}) {
            if self.readers.iter().any(|reader| reader.memory().pid() == pid) {
                continue;
            }
            match self.open(pid) {
                Ok(()) => _ = self.refused.remove(&pid),
                Err(error) if error.is_absence() => {}
                Err(AttachError::NotPermitted { .. }) if !self.candidates.are_named() => {
                    self.not_permitted.insert(pid);
                }
                Err(error) => _ = self.refused.insert(pid, error.to_string()),
            }
        }
    }

    fn open(&mut self, pid: u32) -> Result<(), AttachError> {
        let memory = RuntimeMemory::open(pid)?;
        let kinds = KINDS.iter().fold(0, |all, kind| all | kind.runtime_bit());
        let reader = RuntimeReader::new(memory, kinds)?;
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        self.folder.name_process(pid, &text::showable(comm.trim_end()));
        self.readers.push(reader);
        Ok(())
    }

    /// Puts tasks into the window that has ended.
    pub(super) fn close(&mut self, window: &mut Window) {
        self.drain();
        self.fold_until(window.end_ns);
        let Self { readers, folder, pending, .. } = self;
        for reader in readers {
            reader.snapshot(&mut |_, record| take(record, folder, pending));
            folder.directory_was_read(reader.memory().pid());
        }
        self.folder.close(window.end_ns, window);
        window.not_collected.extend(self.not_collected());
    }

    fn not_collected(&self) -> Vec<NotCollected> {
        let mut missing: Vec<NotCollected> =
            self.refused.values().map(|why| NotCollected::new("tasks of a process", why)).collect();
        if !self.not_permitted.is_empty() {
            let count = text::plural(self.not_permitted.len() as u64, "process");
            let why = format!("{count} may not be looked at: be root, or grant CAP_SYS_PTRACE");
            missing.push(NotCollected::new("tasks of other users", why));
        }
        if self.readers.is_empty() {
            let why = "no process of the target runs on hz-runtime or emits its probes";
            missing.push(NotCollected::new("tasks", why));
        }
        missing
    }

    /// What became of every record so far.
    pub(super) fn ledger(&self) -> Vec<LedgerRow> {
        let mut rows = self.earlier.clone();
        self.readers.iter().for_each(|reader| add(&mut rows, reader.ledger()));
        rows
    }
}

/// Polls of one thread and window that are kept: more are too short to be sampled often.
const POLLS_MAX: usize = 200_000;

fn note_poll(polls: &mut BTreeMap<u32, Vec<Poll>>, event: &RuntimeEvent) {
    let (header, task) = (&event.header, event.task);
    match Kind::from_wire(header.kind) {
        Some(Kind::PollBegin) => {
            let of_thread = polls.entry(header.tid).or_default();
            if of_thread.len() < POLLS_MAX {
                let poll =
                    Poll { begin_ns: header.time_ns, end_ns: u64::MAX, pid: header.pid, task };
                of_thread.push(poll);
            }
        }
        Some(Kind::PollEnd) => {
            let last = polls.get_mut(&header.tid).and_then(|polls| polls.last_mut());
            if let Some(last) = last.filter(|last| last.task == task && last.end_ns == u64::MAX) {
                last.end_ns = header.time_ns;
            }
        }
        _ => {}
    }
}

/// Keeps an event of a ring, to be put in order; folds what names things at once.
fn take(record: &[u8], folder: &mut TaskFolder, pending: &mut Vec<RuntimeEvent>) {
    let Ok((header, _)) = Header::ref_from_prefix(record) else { return };
    let kind = Kind::from_wire(header.kind);
    if kind.is_some_and(Kind::is_runtime_event) {
        pending.extend(RuntimeEvent::read_from_prefix(record).ok().map(|(event, _)| event));
    } else if let Ok(event) = decode::decode(record) {
        folder.fold(&event);
    }
}

/// Adds rows to those of the same site.
fn add(sums: &mut Vec<LedgerRow>, rows: Vec<LedgerRow>) {
    for row in rows {
        match sums.iter_mut().find(|sum| sum.site == row.site) {
            Some(sum) => sum.add(&row),
            None => sums.push(row),
        }
    }
}
