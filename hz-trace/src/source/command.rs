//! A command that waits before its first instruction until everything is attached.

use crate::error::TargetError;
use rustix::{
    fs::{Access, access},
    pipe::pipe_with,
    process::{Pid, Signal, getpid, kill_process, set_parent_process_death_signal},
};
use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    process::{Child, Command, ExitStatus},
    thread::JoinHandle,
};

/// A process that exists and has not yet become its program.
#[derive(Debug)]
pub struct HeldCommand {
    /// Its process id.
    pub pid: u32,
    name: String,
    go: File,
    spawner: Option<JoinHandle<io::Result<Child>>>,
}

impl HeldCommand {
    /// Forks; the child waits for [`HeldCommand::release`] before it calls exec.
    ///
    /// # Errors
    ///
    /// [`TargetError::Command`].
    pub fn fork(command: &[String]) -> Result<Self, TargetError> {
        let (name, arguments) = command.split_first().ok_or_else(|| TargetError::Command {
            command: "nothing".to_owned(),
            source: io::Error::new(io::ErrorKind::InvalidInput, "no command given"),
        })?;
        let failed = |source| TargetError::Command { command: name.clone(), source };
        check_program(name).map_err(failed)?;
        let pipe =
            || pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|error| failed(error.into()));
        let (told_pid, tell_pid) = pipe()?;
        let (wait, go) = pipe()?;
        let mut process = Command::new(name);
        process.args(arguments);
        hold(&mut process, tell_pid, wait);
        // `spawn` returns only after exec, and exec waits for us.
        let spawner = std::thread::spawn(move || process.spawn());
        let mut pid = [0; 4];
        match File::from(told_pid).read_exact(&mut pid) {
            Ok(()) => {}
            Err(_) => return Err(failed(spawn_error(spawner))),
        }
        let pid = u32::from_ne_bytes(pid);
        Ok(Self { pid, name: name.clone(), go: File::from(go), spawner: Some(spawner) })
    }

    /// Lets the process become its program.
    ///
    /// # Errors
    ///
    /// [`TargetError::Command`] if there is no such program or it cannot be run.
    pub fn release(mut self) -> Result<RunningCommand, TargetError> {
        let name = self.name.clone();
        let failed = |source| TargetError::Command { command: name.clone(), source };
        self.go.write_all(&[1]).map_err(failed)?;
        let spawned = self.spawner.take().map(JoinHandle::join);
        let Some(Ok(child)) = spawned else {
            return Err(failed(io::Error::other("what should have started it has panicked")));
        };
        child.map(|child| RunningCommand { child, status: None }).map_err(failed)
    }
}

/// Looks for the program as `execvp` will, so that a slip of the pen is known before everything is
/// attached.
fn check_program(name: &str) -> io::Result<()> {
    if name.contains('/') {
        return Ok(access(name, Access::EXEC_OK)?);
    }
    let Some(path) = std::env::var_os("PATH") else { return Ok(()) };
    let is_there = std::env::split_paths(&path)
        .any(|directory| access(directory.join(name), Access::EXEC_OK).is_ok());
    if is_there { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
}

/// A command that is never released never runs.
impl Drop for HeldCommand {
    fn drop(&mut self) {
        let Some(spawner) = self.spawner.take() else { return };
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            // If it is gone already, that is as well.
            let _ = kill_process(pid, Signal::KILL);
        }
        if let Ok(Ok(mut child)) = spawner.join() {
            let _ = child.wait();
        }
    }
}

/// Makes the child of `process` say its id and wait.
fn hold(process: &mut Command, tell_pid: OwnedFd, wait: OwnedFd) {
    let closure = move || {
        // If the recorder dies meanwhile, the command must neither wait for ever nor run.
        set_parent_process_death_signal(Some(Signal::KILL))?;
        rustix::io::write(&tell_pid, &getpid().as_raw_nonzero().get().to_ne_bytes())?;
        rustix::io::retry_on_intr(|| rustix::io::read(&wait, &mut [0]))?;
        Ok(set_parent_process_death_signal(None)?)
    };
    // SAFETY: between fork and exec the closure only makes system calls (prctl, getpid, write,
    // read) on descriptors it owns; it takes no lock and allocates nothing.
    unsafe { process.pre_exec(closure) };
}

fn spawn_error(spawner: JoinHandle<io::Result<Child>>) -> io::Error {
    match spawner.join() {
        Ok(Err(error)) => error,
        _ => io::Error::other("it ended before it began"),
    }
}

/// A command that runs. It is not killed when hz ends.
#[derive(Debug)]
pub struct RunningCommand {
    child: Child,
    status: Option<ExitStatus>,
}

impl RunningCommand {
    /// Its exit status, once it has ended.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
        }
        self.status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_is_never_released_never_runs() {
        let directory = tempfile::tempdir().unwrap();
        let trace = directory.path().join("ran");
        let command = ["touch", trace.to_str().unwrap()].map(str::to_owned);
        let held = HeldCommand::fork(&command).unwrap();
        let pid = held.pid;
        drop(held);
        assert!(!trace.exists());
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "{pid} is still there");
    }

    #[test]
    fn a_command_that_is_released_runs() {
        let command = ["sh", "-c", "exit 3"].map(str::to_owned);
        let mut running = HeldCommand::fork(&command).unwrap().release().unwrap();
        let start = std::time::Instant::now();
        let status = loop {
            if let Some(status) = running.try_wait() {
                break status;
            }
            assert!(start.elapsed().as_secs() < 20, "it never ended");
            std::thread::yield_now();
        };
        assert_eq!(status.code(), Some(3));
    }
}
