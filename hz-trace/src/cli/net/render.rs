//! What `hz-trace net` prints.

use super::{listeners, pools, queues};
use crate::cli::{report::section, table::Table};
use hz_trace::{
    analyze::{Connection, End, NetSummary, Owner, PeerRow},
    text,
};
use std::{collections::BTreeSet, fmt::Write as _};

/// Peers that are listed.
const PEERS: usize = 10;

/// Where something is: said only if there is more than one network namespace.
#[derive(Debug)]
pub(super) struct Place {
    is_said: bool,
}

impl Place {
    fn of(summary: &NetSummary) -> Self {
        let worst = summary.worst.iter().map(|row| row.netns);
        let listeners = summary.listeners.iter().map(|row| row.netns);
        let looked = summary.namespaces.iter().map(|row| row.netns);
        let all: BTreeSet<u32> = worst.chain(listeners).chain(looked).collect();
        let is_host = summary.namespaces.iter().all(|row| row.name == "host");
        Self { is_said: all.len() > 1 || !is_host }
    }

    /// The namespace as the end of a phrase.
    pub(super) fn within(&self, namespace: &str) -> String {
        if self.is_said { format!(" in {namespace}") } else { String::new() }
    }
}

/// The whole page.
pub(super) fn render(summary: &NetSummary) -> String {
    let mut out = String::new();
    let place = Place::of(summary);
    // Writing to a string cannot fail.
    let _ = heading(&mut out, summary);
    let _ = section(&mut out, "Sent again, by reason", &reasons(summary));
    let _ = section(&mut out, "Sent again, by peer", &peers(&summary.by_peer));
    let _ = worst(&mut out, &summary.worst, &place);
    let _ = queues::queues_over(&mut out, summary, &place);
    let _ = listeners::listeners(&mut out, summary, &place);
    let _ = pools::pools(&mut out, &summary.pools, &place);
    let _ = section(&mut out, "Ports, by destination", &pools::ports(&summary.ports, &place));
    let _ = queues::disciplines(&mut out, summary, &place);
    let _ = queues::device_waits(&mut out, summary, &place);
    let _ = section(&mut out, "Packets dropped, by the kernel's reason", &counted(&summary.drops));
    let _ = section(&mut out, "Ends of connections", &counted(&summary.ends));
    let _ = section(&mut out, "Resets", &counted(&summary.resets));
    let _ = section(&mut out, "Network namespaces, as the kernel counts", &namespaces(summary));
    let _ = footer(&mut out, summary);
    out
}

fn heading(out: &mut String, summary: &NetSummary) -> std::fmt::Result {
    writeln!(out, "{}", summary.target)?;
    if !summary.has_events {
        let connections = text::plural(summary.connections as u64, "connection");
        let duration = text::duration(summary.duration_ns);
        return writeln!(
            out,
            "{duration} · {connections} · {} sent again; from looks at sockets, without BPF",
            text::plural(summary.retransmitted_by_looks, "segment"),
        );
    }
    let again = &summary.retransmitted;
    writeln!(
        out,
        "{} · {} · {} sent again ({}), {} of them for nothing",
        text::duration(summary.duration_ns),
        text::plural(summary.connections as u64, "connection"),
        text::plural(again.segments, "segment"),
        text::bytes(again.bytes),
        text::count(summary.spurious_segments),
    )?;
    let connect = &summary.connect;
    if connect.count + summary.connects_failed == 0 {
        return Ok(());
    }
    writeln!(
        out,
        "Connects: {}, p50 {}, p99 {}, max {}; {} failed",
        text::count(connect.count),
        text::duration(connect.p50_ns),
        text::duration(connect.p99_ns),
        text::duration(connect.max_ns),
        text::count(summary.connects_failed),
    )
}

fn reasons(summary: &NetSummary) -> Table {
    let mut table =
        Table::new(&["REASON", ">TIMES", ">SEGMENTS", ">BYTES", ">REFUSED", ">GIVEN UP"]);
    for row in &summary.by_reason {
        table.row(vec![
            row.reason.to_owned(),
            text::count(row.retransmitted.times),
            text::count(row.retransmitted.segments),
            text::bytes(row.retransmitted.bytes),
            text::count(row.retransmitted.failed_segments),
            text::count(row.retransmitted.given_up_segments),
        ]);
    }
    table
}

fn peers(rows: &[PeerRow]) -> Table {
    let mut table = Table::new(&["PEER", ">SEGMENTS", ">BYTES", "BY REASON"]);
    for row in rows.iter().take(PEERS) {
        let reasons = row.by_reason.iter().map(|(reason, count)| format!("{reason} {count}"));
        table.row(vec![
            row.peer.clone(),
            text::count(row.retransmitted.segments),
            text::bytes(row.retransmitted.bytes),
            reasons.collect::<Vec<_>>().join(", "),
        ]);
    }
    table
}

fn worst(out: &mut String, connections: &[Connection], place: &Place) -> std::fmt::Result {
    if connections.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nWorst connections")?;
    for each in connections {
        let state = each.end.map_or(each.state, End::words);
        let within = place.within(&each.namespace);
        let algorithm = &each.algorithm;
        writeln!(out, "  {} → {}{within}  {state}, {algorithm}", each.local, each.peer)?;
        writeln!(out, "      of {}", owner(&each.owner))?;
        if each.retransmitted.segments > 0 {
            writeln!(out, "      {}", again(each))?;
        }
        for (who, segments) in &each.queued_by {
            writeln!(out, "        {segments} of {}", owner(who))?;
        }
        for (kind, waited_ns) in &each.waited_ns {
            writeln!(out, "      {} waiting for {}", text::duration(*waited_ns), kind.words())?;
        }
        writeln!(out, "      {}", queues(each))?;
    }
    Ok(())
}

/// What was sent again on a connection, in a line.
fn again(each: &Connection) -> String {
    let reasons = each.by_reason.iter().map(|(reason, count)| format!("{reason} {count}"));
    let mut line = format!(
        "{} sent again: {}",
        text::plural(each.retransmitted.segments, "segment"),
        reasons.collect::<Vec<_>>().join(", ")
    );
    if each.spurious_segments + each.undone > 0 {
        let (spurious, undone) = (each.spurious_segments, each.undone);
        let _ = write!(line, "; {spurious} for nothing, taken back {undone} times");
    }
    line
}

fn queues(each: &Connection) -> String {
    let us = |value: u32| text::duration(u64::from(value) * 1_000);
    let mut line = format!(
        "srtt {}, timeout up to {}; at most {} in flight, {} unsent, {} unread",
        us(each.srtt_us),
        us(each.rto_max_us),
        text::bytes(each.unacked_max_bytes.into()),
        text::bytes(each.unsent_max_bytes.into()),
        text::bytes(each.unread_max_bytes.into()),
    );
    if let Some(limit) = each.limited_by.first() {
        let _ = write!(line, "; not sent because of {}", limit.what);
    }
    if let Some(queued) = each.queued {
        let (mean, max) = (text::duration(queued.mean_ns), text::duration(queued.max_ns));
        let _ = write!(line, "; packets waited {mean} for the device, up to {max}");
    }
    if each.unread_ns > 0 {
        let _ = write!(line, "; left unread for {}", text::duration(each.unread_ns));
    }
    line
}

/// An owner in words: process, thread, task, and how that is known.
pub(super) fn owner(owner: &Owner) -> String {
    if owner.pid == 0 {
        return "nobody that was seen".to_owned();
    }
    let mut words = format!("{} ({})", owner.process, owner.pid);
    if owner.tid != owner.pid {
        let _ = write!(words, ", thread {} ({})", owner.thread, owner.tid);
    }
    if let (Some(task), Some(id)) = (&owner.task, owner.task_id) {
        let _ = write!(words, ", task `{task}` ({id})");
    }
    let _ = write!(words, ", {}", owner.how);
    words
}

fn namespaces(summary: &NetSummary) -> Table {
    let mut table = Table::new(&[
        "NAMESPACE",
        ">OPENED",
        ">A SECOND",
        ">TAKEN",
        ">FAILED",
        ">SENT AGAIN",
        ">OVERFLOWS",
        ">DROPS",
        ">UDP DROPS",
    ]);
    for row in &summary.namespaces {
        let seconds = row.looked_ns.max(1) as f64 / 1e9;
        table.row(vec![
            row.name.clone(),
            text::count(row.opened),
            format!("{:.1}", row.opened as f64 / seconds),
            text::count(row.taken),
            text::count(row.failed),
            text::count(row.retransmitted_segments),
            text::count(row.listen_overflows),
            text::count(row.listen_drops),
            text::count(row.udp_receive_drops),
        ]);
    }
    table
}

fn counted(rows: &[hz_trace::analyze::Counted]) -> Table {
    let mut table = Table::new(&["REASON", ">COUNT"]);
    for row in rows {
        table.row(vec![row.what.clone(), text::count(row.count)]);
    }
    table
}

fn footer(out: &mut String, summary: &NetSummary) -> std::fmt::Result {
    writeln!(out)?;
    for missing in &summary.not_collected {
        writeln!(out, "Not collected: {missing}")?;
    }
    writeln!(out, "Lost: {}", text::plural(summary.lost, "record"))
}
