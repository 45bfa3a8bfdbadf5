//! Folds stacks and what has them.

use super::Folder;
use crate::{
    decode::Event,
    model::{
        Allocation, AllocationOrigin, CpuSample, Lock, MappedFile, MappedRange, Model, OffCpu,
        OffReason, Stack, StackIndex, Stacks, TaskIndex, ThreadIndex, is_unshowable,
        reasons::off_reason,
    },
};
use hz_probes_ebpf::{
    self as wire, HEAP_UNTRACKED, Header, Kind, OFF_LOCK, OFF_WOKEN, OFF_WOKEN_BY_INTERRUPT,
    SAMPLE_CYCLES, STACK_ADDRESSES, StackEnd,
    runtime::{self, RuntimeEvent, STACK_FRAMES},
};
use rustc_hash::{FxHashMap, FxHashSet};

/// Bytes of a path that are believed.
const PATH_BYTES: usize = 8 << 10;

/// What the fold knows of stacks beside what it made.
#[derive(Debug, Default)]
pub(super) struct StacksNow {
    by_id: FxHashMap<u64, StackIndex>,
    by_number: FxHashMap<(u32, u32), StackIndex>,
    /// Places of sampled allocations that are not freed, by process and address.
    live: FxHashMap<(u32, u64), usize>,
    /// What happened to memory that probes saw, in no order: CPUs tell it on their own.
    heap: Vec<HeapEvent>,
    /// Bytes between two samples in the mean, by process.
    mean_bytes: FxHashMap<u32, u64>,
    /// Bytes of paths, while parts may be missing.
    paths: FxHashMap<u32, Vec<u8>>,
}

/// Something happened to memory that probes saw.
#[derive(Clone, Copy, Debug)]
struct HeapEvent {
    time_ns: u64,
    pid: u32,
    what: Heap,
}

#[derive(Clone, Copy, Debug)]
enum Heap {
    /// An allocation, by its place in the model.
    Taken {
        address: u64,
        place: usize,
    },
    GivenBack {
        address: u64,
    },
    /// All that the process had.
    Gone,
}

impl Folder {
    /// Folds a record of stacks; gives back whether it was one.
    pub(super) fn fold_stacks(&mut self, event: &Event) -> bool {
        match event {
            Event::StackTrace(part) => self.stack_part(part),
            Event::CpuSample(sample) => self.cpu_sample(sample),
            Event::OffCpu(record) => self.off_cpu(record),
            Event::Mapping(mapping) => self.mapping(mapping),
            Event::MappedFile(file) => self.mapped_file(file),
            Event::HeapAlloc(record) => self.heap_alloc(record),
            Event::HeapFree(record) => self.heap_free(record),
            _ => return false,
        }
        true
    }

    fn stack_of(&mut self, id: u64) -> Option<StackIndex> {
        if id == 0 {
            return None;
        }
        let stacks = &mut self.model.stacks.stacks;
        let next = StackIndex(u32::try_from(stacks.len()).ok()?);
        let index = *self.stacks.by_id.entry(id).or_insert(next);
        if index == next {
            stacks.push(Stack::default());
        }
        Some(index)
    }

    fn stack_part(&mut self, part: &wire::StackTrace) {
        let Some(index) = self.stack_of(part.id) else { return };
        let stack = &mut self.model.stacks.stacks[index.0 as usize];
        let frames = usize::from(part.kernel_frames) + usize::from(part.user_frames);
        let frames = frames.min(STACK_ADDRESSES);
        if !stack.is_known() {
            stack.pid = part.header.pid;
            stack.first_ns = part.header.time_ns;
            stack.addresses = vec![0; frames].into_boxed_slice();
            stack.kernel_frames = part.kernel_frames.min(u16::try_from(frames).unwrap_or(u16::MAX));
            stack.kernel_end = StackEnd::from_wire(part.kernel_end).unwrap_or_default();
            stack.user_end = StackEnd::from_wire(part.user_end).unwrap_or_default();
            stack.guessed_frames = part.guessed_frames;
        }
        let from = part.header.arg as usize;
        for (place, address) in (from..stack.addresses.len()).zip(part.addresses) {
            stack.told += u16::from(stack.addresses[place] == 0 && address != 0);
            stack.addresses[place] = address;
        }
    }

    /// A stack that a runtime told, of its own process.
    pub(super) fn runtime_stack(&mut self, record: &runtime::Stack) {
        let key = (record.header.pid, record.header.arg);
        let Some(index) = self.numbered_stack(key) else { return };
        let frames = (record.frames as usize).min(STACK_FRAMES);
        let end = if record.is_cut == 0 { StackEnd::Outermost } else { StackEnd::NoRule };
        self.model.stacks.stacks[index.0 as usize] = Stack {
            pid: key.0,
            first_ns: record.header.time_ns,
            addresses: record.addresses[..frames].into(),
            user_end: if frames == STACK_FRAMES && record.is_cut != 0 {
                StackEnd::Depth
            } else {
                end
            },
            is_all_returns: true,
            told: u16::try_from(frames).unwrap_or(u16::MAX),
            ..Stack::default()
        };
    }

    fn numbered_stack(&mut self, key: (u32, u32)) -> Option<StackIndex> {
        let stacks = &mut self.model.stacks.stacks;
        let next = StackIndex(u32::try_from(stacks.len()).ok()?);
        let index = *self.stacks.by_number.entry(key).or_insert(next);
        if index == next {
            stacks.push(Stack::default());
        }
        Some(index)
    }

    fn cpu_sample(&mut self, record: &wire::CpuSample) {
        let header = &record.header;
        if header.time_ns < self.model.start_ns {
            return;
        }
        let thread = self.stack_thread(header.tid, header.pid);
        let stack = self.stack_of(record.stack);
        self.model.stacks.samples.push(CpuSample {
            time_ns: header.time_ns,
            thread,
            cpu: header.cpu,
            stack,
            period: record.period,
            is_cycles: record.event == SAMPLE_CYCLES,
        });
    }

    fn off_cpu(&mut self, record: &wire::OffCpu) {
        let header = &record.header;
        let flags = header.arg;
        let thread = self.stack_thread(header.tid, header.pid);
        let waker = (flags & OFF_WOKEN != 0 && record.waker_tid != 0)
            .then(|| self.stack_thread(record.waker_tid, record.waker_pid));
        let (stack, waker_stack) = (self.stack_of(record.stack), self.stack_of(record.waker_stack));
        let reason = off_reason(record);
        let owner_tid = if flags & OFF_LOCK != 0 { record.lock_owner } else { 0 };
        let lock = Lock { address: record.args[0], owner_tid };
        let lock = (reason == OffReason::Lock).then_some(lock);
        self.model.stacks.off_cpu.push(OffCpu {
            start_ns: header.time_ns.saturating_sub(record.off_ns),
            end_ns: header.time_ns,
            runq_ns: record.runq_ns.min(record.off_ns),
            thread,
            cpu: header.cpu,
            stack,
            waker_stack,
            waker,
            is_by_interrupt: flags & OFF_WOKEN_BY_INTERRUPT != 0,
            reason,
            lock,
            weight: record.weight.max(1),
        });
    }

    fn mapping(&mut self, record: &wire::Mapping) {
        let header = &record.header;
        let ranges = self.model.stacks.ranges.entry(header.pid).or_default();
        let range = MappedRange {
            time_ns: header.time_ns,
            start: record.start,
            end: record.end,
            offset: record.offset,
            file: header.arg,
        };
        let place = ranges.partition_point(|each| each.time_ns <= range.time_ns);
        ranges.insert(place, range);
    }

    fn mapped_file(&mut self, record: &wire::MappedFile) {
        let number = record.header.arg;
        let from = record.path_from as usize;
        let whole = usize::from(record.path_bytes).min(PATH_BYTES);
        let path = self.stacks.paths.entry(number).or_default();
        path.resize(whole.max(path.len()), 0);
        for (place, byte) in (from..whole).zip(record.path) {
            path[place] = byte;
        }
        let path = String::from_utf8_lossy(path).into_owned();
        let path = path.chars().map(|each| if is_unshowable(each) { '\u{fffd}' } else { each });
        let id_bytes = usize::from(record.build_id_bytes).min(record.build_id.len());
        let file = MappedFile {
            pid: record.header.pid,
            path: path.collect(),
            inode: record.inode,
            device: (record.device_major, record.device_minor),
            build_id: record.build_id[..id_bytes].to_vec(),
        };
        self.model.stacks.files.insert(number, file);
    }

    /// A thread that has a stack, wherever it comes from.
    fn stack_thread(&mut self, tid: u32, pid: u32) -> ThreadIndex {
        let header = Header { tid, pid, ..Header::default() };
        self.runtime_thread(&header)
    }

    pub(super) fn learn_mean(&mut self, pid: u32, mean_bytes: u64) {
        self.stacks.mean_bytes.insert(pid, mean_bytes);
        // Another program, or another process of this number: nothing of it lives.
        self.stacks.live.retain(|(owner, _), _| *owner != pid);
    }

    pub(super) fn allocation(
        &mut self,
        thread: ThreadIndex,
        task: Option<TaskIndex>,
        event: &RuntimeEvent,
    ) {
        let (pid, time_ns) = (event.header.pid, event.header.time_ns);
        let key = (pid, event.value);
        let is_free = event.header.kind == Kind::FreeSampled as u16;
        if is_free {
            match self.stacks.live.remove(&key) {
                Some(place) => self.model.stacks.allocations[place].freed_ns = Some(time_ns),
                None => self.model.stacks.frees_of_earlier += 1,
            }
            return;
        }
        let stack =
            (event.header.arg != 0).then(|| self.numbered_stack((pid, event.header.arg))).flatten();
        let mean_bytes = self.stacks.mean_bytes.get(&pid).copied().unwrap_or(0);
        let bytes = u64::from(event.aux);
        let place = self.model.stacks.allocations.len();
        self.model.stacks.allocations.push(Allocation {
            time_ns,
            freed_ns: None,
            is_tracked: true,
            origin: AllocationOrigin::Runtime,
            thread,
            task,
            bytes,
            weight_bytes: weight_bytes(bytes, mean_bytes),
            stack,
        });
        if let Some(lost) = self.stacks.live.insert(key, place) {
            // Its free was lost: the address is in use again.
            self.model.stacks.allocations[lost].freed_ns = Some(time_ns);
        }
    }

    fn heap_alloc(&mut self, record: &wire::HeapAlloc) {
        let header = &record.header;
        let thread = self.stack_thread(header.tid, header.pid);
        let stack = self.stack_of(record.stack);
        let place = self.model.stacks.allocations.len();
        let is_tracked = header.arg & HEAP_UNTRACKED == 0;
        self.model.stacks.allocations.push(Allocation {
            time_ns: header.time_ns,
            freed_ns: None,
            is_tracked,
            origin: AllocationOrigin::Probe,
            thread,
            task: None,
            bytes: record.bytes,
            weight_bytes: weight_bytes(record.bytes, record.mean_bytes),
            stack,
        });
        if is_tracked {
            let what = Heap::Taken { address: record.address, place };
            self.stacks.heap.push(HeapEvent { time_ns: header.time_ns, pid: header.pid, what });
        }
    }

    fn heap_free(&mut self, record: &wire::HeapFree) {
        let Header { time_ns, pid, .. } = record.header;
        let what = Heap::GivenBack { address: record.address };
        self.stacks.heap.push(HeapEvent { time_ns, pid, what });
    }

    /// A process became another program: what it had allocated is gone.
    pub(super) fn forget_heap(&mut self, pid: u32, time_ns: u64) {
        self.stacks.heap.push(HeapEvent { time_ns, pid, what: Heap::Gone });
    }

    /// Finds when what probes saw was given back.
    fn match_frees(&mut self) {
        let mut events = std::mem::take(&mut self.stacks.heap);
        events.sort_by_key(|event| event.time_ns);
        let Stacks { allocations, frees_of_earlier, .. } = &mut self.model.stacks;
        let mut live: FxHashMap<u32, FxHashMap<u64, usize>> = FxHashMap::default();
        for HeapEvent { time_ns, pid, what } in events {
            let live = live.entry(pid).or_default();
            match what {
                Heap::Taken { address, place } => {
                    // If one was there, its free was lost: the address is in use again.
                    if let Some(lost) = live.insert(address, place) {
                        allocations[lost].freed_ns = Some(time_ns);
                    }
                }
                Heap::GivenBack { address } => match live.remove(&address) {
                    Some(place) => allocations[place].freed_ns = Some(time_ns),
                    None => *frees_of_earlier += 1,
                },
                Heap::Gone => {
                    live.drain().for_each(|(_, place)| allocations[place].freed_ns = Some(time_ns));
                }
            }
        }
    }

    /// Where probes saw a process's allocations, its runtime's word for the same is left out.
    fn count_allocations_once(&mut self) {
        let is_by_probe = |each: &Allocation| each.origin == AllocationOrigin::Probe;
        let threads = &self.model.threads;
        let pid = |each: &Allocation| threads[each.thread.0 as usize].pid;
        let allocations = &mut self.model.stacks.allocations;
        let probed: FxHashSet<u32> =
            allocations.iter().filter(|it| is_by_probe(it)).map(pid).collect();
        allocations.retain(|each| is_by_probe(each) || !probed.contains(&pid(each)));
    }

    /// Samples and times off a CPU since the last call, which are let go here: for who keeps them itself.
    pub(crate) fn take_times(&mut self) -> (Vec<CpuSample>, Vec<OffCpu>) {
        let stacks = &mut self.model.stacks;
        (std::mem::take(&mut stacks.samples), std::mem::take(&mut stacks.off_cpu))
    }

    /// The model as it is now, unfinished.
    pub(crate) const fn model(&self) -> &Model {
        &self.model
    }

    pub(super) fn finish_stacks(&mut self) {
        self.match_frees();
        self.count_allocations_once();
        let stacks = &mut self.model.stacks;
        stacks.samples.sort_by_key(|sample| sample.time_ns);
        stacks.off_cpu.sort_by_key(|off| off.end_ns);
        stacks.allocations.sort_by_key(|each| each.time_ns);
    }
}

/// Bytes for which a sampled allocation stands: one of `bytes` is sampled with a chance of
/// `1 − exp(−bytes / mean)`, so that the sum of all weights is in the mean what was allocated.
fn weight_bytes(bytes: u64, mean_bytes: u64) -> f64 {
    let bytes = bytes as f64;
    if mean_bytes == 0 || bytes == 0.0 {
        return bytes;
    }
    bytes / -(-bytes / mean_bytes as f64).exp_m1()
}
