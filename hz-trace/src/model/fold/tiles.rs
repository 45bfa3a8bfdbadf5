//! Tiles of threads' lives and of CPUs' time, and what is known of who has a CPU.

use super::{CpuNow, Folder};
use crate::model::{Cpu, Run, Span, State, Thread, ThreadIndex, Waker, Who};
use hz_probes_ebpf::NOT_ASKED;

impl Folder {
    /// When the latest tile of a CPU began, its thread's included.
    pub(super) fn known_ns(&mut self, cpu: u16) -> u64 {
        let Some(run) = self.cpu(cpu).runs.last().copied() else { return 0 };
        let last = match run.who {
            Who::Thread(index) => self.model.thread(index).spans.last(),
            _ => None,
        };
        let last = last.filter(|last| last.state == State::Running && last.cpu == cpu);
        last.map_or(run.start_ns, |last| last.start_ns.max(run.start_ns))
    }

    /// The thread that leaves should be the one the CPU was known to have.
    pub(super) fn check_leaving(&mut self, cpu: u16, prev: Who, time_ns: u64) {
        let current = self.current(cpu);
        if current == prev {
            return;
        }
        if current == Who::Unknown {
            self.backfill(cpu, prev);
            return;
        }
        self.model.contradictions += 1;
        if let Who::Thread(index) = current {
            self.doubt(index, cpu, time_ns);
        }
    }

    /// Whoever has a CPU before its first switch has had it since the recording began.
    pub(super) fn backfill(&mut self, cpu: u16, who: Who) {
        let is_filtered = self.is_filtered;
        if let [first] = &mut self.cpu(cpu).runs[..]
            && first.who == Who::Unknown
            && !is_filtered
        {
            first.who = who;
        }
    }

    pub(super) fn current(&mut self, cpu: u16) -> Who {
        self.cpu(cpu).runs.last().map_or(Who::Unknown, |run| run.who)
    }

    /// A thread that comes to `cpu` or leaves it should not be running elsewhere.
    pub(super) fn check_place(&mut self, index: ThreadIndex, cpu: u16, time_ns: u64) {
        let Some(last) = self.model.thread(index).spans.last().copied() else { return };
        if last.state == State::Running && last.cpu != cpu {
            self.model.contradictions += 1;
            self.vacate(index, time_ns);
        }
    }

    /// A thread that leaves a CPU should have had it. If it waited or slept it came unseen, and how
    /// much of its last tile was that nobody knows.
    pub(super) fn check_came(&mut self, index: ThreadIndex, time_ns: u64) {
        let thread = &mut self.model.threads[index.0 as usize];
        let Some(last) = thread.spans.last_mut() else { return };
        let before = *last;
        if before.state != State::Running {
            last.state = State::Unknown;
            self.model.contradictions += u64::from(before.state.is_waiting());
            self.stop_waiting(&before, time_ns);
        }
    }

    /// Who has the CPU of `index` is no longer known, if it was thought to run.
    pub(super) fn vacate(&mut self, index: ThreadIndex, time_ns: u64) {
        let Some(last) = self.model.thread(index).spans.last().copied() else { return };
        if last.state == State::Running && self.current(last.cpu) == Who::Thread(index) {
            self.set_cpu(last.cpu, time_ns, Who::Unknown);
        }
    }

    /// What `index` does is no longer known, if it was thought to run on `cpu`.
    pub(super) fn doubt(&mut self, index: ThreadIndex, cpu: u16, time_ns: u64) {
        let last = self.model.thread(index).spans.last();
        if last.is_some_and(|last| last.state == State::Running && last.cpu == cpu) {
            self.transition(
                index,
                Span { start_ns: time_ns, state: State::Unknown, cpu, waker: Waker::Unknown },
            );
        }
    }

    /// Threads that wait for `cpu` may have got it meanwhile: what they do is no longer known.
    pub(super) fn doubt_waiters(&mut self, cpu: u16, time_ns: u64) {
        let waits = |thread: &Thread| {
            let last = thread.spans.last().filter(|_| !thread.has_exited);
            last.is_some_and(|last| last.state.is_waiting() && last.cpu == cpu)
        };
        let waiters = (0..).map(ThreadIndex).zip(&self.model.threads);
        let waiters = waiters.filter(|(_, thread)| waits(thread)).map(|(index, _)| index);
        for index in waiters.collect::<Vec<_>>() {
            let (state, waker) = (State::Unknown, Waker::Unknown);
            self.transition(index, Span { start_ns: time_ns, state, cpu, waker });
        }
    }

    /// A filtered recording says who has a CPU when a thread of the target begins to wait there.
    pub(super) fn occupied(&mut self, cpu: u16, time_ns: u64, tid: u32, pid: u32) {
        let is_known = self.current(cpu) != Who::Unknown;
        if tid == NOT_ASKED || is_known {
            return;
        }
        let who = self.who(tid, pid, time_ns);
        self.set_cpu(cpu, time_ns, who);
    }

    pub(super) fn cpu(&mut self, id: u16) -> &mut Cpu {
        let place = usize::from(id);
        let start_ns = self.model.start_ns;
        while self.model.cpus.len() <= place {
            let id = u16::try_from(self.model.cpus.len()).unwrap_or(u16::MAX);
            self.model.cpus.push(Cpu { id, ..Cpu::default() });
            self.cpus.push(CpuNow::default());
        }
        let cpu = &mut self.model.cpus[place];
        if cpu.runs.is_empty() {
            cpu.runs.push(Run { start_ns, who: Who::Unknown });
        }
        cpu
    }

    pub(super) fn state_of(&self, index: ThreadIndex) -> State {
        self.model.thread(index).spans.last().map_or(State::Unknown, |span| span.state)
    }

    /// Begins a tile of a CPU's time.
    pub(super) fn set_cpu(&mut self, cpu: u16, time_ns: u64, who: Who) {
        let runs = &mut self.cpu(cpu).runs;
        let Some(last) = runs.last_mut() else { return };
        if last.who == who {
            return;
        }
        if last.start_ns >= time_ns {
            last.who = who;
        } else {
            runs.push(Run { start_ns: time_ns, who });
        }
    }

    /// Begins a tile of a thread's life.
    pub(super) fn transition(&mut self, index: ThreadIndex, span: Span) {
        let thread = &mut self.model.threads[index.0 as usize];
        if !thread.is_target || thread.has_exited {
            return;
        }
        let last = thread.spans.last().copied();
        let floor = last.map_or(thread.start_ns, |last| last.start_ns);
        let Span { start_ns: time_ns, state, cpu, .. } = span;
        let span = Span { start_ns: time_ns.max(floor), ..span };
        match thread.spans.last_mut() {
            Some(last) if last.start_ns == span.start_ns => *last = span,
            _ => thread.spans.push(span),
        }
        if state.is_waiting() {
            self.cpu(cpu);
            self.cpus[usize::from(cpu)].waiting += 1;
        }
        if let Some(last) = last {
            self.stop_waiting(&last, time_ns);
        }
    }

    pub(super) fn stop_waiting(&mut self, span: &Span, time_ns: u64) {
        if !span.state.is_waiting() {
            return;
        }
        let now = &mut self.cpus[usize::from(span.cpu)];
        now.waiting = now.waiting.saturating_sub(1);
        self.forget_unwatched(span.cpu, time_ns);
    }

    /// With a filter, a CPU where nobody of the target runs or waits is not recorded.
    pub(super) fn forget_unwatched(&mut self, cpu: u16, time_ns: u64) {
        if !self.is_filtered || self.cpus[usize::from(cpu)].waiting > 0 {
            return;
        }
        let current = self.current(cpu);
        let is_foreign = match current {
            Who::Unknown => false,
            Who::Idle => true,
            Who::Thread(index) => !self.model.thread(index).is_target,
        };
        if is_foreign {
            self.set_cpu(cpu, time_ns, Who::Unknown);
        }
    }
}
