//! Tasks that Tokio's hooks tell of: those that are not wrapped.

use super::{PRIORITY, worker};
use crate::probe::{Enclosing, PollEnd, Spawn, TaskProbe, TaskRef};
use ::tokio::runtime::{Builder, TaskMeta};
use ::tokio::task::Id;
use crossbeam_utils::CachePadded;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

/// Parts that the tasks are kept in, so that workers seldom meet at one lock.
const SHARDS: usize = 64;

/// Whether some runtime has the hooks.
static IS_HOOKED: AtomicBool = AtomicBool::new(false);
static TASKS: LazyLock<Box<[CachePadded<Shard>]>> =
    LazyLock::new(|| (0..SHARDS).map(|_| CachePadded::default()).collect());

type Tasks = HashMap<Id, Arc<TaskProbe>, BuildHasherDefault<IdHasher>>;
type Shard = Mutex<Tasks>;

thread_local! {
    /// The polls in progress: one within another where a task blocks on a runtime of its own.
    static POLLS: RefCell<Vec<Polled>> = const { RefCell::new(Vec::new()) };
    /// Whether the next task that this thread spawns tells of itself.
    static PASSES_OVER: Cell<bool> = const { Cell::new(false) };
}

/// A poll in progress.
struct Polled {
    id: Id,
    probe: Arc<TaskProbe>,
    enclosing: Enclosing,
    is_over: bool,
}

/// Sets the hooks of tasks.
pub(super) fn hook(builder: &mut Builder) {
    IS_HOOKED.store(true, Ordering::Relaxed);
    builder
        .on_task_spawn(spawned)
        .on_before_task_poll(poll_begins)
        .on_after_task_poll(poll_ends)
        .on_task_terminate(terminated);
}

/// Whether a task may be told of by the hooks.
pub(super) fn are_hooked() -> bool {
    IS_HOOKED.load(Ordering::Relaxed)
}

/// The task that is being polled on this thread, if the hooks tell of it.
pub(super) fn current() -> Option<TaskRef> {
    POLLS.with_borrow(|polls| polls.last().map(|polled| polled.probe.task()))
}

/// The hooks say nothing of the task that this thread spawns while the guard is there: it tells
/// of itself.
pub(super) fn pass_over() -> PassOver {
    PASSES_OVER.set(true);
    PassOver
}

pub(super) struct PassOver;

impl Drop for PassOver {
    fn drop(&mut self) {
        PASSES_OVER.set(false);
    }
}

fn spawned(task: &TaskMeta<'_>) {
    if PASSES_OVER.replace(false) {
        return;
    }
    let probe = TaskProbe::spawned(&Spawn {
        name: None,
        location: task.spawned_at(),
        future: "",
        future_bytes: 0,
        priority: PRIORITY,
    });
    shard(task.id()).insert(task.id(), Arc::new(probe));
}

fn poll_begins(task: &TaskMeta<'_>) {
    let id = task.id();
    let Some(probe) = shard(id).get(&id).map(Arc::clone) else { return };
    worker::before_poll();
    let enclosing = probe.poll_begin();
    POLLS.with_borrow_mut(|polls| polls.push(Polled { id, probe, enclosing, is_over: false }));
}

fn poll_ends(task: &TaskMeta<'_>) {
    let id = task.id();
    let polled = POLLS.with_borrow_mut(|polls| polls.pop_if(|polled| polled.id == id));
    if let Some(Polled { probe, enclosing, is_over, .. }) = polled {
        probe.poll_end(enclosing, if is_over { PollEnd::Over } else { PollEnd::Pending });
    }
}

/// Called within the last poll or, when a runtime shuts down, outside of any.
fn terminated(task: &TaskMeta<'_>) {
    let id = task.id();
    POLLS.with_borrow_mut(|polls| {
        if let Some(polled) = polls.last_mut().filter(|polled| polled.id == id) {
            polled.is_over = true;
        }
    });
    let probe = shard(id).remove(&id);
    // Outside of the lock: if the task was not being polled, this tells of its end.
    drop(probe);
}

fn shard(id: Id) -> MutexGuard<'static, Tasks> {
    let mut hasher = IdHasher::default();
    id.hash(&mut hasher);
    let index = hasher.0 as usize % SHARDS;
    TASKS[index].lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tokio counts its tasks: their ids are as good as any hash of them, but for the upper bits.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        // The table takes its upper bits from the top, and the shard has used up the lower ones.
        self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = id;
    }
}
