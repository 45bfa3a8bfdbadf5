//! What a task does right now, for the process it lives in.

use super::Operation;
use super::cause::Wait;
use super::words::TaskWords;
use hz_probes_ebpf::runtime::{
    NO_WORKER, TASK_DONE, TASK_IDLE, TASK_POLLING, TASK_READY, WAIT_ACCEPT, WAIT_BLOCKING,
    WAIT_BUFFER, WAIT_CANCEL, WAIT_CHANNEL, WAIT_CONNECT, WAIT_JOIN, WAIT_LOCK, WAIT_READ,
    WAIT_SCOPE, WAIT_TIMER, WAIT_WRITE,
};
use std::fmt;

/// What a task does, as the task directory has it. Read while it goes on, so a moment old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activity {
    /// The directory does not know: it has no room for the task, or there is none.
    Unknown,
    /// It waits, for this if it said so.
    Idle(Option<Wait>),
    /// It was woken and waits to be polled.
    Ready,
    /// It is being polled, by this worker if by one.
    Polling(Option<u32>),
    /// It is over.
    Done,
}

impl Activity {
    /// What `task` does, if `words` are its.
    pub(super) fn of(words: &TaskWords, task: u64) -> Self {
        let Some((state, worker, wait)) = words.look(task) else { return Self::Done };
        match state {
            TASK_IDLE => Self::Idle(Wait::from_words(wait)),
            TASK_READY => Self::Ready,
            TASK_POLLING => Self::Polling((worker != NO_WORKER).then_some(worker)),
            TASK_DONE => Self::Done,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("of which nothing more is known"),
            Self::Idle(None) => f.write_str("waits"),
            Self::Idle(Some(wait)) => write!(f, "waits for {wait}"),
            Self::Ready => f.write_str("waits to be polled"),
            Self::Polling(None) => f.write_str("is being polled"),
            Self::Polling(Some(worker)) => write!(f, "is being polled by worker {worker}"),
            Self::Done => f.write_str("has just ended"),
        }
    }
}

impl Wait {
    /// What [`Wait::words`] was.
    fn from_words((what, arg, value): (u32, u32, u64)) -> Option<Self> {
        let file = |operation| Self::Io { operation, fd: arg.cast_signed(), cookie: value };
        let address = usize::try_from(value).unwrap_or(usize::MAX);
        Some(match what {
            WAIT_READ => file(Operation::Read),
            WAIT_WRITE => file(Operation::Write),
            WAIT_ACCEPT => file(Operation::Accept),
            WAIT_CONNECT => file(Operation::Connect),
            WAIT_TIMER => Self::Timer(value),
            WAIT_CHANNEL => Self::Channel(address),
            WAIT_LOCK => Self::Lock(address),
            WAIT_JOIN => Self::Join(value),
            WAIT_BLOCKING => Self::Blocking(value),
            WAIT_BUFFER => Self::Buffer,
            WAIT_CANCEL => Self::Cancel,
            WAIT_SCOPE => Self::Scope,
            _ => return None,
        })
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Io { operation, fd, .. } => {
                let what = match operation {
                    Operation::Read => "bytes from",
                    Operation::Write => "room in",
                    Operation::Accept => "a connection to",
                    Operation::Connect => "the connection of",
                };
                write!(f, "{what} fd {fd}")
            }
            Self::Timer(_) => f.write_str("a timer"),
            Self::Channel(address) => write!(f, "channel {address:#x}"),
            Self::Lock(address) => write!(f, "lock {address:#x}"),
            Self::Join(task) => write!(f, "the end of task {task}"),
            Self::Blocking(call) => write!(f, "blocking call {call}"),
            Self::Buffer => f.write_str("a buffer"),
            Self::Cancel => f.write_str("a cancellation"),
            Self::Scope => f.write_str("the end of a scope"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wait_comes_back_from_the_directory_and_has_words() {
        let file = |operation| Wait::Io { operation, fd: 7, cookie: 99 };
        let waits = [
            (file(Operation::Read), "bytes from fd 7"),
            (file(Operation::Write), "room in fd 7"),
            (file(Operation::Accept), "a connection to fd 7"),
            (file(Operation::Connect), "the connection of fd 7"),
            (Wait::Timer(5), "a timer"),
            (Wait::Channel(0x10), "channel 0x10"),
            (Wait::Lock(0x20), "lock 0x20"),
            (Wait::Join(3), "the end of task 3"),
            (Wait::Blocking(4), "blocking call 4"),
            (Wait::Buffer, "a buffer"),
            (Wait::Cancel, "a cancellation"),
            (Wait::Scope, "the end of a scope"),
        ];
        for (wait, words) in waits {
            assert_eq!(Wait::from_words(wait.words()), Some(wait));
            assert_eq!(wait.to_string(), words);
        }
        assert_eq!(Wait::from_words((0, 0, 0)), None);
    }
}
