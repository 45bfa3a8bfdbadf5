//! Who did not finish in time.

use super::node::{Member, Node};
use crate::probe::Activity;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

/// Tasks that the message names; the others it counts.
const NAMED: usize = 8;

/// Tasks of a scope that were still there when the time for their clean-up was over.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub struct Unfinished {
    /// The scope's name after those of the scopes above it: `server/connection`.
    pub scope: String,
    /// How long they had.
    pub timeout: Duration,
    /// Who they are, of the scope and of those below it.
    pub tasks: Vec<UnfinishedTask>,
}

/// A task that did not finish in time.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UnfinishedTask {
    /// Its id.
    pub task: u64,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// The scope that it was spawned in, with those above it.
    pub scope: String,
    /// Where it was spawned.
    pub location: &'static Location<'static>,
    /// What it did when the time was over.
    pub activity: Activity,
}

impl Unfinished {
    /// Those in `node` and below it; `None`: there are none.
    pub(super) fn of(node: &Arc<Node>, timeout: Duration) -> Option<Self> {
        let mut tasks = Vec::new();
        node.visit(|node| {
            let scope = node.path();
            tasks.extend(node.members().iter().map(|member| UnfinishedTask::of(member, &scope)));
        });
        (!tasks.is_empty()).then(|| Self { scope: node.path(), timeout, tasks })
    }
}

impl UnfinishedTask {
    fn of(member: &Member, scope: &str) -> Self {
        Self {
            task: member.task.id(),
            name: member.name.as_deref().map(str::to_owned),
            scope: scope.to_owned(),
            location: member.location,
            activity: member.task.activity(),
        }
    }
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scope, timeout, tasks } = self;
        let count = tasks.len();
        let noun = if count == 1 { "task" } else { "tasks" };
        write!(f, "{count} {noun} of scope `{scope}` did not finish within {timeout:?}")?;
        for (place, task) in tasks.iter().take(NAMED).enumerate() {
            write!(f, "{} {task}", if place == 0 { ":" } else { ";" })?;
        }
        match count.saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl fmt::Display for UnfinishedTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "`{name}` ({})", self.task)?,
            None => write!(f, "task {}", self.task)?,
        }
        write!(f, " in `{}`, spawned at {}, {}", self.scope, self.location, self.activity)
    }
}
