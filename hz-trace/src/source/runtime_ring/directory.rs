//! The task directory: what every live task is doing now.

use super::{clock::Clock, layout::Layout, map::Map};
use hz_probes_ebpf::{
    Header, Kind,
    runtime::{TASK_DONE, TASK_IDLE, TASK_READY, TaskEntry},
    runtime_ring::{DirectorySlot, STATE_MASK, woken_in_poll},
};
use std::{
    mem::offset_of,
    sync::atomic::{Ordering, fence},
};

/// Tries to read one slot: its writer changes it in a few nanoseconds, or has died in the middle.
const TRIES: u32 = 64;

/// What the directory says.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Tasks {
    /// Live tasks, in no order.
    pub entries: Vec<TaskEntry>,
    /// Slots that changed each time they were read, or whose writer died in the middle.
    pub unreadable: u64,
}

/// The words of a slot that its sequence guards, and those beside it.
struct Words {
    site: u32,
    task: u64,
    parent: u64,
    spawned: u64,
    future: u64,
    priority: u32,
    name: u32,
    state: u64,
    polls: u64,
    last_poll: u64,
    wait: u64,
    wait_value: u64,
    woken: u64,
}

impl Words {
    /// `TASK_*`.
    fn state(&self) -> u32 {
        let is_woken = self.polls > 0 && self.woken == woken_in_poll(self.state, self.polls);
        match low(self.state & STATE_MASK).min(TASK_DONE) {
            TASK_IDLE if is_woken => TASK_READY,
            state => state,
        }
    }
}

/// Reads every slot; `pid` goes into the entries.
pub(super) fn read(map: &Map, layout: &Layout, clock: &Clock, pid: u32) -> Tasks {
    let mut tasks = Tasks::default();
    let header = Header {
        time_ns: clock.now_ns(),
        kind: Kind::TaskEntry as u16,
        cpu: u16::MAX,
        pid,
        ..Header::default()
    };
    for index in 0..layout.directory.used(map) {
        let Some(at) = layout.directory.at(index) else { break };
        match slot(map, at) {
            Some(words) if words.task != 0 => tasks.entries.push(entry(&words, header, clock)),
            Some(_) => {}
            None => tasks.unreadable += 1,
        }
    }
    tasks
}

fn slot(map: &Map, at: u64) -> Option<Words> {
    for _ in 0..TRIES {
        let before = map.half(at)?.load(Ordering::Acquire);
        if before.is_multiple_of(2) {
            let words = words(map, at);
            let wait = map.load(at + offset_of!(DirectorySlot, wait) as u64);
            fence(Ordering::Acquire);
            // Two words say what it waits for; they change without the sequence.
            if map.load_half(at) == before && wait == words.wait {
                return Some(words);
            }
        }
        std::hint::spin_loop();
    }
    None
}

fn words(map: &Map, at: u64) -> Words {
    let word = |offset: usize| map.load(at + offset as u64);
    let half = |offset: usize| map.load_half(at + offset as u64);
    Words {
        site: half(offset_of!(DirectorySlot, site)),
        task: word(offset_of!(DirectorySlot, task)),
        parent: word(offset_of!(DirectorySlot, parent)),
        spawned: word(offset_of!(DirectorySlot, spawned)),
        future: word(offset_of!(DirectorySlot, future)),
        priority: half(offset_of!(DirectorySlot, priority)),
        name: half(offset_of!(DirectorySlot, name)),
        state: word(offset_of!(DirectorySlot, state)),
        polls: word(offset_of!(DirectorySlot, polls)),
        last_poll: word(offset_of!(DirectorySlot, last_poll)),
        wait: word(offset_of!(DirectorySlot, wait)),
        wait_value: word(offset_of!(DirectorySlot, wait_value)),
        woken: word(offset_of!(DirectorySlot, woken)),
    }
}

const fn low(word: u64) -> u32 {
    (word & 0xffff_ffff) as u32
}

const fn high(word: u64) -> u32 {
    (word >> 32) as u32
}

fn entry(words: &Words, header: Header, clock: &Clock) -> TaskEntry {
    TaskEntry {
        header: Header { arg: words.site, ..header },
        task: words.task,
        parent: words.parent,
        spawned_ns: clock.ns(words.spawned),
        last_poll_ns: if words.last_poll == 0 { 0 } else { clock.ns(words.last_poll) },
        polls: words.polls,
        future: words.future,
        wait_value: words.wait_value,
        waits_for: low(words.wait),
        wait_arg: high(words.wait),
        state: words.state(),
        priority: words.priority,
        worker: high(words.state),
        name: words.name,
    }
}
