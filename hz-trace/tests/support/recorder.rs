//! The command while it records: started, told to end, and what it said.

use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Command, Stdio},
};

/// A recorder that records. It ends with the test.
pub(crate) struct Recorder {
    child: Child,
    errors: BufReader<std::process::ChildStderr>,
    said: String,
}

/// What it left behind.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) output: String,
    pub(crate) errors: String,
}

impl Recorder {
    /// Starts the command and waits until it records.
    pub(crate) fn start(hz_trace: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(hz_trace);
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command starts");
        let mut errors = BufReader::new(child.stderr.take().expect("piped"));
        let mut said = String::new();
        errors.read_line(&mut said).expect("it says something");
        let recorder = Self { child, errors, said };
        assert!(recorder.said.starts_with("hz-trace: recording "), "{}", recorder.said);
        recorder
    }

    /// Ctrl-C, and the end of it.
    pub(crate) fn interrupt(self) -> Said {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("it is there");
        self.wait()
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Said {
        // What it prints is longer than a pipe: both are read, one on a thread of its own.
        let mut output = self.child.stdout.take().expect("piped");
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            output.read_to_string(&mut text).expect("text");
            text
        });
        self.errors.read_to_string(&mut self.said).expect("text");
        let code = self.child.wait().expect("it ends").code();
        let output = reader.join().expect("it reads");
        Said { code, output, errors: std::mem::take(&mut self.said) }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
