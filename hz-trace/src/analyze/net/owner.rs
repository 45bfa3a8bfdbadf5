//! Whose a socket is, and whose a byte: processes, threads and tasks by their names.

use crate::model::{Model, TaskIndex, TaskState, ThreadIndex, net::Socket};
use hz_probes_ebpf::net::{
    NET_OWNER_ACCEPTS, NET_OWNER_CONNECTS, NET_OWNER_HELD, NET_OWNER_LISTENS,
    NET_OWNER_OF_LISTENER, NET_OWNER_RECEIVES, NET_OWNER_SENDS, NET_RETRANSMIT_SYN,
    NET_THREAD_QUEUED_IT, NetOwner, NetRetransmit,
};
use rustc_hash::FxHashMap;
use serde::Serialize;

/// Who it belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Owner {
    /// The process; 0: nobody is known.
    pub pid: u32,
    /// Its name.
    pub process: String,
    /// The thread.
    pub tid: u32,
    /// Its name.
    pub thread: String,
    /// The async task that ran on the thread then, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// That task's number in its process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<u64>,
    /// How that is known: `queued it`, `sends`, `receives`, `connects`, `listens`, `accepts`, `had it open`,
    /// `its listener's`.
    pub how: &'static str,
}

/// Finds owners in one model.
#[derive(Debug)]
pub struct Owners<'a> {
    model: &'a Model,
    by_tid: FxHashMap<u32, Vec<ThreadIndex>>,
    /// Polls of every thread, by their start.
    polls: FxHashMap<ThreadIndex, Vec<(u64, u64, TaskIndex)>>,
}

impl<'a> Owners<'a> {
    /// Prepares for questions.
    #[must_use]
    pub fn of(model: &'a Model) -> Self {
        let mut by_tid: FxHashMap<u32, Vec<ThreadIndex>> = FxHashMap::default();
        for (index, thread) in (0..).zip(&model.threads) {
            by_tid.entry(thread.tid).or_default().push(ThreadIndex(index));
        }
        let mut polls: FxHashMap<ThreadIndex, Vec<(u64, u64, TaskIndex)>> = FxHashMap::default();
        for (index, task) in (0..).zip(&model.tasks) {
            for tile in task.tiles().filter(|tile| tile.span.state == TaskState::Polling) {
                if let Some(thread) = tile.span.thread() {
                    let poll = (tile.span.start_ns, tile.end_ns, TaskIndex(index));
                    polls.entry(thread).or_default().push(poll);
                }
            }
        }
        polls.values_mut().for_each(|polls| polls.sort_unstable_by_key(|poll| poll.0));
        Self { model, by_tid, polls }
    }

    /// The thread that had the number `tid` at `time_ns`, or the last that had it before.
    #[must_use]
    pub fn thread(&self, tid: u32, time_ns: u64) -> Option<ThreadIndex> {
        let threads = self.by_tid.get(&tid)?;
        let before =
            threads.iter().rev().find(|index| self.model.thread(**index).start_ns <= time_ns);
        before.or(threads.first()).copied()
    }

    /// The task that `thread` polled at `time_ns`.
    #[must_use]
    pub fn task(&self, thread: ThreadIndex, time_ns: u64) -> Option<TaskIndex> {
        let polls = self.polls.get(&thread)?;
        let behind = polls.partition_point(|poll| poll.0 <= time_ns);
        let (_, end_ns, task) = *polls.get(behind.checked_sub(1)?)?;
        (time_ns <= end_ns).then_some(task)
    }

    fn name(&self, tid: u32, time_ns: u64) -> String {
        let thread = self.thread(tid, time_ns);
        thread.map_or_else(|| format!("pid {tid}"), |thread| self.model.thread(thread).name())
    }

    fn owner(&self, (pid, tid): (u32, u32), time_ns: u64, how: &'static str) -> Owner {
        if pid == 0 {
            return Owner::default();
        }
        let thread = self.thread(tid, time_ns);
        let task = thread.and_then(|thread| self.task(thread, time_ns));
        Owner {
            pid,
            process: self.name(pid, time_ns),
            tid,
            thread: self.name(tid, time_ns),
            task: task.map(|task| self.model.task_name(task)),
            task_id: task.map(|task| self.model.task(task).id),
            how,
        }
    }

    /// A process, as looks know owners.
    #[must_use]
    pub fn of_process(&self, pid: u32, time_ns: u64) -> Owner {
        self.owner((pid, pid), time_ns, how_known(NET_OWNER_HELD))
    }

    /// Who a record of a socket's owners names.
    #[must_use]
    pub fn of_record(&self, record: &NetOwner) -> Owner {
        let ids = (record.header.pid, record.header.tid);
        self.owner(ids, record.header.time_ns, how_known(record.header.arg))
    }

    /// Who queued what was sent again, or else used the socket last.
    #[must_use]
    pub fn of_retransmit(&self, record: &NetRetransmit) -> Owner {
        let ids = (record.header.pid, record.header.tid);
        let how = match (record.owner, record.reason) {
            (NET_THREAD_QUEUED_IT, NET_RETRANSMIT_SYN) => "connects",
            (NET_THREAD_QUEUED_IT, _) => "queued it",
            _ => "used it last",
        };
        self.owner(ids, record.owner_ns, how)
    }

    /// Who used a socket last before `time_ns`.
    #[must_use]
    pub fn of_socket(&self, socket: &Socket, time_ns: u64) -> Owner {
        socket.owner_at(time_ns).map_or_else(Owner::default, |owner| self.of_record(owner))
    }
}

const fn how_known(source: u32) -> &'static str {
    match source {
        NET_OWNER_HELD => "had it open",
        NET_OWNER_CONNECTS => "connects",
        NET_OWNER_LISTENS => "listens",
        NET_OWNER_OF_LISTENER => "its listener's",
        NET_OWNER_SENDS => "sends",
        NET_OWNER_RECEIVES => "receives",
        NET_OWNER_ACCEPTS => "accepts",
        _ => "",
    }
}
