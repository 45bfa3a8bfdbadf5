//! Who tells of a wrapped task: the wrapper or, where Tokio's hooks have told already, they.

use super::kinds;
#[cfg(tokio_unstable)]
use super::tasks;
use crate::probe::{Spawn, TaskProbe, TaskRef};
use std::task::Poll;

#[derive(Debug)]
pub(super) struct Teller {
    /// If the wrapper tells.
    probe: Option<TaskProbe>,
    /// Until the first poll, if the task may go to a runtime with hooks.
    #[cfg(tokio_unstable)]
    unspawned: Option<Box<Unspawned>>,
}

impl Teller {
    /// The wrapper tells, from here on.
    pub(super) fn wrapper(spawn: &Spawn<'_>) -> Self {
        kinds::offer_wrapped();
        let probe = TaskProbe::spawned(spawn);
        probe.task().woken();
        Self {
            probe: Some(probe),
            #[cfg(tokio_unstable)]
            unspawned: None,
        }
    }

    /// The wrapper tells, unless it turns out that the hooks do.
    pub(super) fn new(spawn: &Spawn<'_>) -> Self {
        #[cfg(tokio_unstable)]
        if tasks::are_hooked() {
            kinds::offer_wrapped();
            return Self { probe: None, unspawned: Some(Box::new(Unspawned::new(spawn))) };
        }
        Self::wrapper(spawn)
    }

    /// Called within a poll, before anything else.
    #[inline]
    pub(super) fn decide(&mut self) {
        #[cfg(tokio_unstable)]
        if let Some(unspawned) = self.unspawned.take()
            && tasks::current().is_none()
        {
            *self = Self::wrapper(&unspawned.spawn());
        }
    }

    /// Says where the future is.
    pub(super) fn future_at(&self, address: usize) {
        if let Some(probe) = &self.probe {
            probe.future_at(address);
        }
    }

    /// The task that is being polled.
    #[inline]
    pub(super) fn task(&self) -> Option<TaskRef> {
        match &self.probe {
            Some(probe) => Some(probe.task()),
            #[cfg(tokio_unstable)]
            None => tasks::current(),
            #[cfg(not(tokio_unstable))]
            None => None,
        }
    }

    /// Polls the task's future.
    #[inline]
    pub(super) fn poll<T>(&self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
        match &self.probe {
            Some(probe) => probe.poll(poll),
            None => poll(),
        }
    }
}

/// What is to be told of a task's spawn.
#[cfg(tokio_unstable)]
#[derive(Debug)]
struct Unspawned {
    name: Option<Box<str>>,
    spawn: Spawn<'static>,
}

#[cfg(tokio_unstable)]
impl Unspawned {
    fn new(spawn: &Spawn<'_>) -> Self {
        Self { name: spawn.name.map(Into::into), spawn: Spawn { name: None, ..*spawn } }
    }

    fn spawn(&self) -> Spawn<'_> {
        Spawn { name: self.name.as_deref(), ..self.spawn }
    }
}
