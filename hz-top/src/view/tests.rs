//! Every panel at usual and at absurd sizes.

use crate::{App, Colours, Msg, Panel, Theme, save};
use hz_trace::model::window::{
    CpuRow, FlameGraph, FlameNode, GroupRow, Histogram, LimitedBy, Listener, LongPoll, Network,
    PoolRow, Ports, ProtocolCounts, Qdisc, Reasons, Site, Socket, TaskRow, TcpState, ThreadRow,
    ThreadState, Wait, Window,
};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

fn network() -> Network {
    let socket = |cookie: u64, peer: &str, task: &str| Socket {
        cookie,
        local: "10.0.0.1:40112".parse().unwrap(),
        peer: peer.parse().unwrap(),
        state: TcpState(1),
        pid: 4_711,
        owner: "hz-runtime".into(),
        task: task.into(),
        cwnd: 10,
        srtt_us: 412,
        send_limit: 87_040,
        ..Socket::default()
    };
    let stuck = Socket {
        unsent: 61_000,
        send_queue: 75_000,
        retransmits: 4,
        retransmits_total: 19,
        reasons: Reasons { timeout: 3, probe: 1, ..Reasons::default() },
        limited: LimitedBy::Cwnd,
        ..socket(1, "10.0.0.7:5432", "checkout#4")
    };
    let listener = Listener {
        local: "0.0.0.0:8080".parse().unwrap(),
        owner: "hz-runtime".into(),
        pid: 4_711,
        task: "accept#2".into(),
        queue: 118,
        limit: 128,
        ..Listener::default()
    };
    let qdisc = |interface: &str, kind: &str, limit| Qdisc {
        interface: interface.into(),
        kind: kind.into(),
        limit,
        wait_ns: Some(0),
        ..Qdisc::default()
    };
    Network {
        time_ns: 1_000_000_000,
        length_ns: 1_000_000_000,
        is_fresh: true,
        sockets: vec![
            stuck,
            socket(2, "10.0.0.9:6379", "kv.get#88"),
            socket(3, "[2001:db8::7]:443", ""),
        ],
        sockets_total: 3,
        listeners: vec![listener],
        counts: ProtocolCounts { sent: 9_000, retransmitted: 4, ..ProtocolCounts::default() },
        ports: Ports { time_wait: 212, used: 1_904, available: 28_232, most_used: 1_500 },
        qdiscs: vec![qdisc("eth0", "fq_codel", Some(10_240)), qdisc("lo", "noqueue", None)],
        has_reasons: true,
        ..Network::default()
    }
}

fn flame() -> FlameGraph {
    let node = |depth, name: &str, is_kernel, total_ms: u64| FlameNode {
        depth,
        name: name.into(),
        is_kernel,
        total_ns: total_ms * 1_000_000,
    };
    let nodes = vec![
        node(0, "checkout", false, 600),
        node(1, "shop::checkout::{closure}", false, 600),
        node(2, "serde_json::to_vec", false, 350),
        node(2, "tcp_sendmsg", true, 200),
        node(0, "kv.get", false, 400),
        node(1, "shop::get", false, 390),
    ];
    FlameGraph {
        kind: "on-cpu".into(),
        length_ns: 10_000_000_000,
        total_ns: 1_000_000_000,
        samples: 100,
        one_in: 1,
        without_stack_ns: 0,
        nodes,
    }
}

fn pool() -> PoolRow {
    PoolRow {
        pid: 4_711,
        page_bytes: 2 << 20,
        taken: 400,
        returned: 390,
        used_bytes: 1_100_000_000,
        waiting: 0,
    }
}

pub(crate) fn window() -> Window {
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
        network: Some(network()),
        flames: vec![flame()],
        sites: vec![Site {
            pid: 4_711,
            place: "alloc::vec::with_capacity ← shop::checkout".into(),
            bytes: 4_200_000,
            live_bytes: 17_000_000,
            samples: 8,
        }],
        pools: vec![pool()],
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
                KeyCode::Char('5'),
                KeyCode::Enter,
                KeyCode::Char('8'),
                KeyCode::Down,
                KeyCode::Down,
                KeyCode::Right,
                KeyCode::Enter,
                KeyCode::Char('o'),
                KeyCode::Esc,
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

#[test]
fn probes_are_wanted_while_they_are_looked_at_and_no_longer() {
    use hz_trace::live::Wants;
    let mut app = app();
    assert_eq!(app.wants(), Wants::default());
    app.show(Panel::Sockets);
    assert!(app.wants().has_reasons && !app.wants().has_oncpu);
    app.show(Panel::Flame);
    assert!(app.wants().has_oncpu && !app.wants().has_offcpu && !app.wants().has_reasons);
    press(&mut app, KeyCode::Char('o'));
    assert!(!app.wants().has_oncpu && app.wants().has_offcpu);
    app.show(Panel::Threads);
    press(&mut app, KeyCode::Enter);
    let wants = app.wants();
    assert!(wants.has_reasons && wants.has_oncpu && wants.has_offcpu);
    app.show(Panel::Hz);
    assert_eq!(app.wants(), Wants::default());
}

#[test]
fn a_task_and_a_thread_show_their_sockets_and_their_heaviest_stack() {
    let mut window = window();
    window.tasks = vec![TaskRow {
        pid: 4_711,
        task: 4,
        name: "checkout".into(),
        spawned_at: "src/a.rs:7".into(),
        state: "idle".into(),
        cookie: 1,
        ..TaskRow::default()
    }];
    window.groups[0].name = "checkout".into();
    let mut app = App::new("host", Theme::new(Colours::None));
    app.update(Msg::Window(Box::new(window)));
    app.show(Panel::Tasks);
    app.set_filter("checkout".into());
    press(&mut app, KeyCode::Enter);
    press(&mut app, KeyCode::Enter);
    let text = save::text(&save::buffer(&app, 120, 40));
    for part in [
        "checkout#4",
        "10.0.0.7:5432",
        "3 RTO 1 TLP",
        "Heaviest stack on-cpu",
        "serde_json::to_vec",
    ] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
}

#[test]
fn the_mouse_chooses_a_frame_and_a_panel() {
    use ratatui::crossterm::event::{MouseButton, MouseEvent, MouseEventKind};
    let mut app = app();
    app.update(Msg::Resize(100, 30));
    let click = |app: &mut App, column, row| {
        let kind = MouseEventKind::Down(MouseButton::Left);
        let event = MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE };
        app.update(Msg::Mouse(event));
    };
    let last_line = save::text(&save::buffer(&app, 100, 30)).lines().last().unwrap().to_owned();
    click(&mut app, u16::try_from(last_line.find("flame").unwrap()).unwrap(), 29);
    assert_eq!(app.panel, Panel::Flame);
    // Two warnings, the heading and the frame are above the first line of the graph.
    let warnings = u16::try_from(app.findings.len().min(4)).unwrap();
    click(&mut app, 80, warnings + 2);
    let graph = flame();
    assert_eq!(app.flame.cursor(&graph), Some(4), "{:?}", app.flame);
    click(&mut app, 80, warnings + 2);
    assert_eq!(app.flame.tiles(&graph, 90, 3)[0].width, 90);
}
