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
        self.pending.drain(..count).for_each(|event| self.folder.fold_runtime(&event));
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
