//! What each thread remembers of the tables, so that a place or text that it saw before costs no
//! lock.

use std::cell::Cell;

const TEXTS: usize = 32;
const SITES: usize = 64;

/// Numbers by addresses of what is `'static`; a place is overwritten by the next that falls on it.
pub(super) struct Caches {
    texts: [Cell<(usize, usize, u32)>; TEXTS],
    sites: [Cell<(SiteKey, Names)>; SITES],
}

/// What tells one spawn site from another.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct SiteKey {
    /// Address of the `Location`.
    pub(super) location: usize,
    /// Address of the future's type's name: generic code spawns many types at one place.
    pub(super) future: usize,
    /// Hash of the task's name, which may lie anywhere; 0: none.
    pub(super) name: u64,
}

/// What a spawned task is called by in the tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) site: u32,
    pub(super) name: u32,
}

impl Caches {
    pub(super) const fn new() -> Self {
        const NO_SITE: (SiteKey, Names) =
            (SiteKey { location: 0, future: 0, name: 0 }, Names { site: 0, name: 0 });
        Self {
            texts: [const { Cell::new((0, 0, 0)) }; TEXTS],
            sites: [const { Cell::new(NO_SITE) }; SITES],
        }
    }

    /// The number of `text`, from `intern` at first sight.
    #[inline]
    pub(super) fn text(&self, text: &'static str, intern: impl FnOnce(&str) -> u32) -> u32 {
        let address = text.as_ptr() as usize;
        let place = &self.texts[(address >> 3) % TEXTS];
        let (known, bytes, number) = place.get();
        if known == address && bytes == text.len() {
            return number;
        }
        let number = intern(text);
        place.set((address, text.len(), number));
        number
    }

    /// The numbers of a site, from `intern` at first sight.
    #[inline]
    pub(super) fn site(&self, key: SiteKey, intern: impl FnOnce() -> Names) -> Names {
        let mixed = (key.location >> 3) ^ (key.future >> 2) ^ key.name as usize;
        let place = &self.sites[(mixed ^ mixed >> 6) % SITES];
        let (known, names) = place.get();
        if known == key {
            return names;
        }
        let names = intern();
        place.set((key, names));
        names
    }
}

/// A hash that is never 0.
#[inline]
pub(super) fn hash(bytes: &[u8]) -> u64 {
    // An odd number with bits everywhere: 2^64 divided by the golden ratio.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = bytes.len() as u64;
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(FACTOR).rotate_left(29);
    }
    (hash ^ hash >> 32) | 1
}
