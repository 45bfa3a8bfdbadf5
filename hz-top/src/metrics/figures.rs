//! Figures since the start, summed from windows.

use super::families::{FAMILIES, Family, Unit};
use hz_trace::model::window::{Network, Window};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit as WireUnit,
};
use std::{collections::BTreeMap, fmt};

/// Label sets of a family that are told apart; more are summed as [`OTHERS`].
const SERIES_MAX: usize = 200;

/// The value of every label of the series that sums what found no room.
const OTHERS: &str = "(others)";

/// Upper bounds of the buckets of waits, nanoseconds.
const BOUNDS_NS: [u64; 12] = [
    1_000,
    4_000,
    16_000,
    64_000,
    256_000,
    1_000_000,
    4_000_000,
    16_000_000,
    64_000_000,
    256_000_000,
    1_000_000_000,
    4_000_000_000,
];

type Labels = Vec<(&'static str, String)>;

/// Figures since the start, summed from windows.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    /// Series by family and labels; times are nanoseconds.
    series: BTreeMap<&'static str, BTreeMap<Labels, u64>>,
    /// Waits for a CPU by bucket, the last without bound.
    waits: [u64; BOUNDS_NS.len() + 1],
    waits_ns: u64,
}

impl Figures {
    /// Adds a window: counters grow by it, gauges are what it says.
    pub(super) fn add(&mut self, window: &Window) {
        let is_gauge = |name: &str| FAMILIES.iter().any(|it| it.name == name && !it.is_counter);
        self.series.retain(|name, _| !is_gauge(name));
        self.add_cpus(window);
        self.add_threads(window);
        self.add_tasks(window);
        if let Some(network) = &window.network {
            self.add_network(network);
        }
        self.add_memory(window);
        self.count("lost_records", &[], window.lost());
        self.count("own_cpu", &[], window.own.cpu_ns);
        self.count("own_bpf", &[], window.own.bpf_ns);
        self.count("own_memory", &[], window.own.memory_bytes);
    }

    /// Adds to a series.
    fn count(&mut self, family: &'static str, labels: &[(&'static str, &str)], value: u64) {
        let of_family = self.series.entry(family).or_default();
        let mut labels: Labels =
            labels.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        if of_family.len() >= SERIES_MAX && !of_family.contains_key(&labels) {
            labels.iter_mut().for_each(|(_, value)| OTHERS.clone_into(value));
        }
        let sum = of_family.entry(labels).or_default();
        *sum = sum.saturating_add(value);
    }

    /// Raises a series to a value.
    fn raise(&mut self, family: &'static str, labels: &[(&'static str, &str)], value: u64) {
        self.count(family, labels, 0);
        let key: Labels = labels.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        if let Some(worst) = self.series.entry(family).or_default().get_mut(&key) {
            *worst = value.max(*worst);
        }
    }

    fn add_cpus(&mut self, window: &Window) {
        for row in &window.cpus {
            let cpu = row.cpu.to_string();
            let labels = [("cpu", cpu.as_str())];
            self.count("cpu_busy", &labels, row.busy_ns);
            self.count("cpu_idle", &labels, row.idle_ns);
            self.count("cpu_steal", &labels, row.steal_ns);
            self.count("context_switches", &labels, row.switches);
        }
        for (floor_ns, count) in window.waits.buckets() {
            // A bucket counts where it ends.
            let bucket = BOUNDS_NS.partition_point(|bound_ns| *bound_ns <= floor_ns);
            self.waits[bucket] += count;
        }
    }

    fn add_threads(&mut self, window: &Window) {
        self.count("threads", &[], window.threads_alive);
        for row in window.threads.iter().filter(|row| row.is_target) {
            let labels = [("process", row.process.as_str())];
            self.count("process_cpu", &labels, row.run_ns);
            self.count("process_run_queue_wait", &labels, row.wait_ns());
            self.count("process_blocked", &labels, row.block_ns);
            self.count("process_migrations", &labels, row.migrations);
            self.waits_ns = self.waits_ns.saturating_add(row.wait_ns());
        }
    }

    fn add_tasks(&mut self, window: &Window) {
        for row in &window.groups {
            let labels = [
                ("process", row.process.as_str()),
                ("task", row.name.as_str()),
                ("spawned_at", row.spawned_at.as_str()),
            ];
            self.count("tasks", &labels, row.alive);
            self.count("task_spawns", &labels, row.spawned);
            self.count("task_polls", &labels, row.polls);
            self.count("task_busy", &labels, row.busy_ns);
            self.count("task_ready", &labels, row.ready_ns);
            let poll_ns = row.longest_poll.as_ref().map_or(0, |poll| poll.poll_ns);
            let ready_ns = row.longest_ready.as_ref().map_or(0, |ready| ready.ready_ns);
            self.raise("task_longest_poll", &labels, poll_ns);
            self.raise("task_longest_ready", &labels, ready_ns);
        }
        for runtime in &window.runtimes {
            for worker in &runtime.workers {
                let number = worker.worker.to_string();
                let labels = [("process", runtime.name.as_str()), ("worker", number.as_str())];
                let depth = worker.depth.iter().map(|depth| u64::from(*depth)).sum();
                self.count("runtime_queue_depth", &labels, depth);
                self.count("runtime_steals", &labels, worker.steals);
            }
        }
    }

    fn add_network(&mut self, network: &Network) {
        self.count("sockets", &[], network.sockets_total);
        let unsent = network.sockets.iter().map(|socket| socket.unsent).sum();
        let unread = network.sockets.iter().map(|socket| socket.receive_queue).sum();
        self.count("sockets_unsent", &[], unsent);
        self.count("sockets_unread", &[], unread);
        self.count("time_wait_sockets", &[], network.ports.time_wait);
        self.count("ephemeral_ports_used", &[], network.ports.used);
        self.count("ephemeral_ports", &[], network.ports.available);
        for row in &network.listeners {
            let address = row.local.to_string();
            let labels = [("address", address.as_str()), ("process", row.owner.as_str())];
            self.count("accept_queue_depth", &labels, row.queue);
            self.count("accept_queue_limit", &labels, row.limit);
        }
        for row in &network.qdiscs {
            let handle = format!("{:x}:", row.handle >> 16);
            let labels = [
                ("interface", row.interface.as_str()),
                ("kind", row.kind.as_str()),
                ("handle", handle.as_str()),
            ];
            self.count("qdisc_backlog", &labels, row.bytes);
            if network.is_fresh {
                self.count("qdisc_drops", &labels, row.dropped);
            }
        }
        if network.is_fresh {
            let counts = &network.counts;
            self.count("tcp_segments_sent", &[], counts.sent);
            self.count("tcp_segments_retransmitted", &[], counts.retransmitted);
            self.count("tcp_timeouts", &[], counts.timeouts);
            self.count("tcp_connections_opened", &[], counts.opened);
            self.count("tcp_connections_accepted", &[], counts.accepted);
            self.count("listen_overflows", &[], counts.listen_overflows);
            self.count("listen_drops", &[], counts.listen_drops);
        }
    }

    fn add_memory(&mut self, window: &Window) {
        self.count("allocated", &[], window.sites.iter().map(|site| site.bytes).sum());
        for pool in &window.pools {
            let bytes = pool.page_bytes.to_string();
            self.count("pool_used", &[("page_bytes", bytes.as_str())], pool.used_bytes);
        }
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

fn tell(family: &Family, encoder: &mut DescriptorEncoder<'_>, of: &Series<'_>) -> fmt::Result {
    let unit = match family.unit {
        Unit::None => None,
        Unit::Seconds => Some(WireUnit::Seconds),
        Unit::Bytes => Some(WireUnit::Bytes),
    };
    let kind = if family.is_counter { MetricType::Counter } else { MetricType::Gauge };
    let mut metric = encoder.encode_descriptor(family.name, family.help, unit.as_ref(), kind)?;
    for (labels, value) in *of {
        let mut series = metric.encode_family(labels)?;
        let as_float = seconds(*value);
        match (family.is_counter, family.unit) {
            (true, Unit::Seconds) => {
                series.encode_counter::<NoLabelSet, _, u64>(&as_float, None)?;
            }
            (true, _) => series.encode_counter::<NoLabelSet, _, u64>(value, None)?,
            (false, Unit::Seconds) => series.encode_gauge(&as_float)?,
            (false, _) => series.encode_gauge(&value.cast_signed())?,
        }
    }
    Ok(())
}

type Series<'a> = &'a BTreeMap<Labels, u64>;

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in FAMILIES {
            if let Some(of_family) = self.series.get(family.name) {
                tell(family, &mut encoder, &of_family)?;
            }
        }
        let bounds = BOUNDS_NS.iter().map(|bound_ns| seconds(*bound_ns)).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(self.waits).collect();
        // Strict readers take no unit of a histogram.
        let mut waits = encoder.encode_descriptor(
            "run_queue_wait_seconds",
            "Waits of the target's threads for a CPU",
            None,
            MetricType::Histogram,
        )?;
        let count = self.waits.iter().sum();
        waits.encode_histogram::<NoLabelSet>(seconds(self.waits_ns), count, &buckets, None)
    }
}
