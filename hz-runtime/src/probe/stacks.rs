//! Stacks: interned without a lock and without allocating, since the allocator itself asks.

use super::atomic::{AtomicU32, AtomicU64, Ordering};
use super::memory::Memory;
use super::words::StackWords;

/// How far from its place a stack is looked for; not far in models, which try every order.
const PROBES: usize = if cfg!(hz_loom) { 2 } else { 32 };

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

/// The table of stacks, and the index that finds them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interner<'a> {
    pub(super) index: &'a Index,
    pub(super) slots: &'a [StackWords],
    /// Slots up to the last one that was written.
    pub(super) used: &'a AtomicU32,
    /// Stacks for which there was no room.
    pub(super) overflow: &'a AtomicU64,
}

impl Memory {
    pub(super) const fn stacks(&self) -> Interner<'_> {
        Interner {
            index: &self.stack_index,
            slots: self.stacks,
            used: &self.page.stacks_used,
            overflow: &self.page.table_overflow,
        }
    }
}

impl Interner<'_> {
    /// The number of a stack, leaf first; 0: there is no room for it.
    pub(super) fn intern(&self, addresses: &[u64], is_cut: bool) -> u32 {
        let is_cut = is_cut || addresses.len() > STACK_FRAMES;
        let frames = &addresses[..addresses.len().min(STACK_FRAMES)];
        if frames.is_empty() {
            return 0;
        }
        let hash = hash(frames, is_cut);
        let places = &self.index.places;
        let mut mine = 0;
        for step in 0..PROBES {
            let place = &places[(hash as usize).wrapping_add(step) & (places.len() - 1)];
            let mut found = place.load(Ordering::Acquire);
            if found == 0 {
                if mine == 0 {
                    mine = self.append(frames, is_cut, hash);
                }
                match place.compare_exchange(0, mine, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => return mine,
                    Err(other) => found = other,
                }
            }
            // If another thread wrote the same one meanwhile, mine stays unused: no harm.
            if self.is_same(found, frames, hash) {
                return found;
            }
        }
        self.overflow.fetch_add(1, Ordering::Relaxed);
        mine
    }

    fn is_same(&self, number: u32, frames: &[u64], hash: u64) -> bool {
        let slot = (number as usize).checked_sub(1).and_then(|place| self.slots.get(place));
        let Some(slot) = slot else { return false };
        let mut words = slot.addresses.iter().zip(frames);
        slot.hash.load(Ordering::Relaxed) == hash
            && slot.frames.load(Ordering::Relaxed) as usize == frames.len()
            && words.all(|(word, frame)| word.load(Ordering::Relaxed) == *frame)
    }

    /// Writes a new stack, and returns its number; 0: there is no room.
    fn append(&self, frames: &[u64], is_cut: bool, hash: u64) -> u32 {
        let slots = self.slots.len() as u32;
        let add = |count: u32| (count < slots).then_some(count + 1);
        let taken = self.index.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        let slot = taken.ok().and_then(|place| Some((place, self.slots.get(place as usize)?)));
        let Some((place, slot)) = slot else {
            self.overflow.fetch_add(1, Ordering::Relaxed);
            return 0;
        };
        write(slot, frames, is_cut, hash);
        self.used.fetch_max(place + 1, Ordering::Release);
        place + 1
    }
}

const STACK_FRAMES: usize = hz_probes_ebpf::runtime::STACK_FRAMES;

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
