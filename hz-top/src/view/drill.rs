//! One task or thread, looked at closely.

use super::{boxed, sockets};
use crate::app::{App, Drill};
use hz_trace::{
    model::window::{FlameNode, Socket, TaskRow, ThreadRow},
    text,
};
use ratatui::{
    Frame,
    layout::Rect,
    text::Line,
    widgets::{Paragraph, Wrap},
};

pub(super) fn draw(app: &App, drill: &Drill, frame: &mut Frame<'_>, area: Rect) {
    let (title, lines) = match drill {
        Drill::Thread(tid) => (format!("Thread {tid}"), thread(app, *tid)),
        Drill::Task(pid, task) => (format!("Task {task}"), self::task(app, *pid, *task)),
        Drill::Socket(cookie) => ("Socket".to_owned(), socket(app, *cookie)),
        Drill::Group(..) => return,
    };
    let page = Paragraph::new(lines.into_iter().map(Line::from).collect::<Vec<_>>());
    frame.render_widget(page.wrap(Wrap { trim: false }).block(boxed(app, title)), area);
}

fn thread(app: &App, tid: u32) -> Vec<String> {
    let Some(row) = app.window.thread(tid) else {
        return vec![format!("thread {tid} did nothing in this window")];
    };
    let mut lines = about(row);
    if let Some(wait) = &row.wait {
        let waited = text::duration(wait.wait_ns);
        let (by, pid, cpu) = (&wait.by, wait.by_pid, wait.cpu);
        lines.push(format!("longest wait   {waited} for CPU {cpu} while {by} (pid {pid}) had it"));
    }
    if let Some(block) = &row.block {
        lines.push(format!("longest sleep  {} in {}", text::duration(block.block_ns), block.call));
    }
    let of_thread = |socket: &&Socket| socket.tid == tid || socket.pid == row.pid;
    lines.extend(sockets_of(app, of_thread));
    lines.extend(stacks(app, &row.name));
    lines
}

fn about(row: &ThreadRow) -> Vec<String> {
    let (name, process, pid, cpu) = (&row.name, &row.process, row.pid, row.cpu);
    vec![
        format!("{name} of {process} (pid {pid}), {} on CPU {cpu}", row.state.word()),
        format!("on CPU      {}", text::duration(row.run_ns)),
        format!(
            "runnable    {} after wake-ups, {} after its CPU was taken",
            text::duration(row.woken_ns),
            text::duration(row.preempted_ns)
        ),
        format!(
            "asleep      {} interruptibly, {} not",
            text::duration(row.sleep_ns),
            text::duration(row.block_ns)
        ),
        format!(
            "switches    {} of its own, {} taken; {} moves",
            row.yields, row.preemptions, row.migrations
        ),
    ]
}

fn task(app: &App, pid: u32, task: u64) -> Vec<String> {
    let row = app.window.tasks.iter().find(|row| (row.pid, row.task) == (pid, task));
    let Some(row) = row else { return vec![format!("task {task} has ended")] };
    let mut lines = about_task(row);
    let own = format!("{}#{task}", row.name);
    let of_task =
        |socket: &&Socket| socket.task == own || row.cookie != 0 && socket.cookie == row.cookie;
    lines.extend(sockets_of(app, of_task));
    lines.extend(stacks(app, &row.name));
    lines
}

fn about_task(row: &TaskRow) -> Vec<String> {
    let worker =
        row.worker.map_or_else(|| "no worker yet".to_owned(), |worker| format!("worker-{worker}"));
    let (name, task, pid, state) = (&row.name, row.task, row.pid, &row.state);
    vec![
        format!(
            "{name}#{task} of pid {pid}, {state} for {} on {worker}",
            text::duration(row.state_ns)
        ),
        format!("spawned at   {}, {} ago", row.spawned_at, text::duration(row.age_ns)),
        format!("waits for    {}", row.waits_for),
        format!(
            "polls        {} here, {} in all; {} in them, the longest {}",
            text::count(row.polls),
            text::count(row.polls_total),
            text::duration(row.busy_ns),
            text::duration(row.longest_poll_ns)
        ),
        format!(
            "ready        {}, the longest {}",
            text::duration(row.ready_ns),
            text::duration(row.longest_ready_ns)
        ),
    ]
}

fn socket(app: &App, cookie: u64) -> Vec<String> {
    let found = app.window.network.as_ref().and_then(|network| network.socket(cookie));
    let Some(row) = found else { return vec!["the socket is closed".to_owned()] };
    let mut lines = vec![
        format!("{} → {}, {}", row.local, row.peer, row.state.name()),
        format!("used by      {}", sockets::user(&row.task, &row.owner, row.pid, row.tid)),
        format!("process      {} (pid {})", row.owner, row.pid),
    ];
    lines.extend(about_socket(row));
    lines
}

fn about_socket(row: &Socket) -> Vec<String> {
    let why =
        if row.reasons.total() == 0 { String::new() } else { format!(": {}", row.reasons.words()) };
    vec![
        format!("to be read   {}", text::bytes(row.receive_queue)),
        format!(
            "to be sent   {} not acknowledged, {} of it never sent; limited by {}",
            text::bytes(row.send_queue),
            text::bytes(row.unsent),
            row.limited.word()
        ),
        format!(
            "path         cwnd {}, round trip {}",
            row.cwnd,
            text::duration(u64::from(row.srtt_us) * 1_000)
        ),
        format!(
            "sent again   {} here, {} in all{why}; timeout doubled {} times",
            text::count(row.retransmits),
            text::count(row.retransmits_total),
            row.backoff
        ),
        format!(
            "moved        {} sent, {} received",
            text::bytes(row.sent_bytes),
            text::bytes(row.received_bytes)
        ),
    ]
}

/// The sockets of something, the most remarkable first.
fn sockets_of(app: &App, is_of: impl Fn(&&Socket) -> bool) -> Vec<String> {
    const SHOWN: usize = 8;
    let Some(network) = &app.window.network else {
        let why = app.window.why_not("sockets").unwrap_or("nothing here tells of them");
        return vec![String::new(), format!("Sockets: not collected: {why}")];
    };
    let mut rows: Vec<&Socket> = network.sockets.iter().filter(is_of).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.weight()));
    let mut lines = vec![String::new(), format!("Sockets: {}", text::count(rows.len() as u64))];
    lines.extend(rows.iter().take(SHOWN).map(|row| {
        format!(
            "  {:<22} {:<12} recv {:>8}  unsent {:>8}  retrans {:>3} {}  {}",
            row.peer.to_string(),
            row.state.name(),
            text::bytes(row.receive_queue),
            text::bytes(row.unsent),
            row.retransmits,
            row.reasons.words(),
            row.limited.word()
        )
    }));
    lines
}

/// Where the time of a task or thread goes: its heaviest stack on a CPU and off it, leaf last.
fn stacks(app: &App, root: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for graph in &app.window.flames {
        let nodes = graph.below(root);
        let Some(all) = nodes.first() else { continue };
        let took = text::duration(all.total_ns);
        lines.push(String::new());
        let over = text::duration(graph.length_ns);
        lines.push(format!("Heaviest stack {}: {took} in {over}", graph.kind));
        lines.extend(heaviest(nodes).into_iter().skip(1).map(|node| {
            let kernel = if node.is_kernel { " (kernel)" } else { "" };
            format!("  {:>4} {}{kernel}", text::share(node.total_ns, all.total_ns), node.name)
        }));
    }
    if lines.is_empty() {
        let why = app.window.why_not("stacks").unwrap_or("none was seen yet");
        lines = vec![String::new(), format!("Stacks: {why}")];
    }
    lines
}

/// From the root to where most of the time goes.
fn heaviest(nodes: &[FlameNode]) -> Vec<&FlameNode> {
    let mut path: Vec<&FlameNode> = nodes.first().into_iter().collect();
    let mut place = 0;
    while let Some(last) = path.last() {
        let inside = nodes.iter().enumerate().skip(place + 1);
        let inside = inside.take_while(|(_, node)| node.depth > last.depth);
        let children = inside.filter(|(_, node)| node.depth == last.depth + 1);
        let Some((next, node)) = children.max_by_key(|(_, node)| node.total_ns) else { break };
        // Where time is spread out, no further frame says much.
        if node.total_ns * 3 < last.total_ns {
            break;
        }
        place = next;
        path.push(node);
    }
    path
}
