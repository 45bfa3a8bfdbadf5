//! Stacks: interned without a lock and without allocating, since the allocator itself asks.

use super::memory::Memory;
use super::words::StackWords;
use std::sync::atomic::{AtomicU32, Ordering};

/// How far from its place a stack is looked for.
const PROBES: usize = 32;

/// Finds stacks by hash. Private to the process.
#[derive(Debug)]
pub(super) struct Index {
    /// Numbers of stacks, 0: free; a power of two of them.
    places: Box<[AtomicU32]>,
    /// Stacks whose slot was given out.
    count: AtomicU32,
}

impl Index {
    pub(super) fn new(stacks: usize) -> Self {
        let places = (2 * stacks).next_power_of_two();
        Self { places: (0..places).map(|_| AtomicU32::new(0)).collect(), count: AtomicU32::new(0) }
    }
}

/// The number of a stack, leaf first; 0: there is no room for it.
pub(super) fn intern(memory: &Memory, addresses: &[u64], is_cut: bool) -> u32 {
    let index = &memory.stack_index;
    let is_cut = is_cut || addresses.len() > STACK_FRAMES;
    let frames = &addresses[..addresses.len().min(STACK_FRAMES)];
    if frames.is_empty() {
        return 0;
    }
    let hash = hash(frames, is_cut);
    let mut mine = 0;
    for step in 0..PROBES {
        let place = &index.places[(hash as usize).wrapping_add(step) & (index.places.len() - 1)];
        let mut found = place.load(Ordering::Acquire);
        if found == 0 {
            if mine == 0 {
                mine = append(memory, frames, is_cut, hash);
            }
            match place.compare_exchange(0, mine, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return mine,
                Err(other) => found = other,
            }
        }
        // If another thread wrote the same one meanwhile, mine stays unused: no harm.
        if is_same(memory, found, frames, hash) {
            return found;
        }
    }
    memory.page.table_overflow.fetch_add(1, Ordering::Relaxed);
    mine
}

const STACK_FRAMES: usize = hz_probes_ebpf::runtime::STACK_FRAMES;

fn is_same(memory: &Memory, number: u32, frames: &[u64], hash: u64) -> bool {
    let Some(slot) = (number as usize).checked_sub(1).and_then(|place| memory.stacks.get(place))
    else {
        return false;
    };
    slot.hash.load(Ordering::Relaxed) == hash
        && slot.frames.load(Ordering::Relaxed) as usize == frames.len()
        && slot
            .addresses
            .iter()
            .zip(frames)
            .all(|(word, frame)| word.load(Ordering::Relaxed) == *frame)
}

/// Writes a new stack, and returns its number; 0: there is no room.
fn append(memory: &Memory, frames: &[u64], is_cut: bool, hash: u64) -> u32 {
    let slots = memory.stacks.len() as u32;
    let add = |count: u32| (count < slots).then_some(count + 1);
    let taken = memory.stack_index.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    let slot = taken.ok().and_then(|place| Some((place, memory.stacks.get(place as usize)?)));
    let Some((place, slot)) = slot else {
        memory.page.table_overflow.fetch_add(1, Ordering::Relaxed);
        return 0;
    };
    write(slot, frames, is_cut, hash);
    memory.page.stacks_used.fetch_max(place + 1, Ordering::Release);
    place + 1
}

fn write(slot: &StackWords, frames: &[u64], is_cut: bool, hash: u64) {
    for (word, frame) in slot.addresses.iter().zip(frames) {
        word.store(*frame, Ordering::Relaxed);
    }
    slot.is_cut.store(u32::from(is_cut), Ordering::Relaxed);
    slot.hash.store(hash, Ordering::Relaxed);
    // Last: a stack with no frames is not whole.
    slot.frames.store(frames.len() as u32, Ordering::Release);
}

fn hash(frames: &[u64], is_cut: bool) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let seed = u64::from(is_cut) + 1;
    let mix = |hash: u64, frame: &u64| (hash ^ frame).wrapping_mul(FACTOR).rotate_left(29);
    let hash = frames.iter().fold(seed, mix);
    hash ^ hash >> 32
}
