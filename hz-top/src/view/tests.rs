//! Every panel at usual and at absurd sizes.

use crate::{App, Colours, Msg, Panel, Theme, save};
use hz_trace::model::window::{
    CpuRow, GroupRow, Histogram, LongPoll, ThreadRow, ThreadState, Wait, Window,
};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

fn window() -> Window {
    let mut waits = Histogram::default();
    (0..400).for_each(|each| waits.add(each * 5_000));
    let wait = Wait {
        wait_ns: 15_600_000,
        by: "rustc".into(),
        by_pid: 991,
        by_tid: 991,
        ..Wait::default()
    };
    let thread = |tid: u32, name: &str| ThreadRow {
        tid,
        pid: 4_711,
        name: name.into(),
        process: "hz-runtime".into(),
        is_target: true,
        state: ThreadState::Running,
        run_ns: u64::from(tid) * 1_000_000,
        woken_ns: 4_000_000,
        place_ns: vec![30_000_000, 5_000_000],
        wait: (tid == 81).then(|| wait.clone()),
        ..ThreadRow::default()
    };
    let poll = LongPoll {
        poll_ns: 15_700_000,
        task: 81,
        name: "report".into(),
        worker: 1,
        is_over: true,
        ..LongPoll::default()
    };
    let group = |name: &str, alive| GroupRow {
        pid: 4_711,
        name: name.into(),
        spawned_at: "src/a.rs:7".into(),
        alive,
        polls: alive * 200,
        waits_for: "read".into(),
        ..GroupRow::default()
    };
    Window {
        end_ns: 1_000_000_000,
        end_realtime_ns: 45_607_000_000_000,
        origin: "bpf".into(),
        cpus: (0..2).map(|cpu| CpuRow { cpu, busy_ns: 780_000_000, ..CpuRow::default() }).collect(),
        waits,
        threads: vec![thread(80, "worker-0"), thread(81, "worker-1")],
        threads_alive: 7,
        groups: vec![
            group("kv.get", 1_120),
            GroupRow { longest_poll: Some(poll), ..group("report", 1) },
        ],
        tasks_alive: 1_121,
        ..Window::default()
    }
}

fn app() -> App {
    let mut app = App::new("host · pid 4711", Theme::new(Colours::None));
    app.update(Msg::Window(Box::new(window())));
    app
}

fn press(app: &mut App, code: KeyCode) {
    app.update(Msg::Key(KeyEvent::new(code, KeyModifiers::NONE)));
}

#[test]
fn every_panel_looks_as_it_did() {
    for panel in Panel::ALL {
        for (width, height) in [(80, 24), (200, 50)] {
            let mut app = app();
            app.show(panel);
            let name = format!("{}_{width}x{height}", panel.name());
            insta::assert_snapshot!(name, save::text(&save::buffer(&app, width, height)));
        }
    }
}

#[test]
fn no_size_and_no_key_panics() {
    let keys = [
        '1', '2', '3', '4', '5', '6', '7', '8', '9', '?', 'j', 'k', 'l', 'h', 'i', ' ', '[', ']',
        '{', '}', '/',
    ];
    for (width, height) in [(0, 0), (1, 1), (2, 30), (500, 3), (80, 24)] {
        for mut app in [App::new("", Theme::new(Colours::True)), app()] {
            for key in keys {
                press(&mut app, KeyCode::Char(key));
                let _ = save::svg(&save::buffer(&app, width, height));
            }
            for code in [
                KeyCode::Esc,
                KeyCode::Char('2'),
                KeyCode::Enter,
                KeyCode::Enter,
                KeyCode::Esc,
                KeyCode::Char('3'),
                KeyCode::Enter,
            ] {
                press(&mut app, code);
                let _ = save::buffer(&app, width, height);
            }
        }
    }
}

#[test]
fn a_filter_is_a_regular_expression_and_a_wrong_one_is_said() {
    let mut app = app();
    app.show(Panel::Threads);
    press(&mut app, KeyCode::Char('/'));
    "er-1$".chars().for_each(|each| press(&mut app, KeyCode::Char(each)));
    press(&mut app, KeyCode::Enter);
    assert_eq!(app.threads.order.len(), 1);
    app.set_filter("(".into());
    assert!(app.notice.contains("no regular expression"), "{}", app.notice);
}

#[test]
fn a_pause_keeps_its_moment_and_going_on_is_now() {
    let mut app = app();
    press(&mut app, KeyCode::Char(' '));
    let later = Window { end_ns: 2_000_000_000, ..window() };
    app.update(Msg::Window(Box::new(later)));
    assert_eq!((app.window.end_ns, app.back), (1_000_000_000, 1));
    press(&mut app, KeyCode::Char(' '));
    assert_eq!((app.window.end_ns, app.back), (2_000_000_000, 0));
    press(&mut app, KeyCode::Char('['));
    assert_eq!(app.window.end_ns, 1_000_000_000);
}
