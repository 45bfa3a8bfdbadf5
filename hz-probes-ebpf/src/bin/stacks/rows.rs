//! Looks up which rule unwinds an address.

use crate::ROWS;
use core::arch::asm;
use hz_probes_ebpf::{Cfa, PLACES_MAX, Place, Places, Row, SEARCH_STEPS};

/// The place that an address is in.
#[inline(always)]
pub(crate) fn find_place(places: *const Places, pc: u64) -> Option<*const Place> {
    // SAFETY: a map value.
    let count = unsafe { (*places).count };
    let (mut low, mut high) = (0, count);
    let mut found = PLACES_MAX as u32;
    for _ in 0..8 {
        if low >= high {
            break;
        }
        let middle = (low + high) >> 1;
        let place = place_at(places, middle)?;
        // SAFETY: a map value.
        if unsafe { (*place).start } <= pc {
            found = middle;
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let place = place_at(places, found)?;
    // SAFETY: a map value.
    let (start, bytes) = unsafe { ((*place).start, (*place).bytes) };
    (pc.wrapping_sub(start) < u64::from(bytes)).then_some(place)
}

/// The compiler knows nothing of the result: else it checks a number and uses another that it has made
/// of it, of which the verifier does not know that it was checked.
#[inline(always)]
fn opaque(mut number: u64) -> u64 {
    // SAFETY: moves a register to itself.
    unsafe { asm!("{0} = {0}", inout(reg) number, options(nomem, nostack, preserves_flags)) };
    number
}

#[inline(always)]
fn place_at(places: *const Places, index: u32) -> Option<*const Place> {
    let index = opaque(u64::from(index));
    if index >= PLACES_MAX as u64 {
        return None;
    }
    // SAFETY: a map value, and the index is inside.
    Some(unsafe { (&raw const (*places).places).cast::<Place>().add(index as usize) })
}

/// The rule for an address, relative to its place's base.
#[inline(always)]
pub(crate) fn find_rule(table: u32, pc: u32) -> u32 {
    let unknown = Cfa::Unknown as u32;
    let Some(rows) = ROWS.get(table) else { return unknown };
    let Some(Row { pc: count, .. }) = rows.get(0) else { return unknown };
    let (mut low, mut high) = (1, *count + 1);
    let mut rule = unknown;
    for _ in 0..SEARCH_STEPS {
        if low >= high {
            break;
        }
        let middle = (low + high) >> 1;
        let Some(row) = rows.get(middle) else { break };
        if row.pc <= pc {
            rule = row.rule;
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    rule
}
