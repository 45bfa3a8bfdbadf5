//! Gathered pieces: the shares of states in them.

use super::columns::{Mix, place};
use super::encode::Bytes;
use super::pieces::Slice;
use crate::model::{Span, State};

/// A gathered piece of a life: its tiles' states, and the longest wait.
pub(super) fn mixed_states(
    bytes: &mut Bytes,
    (length, unit_ns): (u64, u64),
    tiles: &[Slice<Span>],
    cpu: &mut Option<u16>,
) {
    let mut mix = Mix::default();
    let (mut longest_ns, mut has_moved) = (0, false);
    for tile in tiles {
        mix[place(tile.what.state)] += tile.duration_ns();
        has_moved |= cpu.replace(tile.what.cpu).is_some_and(|before| before != tile.what.cpu);
        if tile.what.state.is_waiting() {
            longest_ns = longest_ns.max(tile.duration_ns());
        }
    }
    // The next kept tile says its CPU again.
    *cpu = None;
    write_mix(bytes, (length, u64::from(has_moved)), &mix, longest_ns / unit_ns);
}

/// A gathered piece: which states there are, the weight of each, and the longest wait if there is
/// one.
pub(super) fn write_mix(
    bytes: &mut Bytes,
    (length, has_moved): (u64, u64),
    mix: &Mix,
    longest: u64,
) {
    const GATHERED: u64 = 8;
    bytes.number(length << 6 | has_moved << 4 | GATHERED);
    let present = mix.iter().enumerate().filter(|(_, ns)| **ns > 0);
    bytes.byte(present.fold(0, |mask, (state, _)| mask | 1 << state));
    let whole = mix.iter().sum();
    for ns in mix.iter().filter(|ns| **ns > 0) {
        bytes.weight(*ns, whole);
    }
    if mix[place(State::Woken)] + mix[place(State::Preempted)] > 0 {
        bytes.number(longest);
    }
}
