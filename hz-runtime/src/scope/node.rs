//! A node of the cancellation tree: the algorithm alone, over any locks.
//!
//! A node lists the tasks that were spawned in it, its child nodes, and who waits for its end. What
//! is live is counted towards the root: a node that has its first live task is one live thing of its
//! parent. So locks are taken from a child to its parent, and a cancellation, which goes the other
//! way, holds one at a time.

use crate::probe::{self, Cause, TaskRef};
use crate::scheduler::sync::{AtomicU8, Mutex, Ordering, lock};
use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::panic::Location;
use std::sync::{Arc, Weak};
use std::task::Waker;

/// How far a node's end has come. It only ever goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Stage {
    /// It takes tasks.
    Open = 0,
    /// Its tasks end, but for those that end by themselves.
    Cancelled = 1,
    /// All of its tasks end.
    Over = 2,
}

impl Stage {
    const fn of(byte: u8) -> Self {
        match byte {
            0 => Self::Open,
            1 => Self::Cancelled,
            _ => Self::Over,
        }
    }
}

/// A place in the tree.
#[derive(Debug)]
pub(crate) struct Node {
    pub(super) name: Cow<'static, str>,
    /// With this node's key there.
    parent: Option<(Arc<Self>, u64)>,
    /// [`Stage`], which changes only under the lock.
    stage: AtomicU8,
    inner: Mutex<Inner>,
}

/// Ordered, so that a cancellation wakes in the order of the spawns: a seed must give one schedule.
#[derive(Debug, Default)]
struct Inner {
    /// Tasks, and child nodes that have any.
    live: usize,
    next_key: u64,
    /// By task.
    members: BTreeMap<u64, Member>,
    children: BTreeMap<u64, Weak<Node>>,
    /// Who waits for the cancellation.
    awaits_cancel: BTreeMap<u64, Waker>,
    /// Who waits until nothing is live.
    awaits_empty: BTreeMap<u64, Waker>,
}

/// A task in a node.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) task: TaskRef,
    pub(crate) waker: Waker,
    pub(crate) is_graceful: bool,
    pub(crate) name: Option<Cow<'static, str>>,
    pub(crate) location: &'static Location<'static>,
}

/// Which of a node's ends someone waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The node is cancelled.
    Cancelled,
    /// Nothing in it or below it is live.
    Empty,
}

impl Inner {
    const fn key(&mut self) -> u64 {
        self.next_key += 1;
        self.next_key
    }

    const fn waiters(&mut self, event: Event) -> &mut BTreeMap<u64, Waker> {
        match event {
            Event::Cancelled => &mut self.awaits_cancel,
            Event::Empty => &mut self.awaits_empty,
        }
    }
}

impl Node {
    pub(crate) fn root(name: Cow<'static, str>) -> Arc<Self> {
        Arc::new(Self::new(name, None, Stage::Open))
    }

    fn new(name: Cow<'static, str>, parent: Option<(Arc<Self>, u64)>, stage: Stage) -> Self {
        let (stage, inner) = (AtomicU8::new(stage as u8), Mutex::new(Inner::default()));
        Self { name, parent, stage, inner }
    }

    /// A node below this one; cancelled from the begin if this one is.
    pub(crate) fn child(self: &Arc<Self>, name: Cow<'static, str>) -> Arc<Self> {
        let mut inner = lock(&self.inner);
        let key = inner.key();
        let child = Arc::new(Self::new(name, Some((Arc::clone(self), key)), self.stage()));
        inner.children.insert(key, Arc::downgrade(&child));
        child
    }

    #[inline]
    pub(crate) fn stage(&self) -> Stage {
        Stage::of(self.stage.load(Ordering::Acquire))
    }

    /// Takes a task in; refused once cancelled.
    pub(crate) fn enter(&self, member: Member) -> Result<(), Member> {
        let mut inner = lock(&self.inner);
        if self.stage() != Stage::Open {
            return Err(member);
        }
        inner.members.insert(member.task.id(), member);
        self.add_live(&mut inner);
        Ok(())
    }

    /// The task's future has been dropped. Does nothing if it is not here.
    pub(crate) fn leave(&self, task: u64) {
        let mut inner = lock(&self.inner);
        let Some(member) = inner.members.remove(&task) else { return };
        let mut woken = Vec::new();
        self.remove_live(&mut inner, &mut woken);
        drop(inner);
        drop(member);
        woken.into_iter().for_each(Waker::wake);
    }

    fn add_live(&self, inner: &mut Inner) {
        inner.live += 1;
        if inner.live == 1
            && let Some((parent, _)) = &self.parent
        {
            parent.add_live(&mut lock(&parent.inner));
        }
    }

    fn remove_live(&self, inner: &mut Inner, woken: &mut Vec<Waker>) {
        inner.live -= 1;
        if inner.live > 0 {
            return;
        }
        woken.extend(mem::take(&mut inner.awaits_empty).into_values());
        if let Some((parent, _)) = &self.parent {
            parent.remove_live(&mut lock(&parent.inner), woken);
        }
    }

    /// Takes this node and all below it to `stage`, and wakes those who are to end and who waited
    /// for it. When it returns, none of them takes a task any more.
    pub(crate) fn end(self: &Arc<Self>, stage: Stage) {
        let mut woken = Vec::new();
        self.visit(|node| node.enter_stage(stage, &mut woken));
        probe::with_cause(Cause::Cancel, || woken.into_iter().for_each(Waker::wake));
    }

    fn enter_stage(&self, stage: Stage, woken: &mut Vec<Waker>) {
        let mut inner = lock(&self.inner);
        let before = self.stage();
        if before >= stage {
            return;
        }
        self.stage.store(stage as u8, Ordering::Release);
        woken.extend(mem::take(&mut inner.awaits_cancel).into_values());
        let ends = |member: &&Member| match stage {
            Stage::Over => before == Stage::Open || member.is_graceful,
            _ => !member.is_graceful,
        };
        woken.extend(inner.members.values().filter(ends).map(|member| member.waker.clone()));
    }

    /// Calls `visit` with this node and all below it, parents first.
    pub(crate) fn visit(self: &Arc<Self>, mut visit: impl FnMut(&Self)) {
        let mut nodes = VecDeque::from([Arc::clone(self)]);
        while let Some(node) = nodes.pop_front() {
            visit(&node);
            // After the visit: a child that is made from now on is born at the stage it set.
            let inner = lock(&node.inner);
            nodes.extend(inner.children.values().filter_map(Weak::upgrade));
        }
    }

    /// Whether nothing in it or below it is live.
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.inner).live == 0
    }

    /// Its tasks, not those below it.
    pub(crate) fn members(&self) -> Vec<Member> {
        lock(&self.inner).members.values().cloned().collect()
    }

    /// Its name after those of the nodes above it.
    pub(crate) fn path(&self) -> String {
        let mut path = self.name.to_string();
        let mut above = &self.parent;
        while let Some((node, _)) = above {
            path = format!("{}/{path}", node.name);
            above = &node.parent;
        }
        path
    }

    fn has_happened(&self, event: Event, inner: &Inner) -> bool {
        match event {
            Event::Cancelled => self.stage() != Stage::Open,
            Event::Empty => inner.live == 0,
        }
    }

    /// Whether `event` has happened; if not, `waker` will be woken when it does. `key` is the
    /// waiter's place, and its own to keep.
    pub(crate) fn poll(&self, event: Event, key: &mut Option<u64>, waker: &Waker) -> bool {
        let mut inner = lock(&self.inner);
        if self.has_happened(event, &inner) {
            return true;
        }
        let place = match *key {
            Some(place) => place,
            None => *key.insert(inner.key()),
        };
        let old = inner.waiters(event).insert(place, waker.clone());
        // A waker that is dropped can drop its task, and with it another waiter.
        drop(inner);
        drop(old);
        false
    }

    /// A waiter gives up.
    pub(crate) fn forget(&self, event: Event, key: u64) {
        let waker = lock(&self.inner).waiters(event).remove(&key);
        drop(waker);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some((parent, key)) = &self.parent {
            lock(&parent.inner).children.remove(key);
        }
    }
}
