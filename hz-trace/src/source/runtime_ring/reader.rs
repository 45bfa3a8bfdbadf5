//! Drains the rings of one process.

use super::{
    RuntimeMemory,
    directory::Tasks,
    error::AttachError,
    layout::{DIRECTORY_OVERFLOW, RINGLESS_EVENTS, TABLE_OVERFLOW},
    lease::Lease,
    record::Slot,
    ring::{CHUNK, Owner, Record, Ring},
    tables::Told,
    threads::Threads,
};
use crate::recording::LedgerRow;
use hz_probes_ebpf::{
    Header, Kind, Loss,
    runtime::{NO_WORKER, RuntimeLost, RuntimeThread},
};
use zerocopy::IntoBytes as _;

/// Lane of what is the process's own; ring `n` has lane `n + 1`.
const LANE_PROCESS: u16 = 0;

/// Records taken before the reader looks at anything else: what rings of 65,536 slots hold of 16
/// workers.
const RECORDS_PER_DRAIN: usize = 1 << 20;

/// Takes a record of a lane. Records of one lane come in the order of their times, or nearly.
pub(super) type Each<'a> = dyn FnMut(u16, &[u8]) + 'a;

/// Reads everything that one process records, from what its rings held before anyone asked.
///
/// It holds a lease, which it must be able to renew: [`RuntimeReader::drain`] must be called at
/// least once a second. Dropping it gives the lease back.
#[derive(Debug)]
pub struct RuntimeReader {
    memory: RuntimeMemory,
    lease: Lease,
    asked_kinds: u64,
    lanes: Vec<Lane>,
    told: Told,
    threads: Threads,
    chunk: Vec<Record>,
    first_lane: usize,
    /// Whatever tables gained since then was added since then.
    tables_read_ns: u64,
    has_begun: bool,
    has_lost: bool,
    before: Overflows,
    directory: Loss,
    tables: Loss,
}

/// One ring, and whose records are read.
#[derive(Debug)]
struct Lane {
    lane: u16,
    ring: Ring,
    who: Who,
    /// Time of the last record, nanoseconds of `CLOCK_MONOTONIC`.
    last_ns: u64,
}

/// Whose records a lane's are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// To be asked of the ring before the next record.
    NotAsked,
    /// Thread and worker; the thread is 0 if it is not known.
    Is(u32, u32),
}

/// What the process had no room for.
#[derive(Clone, Copy, Debug, Default)]
struct Overflows {
    ringless: u64,
    directory: u64,
    tables: u64,
}

impl RuntimeReader {
    /// Takes a lease for `kinds` (bit `kind − 16`) of the process's memory.
    ///
    /// # Errors
    ///
    /// [`AttachError::NoFreeLease`].
    pub fn new(memory: RuntimeMemory, kinds: u64) -> Result<Self, AttachError> {
        let RuntimeMemory { map, layout, pid, .. } = &memory;
        let lease = Lease::claim(map, layout, kinds, *pid)?;
        let lanes = (0..layout.rings.count()).filter_map(|place| {
            let ring = Ring::new(map, layout, place)?;
            let lane = u16::try_from(place + 1).ok()?;
            Some(Lane { lane, ring, who: Who::NotAsked, last_ns: 0 })
        });
        Ok(Self {
            lease,
            asked_kinds: kinds,
            lanes: lanes.collect(),
            told: Told::default(),
            threads: Threads::new(*pid),
            chunk: Vec::with_capacity(CHUNK),
            first_lane: 0,
            tables_read_ns: 0,
            has_begun: false,
            has_lost: false,
            before: Overflows::read(&memory),
            directory: Loss::default(),
            tables: Loss::default(),
            memory,
        })
    }

    /// The memory that it reads.
    #[must_use]
    pub const fn memory(&self) -> &RuntimeMemory {
        &self.memory
    }

    /// Lanes that it calls `each` with: one of the process and one a ring.
    #[must_use]
    pub fn lanes(&self) -> u16 {
        u16::try_from(self.lanes.len() + 1).unwrap_or(u16::MAX)
    }

    /// Calls `each(lane, record)` with what the rings hold now, up to a bound.
    pub fn drain(&mut self, each: &mut Each<'_>) {
        self.lease.renew(&self.memory.map, &self.memory.layout);
        self.threads.allow_look();
        // In this order: whatever a record below a head names is in the tables by now, and its stamp
        // is before the clock's next reading.
        let heads: Vec<u64> =
            self.lanes.iter().map(|lane| lane.ring.head(&self.memory.map)).collect();
        self.memory.clock.update(&self.memory.map, &self.memory.layout);
        if !self.has_begun {
            self.begin(each);
        }
        self.tell_tables(each);
        let mut budget = RECORDS_PER_DRAIN;
        let count = heads.len();
        for turn in 0..count {
            // Whoever was first last time is last now: a ring that is always full starves nobody.
            let place = (self.first_lane + turn) % count;
            self.drain_lane(place, heads[place], &mut budget, each);
        }
        self.first_lane = (self.first_lane + 1) % count.max(1);
    }

    /// Calls `each` with every task that lives now.
    pub fn snapshot(&mut self, each: &mut Each<'_>) {
        let Tasks { entries, unreadable } = self.memory.tasks();
        self.tell_tables(each);
        entries.iter().for_each(|entry| each(LANE_PROCESS, entry.as_bytes()));
        self.has_lost = false;
        self.directory.submitted += entries.len() as u64;
        self.directory.read_failed += unreadable;
    }

    /// Whether records were lost since the last snapshot, so that one would tell what is not known.
    #[must_use]
    pub const fn has_lost(&self) -> bool {
        self.has_lost
    }

    /// What became of every record so far.
    #[must_use]
    pub fn ledger(&self) -> Vec<LedgerRow> {
        let now = Overflows::read(&self.memory);
        let mut rings = Loss::default();
        self.lanes.iter().for_each(|lane| rings.add(&lane.ring.loss));
        rings.read_failed += now.ringless.saturating_sub(self.before.ringless).min(OVERFLOW_MAX);
        let mut directory = self.directory;
        directory.read_failed +=
            now.directory.saturating_sub(self.before.directory).min(OVERFLOW_MAX);
        let mut tables = self.tables;
        tables.read_failed += now.tables.saturating_sub(self.before.tables).min(OVERFLOW_MAX);
        for loss in [&mut rings, &mut directory, &mut tables] {
            loss.seen = loss.submitted + loss.filtered + loss.ring_full + loss.read_failed;
        }
        let rows = [("runtime_ring", rings), ("runtime_directory", directory)];
        let rows = rows.into_iter().chain([("runtime_tables", tables)]);
        rows.map(|(site, loss)| LedgerRow::new(site, &loss)).collect()
    }

    /// Tells what was found, from the time of the oldest record on.
    fn begin(&mut self, each: &mut Each<'_>) {
        self.has_begun = true;
        let RuntimeMemory { map, clock, .. } = &self.memory;
        let stamps = self.lanes.iter().filter_map(|lane| lane.ring.next_stamp(map));
        let oldest_ns = stamps.map(|stamp| clock.ns(stamp)).min().unwrap_or(clock.now_ns());
        let found = self.memory.found(oldest_ns.min(clock.now_ns()), self.asked_kinds);
        self.tables_read_ns = found.header.time_ns;
        each(LANE_PROCESS, found.as_bytes());
    }

    fn tell_tables(&mut self, each: &mut Each<'_>) {
        let RuntimeMemory { map, layout, clock, pid, .. } = &self.memory;
        let (time_ns, pid) = (self.tables_read_ns, *pid);
        let header = Header { time_ns, cpu: u16::MAX, pid, ..Header::default() };
        // Read before the tables are: what comes too late for this time has a later one.
        self.tables_read_ns = clock.now_ns().max(time_ns);
        let mut each = |record: &[u8]| each(LANE_PROCESS, record);
        self.tables.submitted += self.told.tell(map, layout, header, &mut each);
    }

    fn drain_lane(&mut self, place: usize, until: u64, budget: &mut usize, each: &mut Each<'_>) {
        let Self { memory, lanes, threads, chunk, asked_kinds, has_lost, .. } = self;
        let Some(lane) = lanes.get_mut(place) else { return };
        let mut output = Output { memory, threads, kinds: *asked_kinds, each };
        while lane.ring.cursor() < until && *budget > 0 {
            *budget = budget.saturating_sub(CHUNK);
            let Some(look) = lane.ring.copy(&memory.map, until, chunk) else { break };
            if look.lost > 0 {
                *has_lost = true;
                output.tell_lost(lane, look.lost, chunk.first());
            }
            output.tell(lane, look.first, chunk);
        }
    }
}

impl Drop for RuntimeReader {
    fn drop(&mut self) {
        self.lease.release(&self.memory.map);
    }
}

/// What a process may say that it had no room for: more is a lie that would spoil the sums.
const OVERFLOW_MAX: u64 = 1 << 40;

impl Overflows {
    fn read(memory: &RuntimeMemory) -> Self {
        Self {
            ringless: memory.map.load(RINGLESS_EVENTS),
            directory: memory.map.load(DIRECTORY_OVERFLOW),
            tables: memory.map.load(TABLE_OVERFLOW),
        }
    }
}

/// Where the records of a lane go.
struct Output<'a, 'b> {
    memory: &'a RuntimeMemory,
    threads: &'a mut Threads,
    kinds: u64,
    each: &'a mut Each<'b>,
}

impl Output<'_, '_> {
    /// Passes on what was copied, beginning with record `first`.
    fn tell(&mut self, lane: &mut Lane, first: u64, records: &[Record]) {
        for (number, record) in (first..).zip(records) {
            let slot = Slot::new(record);
            let time_ns = self.memory.clock.ns(slot.stamp);
            lane.last_ns = time_ns;
            if slot.is_owner() {
                #[expect(clippy::cast_possible_truncation, reason = "thread ids have 32 bits")]
                let own_tid = slot.value as u32;
                self.tell_thread(lane, time_ns, own_tid, slot.arg);
                lane.ring.loss.submitted += 1;
                continue;
            }
            if lane.who == Who::NotAsked {
                self.ask_who(lane, number, time_ns);
            }
            self.tell_event(lane, &slot, time_ns);
        }
    }

    #[inline]
    fn tell_event(&mut self, lane: &mut Lane, slot: &Slot, time_ns: u64) {
        let Some(kind) = slot.kind() else {
            lane.ring.loss.read_failed += 1;
            return;
        };
        if kind.runtime_bit() & self.kinds == 0 {
            lane.ring.loss.filtered += 1;
            return;
        }
        let Who::Is(tid, _) = lane.who else { return };
        let header = Header { time_ns, tid, pid: self.memory.pid, ..Header::default() };
        (self.each)(lane.lane, slot.event(kind, header).as_bytes());
        lane.ring.loss.submitted += 1;
    }

    /// Asks the ring who wrote record `number`. If its writer came later, nobody knows.
    fn ask_who(&mut self, lane: &mut Lane, number: u64, time_ns: u64) {
        match lane.ring.owner(&self.memory.map) {
            Some(Owner { tid, worker, from }) if from <= number => {
                self.tell_thread(lane, time_ns, tid, worker);
            }
            _ => lane.who = Who::Is(0, NO_WORKER),
        }
    }

    fn tell_thread(&mut self, lane: &mut Lane, time_ns: u64, own_tid: u32, worker: u32) {
        let tid = self.threads.tid(own_tid);
        lane.who = Who::Is(tid, worker);
        let header = self.header(Kind::RuntimeThread, time_ns, lane);
        (self.each)(lane.lane, RuntimeThread { header }.as_bytes());
    }

    /// Tells of a gap that ends with record `next`. Whose ring it is must be asked again: that may
    /// have been said in the gap.
    fn tell_lost(&mut self, lane: &mut Lane, count: u64, next: Option<&Record>) {
        let clock = &self.memory.clock;
        let time_ns = next.map_or(clock.now_ns(), |record| clock.ns(Slot::new(record).stamp));
        let header = self.header(Kind::RuntimeLost, time_ns, lane);
        let since_ns = lane.last_ns.min(time_ns);
        (self.each)(lane.lane, RuntimeLost { header, since_ns, count }.as_bytes());
        lane.who = Who::NotAsked;
    }

    fn header(&self, kind: Kind, time_ns: u64, lane: &Lane) -> Header {
        let (tid, arg) =
            if let Who::Is(tid, worker) = lane.who { (tid, worker) } else { (0, NO_WORKER) };
        Header { time_ns, kind: kind as u16, cpu: u16::MAX, tid, pid: self.memory.pid, arg }
    }
}
