//! Everything that waits in a queue, as one table.

use hz_trace::model::window::{Network, Window};

/// Sockets whose send queues are rows of their own.
const SENDERS: usize = 8;

/// What a depth counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Threads,
    Tasks,
    Connections,
    Packets,
    Bytes,
}

/// A queue.
#[derive(Clone, Debug)]
pub(crate) struct QueueRow {
    /// Its kind: `run`, `runtime`, `accept`, `send`, `qdisc`.
    pub(crate) kind: &'static str,
    /// Which one.
    pub(crate) name: String,
    pub(crate) depth: u64,
    pub(crate) limit: Option<u64>,
    pub(crate) unit: Unit,
    /// How long what comes now waits, nanoseconds, as far as that is known.
    pub(crate) wait_ns: Option<u64>,
    /// What was turned away in the window.
    pub(crate) dropped: u64,
    /// Depths of late, the oldest first, the one of now last.
    pub(crate) trend: Vec<u64>,
}

impl QueueRow {
    fn new(kind: &'static str, name: String, depth: u64, unit: Unit) -> Self {
        Self { kind, name, depth, limit: None, unit, wait_ns: None, dropped: 0, trend: Vec::new() }
    }

    /// How full it is, if it has a limit.
    pub(crate) fn share(&self) -> Option<f64> {
        self.limit.filter(|limit| *limit > 0).map(|limit| self.depth as f64 / limit as f64)
    }

    /// Whether it is nearly full, or turns away.
    pub(crate) fn is_alarming(&self) -> bool {
        self.dropped > 0 || self.share().is_some_and(|share| share >= 0.75)
    }

    pub(crate) fn key(&self) -> String {
        format!("{} {}", self.kind, self.name)
    }
}

/// Every queue that the window tells of.
pub(crate) fn queues(window: &Window) -> Vec<QueueRow> {
    let mut rows = run_queues(window);
    rows.extend(runtimes(window));
    if let Some(network) = &window.network {
        rows.extend(of_network(network));
    }
    rows
}

fn run_queues(window: &Window) -> Vec<QueueRow> {
    let rows = window.cpus.iter().map(|cpu| {
        let here = window.threads.iter().filter(|thread| thread.cpu == cpu.cpu);
        let waiting = here.clone().filter(|thread| thread.state.is_waiting()).count() as u64;
        let mut row = QueueRow::new("run", format!("CPU {}", cpu.cpu), waiting, Unit::Threads);
        let longest = here.filter_map(|thread| thread.wait.as_ref()).map(|wait| wait.wait_ns);
        row.wait_ns = Some(longest.max().unwrap_or(0));
        row
    });
    rows.collect()
}

fn runtimes(window: &Window) -> Vec<QueueRow> {
    const PRIORITIES: [&str; 4] = ["critical", "high", "normal", "background"];
    let mut rows = Vec::new();
    for runtime in &window.runtimes {
        let groups = window.groups.iter().filter(|group| group.pid == runtime.pid);
        let longest = groups.filter_map(|group| group.longest_ready.as_ref());
        let longest: Vec<_> = longest.map(|ready| (ready.worker, ready.ready_ns)).collect();
        let shared = ("shared".to_owned(), runtime.injector, None);
        let workers = runtime.workers.iter().map(|worker| {
            let waits = longest.iter().filter(|(number, _)| *number == worker.worker);
            let wait_ns = waits.map(|(_, ready_ns)| *ready_ns).max();
            (format!("worker-{}", worker.worker), worker.depth, Some(wait_ns.unwrap_or(0)))
        });
        for (place, depths, wait_ns) in workers.chain([shared]) {
            for (priority, depth) in PRIORITIES.iter().zip(depths) {
                // The usual priority always, the others where they hold something.
                if depth == 0 && *priority != "normal" {
                    continue;
                }
                let name = format!("{} {} {place} {priority}", runtime.name, runtime.pid);
                let mut row = QueueRow::new("runtime", name, depth.into(), Unit::Tasks);
                row.wait_ns = wait_ns;
                rows.push(row);
            }
        }
    }
    rows
}

fn of_network(network: &Network) -> Vec<QueueRow> {
    let accepts = network.listeners.iter().map(|listener| {
        let name = format!("{} {}", listener.local, listener.owner);
        let mut row = QueueRow::new("accept", name, listener.queue, Unit::Connections);
        row.limit = Some(listener.limit);
        row.dropped = listener.dropped;
        row.wait_ns = (listener.queue == 0).then_some(0);
        row
    });
    let mut senders: Vec<_> =
        network.sockets.iter().filter(|socket| socket.send_queue > 0).collect();
    let whole = senders.iter().map(|socket| socket.send_queue).sum();
    let mut all = QueueRow::new(
        "send",
        format!("all of {} sockets", network.sockets_total),
        whole,
        Unit::Bytes,
    );
    let sent = network.sockets.iter().map(|socket| socket.sent_bytes).sum();
    all.wait_ns = drain_ns(whole, sent, network.length_ns);
    senders.sort_by_key(|socket| std::cmp::Reverse(socket.send_queue));
    let senders = senders.into_iter().take(SENDERS).map(|socket| {
        let name = format!("{} → {}", socket.local, socket.peer);
        let mut row = QueueRow::new("send", name, socket.send_queue, Unit::Bytes);
        row.limit = Some(socket.send_limit).filter(|limit| *limit > 0);
        row.wait_ns = drain_ns(socket.send_queue, socket.sent_bytes, network.length_ns);
        row
    });
    let disciplines = network.qdiscs.iter().map(|qdisc| {
        let name = format!("{} {} {:x}:", qdisc.interface, qdisc.kind, qdisc.handle >> 16);
        let (depth, limit, unit) = match (qdisc.limit, qdisc.limit_bytes) {
            (None, Some(bytes)) => (qdisc.bytes, Some(bytes), Unit::Bytes),
            (limit, _) => (qdisc.packets, limit, Unit::Packets),
        };
        let mut row = QueueRow::new("qdisc", name, depth, unit);
        (row.limit, row.wait_ns, row.dropped) = (limit, qdisc.wait_ns, qdisc.dropped);
        row
    });
    accepts.chain([all]).chain(senders).chain(disciplines).collect()
}

/// How long so many bytes take at the rate at which others went; `None`: none did.
fn drain_ns(bytes: u64, sent: u64, length_ns: u64) -> Option<u64> {
    if bytes == 0 {
        return Some(0);
    }
    let wait = u128::from(bytes) * u128::from(length_ns) / u128::from(sent.max(1));
    (sent > 0).then(|| u64::try_from(wait).unwrap_or(u64::MAX))
}
