//! Async runtimes as part of a session: found, read, and given up when their processes end.

use super::{
    candidates::{Candidates, Newcomers},
    collector::{Collector, STREAM_RUNTIMES},
    mapped::Mapped,
    target::Attached,
};
use crate::{
    recording::{LedgerRow, RuntimeProcess},
    source::{AttachError, RuntimeMemory, RuntimeReader, every_kind},
    text,
};
use hz_probes_ebpf::Kind;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::{Duration, Instant},
};

/// How often the list of processes is read anew.
const LISTED: Duration = Duration::from_secs(5);

/// How often it is checked whether a process is still there, and tasks are told anew if records
/// were lost.
const CHECKED: Duration = Duration::from_secs(1);

/// The async runtimes of a session.
#[derive(Debug)]
pub(super) struct Runtimes {
    candidates: Candidates,
    readings: Vec<Reading>,
    found: Vec<RuntimeProcess>,
    refused: BTreeMap<u32, String>,
    /// Processes that nobody named, whose files may not be looked at.
    not_permitted: BTreeSet<u32>,
    /// Rows of readers that have ended.
    earlier: Vec<LedgerRow>,
    next_stream: u16,
    mapped: Mapped,
    listed: Instant,
    checked: Instant,
}

/// One process that is read.
#[derive(Debug)]
struct Reading {
    reader: RuntimeReader,
    first_stream: u16,
}

impl Reading {
    fn drain(&mut self, collector: &mut Collector) {
        let first = self.first_stream;
        self.reader.drain(&mut |lane, record| collector.push(first.saturating_add(lane), record));
    }

    fn snapshot(&mut self, collector: &mut Collector) {
        let first = self.first_stream;
        self.reader
            .snapshot(&mut |lane, record| collector.push(first.saturating_add(lane), record));
    }
}

impl Runtimes {
    pub(super) fn of(attached: &Attached, follow_children: bool) -> Self {
        let Attached { target, scope, .. } = attached;
        let now = Instant::now();
        Self {
            candidates: Candidates::new(target.clone(), scope.clone(), follow_children),
            readings: Vec::new(),
            found: Vec::new(),
            refused: BTreeMap::new(),
            not_permitted: BTreeSet::new(),
            earlier: Vec::new(),
            next_stream: STREAM_RUNTIMES,
            mapped: Mapped::default(),
            listed: now,
            checked: now,
        }
    }

    /// Finds the runtimes that are there.
    pub(super) fn attach(&mut self) {
        let now = Instant::now();
        self.candidates.list(now);
        self.look(now);
    }

    /// Tells what their rings held before, and every task that lives.
    pub(super) fn begin(&mut self, collector: &mut Collector) {
        self.tell_from(0, collector);
    }

    /// Tells what the readings from `first` on held before, what lives, and where their code is.
    fn tell_from(&mut self, first: usize, collector: &mut Collector) {
        for reading in &mut self.readings[first..] {
            self.mapped.tell(reading.reader.memory().pid(), collector);
            reading.drain(collector);
            reading.snapshot(collector);
        }
    }

    /// Where the kernel's records are shown to.
    pub(super) fn newcomers(&self) -> Newcomers {
        self.candidates.newcomers()
    }

    /// Whether any was found.
    pub(super) const fn is_on(&self) -> bool {
        !self.found.is_empty()
    }

    /// Those that were found so far.
    pub(super) fn found(&self) -> &[RuntimeProcess] {
        &self.found
    }

    /// Those that cannot be read, and what others do not tell.
    pub(super) fn not_collected(&self) -> impl Iterator<Item = String> + '_ {
        let silent = self.found.iter().filter(|process| !process.not_told.is_empty());
        let silent = silent.map(|process| {
            let RuntimeProcess { pid, comm, not_told, .. } = process;
            format!("{} of {comm} ({pid}): its runtime does not tell", not_told.join(", "))
        });
        let hidden = (!self.not_permitted.is_empty()).then(|| {
            let count = text::plural(self.not_permitted.len() as u64, "other process");
            format!("tasks of {count}, should they have any: be root, or grant CAP_SYS_PTRACE")
        });
        self.refused.values().map(|reason| format!("tasks: {reason}")).chain(hidden).chain(silent)
    }

    /// Reads what every ring holds, and finds new ones.
    pub(super) fn drain(&mut self, collector: &mut Collector) {
        self.readings.iter_mut().for_each(|reading| reading.drain(collector));
        let now = Instant::now();
        if now - self.checked >= CHECKED {
            self.checked = now;
            self.check(now, collector);
        }
        if now - self.listed >= LISTED {
            self.listed = now;
            self.candidates.list(now);
        }
        let began = self.look(now);
        self.tell_from(began, collector);
    }

    /// Reads what is left, tells every task that still lives, and gives the leases back.
    pub(super) fn end(&mut self, collector: &mut Collector) {
        for mut reading in std::mem::take(&mut self.readings) {
            reading.drain(collector);
            if reading.reader.memory().is_there() {
                self.learn_clock(reading.reader.memory());
                // What was loaded since has stacks too.
                self.mapped.tell(reading.reader.memory().pid(), collector);
                reading.snapshot(collector);
            }
            add(&mut self.earlier, reading.reader.ledger());
        }
    }

    /// What a process says now of its clock: at first it has not compared it often.
    fn learn_clock(&mut self, memory: &RuntimeMemory) {
        let its = self.found.iter_mut().rev().find(|process| process.pid == memory.pid());
        if let Some(process) = its {
            process.clock_error_ns = memory.clock_error_ns().or(process.clock_error_ns);
        }
    }

    /// What became of every record so far.
    pub(super) fn ledger(&self) -> Vec<LedgerRow> {
        let mut rows = self.earlier.clone();
        self.readings.iter().for_each(|reading| add(&mut rows, reading.reader.ledger()));
        rows
    }

    fn check(&mut self, now: Instant, collector: &mut Collector) {
        for reading in &mut self.readings {
            if reading.reader.has_lost() {
                reading.snapshot(collector);
            }
        }
        let gone = self.readings.extract_if(.., |reading| !reading.reader.memory().is_there());
        for mut reading in gone {
            // It may have written until it was gone.
            reading.drain(collector);
            add(&mut self.earlier, reading.reader.ledger());
            self.candidates.look_again(reading.reader.memory().pid(), now);
        }
    }

    /// Looks at processes whose turn it is; where the new ones begin among the readings.
    fn look(&mut self, now: Instant) -> usize {
        let began = self.readings.len();
        let due = self.candidates.due(now, |_| self.checked = now - CHECKED);
        for pid in due {
            if self.readings.iter().any(|reading| reading.reader.memory().pid() == pid) {
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
        began
    }

    fn open(&mut self, pid: u32) -> Result<(), AttachError> {
        let memory = RuntimeMemory::open(pid)?;
        let offered = memory.offered_kinds();
        let workers = memory.workers();
        let reader = RuntimeReader::new(memory, every_kind())?;
        let first_stream = self.next_stream;
        self.next_stream = first_stream.saturating_add(reader.lanes());
        self.readings.push(Reading { reader, first_stream });
        let (comm, not_told) = (comm(pid), not_told(offered));
        let clock_error_ns =
            self.readings.last().and_then(|last| last.reader.memory().clock_error_ns());
        self.found.push(RuntimeProcess { pid, comm, workers, not_told, clock_error_ns });
        Ok(())
    }
}

fn comm(pid: u32) -> String {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    comm.trim_end().to_owned()
}

/// Kinds of a ring's records that are not among `offered`.
fn not_told(offered: u64) -> Vec<String> {
    let kinds = Kind::ALL.iter().filter(|kind| kind.runtime_bit() & !offered != 0);
    kinds.map(|kind| kind.tag().to_owned()).collect()
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
