//! Locks that threads waited for: how long, who had them, and what kept those.

use super::{FlameKind, FlameQuery, Folding};
use crate::{
    model::{Model, OffCpu, ThreadIndex},
    symbol::SymbolTable,
};
use rustc_hash::FxHashMap;
use serde::Serialize;

/// Stacks that are told of a lock.
const STACKS: usize = 3;

/// A stack that waited for a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// How long in all, nanoseconds.
    pub waited_ns: u64,
    /// How often.
    pub count: u64,
    /// The stack, root first.
    pub frames: Vec<String>,
}

/// A lock, or whatever else threads wait for by futex, and who waited.
///
/// Not collected: acquisitions without a wait, and waits that only spin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LockUse {
    /// The process.
    pub pid: u32,
    /// Where the futex is.
    pub address: u64,
    /// How long was waited for it in all, until the wake-up, nanoseconds.
    pub waited_ns: u64,
    /// How often.
    pub count: u64,
    /// The longest wait, nanoseconds.
    pub max_ns: u64,
    /// How many waited at once, at the most.
    pub waiting_max: u64,
    /// Who had it, by what glibc writes beside a mutex: name and how often.
    pub owner: Option<(String, u64)>,
    /// Who released it most, by time: name, and the time waited that it ended.
    pub released_by: Option<(String, u64)>,
    /// The stack of that one then, root first.
    pub release_frames: Vec<String>,
    /// For how much of `waited_ns` whoever released it was off a CPU: the lock is held too long.
    pub releaser_off_ns: u64,
    /// The stacks that waited longest.
    pub stacks: Vec<Waiting>,
}

/// Locks that threads waited for between `from_ns` and `to_ns`, the longest first.
#[must_use]
pub fn locks(model: &Model, symbols: &SymbolTable, query: &FlameQuery) -> Vec<LockUse> {
    let query = FlameQuery { kind: FlameKind::OffCpu, ..query.clone() };
    let mut folding = Folding::new(model, symbols, &query);
    let mut by_lock: FxHashMap<(u32, u64), Vec<&OffCpu>> = FxHashMap::default();
    let mut off_of: FxHashMap<ThreadIndex, Vec<(u64, u64)>> = FxHashMap::default();
    for off in &model.stacks.off_cpu {
        off_of.entry(off.thread).or_default().push((off.start_ns, off.end_ns));
        let Some(lock) = off.lock.filter(|_| folding.overlap(off.start_ns, off.end_ns) > 0) else {
            continue;
        };
        let pid = model.thread(off.thread).pid;
        by_lock.entry((pid, lock.address)).or_default().push(off);
    }
    let mut uses: Vec<LockUse> = by_lock
        .into_iter()
        .map(|((pid, address), waits)| LockUse { pid, address, ..folding.lock(&waits, &off_of) })
        .collect();
    uses.sort_by_key(|lock| (std::cmp::Reverse(lock.waited_ns), lock.pid, lock.address));
    uses
}

/// Length of a wait without the time it took to get a CPU.
const fn waited(off: &OffCpu) -> (u64, u64) {
    (off.start_ns, off.end_ns.saturating_sub(off.runq_ns))
}

impl Folding<'_> {
    fn lock(
        &mut self,
        waits: &[&OffCpu],
        off_of: &FxHashMap<ThreadIndex, Vec<(u64, u64)>>,
    ) -> LockUse {
        let mut by_stack: FxHashMap<_, (u64, u64)> = FxHashMap::default();
        let mut by_waker: FxHashMap<(ThreadIndex, _), u64> = FxHashMap::default();
        let mut owners: FxHashMap<u32, u64> = FxHashMap::default();
        let (mut waited_ns, mut count, mut max_ns, mut releaser_off_ns) = (0_u64, 0, 0, 0_u64);
        for off in waits {
            let (from_ns, to_ns) = waited(off);
            let length = self.overlap(from_ns, to_ns).saturating_mul(off.weight.into());
            waited_ns = length.saturating_add(waited_ns);
            count += u64::from(off.weight);
            max_ns = max_ns.max(to_ns.saturating_sub(from_ns));
            let stack = by_stack.entry(off.stack).or_default();
            stack.0 = length.saturating_add(stack.0);
            stack.1 += u64::from(off.weight);
            if let Some(waker) = off.waker.filter(|_| !off.is_by_interrupt) {
                let ended = by_waker.entry((waker, off.waker_stack)).or_default();
                *ended = length.saturating_add(*ended);
                let offs = off_of.get(&waker).map_or(&[][..], Vec::as_slice);
                let off_ns = covered(offs, from_ns, to_ns).saturating_mul(off.weight.into());
                releaser_off_ns = releaser_off_ns.saturating_add(off_ns);
            }
            let owner = off.lock.map_or(0, |lock| lock.owner_tid);
            let pid = self.model.thread(off.thread).pid;
            // What is beside a futex that is no mutex can be anything; a thread of the process it is not.
            if owner != 0
                && self.model.threads.iter().any(|each| each.tid == owner && each.pid == pid)
            {
                *owners.entry(owner).or_default() += 1;
            }
        }
        let released = by_waker.into_iter().max_by_key(|((waker, _), ns)| (*ns, *waker));
        let owner = owners.into_iter().max_by_key(|(tid, count)| (*count, *tid));
        let mut stacks: Vec<Waiting> = Vec::new();
        for (stack, (waited_ns, count)) in by_stack {
            let frames = stack.map_or_else(Vec::new, |stack| self.words(stack));
            stacks.push(Waiting { waited_ns, count, frames });
        }
        stacks.sort_by(|a, b| (b.waited_ns, &a.frames).cmp(&(a.waited_ns, &b.frames)));
        stacks.truncate(STACKS);
        let release_stack = released.as_ref().and_then(|((_, stack), _)| *stack);
        LockUse {
            pid: 0,
            address: 0,
            waited_ns,
            count,
            max_ns,
            waiting_max: most_at_once(waits),
            owner: owner.map(|(tid, count)| (self.thread_name(tid), count)),
            released_by: released.map(|((waker, _), ns)| (self.model.thread(waker).name(), ns)),
            release_frames: release_stack.map_or_else(Vec::new, |stack| self.words(stack)),
            releaser_off_ns,
            stacks,
        }
    }

    fn thread_name(&self, tid: u32) -> String {
        let found = self.model.threads.iter().rfind(|thread| thread.tid == tid);
        found.map_or_else(|| format!("thread {tid}"), |thread| format!("{} ({tid})", thread.name()))
    }
}

/// How much of `[from_ns, to_ns)` intervals, which are in order and apart, cover.
fn covered(intervals: &[(u64, u64)], from_ns: u64, to_ns: u64) -> u64 {
    let first = intervals.partition_point(|(_, end_ns)| *end_ns <= from_ns);
    let inside = intervals[first..].iter().take_while(|(start_ns, _)| *start_ns < to_ns);
    let lengths = inside
        .map(|(start_ns, end_ns)| (*end_ns).min(to_ns).saturating_sub((*start_ns).max(from_ns)));
    lengths.fold(0, u64::saturating_add)
}

fn most_at_once(waits: &[&OffCpu]) -> u64 {
    let ends = waits.iter().map(|off| waited(off));
    // An end at the same time comes before a start.
    let mut steps: Vec<(u64, i64)> =
        ends.flat_map(|(from_ns, to_ns)| [(from_ns, 1), (to_ns, -1)]).collect();
    steps.sort_unstable();
    let (mut now, mut most) = (0_i64, 0);
    for (_, step) in steps {
        now += step;
        most = most.max(now);
    }
    most.unsigned_abs()
}
