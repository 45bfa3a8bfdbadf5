//! Fills the tables of the unwinder in the kernel: a thread of its own reads files, since the biggest
//! take a tenth of a second.

use super::{
    elf_file::Elf,
    mappings::{Area, open},
    perf_ring::FileId,
    row_maps::RowMaps,
    rows,
};
use hz_probes_ebpf::{NO_TABLE, PLACES_MAX, Place, Places, TABLES_MAX};
use libbpf_rs::{MapCore as _, MapFlags, MapHandle};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use zerocopy::IntoBytes as _;

/// Rows of all tables together at the most: 512 MiB.
const ROWS_OF_ALL_MAX: usize = 64 << 20;

/// Files named that cannot be unwound, at the most.
const COMPLAINTS_MAX: usize = 8;

/// The thread, and what it is to do.
#[derive(Debug)]
pub(super) struct Tables {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Processes whose places are to be written anew; those that are gone have none.
    pending: BTreeMap<u32, Vec<Area>>,
    is_busy: bool,
    is_stopping: bool,
    complaints: BTreeSet<String>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    /// Begins with these maps, all empty.
    pub(super) fn start(places: MapHandle, rows: RowMaps) -> Self {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let mut builder = Builder { places, rows, files: HashMap::new(), room: ROWS_OF_ALL_MAX };
        let thread = thread::Builder::new().name("hz-unwind".to_owned()).spawn(move || {
            while let Some(jobs) = next(&theirs) {
                for (pid, areas) in jobs {
                    let complaints = builder.update(pid, &areas);
                    let mut state = theirs.lock();
                    let room = COMPLAINTS_MAX.saturating_sub(state.complaints.len());
                    state.complaints.extend(complaints.into_iter().take(room));
                }
                theirs.lock().is_busy = false;
                theirs.changed.notify_all();
            }
        });
        Self { shared, thread: thread.ok() }
    }

    /// Says where a process has code now; nowhere: it is gone.
    pub(super) fn update(&self, pid: u32, areas: Vec<Area>) {
        self.shared.lock().pending.insert(pid, areas);
        self.shared.changed.notify_all();
    }

    /// Waits until everything is written, or for so long.
    pub(super) fn settle(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut state = self.shared.lock();
        while self.thread.is_some() && (state.is_busy || !state.pending.is_empty()) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
        }
    }

    /// Files that cannot be unwound, a phrase each.
    pub(super) fn complaints(&self) -> Vec<String> {
        self.shared.lock().complaints.iter().cloned().collect()
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        self.shared.lock().is_stopping = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // If it has panicked, its tables end; the recording does not.
            let _ = thread.join();
        }
    }
}

/// Waits for jobs; `None`: there will be none.
fn next(shared: &Shared) -> Option<BTreeMap<u32, Vec<Area>>> {
    let mut state = shared.lock();
    loop {
        if state.is_stopping {
            return None;
        }
        if !state.pending.is_empty() {
            state.is_busy = true;
            return Some(std::mem::take(&mut state.pending));
        }
        state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

/// What tells a table from others.
type Key = (FileId, Arc<[u8]>);

/// A file whose rows are in the kernel, or that has none.
#[derive(Debug)]
struct Table {
    number: u32,
    elf: Elf,
}

struct Builder {
    places: MapHandle,
    rows: RowMaps,
    files: HashMap<Key, Table>,
    /// Rows that there is memory for.
    room: usize,
}

impl Builder {
    /// Writes where a process has code; what is amiss, a phrase each.
    fn update(&mut self, pid: u32, areas: &[Area]) -> Vec<String> {
        let key = pid.to_ne_bytes();
        if areas.is_empty() {
            // It may never have been there.
            let _ = self.places.delete(&key);
            return Vec::new();
        }
        let mut complaints = Vec::new();
        let is_known = |area: &Area| self.files.contains_key(&(area.file, Arc::clone(&area.path)));
        if !areas.iter().all(is_known) {
            // Reading takes a while. Till then there are frame pointers.
            let now = areas.iter().map(|area| self.known_place(area)).collect();
            self.write(pid, now, &mut complaints);
        }
        let found = areas.iter().map(|area| self.place(pid, area, &mut complaints)).collect();
        self.write(pid, found, &mut complaints);
        complaints
    }

    /// Writes the places of a process.
    fn write(&self, pid: u32, mut found: Vec<Place>, complaints: &mut Vec<String>) {
        if found.len() > PLACES_MAX {
            complaints.push(format!(
                "stacks through {} of the {} executable mappings of process {pid}: the unwinder keeps {PLACES_MAX}",
                found.len() - PLACES_MAX,
                found.len()
            ));
            // Frame pointers can do without.
            found.sort_by_key(|place| (place.table == NO_TABLE, place.start));
            found.truncate(PLACES_MAX);
            found.sort_by_key(|place| place.start);
        }
        let count = u32::try_from(found.len()).unwrap_or(0);
        let mut places = Places { count, reserved: 0, places: [Place::default(); PLACES_MAX] };
        places.places[..found.len()].copy_from_slice(&found);
        if let Err(error) = self.places.update(&pid.to_ne_bytes(), places.as_bytes(), MapFlags::ANY)
        {
            complaints.push(format!("unwinding of process {pid}: {error}"));
        }
    }

    fn place(&mut self, pid: u32, area: &Area, complaints: &mut Vec<String>) -> Place {
        let key = (area.file, Arc::clone(&area.path));
        if !self.files.contains_key(&key) {
            let table = self.read(pid, area).unwrap_or_else(|complaint| {
                complaints.push(complaint);
                Table { number: NO_TABLE, elf: Elf::default() }
            });
            self.files.insert(key, table);
        }
        self.known_place(area)
    }

    /// As far as its file was read.
    fn known_place(&self, area: &Area) -> Place {
        let key = (area.file, Arc::clone(&area.path));
        let bytes = u32::try_from(area.end - area.start).unwrap_or(u32::MAX);
        let plain = Place { start: area.start, base: area.start, bytes, table: NO_TABLE };
        let Some(table) = self.files.get(&key) else { return plain };
        let Some(address) = table.elf.address_of(area.offset) else { return plain };
        let bias = area.start.wrapping_sub(address);
        Place { base: bias.wrapping_add(table.elf.lowest()), table: table.number, ..plain }
    }

    /// Puts the rows of an area's file into the kernel.
    fn read(&mut self, pid: u32, area: &Area) -> Result<Table, String> {
        let none = |elf| Ok(Table { number: NO_TABLE, elf });
        let elf = if &*area.path == b"[vdso]" {
            Elf::read(&own_vdso()[..])
        } else if area.file.inode == 0 {
            // Code that was made while the program ran has no rules to be found in a file.
            return none(Elf::default());
        } else {
            let gone = || format!("{}: cannot be opened", named(area));
            Elf::read(&open(pid, area).ok_or_else(gone)?)
        };
        let elf = elf.ok_or_else(|| format!("{}: no ELF file of 64 bits", named(area)))?;
        let rows = rows::build(&elf);
        // What is read is not needed any more.
        let elf = Elf { eh_frame: None, plts: Vec::new(), ..elf };
        if rows.is_empty() {
            return Err(format!("{}: it says nothing of how to leave its functions", named(area)));
        }
        if self.rows.count() as usize >= TABLES_MAX || rows.len() > self.room {
            return Err(format!("{}: no more tables fit", named(area)));
        }
        self.room -= rows.len();
        let number = self.rows.insert(&rows);
        let number = number.map_err(|error| format!("{}: {error}", named(area)))?;
        Ok(Table { number, elf })
    }
}

fn named(area: &Area) -> String {
    format!("unwinding of {}", String::from_utf8_lossy(&area.path))
}

/// The kernel's page of code for processes, which is the same for all of 64 bits: its bytes.
pub(super) fn own_vdso() -> Vec<u8> {
    use std::os::unix::fs::FileExt as _;
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let line = maps.lines().find(|line| line.ends_with("[vdso]"));
    let range = line.and_then(|line| line.split(' ').next()?.split_once('-'));
    let number = |text| u64::from_str_radix(text, 16).ok();
    let range = range.and_then(|(start, end)| Some((number(start)?, number(end)?)));
    let (Some((start, end)), Ok(memory)) = (range, std::fs::File::open("/proc/self/mem")) else {
        return Vec::new();
    };
    let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(0)];
    if memory.read_exact_at(&mut bytes, start).is_ok() { bytes } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_page_has_rows() {
        let elf = Elf::read(&own_vdso()[..]).unwrap();
        assert!(cfg!(not(target_arch = "x86_64")) || !rows::build(&elf).is_empty());
        assert!(elf.address_of(0).is_some(), "{:?}", elf.segments);
    }
}
