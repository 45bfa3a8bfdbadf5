//! What a recording is about, found on this host, and watched until it ends.

use crate::{
    error::TargetError,
    host::{Cgroup, Namespace},
    recording::Target,
    source::{HeldCommand, RunningCommand, Scope},
};
use procfs::process::Process;
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, PidfdFlags, pidfd_open},
    time::Timespec,
};
use std::{os::fd::OwnedFd, path::PathBuf, process::ExitStatus, time::Instant};

/// What to record, as a user says it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TargetSpec {
    /// Every thread.
    WholeSystem,
    /// Processes.
    Pids(Vec<u32>),
    /// A command to start.
    Command(Vec<String>),
    /// A control group and all below it.
    Cgroup(PathBuf),
}

/// A target that was found.
pub(crate) struct Attached {
    pub(crate) target: Target,
    pub(crate) scope: Scope,
    pub(crate) held: Option<HeldCommand>,
    pub(crate) watched: Vec<(u32, OwnedFd)>,
}

impl TargetSpec {
    /// Finds the target; forks a command, which waits.
    pub(crate) fn resolve(&self, with_children: bool) -> Result<Attached, TargetError> {
        let none = |target, scope| Attached { target, scope, held: None, watched: Vec::new() };
        match self {
            Self::WholeSystem => Ok(none(Target::WholeSystem, Scope::All)),
            Self::Cgroup(path) => {
                Namespace::Cgroup.require_initial()?;
                let Cgroup { path, id, level } = Cgroup::find(path)?;
                let target = Target::Cgroup { path: path.display().to_string(), id };
                Ok(none(target, Scope::Cgroup { id, level }))
            }
            Self::Pids(pids) => {
                Namespace::Pid.require_initial()?;
                let watched = pids.iter().map(|pid| Ok((*pid, open_process(*pid)?)));
                let watched = watched.collect::<Result<_, TargetError>>()?;
                let target = Target::Processes { pids: pids.clone(), with_children };
                Ok(Attached { watched, ..none(target, Scope::Processes(pids.clone())) })
            }
            Self::Command(command) => {
                Namespace::Pid.require_initial()?;
                let held = HeldCommand::fork(command)?;
                let pid = held.pid;
                let target = Target::Command { command: command.clone(), pid, with_children };
                Ok(Attached { held: Some(held), ..none(target, Scope::Processes(vec![pid])) })
            }
        }
    }
}

/// A handle on a process, which a later process of the same id is not mistaken for.
fn open_process(pid: u32) -> Result<OwnedFd, TargetError> {
    let no_such = || TargetError::NoSuchPid { pid };
    let id = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(no_such)?;
    let status = Process::new(id.as_raw_nonzero().get()).and_then(|process| process.status());
    let status = status.map_err(|_| no_such())?;
    let process = u32::try_from(status.tgid).unwrap_or(pid);
    if process != pid {
        return Err(TargetError::IsAThread { tid: pid, pid: process });
    }
    pidfd_open(id, PidfdFlags::empty()).map_err(|_| no_such())
}

/// Starts the target where it is a command, and knows when it has ended.
#[derive(Debug)]
pub(crate) struct Watch {
    held: Option<HeldCommand>,
    command: Option<RunningCommand>,
    processes: Vec<(u32, OwnedFd)>,
    began: Instant,
}

impl Watch {
    pub(crate) fn new(held: Option<HeldCommand>, processes: Vec<(u32, OwnedFd)>) -> Self {
        Self { held, command: None, processes, began: Instant::now() }
    }

    /// Lets a held command go.
    pub(crate) fn release(&mut self) -> Result<(), TargetError> {
        self.began = Instant::now();
        self.command = self.held.take().map(HeldCommand::release).transpose()?;
        Ok(())
    }

    /// Why there is nothing left to record, if so.
    pub(crate) fn ended(&mut self) -> Option<String> {
        if let Some(status) = self.command_status() {
            return Some(format!("command ended with {status}"));
        }
        if self.processes.is_empty() || !self.processes.iter().all(|(_, fd)| has_exited(fd)) {
            return None;
        }
        let pids: Vec<String> = self.processes.iter().map(|(pid, _)| pid.to_string()).collect();
        let after = self.began.elapsed().as_secs_f64();
        Some(format!("pid {} ended after {after:.1} s", pids.join(", ")))
    }

    /// How the command ended, if there is one and it has.
    pub(crate) fn command_status(&mut self) -> Option<ExitStatus> {
        self.command.as_mut()?.try_wait()
    }
}

/// A pidfd becomes readable when its process ends.
fn has_exited(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&at_once)).is_ok_and(|ready| ready > 0)
}
