//! Gathers records into batches, and keeps what the disk could not take as a loss.

use crate::{
    host::clock,
    recording::{Batch, RECORDS_PER_CHUNK},
};
use hz_probes_ebpf::{Header, Interrupts, Kind, Lost};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use zerocopy::{FromBytes as _, IntoBytes as _};

/// The stream of the task iterator. Streams below are rings.
pub(super) const STREAM_SNAPSHOT: u16 = 0x8000;

/// The stream of records that hz makes itself.
pub(super) const STREAM_HOST: u16 = 0x8001;

/// The stream of functions in user space.
pub(super) const STREAM_UPROBES: u16 = 0x8002;

/// The stream of statically defined probes.
pub(super) const STREAM_USDTS: u16 = 0x8003;

/// The stream of what happens to sockets.
pub(super) const STREAM_NET: u16 = 0x8010;

/// The stream of what sockets hold.
pub(super) const STREAM_NET_SAMPLES: u16 = 0x8011;

/// The stream of what hz itself says of sockets.
pub(super) const STREAM_NET_HOST: u16 = 0x8012;

/// The stream of stacks and what names them.
pub(super) const STREAM_STACKS: u16 = 0x8020;
/// The stream of what the kernel says of sockets and queues when it is asked.
pub(super) const STREAM_SOCKETS: u16 = 0x8013;

/// The first stream of async runtimes: one for each of their processes and each ring.
pub(super) const STREAM_RUNTIMES: u16 = 0x9000;

/// A batch is written when it is this old, so that a kill costs little.
const AGE_MAX: Duration = Duration::from_millis(250);

/// Batches that are kept for their memory.
const SPARE_MAX: usize = 8;

/// Batches by stream.
#[derive(Debug, Default)]
pub(super) struct Collector {
    open: Vec<Open>,
    /// Where the stream of the last record is among them: most often it is the next one's as well.
    last: usize,
    full: Vec<Batch>,
    /// For streams to come.
    spares: Vec<Batch>,
    received: u64,
    dropped: u64,
}

#[derive(Debug)]
struct Open {
    batch: Batch,
    since: Instant,
}

impl Collector {
    /// Adds a record of `stream`.
    pub(super) fn push(&mut self, stream: u16, record: &[u8]) {
        self.received += 1;
        let is_last = self.open.get(self.last).is_some_and(|open| open.batch.stream == stream);
        if !is_last {
            self.last = self.place_of(stream);
        }
        let batch = &mut self.open[self.last].batch;
        if !batch.push(record) {
            self.dropped += 1;
        }
        if batch.len() >= RECORDS_PER_CHUNK {
            self.full.push(self.open.swap_remove(self.last).batch);
        }
    }

    /// Where the open batch of `stream` is.
    fn place_of(&mut self, stream: u16) -> usize {
        let place = self.open.iter().position(|open| open.batch.stream == stream);
        place.unwrap_or_else(|| {
            let mut batch = self.spares.pop().unwrap_or_default();
            batch.reuse(stream);
            self.open.push(Open { batch, since: Instant::now() });
            self.open.len() - 1
        })
    }

    /// Takes a batch whose records are not needed any more.
    pub(super) fn keep(&mut self, spare: Batch) {
        if self.spares.len() < SPARE_MAX {
            self.spares.push(spare);
        }
    }

    /// Adds time that the hypervisor took from `cpu`.
    pub(super) fn push_steal(&mut self, cpu: u16, (since_ns, now_ns): (u64, u64), steal_ns: u64) {
        let kind = Kind::Interrupts as u16;
        let header = Header { time_ns: now_ns, kind, cpu, ..Header::default() };
        let record = Interrupts { header, since_ns, hard_ns: 0, soft_ns: 0, steal_ns };
        self.push(STREAM_HOST, record.as_bytes());
    }

    /// Takes the batches that are full or old, or all.
    pub(super) fn take_ready(&mut self, all: bool) -> Vec<Batch> {
        let is_ready = |open: &mut Open| all || open.since.elapsed() >= AGE_MAX;
        let mut ready = std::mem::take(&mut self.full);
        ready.extend(self.open.extract_if(.., is_ready).map(|open| open.batch));
        ready
    }

    /// Counts a batch that the disk was too slow for, and says so in the recording, for every CPU
    /// that it had records of.
    pub(super) fn note_dropped(&mut self, batch: &Batch) {
        self.dropped += batch.len() as u64;
        let mut by_cpu: BTreeMap<u16, (u64, u64)> = BTreeMap::new();
        for header in batch.records().filter_map(|record| Header::read_from_prefix(record).ok()) {
            let (since_ns, count) = by_cpu.entry(header.0.cpu).or_insert((u64::MAX, 0));
            *since_ns = header.0.time_ns.min(*since_ns);
            *count += 1;
        }
        for (cpu, (since_ns, count)) in by_cpu {
            self.push_lost(cpu, since_ns, count);
        }
    }

    /// Says that records of `cpu` were lost until now.
    pub(super) fn push_lost(&mut self, cpu: u16, since_ns: u64, count: u64) {
        let kind = Kind::Lost as u16;
        let header = Header { time_ns: clock::monotonic_ns(), kind, cpu, ..Header::default() };
        self.push(STREAM_HOST, Lost { header, since_ns, count }.as_bytes());
    }

    /// Records received so far.
    pub(super) const fn received(&self) -> u64 {
        self.received
    }

    /// Records received and not written.
    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(time_ns: u64) -> Header {
        Header { time_ns, kind: Kind::Wakeup as u16, cpu: 1, ..Header::default() }
    }

    #[test]
    fn a_full_batch_is_ready_and_a_young_one_is_not() {
        let mut collector = Collector::default();
        for time in 0..RECORDS_PER_CHUNK as u64 + 1 {
            collector.push(3, record(time).as_bytes());
        }
        let ready = collector.take_ready(false);
        assert_eq!(ready.iter().map(Batch::len).collect::<Vec<_>>(), [RECORDS_PER_CHUNK]);
        assert_eq!(collector.take_ready(true).iter().map(Batch::len).sum::<usize>(), 1);
    }

    #[test]
    fn a_spare_has_nothing_of_the_stream_before() {
        let mut collector = Collector::default();
        collector.push(3, record(1).as_bytes());
        let written = collector.take_ready(true).remove(0);
        collector.keep(written);
        collector.push(4, record(2).as_bytes());
        let ready = collector.take_ready(true);
        let records: Vec<_> = ready[0].records().collect();
        assert_eq!((ready.len(), ready[0].stream, records), (1, 4, vec![record(2).as_bytes()]));
    }

    #[test]
    fn what_the_disk_refused_is_counted_and_said_in_its_place() {
        let mut collector = Collector::default();
        collector.push(STREAM_UPROBES, record(50).as_bytes());
        collector.push(STREAM_UPROBES, record(40).as_bytes());
        let refused = collector.take_ready(true).remove(0);
        collector.note_dropped(&refused);
        assert_eq!(collector.dropped(), 2);
        // The stream is not the CPU: that is in the records.
        let said = collector.take_ready(true).remove(0);
        let record = said.records().next().unwrap();
        let Ok(crate::decode::Event::Lost(lost)) = crate::decode::decode(record) else {
            panic!("no lost record")
        };
        assert_eq!((lost.header.cpu, lost.since_ns, lost.count), (1, 40, 2));
    }
}
