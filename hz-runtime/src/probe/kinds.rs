//! Which kinds are on.

use super::usdt::{self, Gate};
use hz_probes_ebpf::Kind;
use std::sync::atomic::{AtomicU64, Ordering};

/// Kinds that the ring wants, by [`Kind::runtime_bit`]: what the gates were set to last.
static RING_KINDS: AtomicU64 = AtomicU64::new(0);

/// Whether anyone wants `kind`, by either carrier.
#[inline(always)]
pub(super) fn is_on(kind: Kind) -> bool {
    Gate::of(kind).is_open()
}

/// Makes exactly `kinds` go into the rings.
pub(super) fn set(kinds: u64) {
    RING_KINDS.store(kinds, Ordering::Relaxed);
    usdt::set_ring_kinds(kinds);
}

/// The kinds that go into the rings.
pub(super) fn all_on() -> u64 {
    RING_KINDS.load(Ordering::Relaxed)
}

/// Every kind that a runtime can emit.
pub(super) const ALL: u64 = mask(Kind::ALL);

/// The mask of `kinds`.
pub(super) const fn mask(kinds: &[Kind]) -> u64 {
    let mut mask = 0;
    let mut next = 0;
    while next < kinds.len() {
        mask |= kinds[next].runtime_bit();
        next += 1;
    }
    mask
}

/// Reads `none`, `all` or the tags of kinds, separated by commas; tags that are no kind of a runtime
/// come back beside what the others say.
pub(super) fn parse(text: &str) -> (u64, Vec<String>) {
    match text.trim() {
        "" | "none" => return (0, Vec::new()),
        "all" => return (ALL, Vec::new()),
        _ => {}
    }
    let mut mask = 0;
    let mut unknown = Vec::new();
    for tag in text.split(',').map(str::trim) {
        match Kind::ALL.iter().find(|kind| kind.is_runtime_event() && kind.tag() == tag) {
            Some(kind) => mask |= kind.runtime_bit(),
            None => unknown.push(tag.to_owned()),
        }
    }
    (mask, unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_named_by_their_tags() {
        let (mask, unknown) = parse("task_spawn, park,switch,nonsense");
        assert_eq!(mask, Kind::TaskSpawn.runtime_bit() | Kind::Park.runtime_bit());
        assert_eq!(unknown, ["switch", "nonsense"], "a kernel's kind is none of a runtime's");
    }

    #[test]
    fn all_and_none_are_words() {
        assert_eq!(parse("all"), (ALL, Vec::new()));
        assert_eq!(parse("none"), (0, Vec::new()));
        assert_eq!(parse(""), (0, Vec::new()));
        assert_eq!(ALL.count_ones(), 24);
    }
}
