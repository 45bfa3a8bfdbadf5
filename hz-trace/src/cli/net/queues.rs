//! Queues, devices and UDP, as `hz-trace net` prints them.

use super::render::{Place, owner};
use crate::cli::{report::section, table::Table};
use hz_trace::{
    analyze::{NetSummary, QueueOver},
    text,
};

/// Queues over their bar.
pub(super) fn queues_over(
    out: &mut String,
    summary: &NetSummary,
    place: &Place,
) -> std::fmt::Result {
    let mut table = Table::new(&["QUEUE", "AT", ">MOST", ">LIMIT", ">OVER FOR", "OF"]);
    for row in &summary.queues_over {
        table.row(vec![
            row.kind.words().to_owned(),
            format!("{}{}", row.at, place.within(&row.namespace)),
            amount(row, row.most),
            amount(row, row.limit),
            text::duration(row.over_ns),
            owner(&row.owner),
        ]);
    }
    let title = format!("Queues over {} % of what they may hold", summary.queue_over_pct);
    section(out, &title, &table)
}

fn amount(row: &QueueOver, value: u64) -> String {
    if row.kind.is_of_connections() { text::count(value) } else { text::bytes(value) }
}

/// Queueing disciplines, devices, and UDP sockets, that held or dropped packets.
pub(super) fn disciplines(
    out: &mut String,
    summary: &NetSummary,
    place: &Place,
) -> std::fmt::Result {
    let mut table = Table::new(&[
        "DEVICE",
        "DISCIPLINE",
        ">PACKETS MAX",
        ">BYTES MAX",
        ">BACKLOG FOR",
        ">DROPS",
        ">REQUEUES",
        ">OVER ITS RATE",
    ]);
    for row in &summary.disciplines {
        table.row(vec![
            format!("{}{}", row.device, place.within(&row.namespace)),
            format!("{} {}", row.kind, row.handle),
            text::count(row.packets_max),
            text::bytes(row.bytes_max),
            text::duration(row.backlog_ns),
            text::count(row.drops),
            text::count(row.requeues),
            text::count(row.overlimits),
        ]);
    }
    section(out, "Queueing disciplines", &table)?;
    section(out, "Devices that dropped", &devices(summary, place))?;
    section(out, "UDP sockets", &udp(summary, place))
}

/// How long packets waited for devices.
pub(super) fn device_waits(
    out: &mut String,
    summary: &NetSummary,
    place: &Place,
) -> std::fmt::Result {
    let columns = [
        "DEVICE",
        ">PACKETS",
        ">WENT PAST",
        ">CUT",
        ">P50",
        ">P99",
        ">LONGEST",
        ">DRIVER STOPPED",
        ">UNKNOWN",
        "LONGEST OF",
    ];
    let mut table = Table::new(&columns);
    for row in &summary.device_waits {
        table.row(vec![
            format!("{}{}", row.device, place.within(&row.namespace)),
            text::count(row.packets),
            text::count(row.bypassed),
            text::count(row.split),
            text::duration(row.p50_ns),
            text::duration(row.p99_ns),
            text::duration(row.max_ns),
            text::count(row.stops),
            text::count(row.unmatched),
            row.max_of.clone().unwrap_or_default(),
        ]);
    }
    section(out, "Packets that waited for a device", &table)
}

fn devices(summary: &NetSummary, place: &Place) -> Table {
    let mut table =
        Table::new(&["DEVICE", ">RECEIVED", ">SENT", ">ERRORS RECEIVED", ">ERRORS SENT"]);
    for row in &summary.devices {
        table.row(vec![
            format!("{}{}", row.device, place.within(&row.namespace)),
            text::count(row.receive_drops),
            text::count(row.send_drops),
            text::count(row.receive_errors),
            text::count(row.send_errors),
        ]);
    }
    table
}

fn udp(summary: &NetSummary, place: &Place) -> Table {
    let mut table = Table::new(&["ADDRESS", ">DROPS", ">QUEUE MAX", ">LIMIT", "OF"]);
    for row in &summary.udp {
        table.row(vec![
            format!("{}{}", row.local, place.within(&row.namespace)),
            text::count(row.drops),
            text::bytes(row.queue_max_bytes),
            text::bytes(row.queue_limit_bytes.into()),
            owner(&row.owner),
        ]);
    }
    table
}
