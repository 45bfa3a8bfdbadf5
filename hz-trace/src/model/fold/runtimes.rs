//! What async runtimes tell, and where each record goes.

use super::{Folder, tasks::TaskNow};
use crate::decode::Event;
use crate::model::{
    BlockingCall, Depth, Mark, Object, ObjectIndex, Park, Runtime, Site, Steal, TaskIndex, Thread,
    ThreadIndex, TimerFired, Why, Worker, is_unshowable, tasks::Reason,
};
use hz_probes_ebpf::{
    Header, Kind,
    runtime::{
        IO_ACCEPT, IO_CONNECT, IO_READ, IO_WRITE, NO_WORKER, RuntimeEvent, RuntimeFound, SpawnSite,
        TaskEntry, Text, WAIT_ACCEPT, WAIT_BLOCKING, WAIT_BUFFER, WAIT_CANCEL, WAIT_CHANNEL,
        WAIT_CONNECT, WAIT_JOIN, WAIT_LOCK, WAIT_READ, WAIT_SCOPE, WAIT_TIMER, WAIT_WRITE,
        WAKE_BLOCKING, WAKE_CANCEL, WAKE_CHANNEL, WAKE_IO, WAKE_JOIN, WAKE_LOCK, WAKE_SPAWN,
        WAKE_TASK, WAKE_THREAD, WAKE_TIMER, WAKE_YIELD,
    },
};
use rustc_hash::FxHashMap;

/// Workers of a runtime that are told apart: a process may say any number.
const WORKERS: u32 = 4_096;

/// What the fold knows of runtimes beside what it made.
#[derive(Debug, Default)]
pub(super) struct RuntimesNow {
    by_pid: FxHashMap<u32, u32>,
    pub(super) by_task: FxHashMap<(u32, u64), TaskIndex>,
    pub(super) tasks: Vec<TaskNow>,
    objects: FxHashMap<Object, ObjectIndex>,
    /// Places of what began and has not ended, by runtime and number.
    blocking: FxHashMap<(u32, u64), usize>,
    pub(super) requests: FxHashMap<(u32, u64), usize>,
    pub(super) user_spans: FxHashMap<(u32, u64), usize>,
    /// Places of buffers that are out, by runtime and address.
    pub(super) buffers: FxHashMap<(u32, u64), usize>,
}

impl Folder {
    /// Folds an event of a runtime; gives back whether it was one.
    pub(super) fn fold_runtime(&mut self, event: &Event) -> bool {
        let pid = event.header().pid;
        match event {
            Event::Runtime(record) => {
                let runtime = self.runtime(pid);
                self.runtime_event(runtime, record);
            }
            Event::RuntimeFound(found) => self.runtime_found(found),
            Event::RuntimeThread(record) => {
                let runtime = self.runtime(pid);
                let header = &record.header;
                let thread = self.runtime_thread(header);
                self.is_worker(runtime, header.arg, thread);
            }
            Event::Text(text) => {
                let runtime = self.runtime(pid) as usize;
                self.model.runtimes[runtime].texts.insert(text.header.arg, showable(text));
            }
            Event::SpawnSite(site) => {
                let runtime = self.runtime(pid) as usize;
                self.model.runtimes[runtime].sites.insert(site.header.arg, of_record(site));
            }
            Event::TaskEntry(entry) => {
                let runtime = self.runtime(pid);
                self.task_entry(runtime, entry);
            }
            Event::RuntimeLost(lost) => {
                let runtime = self.runtime(pid);
                self.runtime_lost(runtime, lost);
            }
            Event::Stack(stack) => self.runtime_stack(stack),
            _ => return false,
        }
        true
    }

    fn runtime_event(&mut self, runtime: u32, event: &RuntimeEvent) {
        let header = &event.header;
        let Some(kind) = Kind::from_wire(header.kind) else { return };
        let thread = self.runtime_thread(header);
        match kind {
            Kind::TaskSpawn => self.task_spawn(runtime, event),
            Kind::TaskWake => self.task_wake(runtime, thread, event),
            Kind::PollBegin => {
                self.is_worker(runtime, header.arg, thread);
                self.poll_begin(runtime, thread, event);
            }
            Kind::PollEnd => self.poll_end(runtime, thread, event),
            Kind::TaskEnd => self.task_end(runtime, event),
            Kind::IoWaitBegin => self.io_wait(runtime, event, true),
            Kind::IoWaitEnd => self.io_wait(runtime, event, false),
            // The others have a time and no state: what was before the recording is not of it.
            _ if header.time_ns < self.model.start_ns => {}
            Kind::QueueDepth => self.queue_depth(runtime, event),
            Kind::Park | Kind::Unpark => self.park(runtime, kind, event),
            Kind::BlockingQueued | Kind::BlockingBegin | Kind::BlockingEnd => {
                self.blocking(runtime, (kind, thread), event);
            }
            Kind::RequestBegin | Kind::SpanBegin => {
                self.span_begin(runtime, (kind, thread), event);
            }
            Kind::RequestEnd | Kind::SpanEnd => self.span_end(runtime, kind, event),
            Kind::BufferTaken | Kind::BufferReturned => self.buffer(runtime, kind, event),
            Kind::AllocSampled | Kind::FreeSampled => {
                let task = self.maybe_task(runtime, event.task);
                self.allocation(thread, task, event);
            }
            _ => self.moment(runtime, (kind, thread), event),
        }
    }

    /// Things that only happen.
    fn moment(&mut self, runtime: u32, (kind, thread): (Kind, ThreadIndex), event: &RuntimeEvent) {
        let time_ns = event.header.time_ns;
        let task = self.maybe_task(runtime, event.task);
        let runtime = &mut self.model.runtimes[runtime as usize];
        match kind {
            Kind::Steal => {
                let (from, to) = (event.aux, event.header.arg);
                runtime.steals.push(Steal { time_ns, from, to, count: event.value });
            }
            Kind::TimerFired => {
                runtime.timers.push(TimerFired { time_ns, late_ns: event.value, task });
            }
            Kind::Mark => {
                let (text, value) = (event.header.arg, event.value);
                runtime.marks.push(Mark { time_ns, task, thread, text, value });
            }
            _ => {}
        }
    }

    /// The thread that wrote a record. One that has just ended may still have something to say.
    pub(super) fn runtime_thread(&mut self, header: &Header) -> ThreadIndex {
        if let Some(index) = self.by_tid.get(&header.tid) {
            return *index;
        }
        let is_same = |thread: &Thread| thread.tid == header.tid && thread.pid == header.pid;
        match self.model.threads.iter().rposition(is_same) {
            Some(place) => ThreadIndex(u32::try_from(place).unwrap_or(u32::MAX)),
            None => self.index(header.tid, header.pid, self.now_ns),
        }
    }

    /// The runtime of a process. One that is found again has been replaced: the process is another
    /// program, or its number is in use again.
    fn runtime_found(&mut self, found: &RuntimeFound) {
        let pid = found.header.pid;
        let mut runtime = self.runtime(pid) as usize;
        if self.model.runtimes[runtime].offered_kinds.is_some() {
            self.runtimes.by_pid.remove(&pid);
            runtime = self.runtime(pid) as usize;
        }
        let runtime = &mut self.model.runtimes[runtime];
        runtime.offered_kinds = Some(found.offered_kinds);
        runtime.asked_kinds = found.asked_kinds;
        self.learn_mean(pid, found.alloc_mean_bytes);
    }

    fn runtime(&mut self, pid: u32) -> u32 {
        let next = u32::try_from(self.model.runtimes.len()).unwrap_or(u32::MAX);
        let index = *self.runtimes.by_pid.entry(pid).or_insert(next);
        if index == next {
            self.model.runtimes.push(Runtime { pid, ..Runtime::default() });
        }
        index
    }

    fn worker(&mut self, runtime: u32, number: u32) -> &mut Worker {
        let number = number.min(WORKERS - 1);
        let workers = &mut self.model.runtimes[runtime as usize].workers;
        let place = workers.partition_point(|worker| worker.number < number);
        if workers.get(place).is_none_or(|worker| worker.number != number) {
            workers.insert(place, Worker { number, ..Worker::default() });
        }
        &mut workers[place]
    }

    fn is_worker(&mut self, runtime: u32, number: u32, thread: ThreadIndex) {
        if number == NO_WORKER {
            return;
        }
        let threads = &mut self.worker(runtime, number).threads;
        if !threads.contains(&thread) {
            threads.push(thread);
        }
    }

    pub(super) fn worker_thread(&self, runtime: u32, number: u32) -> Option<ThreadIndex> {
        let workers = &self.model.runtimes[runtime as usize].workers;
        let worker = workers.iter().find(|worker| worker.number == number)?;
        worker.threads.last().copied()
    }

    fn queue_depth(&mut self, runtime: u32, event: &RuntimeEvent) {
        let part = |place: u32| (event.value >> (16 * place)) as u16;
        let depth = Depth { time_ns: event.header.time_ns, by_priority: [0, 1, 2, 3].map(part) };
        let depths = match event.header.arg {
            NO_WORKER => &mut self.model.runtimes[runtime as usize].injector,
            number => &mut self.worker(runtime, number).depths,
        };
        // The same again says nothing new, and busy workers say it often.
        if depths.last().is_none_or(|last| last.by_priority != depth.by_priority) {
            depths.push(depth);
        }
    }

    fn park(&mut self, runtime: u32, kind: Kind, event: &RuntimeEvent) {
        let time_ns = event.header.time_ns;
        let parks = &mut self.worker(runtime, event.header.arg).parks;
        let open = parks.last_mut().filter(|park| park.end_ns.is_none());
        match (kind, open) {
            (Kind::Park, _) => parks.push(Park { start_ns: time_ns, end_ns: None }),
            (_, Some(open)) => open.end_ns = Some(time_ns.max(open.start_ns)),
            (_, None) => {}
        }
    }

    fn blocking(
        &mut self,
        runtime: u32,
        (kind, thread): (Kind, ThreadIndex),
        event: &RuntimeEvent,
    ) {
        let task = self.maybe_task(runtime, event.task);
        let calls = &mut self.model.runtimes[runtime as usize].blocking;
        let place = *self.runtimes.blocking.entry((runtime, event.value)).or_insert(calls.len());
        if place == calls.len() {
            let (queued_ns, start_ns, end_ns, thread) = (None, None, None, None);
            let id = event.value;
            calls.push(BlockingCall { id, task, queued_ns, start_ns, end_ns, thread });
        }
        let call = &mut calls[place];
        let time_ns = Some(event.header.time_ns);
        match kind {
            Kind::BlockingQueued => call.queued_ns = time_ns,
            Kind::BlockingBegin => (call.start_ns, call.thread) = (time_ns, Some(thread)),
            _ => (call.end_ns, call.thread) = (time_ns, Some(thread)),
        }
        if call.end_ns.is_some() {
            self.runtimes.blocking.remove(&(runtime, event.value));
        }
    }

    pub(super) fn maybe_task(&mut self, runtime: u32, id: u64) -> Option<TaskIndex> {
        (id != 0).then(|| self.task_index(runtime, id))
    }

    /// What woke a task.
    pub(super) fn cause(
        &mut self,
        runtime: u32,
        thread: ThreadIndex,
        event: &RuntimeEvent,
    ) -> Reason {
        match event.aux {
            WAKE_TASK => Reason::task(Why::Task, self.task_index(runtime, event.value)),
            WAKE_THREAD => Reason::thread(Why::Thread, thread),
            WAKE_IO => self.file(Why::File, runtime, (event.header.arg, event.value)),
            WAKE_TIMER => Reason::only(Why::Timer),
            WAKE_CHANNEL => self.memory(Why::Channel, runtime, event.value),
            WAKE_LOCK => self.memory(Why::Lock, runtime, event.value),
            WAKE_CANCEL => Reason::only(Why::Cancel),
            WAKE_JOIN => Reason::task(Why::Join, self.task_index(runtime, event.value)),
            WAKE_YIELD => Reason::only(Why::Yield),
            WAKE_BLOCKING => Reason::only(Why::Blocking),
            WAKE_SPAWN => Reason::only(Why::Spawn),
            _ => Reason::UNKNOWN,
        }
    }

    /// The file that a task waits for.
    pub(super) fn file_wait(&mut self, runtime: u32, event: &RuntimeEvent) -> Reason {
        let why = match event.aux {
            IO_READ => Why::Read,
            IO_WRITE => Why::Write,
            IO_ACCEPT => Why::Accept,
            IO_CONNECT => Why::Connect,
            _ => Why::File,
        };
        self.file(why, runtime, (event.header.arg, event.value))
    }

    /// What the directory says that a task waits for.
    pub(super) fn directory_wait(&mut self, runtime: u32, entry: &TaskEntry) -> Reason {
        let file = (entry.wait_arg, entry.wait_value);
        match entry.waits_for {
            WAIT_READ => self.file(Why::Read, runtime, file),
            WAIT_WRITE => self.file(Why::Write, runtime, file),
            WAIT_ACCEPT => self.file(Why::Accept, runtime, file),
            WAIT_CONNECT => self.file(Why::Connect, runtime, file),
            WAIT_TIMER => Reason::only(Why::Timer),
            WAIT_CHANNEL => self.memory(Why::Channel, runtime, entry.wait_value),
            WAIT_LOCK => self.memory(Why::Lock, runtime, entry.wait_value),
            WAIT_JOIN => Reason::task(Why::Join, self.task_index(runtime, entry.wait_value)),
            WAIT_BLOCKING => Reason::only(Why::Blocking),
            WAIT_BUFFER => Reason::only(Why::Buffer),
            WAIT_CANCEL => Reason::only(Why::Cancel),
            WAIT_SCOPE => Reason::only(Why::Join),
            _ => Reason::UNKNOWN,
        }
    }

    fn file(&mut self, why: Why, runtime: u32, (fd, cookie): (u32, u64)) -> Reason {
        let pid = self.model.runtimes[runtime as usize].pid;
        self.object(why, Object::File { pid, fd, cookie })
    }

    fn memory(&mut self, why: Why, runtime: u32, address: u64) -> Reason {
        let pid = self.model.runtimes[runtime as usize].pid;
        self.object(why, Object::Memory { pid, address })
    }

    fn object(&mut self, why: Why, object: Object) -> Reason {
        let next = ObjectIndex(u32::try_from(self.model.objects.len()).unwrap_or(u32::MAX));
        let index = *self.runtimes.objects.entry(object).or_insert(next);
        if index == next {
            self.model.objects.push(object);
        }
        Reason::object(why, index)
    }
}

/// The text, without what is not UTF-8 or cannot be shown.
fn showable(text: &Text) -> String {
    let end = text.text.iter().position(|byte| *byte == 0).unwrap_or(text.text.len());
    let is_cut = text.bytes as usize > end;
    let whole = String::from_utf8_lossy(&text.text[..end]);
    // The last character of a text that was cut may be half there.
    let whole = if is_cut { whole.trim_end_matches('\u{fffd}') } else { &whole };
    whole.chars().map(|each| if is_unshowable(each) { '\u{fffd}' } else { each }).collect()
}

const fn of_record(site: &SpawnSite) -> Site {
    Site {
        name: site.name,
        file: site.file,
        line: site.line,
        column: site.column,
        future: site.future,
        future_bytes: site.future_bytes,
    }
}
