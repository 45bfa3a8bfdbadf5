//! The one way to both carriers: the shared ring and USDT.

use super::memory::{self, Memory};
use super::tables;
use super::thread::{self, Local};
use super::usdt::{self, Gate};
use crate::clock;
use hz_probes_ebpf::Kind;

/// A record but for its stamp.
pub(super) use super::usdt::Event as Record;

/// Emits `kind`, if anyone wants it. `record` says what, and is asked only then.
#[inline(always)]
pub(super) fn emit(kind: Kind, record: impl FnOnce(&Local) -> Record) {
    let gate = Gate::of(kind);
    if gate.is_open() {
        thread::with(|local| {
            let record = record(local);
            if gate.wants_usdt() {
                usdt::fire(kind, record);
            }
            if gate.wants_ring() {
                local.write(clock::stamp(), words(kind, record));
            }
        });
    }
}

/// Emits what has a name: in the ring that is `arg`, the number of a text.
#[inline(always)]
pub(super) fn emit_named(kind: Kind, name: &'static str, record: impl FnOnce(&Local) -> Record) {
    let gate = Gate::of(kind);
    if gate.is_open() {
        thread::with(|local| emit_text(gate, kind, name, record(local), local));
    }
}

#[inline(never)]
fn emit_text(gate: Gate, kind: Kind, name: &'static str, record: Record, local: &Local) {
    let arg = memory::get().map_or(0, |memory: &Memory| tables::text(local, memory, name));
    let record = Record { arg, ..record };
    if gate.wants_usdt() {
        usdt::fire_named(kind, record, name);
    }
    if gate.wants_ring() {
        local.write(clock::stamp(), words(kind, record));
    }
}

/// The words of a record that follow its stamp.
#[inline(always)]
pub(super) fn words(kind: Kind, record: Record) -> [u64; 3] {
    let aux = record.aux.min(u32::from(u16::MAX));
    let what = u64::from(kind as u16) | u64::from(aux) << 16 | u64::from(record.arg) << 32;
    [what, record.task, record.value]
}
