//! What is exported, under which name.

/// What a figure is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// A number of things.
    None,
    /// Kept as nanoseconds, told as seconds.
    Seconds,
    Bytes,
}

/// Figures of one name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    /// Its name, without the prefix and the unit.
    pub(super) name: &'static str,
    pub(super) unit: Unit,
    /// Whether it only grows.
    pub(super) is_counter: bool,
    pub(super) help: &'static str,
}

const fn counter(name: &'static str, unit: Unit, help: &'static str) -> Family {
    Family { name, unit, is_counter: true, help }
}

const fn gauge(name: &'static str, unit: Unit, help: &'static str) -> Family {
    Family { name, unit, is_counter: false, help }
}

/// All that is exported but for the histogram of waits for a CPU.
pub(super) const FAMILIES: &[Family] = &[
    counter("cpu_busy", Unit::Seconds, "Time that a CPU had a thread to run"),
    counter("cpu_idle", Unit::Seconds, "Time that a CPU had nothing to run"),
    counter("cpu_steal", Unit::Seconds, "Time that the hypervisor gave to somebody else"),
    counter("context_switches", Unit::None, "Times that a CPU went from one thread to another"),
    counter("process_cpu", Unit::Seconds, "Time of a target's threads on a CPU, by process name"),
    counter("process_run_queue_wait", Unit::Seconds, "Time that threads waited for a CPU"),
    counter("process_blocked", Unit::Seconds, "Time that threads slept uninterruptibly"),
    counter("process_migrations", Unit::None, "Moves of threads to another CPU"),
    gauge("threads", Unit::None, "Threads of the target that there are"),
    gauge("tasks", Unit::None, "Async tasks that live, by name and place of spawn"),
    counter("task_spawns", Unit::None, "Async tasks that were spawned"),
    counter("task_polls", Unit::None, "Polls of async tasks"),
    counter("task_busy", Unit::Seconds, "Time inside polls of async tasks"),
    counter("task_ready", Unit::Seconds, "Time that async tasks were ready and not polled"),
    gauge("task_longest_poll", Unit::Seconds, "Longest poll of the last interval"),
    gauge("task_longest_ready", Unit::Seconds, "Longest wait for a poll of the last interval"),
    gauge("runtime_queue_depth", Unit::None, "Tasks in the queues of a worker"),
    counter("runtime_steals", Unit::None, "Tasks that a worker took from another"),
    gauge("sockets", Unit::None, "TCP sockets of the target"),
    gauge("sockets_unsent", Unit::Bytes, "Bytes that applications wrote and TCP has not sent"),
    gauge("sockets_unread", Unit::Bytes, "Bytes that came and applications have not read"),
    gauge("time_wait_sockets", Unit::None, "Sockets in TIME_WAIT"),
    gauge("ephemeral_ports_used", Unit::None, "Ephemeral ports in use"),
    gauge("ephemeral_ports", Unit::None, "Ephemeral ports that there are"),
    counter("tcp_segments_sent", Unit::None, "TCP segments that were sent"),
    counter("tcp_segments_retransmitted", Unit::None, "TCP segments that were sent again"),
    counter("tcp_timeouts", Unit::None, "Retransmission timeouts"),
    counter("tcp_connections_opened", Unit::None, "Connections that were opened actively"),
    counter("tcp_connections_accepted", Unit::None, "Connections that were opened passively"),
    counter("listen_overflows", Unit::None, "Connections that found an accept queue full"),
    counter("listen_drops", Unit::None, "Connections that listeners dropped"),
    gauge("accept_queue_depth", Unit::None, "Connections that wait to be accepted"),
    gauge("accept_queue_limit", Unit::None, "Connections that may wait to be accepted"),
    gauge("qdisc_backlog", Unit::Bytes, "Bytes that a queueing discipline holds"),
    counter("qdisc_drops", Unit::None, "Packets that a queueing discipline dropped"),
    counter("allocated", Unit::Bytes, "Bytes allocated, estimated from samples"),
    gauge("pool_used", Unit::Bytes, "Bytes of buffers that are taken from pools"),
    counter("lost_records", Unit::None, "Records and runs of hooks that hz lost"),
    counter("own_cpu", Unit::Seconds, "CPU time of hz-top itself"),
    counter("own_bpf", Unit::Seconds, "CPU time of hz's BPF programs, estimated"),
    gauge("own_memory", Unit::Bytes, "Resident memory of hz-top itself"),
];
