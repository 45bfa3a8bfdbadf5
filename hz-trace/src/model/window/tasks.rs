//! Tasks of async runtimes in a window, folded from what the runtimes tell.

mod memory;
mod now;
mod rows;

pub use rows::{GroupRow, LongPoll, LongReady, RuntimeRow, TaskRow, WorkerRow};

use super::Window;
use crate::decode::Event;
use hz_probes_ebpf::{
    Kind,
    runtime::{
        NO_WORKER, POLL_PENDING, RuntimeEvent, RuntimeFound, RuntimeThread, SpawnSite, TASK_DONE,
        TASK_IDLE, TASK_POLLING, TASK_READY, TaskEntry, Text,
    },
};
use memory::MemoryNow;
use now::{GroupNow, RuntimeNow, TaskNow, WorkerNow};
use rustc_hash::FxHashMap;

/// Tasks that are known at once; more are counted, not known.
const TASKS_MAX: usize = 65_536;

/// Names and places of a process that are known; more would be a process that lies.
const NAMES_MAX: usize = 65_536;

/// Groups of tasks that are told apart.
const GROUPS_MAX: usize = 4_096;

/// Single tasks in a window.
const ROWS_MAX: usize = 20_000;

/// A poll as long as this is remembered as what others waited for.
const LONG_POLL_NS: u64 = 1_000_000;

/// Folds the events of async runtimes into windows. Its memory does not grow with time.
#[derive(Debug, Default)]
pub struct TaskFolder {
    start_ns: u64,
    now_ns: u64,
    epoch: u32,
    runtimes: Vec<RuntimeNow>,
    by_pid: FxHashMap<u32, u32>,
    tasks: FxHashMap<(u32, u64), TaskNow>,
    groups: Vec<GroupNow>,
    by_key: FxHashMap<(u32, u32, u32), u32>,
    memory: MemoryNow,
    /// Tasks that had no room.
    overflow: u64,
}

impl TaskFolder {
    /// Starts with a window that begins at `start_ns` (`CLOCK_MONOTONIC`): what was before makes tasks
    /// known and is in no figure.
    #[must_use]
    pub fn new(start_ns: u64) -> Self {
        Self { start_ns, now_ns: start_ns, epoch: 1, ..Self::default() }
    }

    /// Names process `pid`.
    pub fn name_process(&mut self, pid: u32, name: &str) {
        let runtime = self.runtime(pid);
        name.clone_into(&mut self.runtimes[runtime as usize].name);
    }

    /// Names process `pid` if it has tasks.
    pub fn name_known_process(&mut self, pid: u32, name: &str) {
        if self.by_pid.contains_key(&pid) {
            self.name_process(pid, name);
        }
    }

    /// The name of a task of process `pid`.
    #[must_use]
    pub fn task_name(&self, pid: u32, task: u64) -> Option<String> {
        let runtime = self.by_pid.get(&pid)?;
        let task = self.tasks.get(&(*runtime, task))?;
        Some(self.group_name(task.group).0)
    }

    /// Forgets a process that has ended.
    pub fn forget(&mut self, pid: u32) {
        let Some(runtime) = self.by_pid.remove(&pid) else { return };
        self.tasks.retain(|(of, _), _| *of != runtime);
        self.by_key.retain(|(of, ..), _| *of != runtime);
        let gone = &mut self.runtimes[runtime as usize];
        *gone = RuntimeNow { pid, is_gone: true, ..RuntimeNow::default() };
        self.memory.forget(pid);
    }

    /// Folds one event; those of the kernel change nothing.
    pub fn fold(&mut self, event: &Event) {
        match event {
            Event::Runtime(event) => self.fold_runtime(event),
            Event::RuntimeFound(RuntimeFound { header, alloc_mean_bytes, .. }) => {
                self.runtime(header.pid);
                self.memory.samples_each(header.pid, *alloc_mean_bytes);
            }
            Event::RuntimeThread(RuntimeThread { header }) if header.arg != NO_WORKER => {
                let worker = self.worker(header.pid, header.arg);
                worker.tid = header.tid;
            }
            Event::RuntimeLost(lost) => {
                let runtime = self.runtime(lost.header.pid);
                self.runtimes[runtime as usize].lost += lost.count;
            }
            Event::Text(text) => self.text(text),
            Event::SpawnSite(site) => self.site(site),
            Event::TaskEntry(entry) => self.entry(entry),
            Event::Stack(stack) => self.memory.stack(stack),
            _ => {}
        }
    }

    fn runtime(&mut self, pid: u32) -> u32 {
        if let Some(runtime) = self.by_pid.get(&pid) {
            return *runtime;
        }
        let runtime = u32::try_from(self.runtimes.len()).unwrap_or(u32::MAX);
        self.runtimes.push(RuntimeNow { pid, ..RuntimeNow::default() });
        self.by_pid.insert(pid, runtime);
        runtime
    }

    fn worker(&mut self, pid: u32, number: u32) -> &mut WorkerNow {
        let runtime = self.runtime(pid);
        self.runtimes[runtime as usize].worker(number)
    }

    fn text(&mut self, text: &Text) {
        let runtime = self.runtime(text.header.pid);
        let texts = &mut self.runtimes[runtime as usize].texts;
        if texts.len() < NAMES_MAX {
            let end = text.text.iter().position(|byte| *byte == 0).unwrap_or(text.text.len());
            texts.insert(text.header.arg, String::from_utf8_lossy(&text.text[..end]).into_owned());
        }
    }

    fn site(&mut self, site: &SpawnSite) {
        let runtime = self.runtime(site.header.pid);
        let sites = &mut self.runtimes[runtime as usize].sites;
        if sites.len() < NAMES_MAX {
            sites.insert(site.header.arg, *site);
        }
    }

    fn group(&mut self, runtime: u32, name: u32, site: u32) -> u32 {
        let key = (runtime, name, site);
        if let Some(group) = self.by_key.get(&key) {
            return *group;
        }
        // The first has those that are too many.
        if self.by_key.len() >= GROUPS_MAX {
            return 0;
        }
        let group = u32::try_from(self.groups.len()).unwrap_or(0);
        self.groups.push(GroupNow { key, ..GroupNow::default() });
        self.by_key.insert(key, group);
        group
    }

    /// The task, made if it is not known and there is room.
    fn task(&mut self, runtime: u32, id: u64) -> Option<&mut TaskNow> {
        if !self.tasks.contains_key(&(runtime, id)) {
            if self.tasks.len() >= TASKS_MAX || id == 0 {
                self.overflow += u64::from(id != 0);
                return None;
            }
            let group = self.group(runtime, 0, 0);
            self.tasks.insert((runtime, id), TaskNow { group, ..TaskNow::default() });
        }
        let epoch = self.epoch;
        let task = self.tasks.get_mut(&(runtime, id))?;
        task.freshen(epoch);
        Some(task)
    }

    /// Folds one event of a ring.
    pub fn fold_runtime(&mut self, event: &RuntimeEvent) {
        let header = &event.header;
        self.now_ns = self.now_ns.max(header.time_ns);
        let runtime = self.runtime(header.pid);
        match Kind::from_wire(header.kind) {
            Some(Kind::PollBegin) => self.poll_begin(runtime, event),
            Some(Kind::PollEnd) => self.poll_end(runtime, event),
            Some(Kind::TaskWake) => self.wake(runtime, event),
            Some(Kind::TaskSpawn) => self.spawn(runtime, event),
            Some(Kind::TaskEnd) => self.end(runtime, event),
            Some(Kind::Steal) if header.time_ns >= self.start_ns => {
                self.worker(header.pid, header.arg).steals += event.value;
            }
            Some(Kind::QueueDepth) => {
                let depth = std::array::from_fn(|level| (event.value >> (16 * level)) as u16);
                match header.arg {
                    NO_WORKER => self.runtimes[runtime as usize].injector = depth,
                    number => self.worker(header.pid, number).depth = depth,
                }
            }
            Some(kind) => self.memory.event(kind, event, self.start_ns),
            None => {}
        }
    }

    fn spawn(&mut self, runtime: u32, event: &RuntimeEvent) {
        let group = self.group(runtime, 0, event.header.arg);
        if event.header.time_ns >= self.start_ns {
            self.groups[group as usize].spawned += 1;
        }
        if let Some(task) = self.task(runtime, event.task) {
            task.group = group;
            task.spawned_ns = event.header.time_ns;
            task.become_state(TASK_READY, event.header.time_ns);
        }
    }

    fn wake(&mut self, runtime: u32, event: &RuntimeEvent) {
        let time_ns = event.header.time_ns;
        let Some(task) = self.task(runtime, event.task) else { return };
        match task.state {
            TASK_POLLING => task.is_woken_in_poll = true,
            TASK_READY => {}
            _ => task.become_state(TASK_READY, time_ns),
        }
    }

    fn poll_begin(&mut self, runtime: u32, event: &RuntimeEvent) {
        let (time_ns, number) = (event.header.time_ns, event.header.arg);
        let (start_ns, tid) = (self.start_ns, event.header.tid);
        let Some(task) = self.task(runtime, event.task) else { return };
        let since_ns = (task.state == TASK_READY && task.since_ns > 0).then_some(task.since_ns);
        let group = task.group as usize;
        task.become_state(TASK_POLLING, time_ns);
        task.worker = number;
        task.is_woken_in_poll = false;
        if let Some(since_ns) = since_ns.filter(|_| time_ns >= start_ns) {
            let ready_ns = time_ns.saturating_sub(since_ns);
            task.note_ready(ready_ns, time_ns - since_ns.max(start_ns).min(time_ns));
            let blame = self.runtimes[runtime as usize].worker(number).last_long.clone();
            let blame = blame.filter(|poll| poll.end_ns > since_ns && poll.end_ns <= time_ns);
            let ready =
                LongReady { ready_ns, end_ns: time_ns, task: event.task, worker: number, blame };
            self.groups[group].note_ready(ready, since_ns.max(start_ns));
        }
        let worker = self.worker(event.header.pid, number);
        worker.tid = if tid == 0 { worker.tid } else { tid };
        worker.polling = Some((event.task, time_ns));
    }

    fn poll_end(&mut self, runtime: u32, event: &RuntimeEvent) {
        let (time_ns, number) = (event.header.time_ns, event.header.arg);
        let start_ns = self.start_ns;
        let Some(task) = self.task(runtime, event.task) else { return };
        let begin_ns = (task.state == TASK_POLLING).then_some(task.since_ns);
        let group = task.group;
        let next = match event.aux {
            POLL_PENDING if task.is_woken_in_poll => TASK_READY,
            POLL_PENDING => TASK_IDLE,
            _ => TASK_DONE,
        };
        task.become_state(next, time_ns);
        task.is_woken_in_poll = false;
        self.worker(event.header.pid, number).polling = None;
        let Some(begin_ns) = begin_ns.filter(|_| time_ns >= start_ns) else { return };
        let poll = self.long_poll((runtime, event.task), group, (begin_ns, time_ns), number);
        self.note_poll(runtime, group, poll);
    }

    fn long_poll(
        &mut self,
        (runtime, task): (u32, u64),
        group: u32,
        (begin_ns, end_ns): (u64, u64),
        number: u32,
    ) -> LongPoll {
        let poll_ns = end_ns.saturating_sub(begin_ns);
        // Names cost an allocation each: not for every poll.
        let name = if poll_ns >= LONG_POLL_NS { self.group_name(group).0 } else { String::new() };
        let runtime = &mut self.runtimes[runtime as usize];
        let (pid, tid) = (runtime.pid, runtime.worker(number).tid);
        LongPoll { poll_ns, begin_ns, end_ns, task, name, pid, tid, worker: number, is_over: true }
    }

    /// Counts a poll that has ended.
    fn note_poll(&mut self, runtime: u32, group: u32, poll: LongPoll) {
        let busy_ns = poll.end_ns.saturating_sub(poll.begin_ns.max(self.start_ns));
        if let Some(task) = self.tasks.get_mut(&(runtime, poll.task)) {
            task.polls += 1;
            task.polls_total += 1;
            task.busy_ns += busy_ns;
            task.longest_poll_ns = task.longest_poll_ns.max(poll.poll_ns);
        }
        let worker = self.runtimes[runtime as usize].worker(poll.worker);
        worker.busy_ns += busy_ns;
        worker.polls += 1;
        if poll.poll_ns >= LONG_POLL_NS {
            worker.last_long = Some(poll.clone());
        }
        self.groups[group as usize].polls += 1;
        self.groups[group as usize].note_busy(poll, busy_ns);
    }

    fn end(&mut self, runtime: u32, event: &RuntimeEvent) {
        let Some(task) = self.tasks.remove(&(runtime, event.task)) else { return };
        if event.header.time_ns >= self.start_ns {
            self.groups[task.group as usize].ended += 1;
        }
    }

    /// What the directory says of a task, at a moment of its own.
    fn entry(&mut self, entry: &TaskEntry) {
        let runtime = self.runtime(entry.header.pid);
        let group = self.group(runtime, entry.name, entry.header.arg);
        let (time_ns, epoch) = (entry.header.time_ns, self.epoch);
        let Some(task) = self.task(runtime, entry.task) else { return };
        task.group = group;
        task.entry_epoch = epoch;
        task.spawned_ns = entry.spawned_ns;
        task.polls_total = task.polls_total.max(entry.polls);
        task.priority = u8::try_from(entry.priority).unwrap_or(u8::MAX);
        task.waits = (entry.waits_for, entry.wait_arg, entry.wait_value);
        if task.state != entry.state {
            // Its rings say when; without them, the directory says at least since when it polls.
            let since_ns = match entry.state {
                TASK_POLLING if entry.last_poll_ns > 0 => entry.last_poll_ns,
                _ => time_ns,
            };
            if since_ns >= task.since_ns {
                task.become_state(entry.state, since_ns);
                task.worker = entry.worker;
            }
        }
    }

    /// Says that a directory of `pid` was read as a whole: tasks that it did not name have ended.
    pub fn directory_was_read(&mut self, pid: u32) {
        let (runtime, epoch) = (self.runtime(pid), self.epoch);
        let start_ns = self.start_ns;
        self.tasks.retain(|(of, _), task| {
            *of != runtime || task.entry_epoch == epoch || task.since_ns >= start_ns
        });
    }

    /// Closes the window at `end_ns`, puts it into `window`, and begins the next.
    pub fn close(&mut self, end_ns: u64, window: &mut Window) {
        self.add_unfinished(end_ns);
        window.runtimes = self.runtime_rows(end_ns);
        window.groups = self.group_rows(&window.threads);
        window.tasks = self.task_rows(end_ns);
        window.tasks_alive =
            self.tasks.values().filter(|task| task.state != TASK_DONE).count() as u64;
        self.memory.close(window);
        self.start_ns = end_ns;
        self.epoch += 1;
        self.groups.iter_mut().for_each(GroupNow::clear);
        self.runtimes.iter_mut().for_each(RuntimeNow::clear);
    }

    /// Polls and waits that go on at the window's end count up to there.
    fn add_unfinished(&mut self, end_ns: u64) {
        let going_on: Vec<_> = self
            .tasks
            .iter()
            .filter(|(_, task)| matches!(task.state, TASK_POLLING | TASK_READY))
            .map(|((runtime, id), task)| (*runtime, *id, task.clone()))
            .collect();
        for (runtime, id, task) in going_on {
            let (begin_ns, from_ns) = (task.since_ns, task.since_ns.max(self.start_ns));
            let here_ns = end_ns.saturating_sub(from_ns);
            if task.state == TASK_READY {
                self.add_waiting(runtime, id, &task, end_ns);
                continue;
            }
            let worker = task.worker;
            let mut poll = self.long_poll((runtime, id), task.group, (begin_ns, end_ns), worker);
            poll.is_over = false;
            if let Some(task) = self.tasks.get_mut(&(runtime, id)) {
                task.freshen(self.epoch);
                task.busy_ns += here_ns;
                task.longest_poll_ns = task.longest_poll_ns.max(poll.poll_ns);
            }
            self.runtimes[runtime as usize].worker(worker).busy_ns += here_ns;
            self.groups[task.group as usize].note_busy(poll, here_ns);
        }
    }

    fn add_waiting(&mut self, runtime: u32, id: u64, task: &TaskNow, end_ns: u64) {
        let ready_ns = end_ns.saturating_sub(task.since_ns);
        let blame = self.longest_running_poll(runtime, end_ns);
        let blame = blame.filter(|poll| poll.poll_ns >= LONG_POLL_NS);
        let worker = blame.as_ref().map_or(task.worker, |poll| poll.worker);
        if let Some(task) = self.tasks.get_mut(&(runtime, id)) {
            task.freshen(self.epoch);
            task.note_ready(ready_ns, end_ns.saturating_sub(task.since_ns.max(self.start_ns)));
        }
        let ready = LongReady { ready_ns, end_ns: 0, task: id, worker, blame };
        let from_ns = task.since_ns.max(self.start_ns);
        self.groups[task.group as usize].note_waiting(ready, end_ns.saturating_sub(from_ns));
    }

    fn longest_running_poll(&mut self, runtime: u32, end_ns: u64) -> Option<LongPoll> {
        let workers = self.runtimes[runtime as usize].workers.iter();
        let polling = workers.filter_map(|worker| Some((worker.number, worker.polling?)));
        let (number, (task, begin_ns)) = polling.min_by_key(|(_, (_, begin_ns))| *begin_ns)?;
        let group = self.tasks.get(&(runtime, task))?.group;
        let mut poll = self.long_poll((runtime, task), group, (begin_ns, end_ns), number);
        poll.is_over = false;
        Some(poll)
    }
}
