//! The reader's wish, in the process's memory.

use super::{
    error::AttachError,
    layout::{LEASES_CHANGED, Layout},
    map::Map,
};
use crate::host::clock::monotonic_ns;
use hz_probes_ebpf::runtime_ring::{LEASE_MAX_NS, LEASES, Lease as Slot};
use rustix::thread::futex;
use std::{
    mem::offset_of,
    sync::atomic::{AtomicU32, Ordering},
};

const PID: u64 = offset_of!(Slot, pid) as u64;
const READER: u64 = offset_of!(Slot, reader) as u64;
const START_TICKS: u64 = offset_of!(Slot, start_ticks) as u64;
const KINDS: u64 = offset_of!(Slot, kinds) as u64;
const DEADLINE_NS: u64 = offset_of!(Slot, deadline_ns) as u64;

/// How often the deadline is moved on: often enough for a reader that is kept off the CPU for a
/// second to keep its lease.
const RENEWED_NS: u64 = 200_000_000;

/// Tries to replace a deadline that the process keeps moving.
const TRIES: u32 = 8;

/// Numbers of this process's leases, by which it tells its readers apart.
static NEXT_READER: AtomicU32 = AtomicU32::new(1);

/// A lease that is held. It must be given back with [`Lease::release`]; the runtime takes it back
/// from a reader that was killed.
#[derive(Debug)]
pub(super) struct Lease {
    at: u64,
    pid: u32,
    reader: u32,
    kinds: u64,
    /// The deadline that was written or found last.
    deadline_ns: u64,
    renewed_ns: u64,
}

impl Lease {
    /// Asks the process for `kinds`.
    pub(super) fn claim(
        map: &Map,
        layout: &Layout,
        kinds: u64,
        of: u32,
    ) -> Result<Self, AttachError> {
        let pid = std::process::id();
        let mut holders = Vec::new();
        for place in 0..LEASES as u32 {
            let Some(at) = layout.leases.at(place) else { break };
            let Some(slot) = map.half(at + PID) else { break };
            match slot.compare_exchange(0, pid, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => {
                    let reader = NEXT_READER.fetch_add(1, Ordering::Relaxed);
                    let mut lease = Self { at, pid, reader, kinds, deadline_ns: 0, renewed_ns: 0 };
                    lease.write(map);
                    return Ok(lease);
                }
                Err(holder) => holders.push(holder),
            }
        }
        Err(AttachError::NoFreeLease { pid: of, readers: holders.len(), pids: holders })
    }

    /// Moves the deadline on if it is time; claims a lease anew if this one is over.
    pub(super) fn renew(&mut self, map: &Map, layout: &Layout) {
        let now_ns = monotonic_ns();
        if now_ns.saturating_sub(self.renewed_ns) < RENEWED_NS {
            return;
        }
        let deadline_ns = now_ns.saturating_add(LEASE_MAX_NS);
        if self.exchange_deadline(map, deadline_ns) {
            self.deadline_ns = deadline_ns;
            self.renewed_ns = now_ns;
        } else if let Ok(lease) = Self::claim(map, layout, self.kinds, 0) {
            *self = lease;
        }
    }

    /// Gives the lease back, if it is not over; what nobody else asks for is off from then on.
    pub(super) fn release(&mut self, map: &Map) {
        if !self.exchange_deadline(map, 0) {
            return;
        }
        store(map, self.at + KINDS, 0);
        if let Some(pid) = map.half(self.at + PID) {
            pid.store(0, Ordering::Release);
        }
        tell(map);
    }

    /// Replaces the deadline, unless the lease is over. The process may have moved it.
    fn exchange_deadline(&mut self, map: &Map, new_ns: u64) -> bool {
        let Some(word) = map.word(self.at + DEADLINE_NS) else { return false };
        for _ in 0..TRIES {
            let known_ns = self.deadline_ns;
            match word.compare_exchange(known_ns, new_ns, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(0) => return false,
                // Whoever wrote this deadline had written its number before.
                Err(found_ns) if self.is_own(map) => self.deadline_ns = found_ns,
                // Not to be known: it would pass for one's own the next time.
                Err(_) => return false,
            }
        }
        false
    }

    /// Whether the place is still this reader's.
    fn is_own(&self, map: &Map) -> bool {
        let holder = [PID, READER].map(|word| map.load_half(self.at + word));
        holder == [self.pid, self.reader]
    }

    fn write(&mut self, map: &Map) {
        let now_ns = monotonic_ns();
        self.deadline_ns = now_ns.saturating_add(LEASE_MAX_NS);
        if let Some(reader) = map.half(self.at + READER) {
            reader.store(self.reader, Ordering::Relaxed);
        }
        store(map, self.at + START_TICKS, own_start_ticks());
        store(map, self.at + KINDS, self.kinds);
        store(map, self.at + DEADLINE_NS, self.deadline_ns);
        self.renewed_ns = now_ns;
        tell(map);
    }
}

fn store(map: &Map, at: u64, value: u64) {
    if let Some(word) = map.word(at) {
        word.store(value, Ordering::Release);
    }
}

/// Wakes the process, should it wait for leases.
fn tell(map: &Map) {
    if let Some(changed) = map.half(LEASES_CHANGED) {
        changed.fetch_add(1, Ordering::AcqRel);
        // Nobody waiting is no error.
        let _ = futex::wake(changed, futex::Flags::empty(), i32::MAX as u32);
    }
}

/// Start of this process, clock ticks since boot.
fn own_start_ticks() -> u64 {
    let stat = procfs::process::Process::myself().and_then(|process| process.stat());
    stat.map_or(0, |stat| stat.starttime)
}
