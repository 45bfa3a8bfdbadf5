//! A test's binary, started again as the program that is traced. It has a test named `task`, which
//! does nothing unless [`is_let_go`].

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// What makes a started copy do its task, and begins what it says.
const TASK: &str = "HZ_TEST_TASK";

/// A started copy of this binary.
pub(crate) struct OwnCopy {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// In a started copy: waits until it is to do its task. Elsewhere false.
pub(crate) fn is_let_go() -> bool {
    if std::env::var_os(TASK).is_none() {
        return false;
    }
    say("ready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    true
}

/// In a started copy: tells who has started it.
pub(crate) fn say(word: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "\n{TASK} {word}").unwrap();
    out.flush().unwrap();
}

impl OwnCopy {
    pub(crate) fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "task", "--ignored", "--nocapture"])
            .env(TASK, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut copy = Self { child, input, output: BufReader::new(output) };
        assert_eq!(copy.hear(), "ready");
        copy
    }

    fn hear(&mut self) -> String {
        let mut lines = self.output.by_ref().lines().map(Result::unwrap);
        lines.find_map(|line| Some(line.strip_prefix(TASK)?.trim().to_owned())).unwrap()
    }

    /// Lets it do its task; its process id and what it said at the end.
    pub(crate) fn run(mut self) -> (u32, String) {
        writeln!(self.input).unwrap();
        let said = self.hear();
        assert!(self.child.wait().unwrap().success());
        (self.child.id(), said)
    }
}
