//! What a flame graph says in words.

use super::{export::about, flame::Shown, report::section, table::Table};
use hz_trace::{
    analyze::{Diff, Flame, FlameKind, FlameQuery, FrameKind, LockUse, Site},
    export::{Caption, amount},
    recording::Recording,
    replay::Replay,
    text,
};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Letters of a function's name that are shown.
const NAME: usize = 90;

/// Frames of a stack that are shown, from the leaf.
const FRAMES: usize = 6;

/// The heading and foot of a picture.
pub(super) fn caption(
    recording: &Recording,
    replayed: &Replay,
    query: &FlameQuery,
    flame: &Flame,
) -> Caption {
    let about = about(recording, replayed);
    let mut caption = Caption::of(flame, query, &replayed.model, &about);
    caption.footer.extend(of_memory(recording, flame));
    caption
}

/// What is said of memory only.
fn of_memory(recording: &Recording, flame: &Flame) -> Vec<String> {
    let missing = &flame.missing;
    let mut lines = Vec::new();
    if flame.kind == FlameKind::Live {
        lines.push(
            "Memory allocated before the recording, or by threads without samples, is not in it"
                .to_owned(),
        );
    }
    if missing.untracked > 0 {
        lines.push(format!(
            "{} could not be followed until it is freed, and is not in it",
            text::bytes(missing.untracked)
        ));
    }
    if flame.kind.is_memory() {
        lines.extend(recording.state.notes.iter().cloned());
        let missing = recording.state.not_collected(&recording.meta);
        let of_memory = missing.into_iter().filter(|missing| {
            ["allocations", "calls that were inlined"].iter().any(|word| missing.starts_with(word))
        });
        lines.extend(of_memory.map(|missing| format!("Not collected: {missing}")));
    }
    lines
}

/// Everything in words.
pub(super) fn page(shown: &Shown, change: Option<&Diff>, limit: usize) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{}\n{}", shown.caption.title, shown.caption.subtitle);
    let (title, table) = match change {
        Some(change) => ("Functions that changed most, in percent of all", changes(change, limit)),
        None => ("Functions that took most", functions(shown, limit)),
    };
    let _ = section(&mut out, title, &table);
    if !shown.tops.blocking.is_empty() {
        let _ = blocking(&mut out, shown, limit);
    }
    if !shown.locks.is_empty() {
        let _ = lock_lines(&mut out, &shown.locks, limit);
    }
    if !shown.tops.sites.is_empty() {
        let _ = section(&mut out, "Places that allocate", &sites(&shown.tops.sites, limit));
        let _ = growth(&mut out, &shown.tops.sites, limit);
    }
    let _ = writeln!(out);
    for line in &shown.caption.footer {
        let _ = writeln!(out, "{line}");
    }
    out
}

fn functions(shown: &Shown, limit: usize) -> Table {
    let flame = &shown.flame;
    let part = |value: u64| text::percent(100.0 * value as f64 / flame.total.max(1) as f64);
    let mut table = Table::new(&[">SELF", ">", ">TOTAL", ">", "FUNCTION", "OF"]);
    for function in shown.tops.functions.iter().filter(|function| function.own > 0).take(limit) {
        table.row(vec![
            amount(flame.unit, function.own),
            part(function.own),
            amount(flame.unit, function.total),
            part(function.total),
            short(&function.name),
            function.kind.name().to_owned(),
        ]);
    }
    table
}

fn changes(change: &Diff, limit: usize) -> Table {
    let mut table =
        Table::new(&[">SELF", ">BEFORE", ">AFTER", ">TOTAL BEFORE", ">AFTER", "FUNCTION"]);
    let changed = change.changes.iter().filter(|change| change.own_points().abs() >= 0.05);
    for each in changed.take(limit) {
        table.row(vec![
            format!("{:+.1}", each.own_points()),
            text::percent(each.own_before_pct),
            text::percent(each.own_after_pct),
            text::percent(each.total_before_pct),
            text::percent(each.total_after_pct),
            short(&each.name),
        ]);
    }
    table
}

fn blocking(out: &mut String, shown: &Shown, limit: usize) -> std::fmt::Result {
    writeln!(out, "\nStacks that were off a CPU longest")?;
    for each in shown.tops.blocking.iter().take(limit) {
        writeln!(
            out,
            "{:>9} in {}, {}: {}",
            text::duration(each.blocked_ns),
            text::plural(each.count, "time"),
            each.reason,
            leaf_frames(&each.frames),
        )?;
        if let Some(waker) = &each.waker {
            let frames = leaf_frames(&each.waker_frames);
            let at = if frames.is_empty() { String::new() } else { format!(" in {frames}") };
            writeln!(out, "          woken by {waker}{at}")?;
        }
    }
    Ok(())
}

fn lock_lines(out: &mut String, locks: &[LockUse], limit: usize) -> std::fmt::Result {
    writeln!(
        out,
        "\nLocks and other futexes that were waited for (without a wait: not collected)"
    )?;
    for lock in locks.iter().take(limit) {
        writeln!(
            out,
            "{:>9} in {}, at most {} and {} at once: {:#x} of pid {}",
            text::duration(lock.waited_ns),
            text::plural(lock.count, "wait"),
            text::duration(lock.max_ns),
            lock.waiting_max,
            lock.address,
            lock.pid,
        )?;
        if let Some((owner, count)) = &lock.owner {
            writeln!(out, "          held by {owner} in {}", text::plural(*count, "wait"))?;
        }
        if let Some((name, ns)) = &lock.released_by {
            writeln!(
                out,
                "          released by {name} ({}) in {}; whoever did was off a CPU for {} of the waits",
                text::duration(*ns),
                leaf_frames(&lock.release_frames),
                text::share(lock.releaser_off_ns, lock.waited_ns),
            )?;
        }
        for stack in &lock.stacks {
            let waited = text::duration(stack.waited_ns);
            writeln!(out, "          {waited} in {}", leaf_frames(&stack.frames))?;
        }
    }
    Ok(())
}

fn sites(sites: &[Site], limit: usize) -> Table {
    let columns = [
        ">ALLOCATED",
        ">PER SECOND",
        ">STILL THERE",
        ">±",
        ">MEAN LIFE",
        ">SAMPLES",
        "FUNCTION",
        "AT",
    ];
    let mut table = Table::new(&columns);
    for site in sites.iter().take(limit) {
        table.row(vec![
            text::bytes(site.bytes),
            text::bytes(site.bytes_per_second),
            text::bytes(site.live_bytes),
            text::bytes(site.live_error_bytes),
            site.mean_life_ns.map_or_else(|| "?".to_owned(), text::duration),
            text::count(site.samples),
            short(&site.function),
            site.place.clone(),
        ]);
    }
    table
}

/// Places that may leak, the surest first.
fn growth(out: &mut String, sites: &[Site], limit: usize) -> std::fmt::Result {
    let mut growing: Vec<&Site> = sites.iter().filter(|site| site.is_growing()).collect();
    growing.sort_by_key(|site| {
        std::cmp::Reverse(site.growth_bytes - site.growth_error_bytes.cast_signed())
    });
    for (place, site) in growing.iter().take(limit).enumerate() {
        if place == 0 {
            writeln!(out, "\nGrew in the second half for sure (95 %)")?;
        }
        writeln!(
            out,
            "  by {} ± {}: {} {}",
            text::bytes(site.growth_bytes.unsigned_abs()),
            text::bytes(site.growth_error_bytes),
            short(&site.function),
            site.place,
        )?;
    }
    Ok(())
}

/// The innermost frames, leaf first.
fn leaf_frames(frames: &[String]) -> String {
    let names = frames.iter().rev().take(FRAMES).map(|name| short(name));
    names.collect::<Vec<_>>().join(" < ")
}

fn short(name: &str) -> String {
    if name.chars().count() <= NAME {
        return name.to_owned();
    }
    let mut cut: String = name.chars().take(NAME - 1).collect();
    cut.push('…');
    cut
}

/// Everything as JSON.
pub(super) fn json(shown: &Shown, change: Option<&Diff>, limit: usize) -> Value {
    let flame = &shown.flame;
    let stacks = flame.stacks.iter().map(|(stack, value)| {
        let kinds: Vec<FrameKind> =
            stack.iter().map(|frame| flame.frames.get(*frame).kind).collect();
        json!({ "frames": flame.names(stack).collect::<Vec<_>>(), "kinds": kinds, "value": value })
    });
    let take = |count: usize| count.min(limit);
    json!({
        "kind": flame.kind,
        "unit": flame.unit,
        "duration_ns": shown.length_ns,
        "total": flame.total,
        "samples": flame.samples,
        "missing": flame.missing,
        "functions": &shown.tops.functions[..take(shown.tops.functions.len())],
        "blocking": &shown.tops.blocking[..take(shown.tops.blocking.len())],
        "sites": &shown.tops.sites[..take(shown.tops.sites.len())],
        "locks": &shown.locks[..take(shown.locks.len())],
        "changes": change.map(|change| &change.changes[..take(change.changes.len())]),
        "stacks": stacks.collect::<Vec<_>>(),
    })
}
