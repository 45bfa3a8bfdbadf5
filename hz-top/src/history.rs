//! The last ten minutes, packed.

use crate::queues::queues;
use hz_trace::model::window::Window;
use std::collections::VecDeque;

/// Windows that are kept: ten minutes of one a second.
const WINDOWS: usize = 600;

/// Rows of each table that are kept.
const ROWS: usize = 200;

/// Points of figures that charts show, beside the windows themselves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Point {
    pub(crate) end_ns: u64,
    /// Waits by decade: up to 10 µs, 100 µs, 1 ms, 10 ms, 100 ms and longer.
    pub(crate) waits: [u64; 6],
    /// Live tasks by group.
    pub(crate) groups: Vec<(String, u64)>,
    /// Depths of queues.
    pub(crate) queues: Vec<(String, u64)>,
    /// Segments sent again, a second; `None`: not looked at.
    pub(crate) retransmits: Option<f64>,
}

/// A bounded history.
#[derive(Debug, Default)]
pub(crate) struct History {
    packed: VecDeque<Vec<u8>>,
    points: VecDeque<Point>,
}

impl History {
    pub(crate) fn add(&mut self, window: &Window) {
        let kept = window.top(ROWS);
        if self.packed.len() >= WINDOWS {
            self.packed.pop_front();
            self.points.pop_front();
        }
        self.packed.push_back(pack(&kept));
        self.points.push_back(point(window));
    }

    pub(crate) fn len(&self) -> usize {
        self.packed.len()
    }

    /// The window `back` before the last.
    pub(crate) fn back(&self, back: usize) -> Option<Window> {
        let place = self.packed.len().checked_sub(back + 1)?;
        unpack(self.packed.get(place)?)
    }

    /// Points up to the one `back` before the last.
    pub(crate) fn points(&self, back: usize) -> impl DoubleEndedIterator<Item = &Point> {
        self.points.iter().take(self.points.len().saturating_sub(back))
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.packed.iter().map(Vec::capacity).sum()
    }
}

fn point(window: &Window) -> Point {
    const FLOORS_NS: [u64; 7] = [0, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, u64::MAX];
    let waits = std::array::from_fn(|decade| {
        window.waits.count_between(FLOORS_NS[decade], FLOORS_NS[decade + 1])
    });
    let groups = window.groups.iter().take(ROWS);
    let groups = groups.map(|group| (group.name.clone(), group.alive)).collect();
    let queues = queues(window).into_iter().take(ROWS).map(|row| (row.key(), row.depth)).collect();
    let retransmits =
        window.network.as_ref().map(|network| network.per_second(network.counts.retransmitted));
    Point { end_ns: window.end_ns, waits, groups, queues, retransmits }
}

/// JSON, compressed: a fifth of a megabyte becomes some kilobytes.
fn pack(window: &Window) -> Vec<u8> {
    let text = serde_json::to_vec(window).unwrap_or_default();
    hz_trace::recording::compress(&text)
}

fn unpack(packed: &[u8]) -> Option<Window> {
    serde_json::from_slice(&hz_trace::recording::decompress(packed)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hz_trace::model::window::ThreadRow;

    fn window(second: u64) -> Window {
        let thread = |tid: u32| ThreadRow {
            tid,
            pid: 1,
            name: format!("worker-{tid}"),
            run_ns: u64::from(tid) * 1_237 + second * 7,
            is_target: true,
            place_ns: vec![u64::from(tid), second],
            ..ThreadRow::default()
        };
        let threads = (0..2_000).map(thread).collect();
        Window { end_ns: second, threads, ..Window::default() }
    }

    #[test]
    fn ten_minutes_are_kept_and_stay_small() {
        let mut history = History::default();
        (0..700).for_each(|second| history.add(&window(second)));
        assert_eq!(history.len(), WINDOWS);
        assert!(history.bytes() < 12_000_000, "{} bytes", history.bytes());
        let back = history.back(99).unwrap();
        assert_eq!((back.end_ns, back.threads.len()), (600, ROWS));
        assert!(back.threads.iter().any(|thread| thread.tid == 1_999), "the busiest is kept");
        assert!(history.back(WINDOWS).is_none());
        assert_eq!(history.points(99).count(), WINDOWS - 99);
    }
}
