//! What perf tells of processes: what they map, start, become and when they end. No samples come this
//! way.

use crate::host::clock;
use perf_event::{Builder, Clock, Counter, events::Software};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::{
    ffi::c_void,
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr,
    sync::atomic::{AtomicU64, Ordering, fence},
};

/// Memory for one CPU's records: 64 KiB hold about 500 mappings. Nobody waits for them long: they are
/// read every 10 ms.
const RING_PAGES: usize = 16;

/// `perf_event_attr.sample_type`: every record ends with its time.
const SAMPLE_TIME: u64 = 1 << 2;

/// Where `struct perf_event_mmap_page` has the head of what was written and the tail of what was read.
const HEAD: usize = 1024;
const TAIL: usize = 1032;

/// Something that happened to a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Happening {
    /// It has mapped executable memory.
    Mapped { pid: u32, start: u64, bytes: u64, offset: u64, file: FileId, path: Vec<u8> },
    /// It was started by another.
    Forked { pid: u32, parent_pid: u32 },
    /// It became another program: what it had mapped is gone.
    Became { pid: u32 },
    /// It has ended.
    Ended { pid: u32 },
    /// Some of these were lost.
    Lost,
}

/// What tells a file from others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FileId {
    pub(super) device_major: u32,
    pub(super) device_minor: u32,
    pub(super) inode: u64,
}

/// The rings of all CPUs.
#[derive(Debug)]
pub(super) struct PerfRings {
    rings: Vec<Ring>,
    _counters: Vec<Counter>,
    /// What was read and may have something before it in a ring that had been read already.
    early: Vec<(u64, Happening)>,
}

impl PerfRings {
    /// Begins to record on these CPUs.
    pub(super) fn open(cpus: &[usize]) -> io::Result<Self> {
        let counters: Vec<Counter> =
            cpus.iter().map(|cpu| changes_of(*cpu)).collect::<Result<_, _>>()?;
        let rings = counters.iter().map(|counter| Ring::map(counter, RING_PAGES));
        let rings = rings.collect::<Result<_, _>>()?;
        Ok(Self { rings, _counters: counters, early: Vec::new() })
    }

    /// What happened between the last look and this one, by time, nanoseconds of `CLOCK_MONOTONIC`. What
    /// happens while the rings are read is left for the next: a process that goes from one CPU to another
    /// meanwhile would have mapped its code before it became the program that did.
    pub(super) fn read(&mut self) -> Vec<(u64, Happening)> {
        let now_ns = clock::monotonic_ns();
        let mut happened = std::mem::take(&mut self.early);
        for ring in &mut self.rings {
            parse(&ring.take(), &mut happened);
        }
        let (happened, early) = until(happened, now_ns);
        self.early = early;
        happened
    }
}

/// What happened, with the time of each, nanoseconds of `CLOCK_MONOTONIC`.
type Happened = Vec<(u64, Happening)>;

/// By time, what happened before `time_ns`, and the rest.
fn until(mut happened: Happened, time_ns: u64) -> (Happened, Happened) {
    happened.sort_by_key(|(time_ns, _)| *time_ns);
    let early = happened.split_off(happened.partition_point(|(at_ns, _)| *at_ns < time_ns));
    (happened, early)
}

/// Records of what processes on a CPU change.
fn changes_of(cpu: usize) -> io::Result<Counter> {
    let mut builder = Builder::new().kind(Software::DUMMY).any_pid().one_cpu(cpu);
    builder.exclude_kernel(false).exclude_hv(false).enabled(true);
    builder.mmap(true).mmap2(true).comm(true).comm_exec(true).task(true);
    builder.sample_id_all(true).clockid(Clock::MONOTONIC);
    builder.attrs_mut().sample_type = SAMPLE_TIME;
    builder.build()
}

/// A counter's ring, which the kernel writes.
#[derive(Debug)]
pub(super) struct Ring {
    base: *mut c_void,
    bytes: usize,
}

impl Ring {
    /// Gives a counter memory to write its records to: `pages` is a power of two.
    pub(super) fn map(counter: &Counter, pages: usize) -> io::Result<Self> {
        let bytes = (1 + pages) * rustix::param::page_size();
        // SAFETY: the counter keeps its descriptor open for the length of the call.
        let fd = unsafe { BorrowedFd::borrow_raw(counter.as_raw_fd()) };
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: new memory at a place that the kernel chooses.
        let base = unsafe { mmap(ptr::null_mut(), bytes, protection, MapFlags::SHARED, fd, 0)? };
        Ok(Self { base, bytes })
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: inside the first page of the mapping.
        let word = unsafe { self.base.byte_add(offset) };
        // SAFETY: aligned, mapped as long as `self` lives, and shared with the kernel, so that it is only
        // ever read and written as an atomic.
        unsafe { AtomicU64::from_ptr(word.cast()) }
    }

    /// Takes what was written since the last time.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let page = rustix::param::page_size();
        let size = self.bytes - page;
        let head = self.word(HEAD).load(Ordering::Acquire);
        let tail = self.word(TAIL).load(Ordering::Relaxed);
        let length = usize::try_from(head.wrapping_sub(tail)).unwrap_or(0).min(size);
        let from = usize::try_from(tail % size as u64).unwrap_or(0);
        let first = length.min(size - from);
        let mut taken = vec![0; length];
        // SAFETY: the ring begins behind the first page.
        let ring = unsafe { self.base.byte_add(page) }.cast::<u8>();
        // SAFETY: `from` is inside the ring.
        let start = unsafe { ring.add(from) };
        // SAFETY: the kernel does not write here before the tail has passed; neither part leaves the ring.
        unsafe { ptr::copy_nonoverlapping(start, taken.as_mut_ptr(), first) };
        let rest = &mut taken[first..];
        // SAFETY: as above; what is left begins at the ring's start.
        unsafe { ptr::copy_nonoverlapping(ring, rest.as_mut_ptr(), rest.len()) };
        fence(Ordering::AcqRel);
        self.word(TAIL).store(head, Ordering::Release);
        taken
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: mapped in `open`, and nobody has a pointer into it any more.
        let _ = unsafe { munmap(self.base, self.bytes) };
    }
}

/// Record types and bits of `include/uapi/linux/perf_event.h`.
const LOST: u32 = 2;
const COMM: u32 = 3;
const EXIT: u32 = 4;
const FORK: u32 = 7;
const MMAP2: u32 = 10;
const MISC_COMM_EXEC: u16 = 1 << 13;
const PROT_EXEC: u32 = 4;

/// Reads records: whatever the bytes are, it ends and does not panic.
fn parse(mut bytes: &[u8], happened: &mut Vec<(u64, Happening)>) {
    while let Some((kind, rest)) = bytes.split_first_chunk::<4>() {
        let (Some(misc), Some(size)) = (number(rest, 0, 2), number(rest, 2, 2)) else { return };
        let size = usize::try_from(size).unwrap_or(0);
        if size < 8 || size > bytes.len() {
            return;
        }
        let (record, after) = bytes.split_at(size);
        bytes = after;
        let misc = u16::try_from(misc).unwrap_or(0);
        let Some((body, time)) = record[8..].split_last_chunk::<8>() else { continue };
        if let Some(what) = happening(u32::from_le_bytes(*kind), misc, body) {
            happened.push((u64::from_le_bytes(*time), what));
        }
    }
}

fn happening(kind: u32, misc: u16, body: &[u8]) -> Option<Happening> {
    let word = |at| number(body, at, 4).and_then(|word| u32::try_from(word).ok());
    let long = |at| number(body, at, 8);
    let (first, second) = (word(0)?, word(4)?);
    match kind {
        LOST => Some(Happening::Lost),
        COMM if misc & MISC_COMM_EXEC != 0 => Some(Happening::Became { pid: first }),
        // Process, parent, thread, parent's thread.
        FORK if first != second => Some(Happening::Forked { pid: first, parent_pid: second }),
        EXIT if first == word(8)? => Some(Happening::Ended { pid: first }),
        MMAP2 if word(56)? & PROT_EXEC != 0 => {
            let name = body.get(64..)?;
            let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
            let (device_major, device_minor) = (word(32)?, word(36)?);
            let file = FileId { device_major, device_minor, inode: long(40)? };
            let (start, bytes, offset) = (long(8)?, long(16)?, long(24)?);
            Some(Happening::Mapped {
                pid: first,
                start,
                bytes,
                offset,
                file,
                path: name[..end].to_vec(),
            })
        }
        _ => None,
    }
}

/// A little-endian number of `length` bytes.
pub(super) fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let mut word = [0; 8];
    word[..length].copy_from_slice(bytes.get(at..at + length)?);
    Some(u64::from_le_bytes(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(kind: u32, misc: u16, body: &[u8], time_ns: u64) -> Vec<u8> {
        let size = u16::try_from(8 + body.len() + 8).unwrap();
        let head = [&kind.to_le_bytes()[..], &misc.to_le_bytes(), &size.to_le_bytes()].concat();
        [&head[..], body, &time_ns.to_le_bytes()].concat()
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn mapping(protection: u32) -> Vec<u8> {
        let mut body =
            words(&[7, 8, 0x1000, 0, 0x2000, 0, 0x3000, 0, 8, 1, 99, 0, 0, 0, protection, 2]);
        body.extend(b"/lib/x.so\0\0\0\0\0\0\0");
        body
    }

    #[test]
    fn what_happened_is_read() {
        let mut bytes = record(MMAP2, 0, &mapping(5), 50);
        bytes.extend(record(MMAP2, 0, &mapping(1), 51));
        bytes.extend(record(COMM, MISC_COMM_EXEC, &words(&[7, 7, 0, 0]), 52));
        bytes.extend(record(COMM, 0, &words(&[7, 7, 0, 0]), 53));
        bytes.extend(record(FORK, 0, &words(&[9, 7, 9, 7]), 54));
        bytes.extend(record(FORK, 0, &words(&[7, 7, 10, 7]), 55));
        bytes.extend(record(EXIT, 0, &words(&[9, 7, 9, 7]), 56));
        bytes.extend(record(EXIT, 0, &words(&[7, 7, 10, 7]), 57));
        bytes.extend(record(LOST, 0, &words(&[1, 0, 3, 0]), 58));
        let mut happened = Vec::new();
        parse(&bytes, &mut happened);
        let file = FileId { device_major: 8, device_minor: 1, inode: 99 };
        let mapped = Happening::Mapped {
            pid: 7,
            start: 0x1000,
            bytes: 0x2000,
            offset: 0x3000,
            file,
            path: b"/lib/x.so".to_vec(),
        };
        let expected = [
            (50, mapped),
            (52, Happening::Became { pid: 7 }),
            (54, Happening::Forked { pid: 9, parent_pid: 7 }),
            (56, Happening::Ended { pid: 9 }),
            (58, Happening::Lost),
        ];
        assert_eq!(happened, expected);
    }

    #[test]
    fn what_happened_while_rings_were_read_waits_for_what_was_before() {
        // CPU 1 was read when the process came from CPU 0, which is read next time.
        let (now, early) = until(vec![(9, Happening::Lost), (5, Happening::Became { pid: 1 })], 7);
        assert_eq!(now, [(5, Happening::Became { pid: 1 })]);
        assert_eq!(early, [(9, Happening::Lost)]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            parse(&bytes, &mut Vec::new());
        }

        #[test]
        fn a_cut_record_is_read(cut in 0..96_usize, kind in 0..12_u32) {
            let bytes = record(kind, 0, &mapping(5)[..cut.min(80)], 1);
            parse(&bytes, &mut Vec::new());
        }
    }
}
