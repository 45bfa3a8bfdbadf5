//! Panels and details that are lines of text.

use super::boxed;
use crate::app::{App, Drill};
use hz_trace::text;
use ratatui::{
    Frame,
    layout::Rect,
    text::Line,
    widgets::{Paragraph, Wrap},
};

fn show(app: &App, frame: &mut Frame<'_>, area: Rect, title: &str, lines: Vec<String>) {
    let lines: Vec<Line<'_>> = lines.into_iter().map(Line::from).collect();
    let page = Paragraph::new(lines).wrap(Wrap { trim: false }).block(boxed(app, title));
    frame.render_widget(page, area);
}

pub(super) fn queues(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let window = &app.window;
    let waiting = window.threads.iter().filter(|row| row.state.is_waiting()).count();
    let mut lines = vec![format!("run queues          {waiting} threads wait for a CPU now")];
    for runtime in &window.runtimes {
        let all = |depth: &[u16; 4]| depth.iter().map(|each| u64::from(*each)).sum::<u64>();
        lines.push(format!(
            "{} {}  shared queue {}",
            runtime.name,
            runtime.pid,
            all(&runtime.injector)
        ));
        lines.extend(runtime.workers.iter().map(|worker| {
            let [critical, high, normal, background] = worker.depth;
            format!("  worker-{}  critical {critical}  high {high}  normal {normal}  background {background}", worker.worker)
        }));
    }
    lines.push("accept, send, qdisc: not collected: hz-top does not read sockets yet".to_owned());
    show(app, frame, area, "Queues", lines);
}

pub(super) fn memory(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let window = &app.window;
    let mut sites: Vec<_> = window.sites.iter().collect();
    sites.sort_by_key(|site| std::cmp::Reverse(site.bytes.max(site.live_bytes)));
    let mut lines: Vec<String> = window
        .pools
        .iter()
        .map(|pool| {
            let (page, used) = (text::bytes(pool.page_bytes), text::bytes(pool.used_bytes));
            format!("pool of {page} pages: {used} taken, {} tasks wait", pool.waiting)
        })
        .collect();
    lines.extend(sites.iter().map(|site| {
        let (bytes, live) = (text::bytes(site.bytes), text::bytes(site.live_bytes));
        format!("{bytes} allocated, {live} live (estimates): pid {} {}", site.pid, site.place)
    }));
    if lines.is_empty() {
        lines.push(
            "not collected: no runtime of the target has sampled allocations or a pool here"
                .to_owned(),
        );
    }
    show(app, frame, area, "Memory", lines);
}

pub(super) fn drill(app: &App, drill: &Drill, frame: &mut Frame<'_>, area: Rect) {
    match drill {
        Drill::Thread(tid) => thread(app, *tid, frame, area),
        Drill::Task(pid, task) => self::task(app, *pid, *task, frame, area),
        Drill::Group(..) => {}
    }
}

fn thread(app: &App, tid: u32, frame: &mut Frame<'_>, area: Rect) {
    let Some(row) = app.window.thread(tid) else {
        return show(
            app,
            frame,
            area,
            "Thread",
            vec![format!("thread {tid} did nothing in this window")],
        );
    };
    let mut lines = vec![
        format!(
            "{} of {} (pid {}), {} on CPU {}",
            row.name,
            row.process,
            row.pid,
            row.state.word(),
            row.cpu
        ),
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
    ];
    if let Some(wait) = &row.wait {
        lines.push(format!(
            "longest wait   {} for CPU {} while {} (pid {}) had it",
            text::duration(wait.wait_ns),
            wait.cpu,
            wait.by,
            wait.by_pid
        ));
    }
    if let Some(block) = &row.block {
        lines.push(format!("longest sleep  {} in {}", text::duration(block.block_ns), block.call));
    }
    show(app, frame, area, &format!("Thread {tid}"), lines);
}

fn task(app: &App, pid: u32, task: u64, frame: &mut Frame<'_>, area: Rect) {
    let row = app.window.tasks.iter().find(|row| (row.pid, row.task) == (pid, task));
    let Some(row) = row else {
        return show(app, frame, area, "Task", vec![format!("task {task} has ended")]);
    };
    let worker =
        row.worker.map_or_else(|| "no worker yet".to_owned(), |worker| format!("worker-{worker}"));
    let lines = vec![
        format!(
            "{}#{task} of pid {pid}, {} for {} on {worker}",
            row.name,
            row.state,
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
    ];
    show(app, frame, area, &format!("Task {task}"), lines);
}
