//! Listeners, as `hz-trace net` prints them.

use super::render::{Place, owner};
use crate::cli::{report::section, table::Table};
use hz_trace::{
    analyze::{Listener, NetSummary},
    text,
};
use std::fmt::Write as _;

/// Listeners and, of those that overflowed, when, and who should have accepted.
pub(super) fn listeners(out: &mut String, summary: &NetSummary, place: &Place) -> std::fmt::Result {
    section(out, "Listeners", &table(&summary.listeners, place))?;
    for row in summary.listeners.iter().filter(|row| row.drops > 0 || row.full_ns > 0) {
        overflow(out, row, summary, place)?;
    }
    Ok(())
}

fn table(rows: &[Listener], place: &Place) -> Table {
    let mut table = Table::new(&[
        "ADDRESS",
        "OF",
        ">TAKEN",
        ">ACCEPT P50",
        ">P99",
        ">QUEUED",
        ">LIMIT",
        ">SYN QUEUE",
        ">DROPS",
        ">SYN-ACKS AGAIN",
    ]);
    for row in rows {
        let accept = |ns: u64| {
            if row.accept.count == 0 { String::new() } else { text::duration(ns) }
        };
        table.row(vec![
            format!("{}{}", row.local, place.within(&row.namespace)),
            process(row),
            text::count(row.taken),
            accept(row.accept.p50_ns),
            accept(row.accept.p99_ns),
            text::count(row.accept_queue_max.into()),
            text::count(row.accept_queue_limit.into()),
            text::count(row.syn_queue_max.into()),
            text::count(row.drops),
            text::count(row.synacks),
        ]);
    }
    table
}

fn process(row: &Listener) -> String {
    if row.owner.pid == 0 {
        return "nobody seen".to_owned();
    }
    format!("{} ({})", row.owner.process, row.owner.pid)
}

fn overflow(
    out: &mut String,
    row: &Listener,
    summary: &NetSummary,
    place: &Place,
) -> std::fmt::Result {
    let within = place.within(&row.namespace);
    write!(out, "  {}{within} ", row.local)?;
    writeln!(
        out,
        "was full for {} and dropped {}",
        text::duration(row.full_ns),
        text::plural(row.drops, "connection")
    )?;
    for each in &row.dropped {
        let (from, to) = (text::duration(each.from_ns), text::duration(each.to_ns));
        writeln!(out, "      {} between {from} and {to}", text::count(each.count))?;
    }
    if row.not_accepted > 0 {
        let left = text::plural(row.not_accepted, "connection");
        writeln!(out, "      {left} nobody had accepted or used at the end")?;
    }
    writeln!(out, "      should have accepted: {}", owner(&row.acceptor))?;
    let counted = summary.namespaces.iter().find(|each| each.netns == row.netns);
    counted.map_or(Ok(()), |counted| {
        let (overflows, drops) = (counted.listen_overflows, counted.listen_drops);
        writeln!(
            out,
            "      the kernel's counts there: ListenOverflows {}, ListenDrops {}",
            text::count(overflows),
            text::count(drops)
        )
    })
}
