//! How threads come to be, change and end.

use super::{Folder, state_after};
use crate::model::{KernelCounts, Span, State, ThreadIndex, Waker, Who};
use hz_probes_ebpf::{
    Exec, Exit, Fork, THREAD_FOREIGN, THREAD_KERNEL, THREAD_LAST, THREAD_ON_CPU, THREAD_QUEUED,
};

impl Folder {
    pub(super) fn fork(&mut self, fork: &Fork) {
        let header = &fork.header;
        let parent = match self.who(header.arg, fork.parent_pid, header.time_ns) {
            Who::Thread(parent) => Some(parent),
            _ => None,
        };
        if let Some(stale) = self.by_tid.remove(&header.tid) {
            self.end(stale, header.time_ns);
        }
        let index = self.target(header);
        let counts = KernelCounts { time_ns: header.time_ns, ..KernelCounts::default() };
        let (kernel_first, state) =
            if self.has_switches { (Some(counts), State::New) } else { (None, State::Unknown) };
        let thread = self.thread(index);
        thread.comm = fork.comm;
        thread.parent = parent;
        thread.kernel_first = kernel_first;
        let (start_ns, cpu) = (header.time_ns, header.cpu);
        self.transition(index, Span { start_ns, state, cpu, waker: Waker::Unknown });
    }

    /// When another thread than the first calls exec, it takes the first one's id and the first
    /// is gone.
    pub(super) fn exec(&mut self, exec: &Exec) {
        let header = &exec.header;
        if header.arg != header.tid
            && let Some(caller) = self.by_tid.remove(&header.arg)
        {
            if let Some(leader) = self.by_tid.insert(header.tid, caller) {
                self.end_keeping_map(leader, header.time_ns);
            }
            self.thread(caller).tid = header.tid;
        }
        let index = self.target(header);
        self.thread(index).comm = exec.comm;
        self.forget_heap(header.pid, header.time_ns);
    }

    pub(super) fn exit(&mut self, exit: &Exit) {
        let index = self.target(&exit.header);
        self.threads[index.0 as usize].is_counting = false;
        self.thread(index).kernel_last = Some(KernelCounts {
            time_ns: exit.header.time_ns,
            switches: exit.nvcsw.saturating_add(exit.nivcsw),
            run_delay_ns: exit.run_delay_ns,
        });
    }

    pub(super) fn snapshot(&mut self, record: &hz_probes_ebpf::Thread) {
        let header = &record.header;
        let is_known = self.by_tid.contains_key(&header.tid);
        let index = if record.flags & THREAD_FOREIGN == 0 {
            self.target(header)
        } else {
            self.index(header.tid, header.pid, header.time_ns)
        };
        let thread = self.thread(index);
        thread.comm = record.comm;
        thread.pid = header.pid;
        thread.is_kernel = record.flags & THREAD_KERNEL != 0;
        if record.flags & THREAD_FOREIGN != 0 {
            return;
        }
        self.count(index, record);
        if !is_known || self.model.thread(index).spans.is_empty() {
            self.begin(index, record);
        }
    }

    /// Takes the kernel's own counts of a thread.
    pub(super) fn count(&mut self, index: ThreadIndex, record: &hz_probes_ebpf::Thread) {
        let counts = KernelCounts {
            time_ns: record.header.time_ns,
            switches: record.nvcsw.saturating_add(record.nivcsw),
            run_delay_ns: record.run_delay_ns,
        };
        let is_last = record.flags & THREAD_LAST != 0;
        let now = &mut self.threads[index.0 as usize];
        let thread = &mut self.model.threads[index.0 as usize];
        if is_last && now.is_counting {
            thread.kernel_last = Some(counts);
            now.is_counting = false;
        } else if !is_last && self.has_switches && thread.kernel_first.is_none() {
            thread.kernel_first = Some(counts);
            thread.switches = 0;
        }
    }

    /// Begins a life with what the thread was when the recording met it.
    pub(super) fn begin(&mut self, index: ThreadIndex, record: &hz_probes_ebpf::Thread) {
        let (time_ns, cpu) = (record.header.time_ns, record.header.cpu);
        if !self.has_switches {
            let span =
                Span { start_ns: time_ns, state: State::Unknown, cpu, waker: Waker::Unknown };
            self.transition(index, span);
            return;
        }
        let current = self.current(cpu);
        let state = if record.flags & THREAD_ON_CPU != 0 {
            let is_free = matches!(current, Who::Unknown) || current == Who::Thread(index);
            if is_free { State::Running } else { State::Unknown }
        } else if record.flags & THREAD_QUEUED != 0 && record.state == 0 {
            State::Preempted
        } else if record.state == 0 {
            State::Unknown
        } else {
            state_after(record.state)
        };
        self.transition(index, Span { start_ns: time_ns, state, cpu, waker: Waker::Unknown });
        if state == State::Running {
            self.backfill(cpu, Who::Thread(index));
            self.set_cpu(cpu, time_ns, Who::Thread(index));
        }
    }

    pub(super) fn end(&mut self, index: ThreadIndex, time_ns: u64) {
        let tid = self.model.thread(index).tid;
        if self.by_tid.get(&tid) == Some(&index) {
            self.by_tid.remove(&tid);
        }
        self.end_keeping_map(index, time_ns);
    }

    pub(super) fn end_keeping_map(&mut self, index: ThreadIndex, time_ns: u64) {
        self.vacate(index, time_ns);
        let thread = self.thread(index);
        let last = thread.spans.last().copied();
        thread.end_ns = time_ns.max(last.map_or(thread.start_ns, |last| last.start_ns));
        thread.has_exited = true;
        if let Some(last) = last {
            self.stop_waiting(&last, time_ns);
        }
    }
}
