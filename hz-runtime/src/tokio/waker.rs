//! Wakers that tell of the wake-up before they pass it on.

use crate::probe::TaskRef;
use std::sync::Arc;
use std::task::{Wake, Waker};

/// The waker that a task's future is given, made at the first poll.
///
/// Tokio polls a task with one waker all its life, so there is one allocation for it; a future
/// that moves from one task to another costs one each time.
#[derive(Debug, Default)]
pub(super) struct Wakers {
    last: Option<Pair>,
}

#[derive(Debug)]
struct Pair {
    inner: Waker,
    telling: Waker,
}

impl Wakers {
    /// Whether it gave none yet.
    pub(super) const fn is_unused(&self) -> bool {
        self.last.is_none()
    }

    /// A waker that says that `task` is woken and then wakes `inner`.
    #[inline]
    pub(super) fn telling(&mut self, task: TaskRef, inner: &Waker) -> &Waker {
        let fitting = self.last.take().filter(|last| last.inner.will_wake(inner));
        &self.last.insert(fitting.unwrap_or_else(|| Pair::new(task, inner))).telling
    }
}

impl Pair {
    #[cold]
    fn new(task: TaskRef, inner: &Waker) -> Self {
        let telling = Telling { task, inner: inner.clone() };
        Self { inner: inner.clone(), telling: Waker::from(Arc::new(telling)) }
    }
}

struct Telling {
    task: TaskRef,
    inner: Waker,
}

impl Wake for Telling {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.task.woken();
        self.inner.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::TaskProbe;
    use crate::tokio::tests::spawn_here;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counting() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (Arc::clone(&count), Waker::from(count))
    }

    #[test]
    fn a_task_keeps_its_waker_as_long_as_it_is_polled_with_the_same() {
        let probe = TaskProbe::spawned(&spawn_here());
        let (count, inner) = counting();
        let mut wakers = Wakers::default();
        let first = wakers.telling(probe.task(), &inner).clone();
        assert!(wakers.telling(probe.task(), &inner.clone()).will_wake(&first));
        first.wake_by_ref();
        first.wake();
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_future_that_moves_to_another_task_wakes_that_one() {
        let probe = TaskProbe::spawned(&spawn_here());
        let ((count_before, before), (count_after, after)) = (counting(), counting());
        let mut wakers = Wakers::default();
        wakers.telling(probe.task(), &before);
        wakers.telling(probe.task(), &after).wake_by_ref();
        let counts = [&count_before, &count_after].map(|count| count.0.load(Ordering::Relaxed));
        assert_eq!(counts, [0, 1]);
    }

    #[test]
    fn a_waker_may_outlive_its_task() {
        let (count, inner) = counting();
        let mut wakers = Wakers::default();
        let waker = {
            let probe = TaskProbe::spawned(&spawn_here());
            wakers.telling(probe.task(), &inner).clone()
        };
        drop(wakers);
        waker.wake();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }
}
