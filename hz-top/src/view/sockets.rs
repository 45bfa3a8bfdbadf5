//! Sockets: what they hold, whose they are, and what limits them; listeners; ports.

use super::boxed;
use crate::{
    app::App,
    table::{Cell, Column, Show, alarm, lines},
};
use hz_trace::{
    model::window::{Listener, Network, Socket},
    text,
};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    text::Line,
    widgets::Paragraph,
};

/// The column that sockets are sorted by at first: what makes them remarkable.
pub(crate) const SORT: usize = 8;

/// Connected sockets.
pub(crate) const COLUMNS: &[Column<Socket>] = &[
    Column::new("PEER", 21, 0, Show::Text(|row| row.peer.to_string())),
    Column::new("OWNER", 14, 0, Show::Text(owner)),
    Column::new("STATE", 11, 6, Show::Text(|row| row.state.name().to_owned())),
    Column::new("RECV-Q", 7, 3, Show::Bytes(|row| row.receive_queue)),
    Column::new("SEND-Q", 7, 2, Show::Bytes(|row| row.send_queue)),
    Column::new("UNSENT", 7, 1, Show::Bytes(|row| row.unsent)),
    Column::new("CWND", 5, 5, Show::Count(|row| row.cwnd.into())),
    Column::new("SRTT", 7, 4, Show::Duration(|row| u64::from(row.srtt_us) * 1_000)),
    Column::new("RETRANS", 10, 0, Show::Own(retransmits, |row| row.weight() as f64)),
    Column::new("WHY", 12, 7, Show::Text(|row| row.reasons.words())),
    Column::new("LOCAL", 21, 8, Show::Text(|row| row.local.to_string())),
    Column::new("LIMITED", 7, 0, Show::Text(|row| row.limited.word().to_owned())),
];

/// Sockets that listen.
pub(crate) const LISTENERS: &[Column<Listener>] = &[
    Column::new("LISTENS AT", 21, 0, Show::Text(|row| row.local.to_string())),
    Column::new("QUEUE", 9, 0, Show::Own(depth, |row| row.queue as f64)),
    Column::new("LIMIT", 6, 1, Show::Count(|row| row.limit)),
    Column::new("DROPPED", 9, 0, Show::Own(dropped, |row| row.dropped as f64)),
    Column::new("OWNER", 14, 0, Show::Text(|row| user(&row.task, &row.owner, row.pid, 0))),
];

/// The column that listeners are sorted by: their queues.
pub(crate) const LISTENERS_SORT: usize = 1;

fn owner(row: &Socket) -> String {
    user(&row.task, &row.owner, row.pid, row.tid)
}

/// The task, or the process and its thread.
pub(crate) fn user(task: &str, process: &str, pid: u32, tid: u32) -> String {
    match (task, process, pid, tid) {
        ("", "", 0, _) => "nobody".to_owned(),
        ("", _, _, tid) if tid != 0 && tid != pid => format!("{process} {pid}/{tid}"),
        ("", ..) => format!("{process} {pid}"),
        (task, ..) => task.to_owned(),
    }
}

fn retransmits(row: &Socket) -> Cell {
    let text = match (row.retransmits, row.retransmits_total) {
        (0, 0) => "0".to_owned(),
        (0, total) => format!("0 of {}", text::count(total)),
        (now, _) => text::count(now),
    };
    alarm(text, row.retransmits > 0)
}

fn depth(row: &Listener) -> Cell {
    // From here on connections will be turned away soon.
    alarm(text::count(row.queue), row.queue > 0 && row.queue * 4 >= row.limit * 3)
}

fn dropped(row: &Listener) -> Cell {
    alarm(text::count(row.dropped), row.dropped > 0)
}

pub(super) fn draw(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let Some(network) = &app.window.network else {
        let why = app.window.why_not("sockets").unwrap_or("nothing here tells of sockets");
        let text = Paragraph::new(format!("not collected: {why}"))
            .wrap(ratatui::widgets::Wrap { trim: true })
            .block(boxed(app, "Sockets"));
        return frame.render_widget(text, area);
    };
    let listeners = u16::try_from(network.listeners.len()).unwrap_or(u16::MAX);
    let [upper, lower, foot] = Layout::vertical([
        Constraint::Min(5),
        Constraint::Length(listeners.saturating_add(3).min(area.height / 3)),
        Constraint::Length(if area.width < 110 { 4 } else { 3 }),
    ])
    .areas(area);
    table(app, network, frame, upper);
    let title = format!("Listeners · {}", text::count(network.listeners.len() as u64));
    let rows = lines(&network.listeners, LISTENERS, &app.listeners, super::inner(lower), app.theme);
    frame.render_widget(Paragraph::new(rows).block(boxed(app, title)), lower);
    let counts = Paragraph::new(counts(app, network));
    frame.render_widget(counts.wrap(ratatui::widgets::Wrap { trim: false }), foot);
}

/// The table of connected sockets, which the overview has too.
pub(super) fn table(app: &App, network: &Network, frame: &mut Frame<'_>, area: Rect) {
    let shown = text::count(app.sockets.order.len() as u64);
    let total = text::count(network.sockets_total);
    let age_ns = app.window.end_ns.saturating_sub(network.time_ns);
    let stale = if network.is_fresh {
        String::new()
    } else {
        format!(" · {} ago", text::duration(age_ns))
    };
    let title = format!("Sockets · {shown} of {total}{stale}{}", super::filter(app));
    let rows = lines(&network.sockets, COLUMNS, &app.sockets, super::inner(area), app.theme);
    frame.render_widget(Paragraph::new(rows).block(boxed(app, title)), area);
}

/// What the host counts of its network.
fn counts(app: &App, network: &Network) -> Vec<Line<'static>> {
    let counts = &network.counts;
    let rate = |count: u64| format!("{:.0}/s", network.per_second(count));
    let ports = &network.ports;
    let mut lines = vec![
        Line::from(format!(
            " TIME_WAIT {} · ports {} of {}, {} to one peer · opened {} accepted {} failed {}",
            text::count(ports.time_wait),
            text::count(ports.used),
            text::count(ports.available),
            text::count(ports.most_used),
            rate(counts.opened),
            rate(counts.accepted),
            rate(counts.failed),
        )),
        Line::from(format!(
            " sent again {} of {}: timeouts {} fast {} TLP {} SYN {} · listen overflows {} drops {}",
            rate(counts.retransmitted),
            rate(counts.sent),
            text::count(counts.timeouts),
            text::count(counts.fast_retransmits),
            text::count(counts.loss_probes),
            text::count(counts.syn_retransmits),
            text::count(counts.listen_overflows),
            text::count(counts.listen_drops),
        )),
    ];
    if let Some(why) = app.window.why_not("reasons of retransmits") {
        let text = format!(" reasons by socket: not collected: {why}");
        lines.push(Line::styled(text, app.theme.dim()));
    }
    lines
}
