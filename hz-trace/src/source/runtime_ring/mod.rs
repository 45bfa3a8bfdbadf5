//! The memory that an async runtime shares: its rings, its task directory and their tables.
//!
//! The process may lie, die, fork or become another program at any moment. Nothing that is read is
//! trusted: places are checked against the length of the memory, which is sealed, once; counts are
//! clamped each time; every loop is bounded by what was checked.

mod clock;
mod directory;
mod error;
mod find;
mod layout;
mod lease;
mod map;
mod reader;
mod record;
mod ring;
mod tables;
mod threads;
mod trial;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod reader_tests;
#[cfg(test)]
mod writer;

pub use directory::Tasks;
pub use error::AttachError;
pub use reader::RuntimeReader;
pub use trial::try_to_share;

use clock::Clock;
use find::{Found, Identity, find};
use hz_probes_ebpf::{
    Header, Kind,
    runtime::{RuntimeFound, SpawnSite, Text},
};
use layout::{CLOCK_ERROR, DIRECTORY_OVERFLOW, Layout, WORKERS};
use map::Map;
use std::{
    thread,
    time::{Duration, Instant},
};

/// Every kind that a ring can carry: bit `kind − 16`.
#[must_use]
pub fn every_kind() -> u64 {
    Kind::ALL.iter().map(|kind| kind.runtime_bit()).fold(0, |all, bit| all | bit)
}

/// The memories of all processes here, and how many processes could not be looked at.
#[must_use]
pub fn runtimes() -> (Vec<RuntimeMemory>, u64) {
    let (mut found, mut hidden) = (Vec::new(), 0);
    for process in procfs::process::all_processes().into_iter().flatten().flatten() {
        match RuntimeMemory::open(process.pid.unsigned_abs()) {
            Ok(memory) => found.push(memory),
            Err(AttachError::NotPermitted { .. }) => hidden += 1,
            Err(_) => {}
        }
    }
    (found, hidden)
}

/// The memory of one process, mapped. Reading it leaves no trace in it.
#[derive(Debug)]
pub struct RuntimeMemory {
    pid: u32,
    map: Map,
    layout: Layout,
    identity: Identity,
    clock: Clock,
}

impl RuntimeMemory {
    /// Finds and maps the memory of process `pid`.
    ///
    /// # Errors
    ///
    /// [`AttachError`].
    pub fn open(pid: u32) -> Result<Self, AttachError> {
        find(pid).map(|found| Self::of(found, pid))
    }

    /// As [`RuntimeMemory::open`]; if the process is just setting it up, waits for that, but no longer than
    /// `patience`.
    ///
    /// # Errors
    ///
    /// [`AttachError`].
    pub fn open_when_ready(pid: u32, patience: Duration) -> Result<Self, AttachError> {
        let end = Instant::now() + patience;
        loop {
            match Self::open(pid) {
                Err(AttachError::NotReady { .. }) if Instant::now() < end => {
                    thread::sleep(Duration::from_millis(5));
                }
                opened => return opened,
            }
        }
    }

    fn of(found: Found, pid: u32) -> Self {
        let Found { map, layout, identity } = found;
        let clock = Clock::new(&map, &layout);
        Self { pid, map, layout, identity, clock }
    }

    /// The process, in hz's pid namespace.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether the process still shares it: it has neither ended nor become another program.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.identity.is_there()
    }

    /// Every live task as the directory has it now.
    pub fn tasks(&mut self) -> Tasks {
        self.clock.update(&self.map, &self.layout);
        directory::read(&self.map, &self.layout, &self.clock, self.pid)
    }

    /// When [`RuntimeMemory::tasks`] last looked, nanoseconds of `CLOCK_MONOTONIC`.
    #[must_use]
    pub const fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    /// Tasks that had no room in the directory since the process began.
    #[must_use]
    pub fn overflow(&self) -> u64 {
        self.map.load(DIRECTORY_OVERFLOW)
    }

    /// By how much the runtime's clock may differ from `CLOCK_MONOTONIC`, as it says, nanoseconds;
    /// `None`: it does not say.
    #[must_use]
    pub fn clock_error_ns(&self) -> Option<u64> {
        Some(self.map.load(CLOCK_ERROR)).filter(|error_ns| *error_ns > 0)
    }

    /// Text `number` of the process.
    #[must_use]
    pub fn text(&self, number: u32) -> Option<Text> {
        tables::text(&self.map, &self.layout, number)
    }

    /// Spawn site `number` of the process.
    #[must_use]
    pub fn site(&self, number: u32) -> Option<SpawnSite> {
        tables::site(&self.map, &self.layout, number)
    }

    /// Workers of the runtime so far, as it says.
    #[must_use]
    pub fn workers(&self) -> u32 {
        self.map.load_half(WORKERS)
    }

    /// When the process mapped the memory, as it says, nanoseconds of `CLOCK_MONOTONIC`.
    #[must_use]
    pub const fn start_ns(&self) -> u64 {
        self.layout.start_ns
    }

    /// Kinds that the runtime can tell: bit `kind − 16`.
    #[must_use]
    pub const fn offered_kinds(&self) -> u64 {
        self.layout.offered_kinds
    }

    /// What it is, as a record.
    fn found(&self, time_ns: u64, asked_kinds: u64) -> RuntimeFound {
        let kind = Kind::RuntimeFound as u16;
        let (pid, arg) = (self.pid, self.workers());
        RuntimeFound {
            header: Header { time_ns, kind, cpu: u16::MAX, tid: 0, pid, arg },
            flight_kinds: self.layout.flight_kinds,
            asked_kinds,
            offered_kinds: self.layout.offered_kinds,
            alloc_mean_bytes: self.layout.alloc_mean_bytes,
        }
    }
}
