//! Warnings are diagnoses: what is wrong, in a sentence, and what shows it.

mod held_worker;
mod listen_overflow;
mod lost_events;
mod pool_exhausted;
mod ready_task;
mod retransmit_storm;
mod starved_thread;
mod steal;
mod task_leak;

use hz_trace::model::window::Window;
use serde::Serialize;

/// What a check looks at.
#[derive(Debug)]
pub struct Recent<'a> {
    /// The window.
    pub window: &'a Window,
    /// Live tasks by group and window, the oldest first, with the windows' ends in nanoseconds.
    pub groups: Vec<(u64, &'a [(String, u64)])>,
    /// Segments sent again a second, by window, the oldest first.
    pub retransmits: Vec<f64>,
}

impl<'a> Recent<'a> {
    /// A window, and nothing before it.
    #[must_use]
    pub const fn of(window: &'a Window) -> Self {
        Self { window, groups: Vec::new(), retransmits: Vec::new() }
    }
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// The warning; `docs/warnings/NAME.md` describes it.
    pub warning: &'static str,
    /// How bad it is: time lost or things lost, to be compared with the same warning only.
    pub weight: u64,
    /// What is wrong, in a sentence.
    pub sentence: String,
    /// What shows it.
    pub evidence: Vec<String>,
}

/// One kind of warning.
pub trait Warning: Sync {
    /// Its name.
    fn name(&self) -> &'static str;
    /// What it warns of, a phrase.
    fn about(&self) -> &'static str;
    /// What is found.
    fn check(&self, recent: &Recent<'_>) -> Vec<Finding>;
}

/// Every warning, the most telling first.
pub static WARNINGS: &[&dyn Warning] = &[
    &held_worker::HeldWorker,
    &ready_task::ReadyTask,
    &starved_thread::StarvedThread,
    &listen_overflow::ListenOverflow,
    &retransmit_storm::RetransmitStorm,
    &pool_exhausted::PoolExhausted,
    &task_leak::TaskLeak,
    &steal::Steal,
    &lost_events::LostEvents,
];

/// Findings of one kind that are shown.
const EACH_MAX: usize = 3;

/// Everything that is found, in the order of [`WARNINGS`].
#[must_use]
pub fn findings(recent: &Recent<'_>) -> Vec<Finding> {
    let found = WARNINGS.iter().flat_map(|warning| {
        let mut found = warning.check(recent);
        found.sort_by_key(|finding| std::cmp::Reverse(finding.weight));
        found.truncate(EACH_MAX);
        found
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hz_trace::model::window::{
        Block, CpuRow, GroupRow, LimitedBy, Listener, LongPoll, LongReady, Network, Own, Socket,
        ThreadRow, Wait,
    };

    const MS: u64 = 1_000_000;

    fn of(window: &Window) -> Vec<Finding> {
        findings(&Recent::of(window))
    }

    fn held() -> Window {
        let poll = LongPoll {
            poll_ns: 63 * MS,
            begin_ns: 100 * MS,
            end_ns: 163 * MS,
            is_over: true,
            task: 81,
            name: "report".into(),
            pid: 7,
            tid: 9,
            worker: 2,
        };
        let ready = LongReady {
            ready_ns: 41 * MS,
            end_ns: 163 * MS,
            task: 4,
            worker: 2,
            blame: Some(poll.clone()),
        };
        Window {
            start_ns: 0,
            end_ns: 1_000 * MS,
            groups: vec![
                GroupRow { name: "report".into(), longest_poll: Some(poll), ..GroupRow::default() },
                GroupRow {
                    name: "checkout".into(),
                    longest_ready: Some(ready),
                    ..GroupRow::default()
                },
            ],
            threads: vec![ThreadRow {
                tid: 9,
                is_target: true,
                name: "hz-worker".into(),
                block: Some(Block {
                    block_ns: 60 * MS,
                    end_ns: 162 * MS,
                    call: "read(/var/lib/x.db)".into(),
                }),
                ..ThreadRow::default()
            }],
            ..Window::default()
        }
    }

    #[test]
    fn a_poll_that_blocks_is_named_with_its_call_and_who_waited() {
        let found = of(&held());
        assert_eq!(
            found[0].sentence,
            "task report#81 held worker-2 for 63.0 ms: blocked 60.0 ms in read(/var/lib/x.db)"
        );
        assert_eq!(
            found[1].sentence,
            "task checkout#4 was ready for 41.0 ms: worker-2 was inside a 63.0 ms poll of report#81"
        );
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn a_sleep_outside_of_the_poll_is_not_blamed() {
        let mut window = held();
        window.threads[0].block.as_mut().unwrap().end_ns = 400 * MS;
        assert!(!of(&window)[0].sentence.contains("blocked"), "{:?}", of(&window)[0]);
        assert_eq!(
            of(&window)[0].sentence,
            "task report#81 held worker-2 for 63.0 ms (at another time it slept 60.0 ms in read(/var/lib/x.db))"
        );
        for (block_ns, call) in [(20 * MS, "read"), (400 * MS, "read"), (60 * MS, "futex")] {
            let block = Block { block_ns, end_ns: 600 * MS, call: call.into() };
            window.threads[0].block = Some(block);
            assert_eq!(of(&window)[0].sentence, "task report#81 held worker-2 for 63.0 ms");
        }
    }

    #[test]
    fn a_thread_that_waits_names_its_culprit() {
        let wait = Wait {
            wait_ns: 15 * MS,
            by: "rustc".into(),
            by_pid: 991,
            by_tid: 991,
            ..Wait::default()
        };
        let window = Window {
            end_ns: 1_000 * MS,
            threads: vec![ThreadRow {
                name: "worker-1".into(),
                tid: 5,
                is_target: true,
                wait: Some(wait),
                woken_ns: 30 * MS,
                ..ThreadRow::default()
            }],
            ..Window::default()
        };
        assert_eq!(
            of(&window)[0].sentence,
            "thread worker-1 (5) waited 15.0 ms for CPU 0 while rustc (pid 991) had it"
        );
    }

    #[test]
    fn steal_and_losses_are_said_and_a_calm_host_is_silent() {
        let cpu = CpuRow { steal_ns: 100 * MS, busy_ns: 500 * MS, ..CpuRow::default() };
        let own = Own { dropped_windows: 2, ..Own::default() };
        let mut window = Window { end_ns: 1_000 * MS, cpus: vec![cpu], own, ..Window::default() };
        let names: Vec<_> = of(&window).iter().map(|finding| finding.warning).collect();
        assert_eq!(names, ["steal", "lost-events"]);
        window.cpus[0].steal_ns = 10 * MS;
        window.own.dropped_windows = 0;
        assert_eq!(of(&window), []);
    }

    #[test]
    fn a_group_that_only_grows_leaks_and_a_crowd_does_not() {
        let look =
            |leak: u64, crowd: u64| vec![("leak".to_owned(), leak), ("crowd".to_owned(), crowd)];
        let looks: Vec<_> =
            (0..40).map(|second| look(100 + second * 10, 50 + second % 7 * 30)).collect();
        let groups =
            (0..).zip(&looks).map(|(at, look)| (at * 1_000 * MS, look.as_slice())).collect();
        let window = Window::default();
        let found = findings(&Recent { groups, ..Recent::of(&window) });
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].sentence.starts_with("tasks leak grow by 10.0 a second: 490 now"),
            "{found:?}"
        );
    }

    fn network(change: impl FnOnce(&mut Network)) -> Window {
        let mut network = Network { length_ns: 1_000 * MS, ..Network::default() };
        change(&mut network);
        Window { network: Some(network), ..Window::default() }
    }

    #[test]
    fn a_full_accept_queue_names_who_does_not_accept() {
        let row = |queue, dropped| Listener {
            local: "0.0.0.0:8080".parse().unwrap(),
            owner: "shop".into(),
            task: "accept#3".into(),
            queue,
            limit: 128,
            dropped,
            ..Listener::default()
        };
        let found = of(&network(|network| {
            network.listeners = vec![row(118, 0), row(128, 7), row(5, 0)];
        }));
        let sentences: Vec<_> = found.iter().map(|finding| finding.sentence.as_str()).collect();
        assert_eq!(
            sentences,
            [
                "listener 0.0.0.0:8080 accept queue 128 of 128, 7 connections were dropped: accept#3 does not accept fast enough",
                "listener 0.0.0.0:8080 accept queue 118 of 128: accept#3 does not accept fast enough",
            ]
        );
    }

    #[test]
    fn a_storm_of_retransmits_names_the_connection_and_a_few_are_none() {
        let with = |retransmitted, sent| {
            network(|network| {
                (network.counts.retransmitted, network.counts.sent) = (retransmitted, sent);
                network.sockets = vec![Socket {
                    peer: "10.0.0.7:5432".parse().unwrap(),
                    owner: "shop".into(),
                    pid: 7,
                    retransmits: retransmitted,
                    ..Socket::default()
                }];
            })
        };
        assert_eq!(
            of(&with(40, 960))[0].sentence,
            "40 segments a second are sent again, 4 % of all: most to 10.0.0.7:5432 by shop 7 (40)"
        );
        assert_eq!(of(&with(40, 9_000)), []);
        assert_eq!(of(&with(9, 20)), []);
    }

    #[test]
    fn a_connection_that_only_times_out_is_named() {
        let found = of(&network(|network| {
            network.sockets = vec![Socket {
                peer: "10.0.0.7:5432".parse().unwrap(),
                task: "checkout#4".into(),
                backoff: 4,
                send_queue: 61_000,
                limited: LimitedBy::Loss,
                ..Socket::default()
            }];
        }));
        assert_eq!(
            found[0].sentence,
            "checkout#4 gets nothing through to 10.0.0.7:5432: 4 timeouts in a row, 61.0 kB wait"
        );
    }

    #[test]
    fn every_warning_has_its_page() {
        for warning in WARNINGS {
            let page =
                format!("{}/../docs/warnings/{}.md", env!("CARGO_MANIFEST_DIR"), warning.name());
            let text =
                std::fs::read_to_string(&page).unwrap_or_else(|_| panic!("{page} is missing"));
            assert!(text.contains("## What helps"), "{page}");
        }
    }
}
