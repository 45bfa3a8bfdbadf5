//! Names for the addresses of stacks, found after capture, a file at a time.

mod files;
mod perf_map;
mod table;

pub use table::{FileNote, Function, SymbolChunk, SymbolTable};

use super::{elf, names::Names};
use crate::model::{MappedFile, Place, Stacks};
use blazesym::{
    MaybeDefault, Pid,
    symbolize::{
        Input, Sym, Symbolized, Symbolizer,
        source::{Elf, Kernel, Process, Source},
    },
};
pub use files::build_id;
use files::{Found, guarded};
use object::ReadCache;
use perf_map::PerfMap;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Addresses that are looked up at once: often enough to show progress.
const BATCH: usize = 1_024;

/// Where distributions put debug information.
const DEBUG_DIR: &str = "/usr/lib/debug";

/// How names are found.
#[derive(Clone, Debug, Default)]
pub struct SymbolSettings {
    /// Directories of debug information, before the system's own.
    pub debug_dirs: Vec<PathBuf>,
    /// Whether the kernel that runs now is the one that was recorded, in the same run.
    pub is_same_boot: bool,
}

/// Finds the names of every address in `stacks` that `known` has none of, and tells
/// `progress` how many of how many are done.
///
/// Files that cannot be read are left out and said in the table's notes. Nothing in a file makes this
/// panic or never end.
#[must_use]
pub fn symbolize(
    stacks: &Stacks,
    known: &SymbolTable,
    settings: &SymbolSettings,
    progress: &mut dyn FnMut(usize, usize),
) -> SymbolTable {
    let wanted = Wanted::of(stacks, known);
    let mut debug_dirs = settings.debug_dirs.clone();
    debug_dirs.push(PathBuf::from(DEBUG_DIR));
    let total = wanted.len();
    let table = SymbolTable::default();
    let demangled = FxHashMap::default();
    let mut work = Work { stacks, known, debug_dirs, table, demangled, done: 0, total, progress };
    if settings.is_same_boot {
        work.kernel(&wanted.kernel);
    }
    for (number, offsets) in &wanted.files {
        if let Some(file) = stacks.files.get(number) {
            work.file(*number, file, offsets, settings.is_same_boot);
        }
    }
    for (pid, addresses) in &wanted.processes {
        work.process(*pid, addresses);
    }
    (work.progress)(total, total);
    work.table
}

/// Addresses that have no name yet, each once.
#[derive(Debug, Default)]
struct Wanted {
    kernel: Vec<u64>,
    files: BTreeMap<u32, Vec<u64>>,
    processes: BTreeMap<u32, Vec<u64>>,
}

impl Wanted {
    fn of(stacks: &Stacks, known: &SymbolTable) -> Self {
        let mut wanted = Self::default();
        for place in stacks.distinct_places() {
            if known.functions(place).is_some() {
                continue;
            }
            match place {
                Place::Kernel(address) => wanted.kernel.push(address),
                Place::File(file, offset) => wanted.files.entry(file).or_default().push(offset),
                Place::Process(pid, address) => {
                    wanted.processes.entry(pid).or_default().push(address);
                }
            }
        }
        wanted
    }

    fn len(&self) -> usize {
        let all = self.files.values().chain(self.processes.values());
        self.kernel.len() + all.map(Vec::len).sum::<usize>()
    }
}

/// Symbolization under way.
struct Work<'a> {
    stacks: &'a Stacks,
    known: &'a SymbolTable,
    debug_dirs: Vec<PathBuf>,
    table: SymbolTable,
    /// Numbers of names by what the linker calls them.
    demangled: FxHashMap<String, u32>,
    done: usize,
    total: usize,
    progress: &'a mut dyn FnMut(usize, usize),
}

impl Work<'_> {
    /// One for each file: what it read of one is not needed for the next.
    fn symbolizer(&self) -> Symbolizer {
        // Names are demangled here, where a hostile one cannot grow without end.
        let builder = Symbolizer::builder().enable_demangling(false).enable_auto_reload(false);
        builder.set_debug_dirs(Some(&self.debug_dirs)).build()
    }

    fn kernel(&mut self, addresses: &[u64]) {
        // An image of the kernel would take a gigabyte and tell inlined functions only.
        let kernel = Kernel { vmlinux: MaybeDefault::None, ..Kernel::default() };
        let source = Source::Kernel(kernel);
        // Without a right to read it, nothing is known of the kernel's: the addresses stay.
        let _ = self.look_up(&source, addresses, <[u64]>::to_vec, Place::Kernel);
    }

    fn file(&mut self, number: u32, file: &MappedFile, offsets: &[u64], is_same_boot: bool) {
        let place = |offset| Place::File(number, offset);
        if file.path == "[vdso]" {
            if let Some(base) = own_vdso().filter(|_| is_same_boot) {
                let source = Source::Process(Process { perf_map: false, ..Process::new(Pid::Slf) });
                let at = |batch: &[u64]| batch.iter().map(|offset| base + offset).collect();
                let _ = self.look_up(&source, offsets, at, place);
            }
            return;
        }
        let found = files::find(self.stacks, number, file, &self.debug_dirs);
        let found = found.and_then(|found| self.segments(number, file, found));
        let mut note = FileNote::default();
        match found {
            Ok((path, segments)) => {
                let source = Source::Elf(Elf::new(path));
                let at = |batch: &[u64]| {
                    batch.iter().map(|offset| address(&segments, *offset)).collect()
                };
                let result = self.look_up(&source, offsets, at, place);
                note.reason = result.err().unwrap_or_default();
                note.segments = segments;
            }
            Err(reason) => {
                note.reason = reason;
                note.segments =
                    self.known.note(number).map_or_else(Vec::new, |note| note.segments.clone());
                self.advance(offsets.len());
            }
        }
        self.table.set_note(number, file, note);
    }

    /// The file to read, and how its bytes are mapped.
    fn segments(
        &self,
        number: u32,
        file: &MappedFile,
        found: Found,
    ) -> Result<(PathBuf, Vec<[u64; 3]>), String> {
        match found {
            Found::Whole(path) => {
                let segments = segments_of(&path)
                    .ok_or_else(|| format!("{} is no ELF file, or damaged", path.display()))?;
                // Where there is debug information for it, that knows more than the file itself.
                let debug = files::debug_file(file, &self.debug_dirs);
                Ok((debug.unwrap_or(path), segments))
            }
            Found::Debug(path) => {
                let known = self.known.note(number).map(|note| note.segments.clone());
                let segments = known.filter(|segments| !segments.is_empty()).ok_or_else(|| {
                    format!("{} is there, but not the file it is of, and the recording does not say how that is laid out", path.display())
                })?;
                Ok((path, segments))
            }
        }
    }

    fn process(&mut self, pid: u32, addresses: &[u64]) {
        if let Some(map) = PerfMap::of(pid) {
            for address in addresses {
                let Some(name) = map.name(*address) else { continue };
                let name = self.table.number(name);
                let function = Function { name, source: 0, line: 0 };
                self.table.insert(Place::Process(pid, *address), vec![function]);
            }
        }
        self.advance(addresses.len());
    }

    /// Looks addresses up in one source. `at` says what they are there.
    fn look_up(
        &mut self,
        source: &Source<'_>,
        addresses: &[u64],
        at: impl Fn(&[u64]) -> Vec<u64>,
        place: impl Fn(u64) -> Place,
    ) -> Result<(), String> {
        let symbolizer = self.symbolizer();
        for batch in addresses.chunks(BATCH) {
            let inputs = at(batch);
            let input = match source {
                Source::Elf(_) => Input::VirtOffset(&inputs[..]),
                _ => Input::AbsAddr(&inputs[..]),
            };
            let symbols =
                guarded(|| symbolizer.symbolize(source, input).map_err(|error| error.to_string()));
            match symbols {
                Ok(symbols) => {
                    for (address, symbol) in batch.iter().zip(symbols) {
                        let Symbolized::Sym(symbol) = symbol else { continue };
                        let functions = self.functions(&symbol);
                        self.table.insert(place(*address), functions);
                    }
                }
                Err(error) => {
                    self.advance(addresses.len());
                    return Err(error);
                }
            }
            self.advance(batch.len());
        }
        Ok(())
    }

    fn functions(&mut self, symbol: &Sym<'_>) -> Vec<Function> {
        let outer = (&*symbol.name, symbol.code_info.as_deref());
        let inlined = symbol.inlined.iter().map(|each| (&*each.name, each.code_info.as_ref()));
        let all = std::iter::once(outer).chain(inlined);
        all.map(|(name, code)| {
            let name = self.name(name);
            let source =
                code.map_or(0, |code| self.table.number(&code.to_path().to_string_lossy()));
            Function { name, source, line: code.and_then(|code| code.line).unwrap_or(0) }
        })
        .collect()
    }

    fn name(&mut self, linked: &str) -> u32 {
        if let Some(number) = self.demangled.get(linked) {
            return *number;
        }
        let number = self.table.number(&Names::of(linked).shown);
        self.demangled.insert(linked.to_owned(), number);
        number
    }

    fn advance(&mut self, count: usize) {
        self.done = (self.done + count).min(self.total);
        (self.progress)(self.done, self.total);
    }
}

/// The executable segments of an ELF file: offset, bytes, address.
fn segments_of(path: &Path) -> Option<Vec<[u64; 3]>> {
    let data = ReadCache::new(File::open(path).ok()?);
    elf::code_segments(&data)
}

/// The address of a file's byte in its own address space.
fn address(segments: &[[u64; 3]], offset: u64) -> u64 {
    let found = segments.iter().find_map(|[start, bytes, address]| {
        let into = offset.checked_sub(*start)?;
        (into < *bytes).then(|| address.wrapping_add(into))
    });
    // No address of a file is as large.
    found.unwrap_or(u64::MAX)
}

/// Where the kernel put its own library into this process.
fn own_vdso() -> Option<u64> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with("[vdso]"))?;
    u64::from_str_radix(line.split('-').next()?, 16).ok()
}

#[cfg(test)]
mod tests;
