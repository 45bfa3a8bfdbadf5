//! Texts and spawn sites: written once, named by number from then on.

use super::atomic::{AtomicU32, Ordering};
use super::cache::{Names, SiteKey, hash};
use super::memory::Memory;
use super::task::Spawn;
use super::thread::Local;
use super::words::{SiteWords, TextWords};
use std::collections::HashMap;
use std::panic::Location;
use std::sync::{Mutex, PoisonError};

/// Names of tasks that get a site of their own at one place. Were they unbounded, a program that
/// names a task after each connection would fill the table; its other tasks have only their name in
/// the directory.
const NAMES_PER_PLACE: u32 = 64;

/// Whose lock is taken only at first sight of a text or site by a thread.
#[derive(Default)]
struct Tables {
    texts: HashMap<Box<str>, u32>,
    sites: HashMap<Site, u32>,
    names_at: HashMap<Site, u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Site {
    name: u32,
    file: u32,
    line: u32,
    column: u32,
    future: u32,
    future_bytes: u32,
}

static TABLES: Mutex<Option<Tables>> = Mutex::new(None);

/// The number of a text that lives as long as the program.
#[inline]
pub(super) fn text(local: &Local, memory: &Memory, text: &'static str) -> u32 {
    local.caches.text(text, |text| intern(memory, text))
}

#[cold]
#[inline(never)]
fn intern(memory: &Memory, text: &str) -> u32 {
    locked(|tables| tables.text(memory, text))
}

/// The numbers of the place and the name that a task is spawned with.
#[inline]
pub(super) fn names(local: &Local, memory: &Memory, spawn: &Spawn<'_>) -> Names {
    let key = SiteKey {
        location: std::ptr::from_ref::<Location<'_>>(spawn.location) as usize,
        future: spawn.future.as_ptr() as usize,
        name: spawn.name.map_or(0, |name| hash(name.as_bytes())),
    };
    local.caches.site(key, || locked(|tables| tables.names(memory, spawn)))
}

#[cold]
fn locked<R>(run: impl FnOnce(&mut Tables) -> R) -> R {
    let mut tables = TABLES.lock().unwrap_or_else(PoisonError::into_inner);
    run(tables.get_or_insert_default())
}

impl Tables {
    fn text(&mut self, memory: &Memory, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        if let Some(number) = self.texts.get(text) {
            return *number;
        }
        let number =
            append(memory, memory.texts, &memory.page.texts_used, self.texts.len(), |slot| {
                write_text(slot, text);
            });
        if number != 0 {
            self.texts.insert(text.into(), number);
        }
        number
    }

    fn names(&mut self, memory: &Memory, spawn: &Spawn<'_>) -> Names {
        let place = Site {
            name: 0,
            file: self.text(memory, spawn.location.file()),
            line: spawn.location.line(),
            column: spawn.location.column(),
            future: self.text(memory, spawn.future),
            future_bytes: u32::try_from(spawn.future_bytes).unwrap_or(u32::MAX),
        };
        let name = spawn.name.map_or(0, |name| self.text(memory, name));
        Names { site: self.site(memory, place, name), name }
    }

    fn site(&mut self, memory: &Memory, place: Site, name: u32) -> u32 {
        let mut site = Site { name, ..place };
        if let Some(number) = self.sites.get(&site) {
            return *number;
        }
        let names = self.names_at.entry(place).or_default();
        if *names >= NAMES_PER_PLACE && name != 0 {
            site = place;
            if let Some(number) = self.sites.get(&site) {
                return *number;
            }
        }
        *names += 1;
        let number =
            append(memory, memory.sites, &memory.page.sites_used, self.sites.len(), |slot| {
                write_site(slot, &site);
            });
        if number != 0 {
            self.sites.insert(site, number);
        }
        number
    }
}

/// Writes the slot after the `len` that are there, and returns its number; 0: there is no room.
fn append<T>(
    memory: &Memory,
    slots: &[T],
    used: &AtomicU32,
    len: usize,
    write: impl FnOnce(&T),
) -> u32 {
    let (Some(slot), Ok(number)) = (slots.get(len), u32::try_from(len + 1)) else {
        memory.page.table_overflow.fetch_add(1, Ordering::Relaxed);
        return 0;
    };
    write(slot);
    used.store(number, Ordering::Release);
    number
}

fn write_text(slot: &TextWords, text: &str) {
    slot.bytes.store(u32::try_from(text.len()).unwrap_or(u32::MAX), Ordering::Relaxed);
    for (word, chunk) in slot.text.iter().zip(text.as_bytes().chunks(4)) {
        let mut bytes = [0; 4];
        bytes[..chunk.len()].copy_from_slice(chunk);
        word.store(u32::from_ne_bytes(bytes), Ordering::Relaxed);
    }
}

fn write_site(slot: &SiteWords, site: &Site) {
    slot.name.store(site.name, Ordering::Relaxed);
    slot.file.store(site.file, Ordering::Relaxed);
    slot.line.store(site.line, Ordering::Relaxed);
    slot.column.store(site.column, Ordering::Relaxed);
    slot.future.store(site.future, Ordering::Relaxed);
    slot.future_bytes.store(site.future_bytes, Ordering::Relaxed);
}
