//! Pools and ports, as `hz-trace net` prints them.

use super::render::{Place, owner};
use crate::cli::table::Table;
use hz_trace::{
    analyze::{Pool, PortUse, Verdict},
    text,
};
use std::fmt::Write as _;

/// Pools: what each opens, how well that is used, and what is wrong.
pub(super) fn pools(out: &mut String, pools: &[Pool], place: &Place) -> std::fmt::Result {
    if pools.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nConnections opened, by process and destination")?;
    for pool in pools {
        let within = place.within(&pool.namespace);
        writeln!(out, "  {} → {}{within}", process(pool), pool.destination)?;
        writeln!(out, "      {}", figures(pool))?;
        let ends: Vec<String> = pool
            .ends
            .iter()
            .map(|(end, count)| format!("{} {}", text::count(*count), end.words()))
            .collect();
        if !ends.is_empty() {
            writeln!(out, "      {}", ends.join(", "))?;
        }
        if let Some(verdict) = &pool.verdict {
            say(out, pool, verdict)?;
        }
    }
    Ok(())
}

fn process(pool: &Pool) -> String {
    if pool.owner.pid == 0 {
        return owner(&pool.owner);
    }
    format!("{} ({})", pool.owner.process, pool.owner.pid)
}

fn figures(pool: &Pool) -> String {
    let mut line = format!(
        "{} opened, {:.1} a second, up to {} at once; {}",
        text::count(pool.opened),
        pool.opened_per_s,
        text::count(pool.open_max),
        text::plural(pool.requests, "request"),
    );
    if pool.life.count > 0 {
        let _ = write!(
            line,
            "\n      of those that ended: {:.1} requests each, open for {} (p50)",
            pool.requests_mean,
            text::duration(pool.life.p50_ns),
        );
    }
    if pool.idle.count > 0 {
        let _ = write!(line, ", at last idle for {}", text::duration(pool.idle.p50_ns));
    }
    line
}

fn say(out: &mut String, pool: &Pool, verdict: &Verdict) -> std::fmt::Result {
    writeln!(out, "      churns: {}", verdict.why)?;
    writeln!(out, "      would stop with {}", verdict.remedy)?;
    writeln!(
        out,
        "      up to {} of the {} need not be opened",
        text::count(verdict.avoidable),
        text::plural(pool.opened, "connection"),
    )?;
    verdict.ports.as_ref().map_or(Ok(()), |ports| writeln!(out, "      ports: {ports}"))
}

/// Ports in use.
pub(super) fn ports(rows: &[PortUse], place: &Place) -> Table {
    let mut table = Table::new(&[
        "FROM",
        "TO",
        "OF",
        ">IN USE",
        ">OF PORTS",
        ">SHARE",
        ">TIME_WAIT",
        ">OPEN",
        ">NO PORT",
    ]);
    for row in rows {
        let owners = row.owners.iter().map(|owner| format!("{} ({})", owner.process, owner.pid));
        table.row(vec![
            format!("{}{}", row.source, place.within(&row.namespace)),
            row.destination.clone(),
            owners.collect::<Vec<_>>().join(", "),
            text::count(row.in_use_max.into()),
            text::count(row.available.into()),
            text::share(row.in_use_max.into(), row.available.into()),
            text::count(row.time_wait_max.into()),
            text::count(row.established_max.into()),
            text::count(row.no_port),
        ]);
    }
    table
}
