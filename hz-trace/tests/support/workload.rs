//! The program with async tasks whose number and polls are known: `examples/runtime_workload.rs`.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// A running workload. It ends with the test.
pub(crate) struct Workload {
    child: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// The example's binary: in `HZ_WORKLOAD_DIR`, or where cargo puts it beside this test.
fn binary() -> PathBuf {
    let beside = || {
        let test = std::env::current_exe().expect("this test has a path");
        test.parent().and_then(|deps| deps.parent()).expect("target/PROFILE/deps").join("examples")
    };
    let directory = std::env::var_os("HZ_WORKLOAD_DIR").map_or_else(beside, PathBuf::from);
    let path = directory.join("runtime_workload");
    assert!(path.exists(), "{} is missing: cargo build --examples", path.display());
    path
}

impl Workload {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// With variables in its environment.
    pub(crate) fn start_with(variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(binary())
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the workload starts");
        let commands = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        let mut workload = Self { child, commands, answers };
        assert_eq!(workload.answer(), workload.pid().to_string());
        workload
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has a command done; its answer.
    pub(crate) fn ask(&mut self, command: &str) -> String {
        let commands = self.commands.as_mut().expect("not yet ended");
        writeln!(commands, "{command}").expect("the workload listens");
        self.answer()
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the workload answers");
        line.trim_end().to_owned()
    }

    /// Lets it end by itself.
    pub(crate) fn end(mut self) {
        self.commands = None;
        assert!(self.child.wait().expect("it ends").success());
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
