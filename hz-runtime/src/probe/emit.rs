//! The one way to both carriers: the shared ring and USDT.

use super::memory::{self, Memory};
use super::tables;
use super::thread;
use super::usdt::{self, Gate};
use crate::clock;
use hz_probes_ebpf::Kind;

/// A record but for its stamp.
pub(super) use super::usdt::Event as Record;

/// Emits `kind`, if anyone wants it. `record` says what, and is asked only then.
#[inline(always)]
pub(super) fn emit(kind: Kind, record: impl FnOnce() -> Record) {
    let gate = Gate::of(kind);
    if gate.is_open() {
        let record = record();
        if gate.wants_usdt() {
            usdt::fire(kind, record);
        }
        if gate.wants_ring() {
            let [what, task, value] = words(kind, record);
            write_now(what, task, value);
        }
    }
}

/// Emits what has a name: in the ring that is `arg`, the number of a text.
#[inline(always)]
pub(super) fn emit_named(kind: Kind, name: &'static str, record: impl FnOnce() -> Record) {
    let gate = Gate::of(kind);
    if gate.is_open() {
        let text = |memory: &Memory| thread::with(|local| tables::text(local, memory, name));
        let record = Record { arg: memory::get().map_or(0, text), ..record() };
        if gate.wants_usdt() {
            usdt::fire_named(kind, record, name);
        }
        if gate.wants_ring() {
            let [what, task, value] = words(kind, record);
            write_now(what, task, value);
        }
    }
}

/// Writes a record, now.
#[inline(always)]
fn write_now(what: u64, task: u64, value: u64) {
    thread::with(|local| local.write(clock::stamp(), [what, task, value]));
}

/// The words of a record that follow its stamp.
#[inline(always)]
pub(super) fn words(kind: Kind, record: Record) -> [u64; 3] {
    let aux = record.aux.min(u32::from(u16::MAX));
    let what = u64::from(kind as u16) | u64::from(aux) << 16 | u64::from(record.arg) << 32;
    [what, record.task, record.value]
}
