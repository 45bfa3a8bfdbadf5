//! What `hz-trace net` prints.

use crate::cli::{report::section, table::Table};
use hz_trace::{
    analyze::{Connection, Listener, NetSummary, Owner, PeerRow},
    text,
};
use std::fmt::Write as _;

/// Peers that are listed.
const PEERS: usize = 10;

/// The whole page.
pub(super) fn render(summary: &NetSummary) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = heading(&mut out, summary);
    let _ = section(&mut out, "Sent again, by reason", &reasons(summary));
    let _ = section(&mut out, "Sent again, by peer", &peers(&summary.by_peer));
    let _ = worst(&mut out, &summary.worst);
    let _ = section(&mut out, "Listeners", &listeners(&summary.listeners));
    let _ = section(&mut out, "Packets dropped, by the kernel's reason", &counted(&summary.drops));
    let _ = section(&mut out, "Resets", &counted(&summary.resets));
    let _ = footer(&mut out, summary);
    out
}

fn heading(out: &mut String, summary: &NetSummary) -> std::fmt::Result {
    writeln!(out, "{}", summary.target)?;
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

fn worst(out: &mut String, connections: &[Connection]) -> std::fmt::Result {
    if connections.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nWorst connections")?;
    for each in connections {
        writeln!(out, "  {} → {}  {}, {}", each.local, each.peer, each.state, each.algorithm)?;
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
    if each.unread_ns > 0 {
        let _ = write!(line, "; left unread for {}", text::duration(each.unread_ns));
    }
    line
}

/// An owner in words: process, thread, task, and how that is known.
fn owner(owner: &Owner) -> String {
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

fn listeners(rows: &[Listener]) -> Table {
    let columns = [
        "ADDRESS",
        "OF",
        ">QUEUED",
        ">LIMIT",
        ">FULL FOR",
        ">SYN QUEUE",
        ">DROPS",
        ">SYN-ACKS AGAIN",
    ];
    let mut table = Table::new(&columns);
    for row in rows {
        table.row(vec![
            row.local.clone(),
            owner(&row.owner),
            text::count(row.accept_queue_max.into()),
            text::count(row.accept_queue_limit.into()),
            text::duration(row.full_ns),
            text::count(row.syn_queue_max.into()),
            text::count(row.drops),
            text::count(row.synacks),
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
