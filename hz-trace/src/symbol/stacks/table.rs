//! Names of the functions that addresses lie in, found once and kept.

use crate::model::{MappedFile, Place};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Addresses in a [`SymbolChunk`]: small enough for a chunk of a recording, whatever their names.
const CHUNK_ADDRESSES: usize = 8_192;

/// Bytes of a name; the rest is cut. A Rust name with its generics has some hundred.
const NAME_BYTES: usize = 1_024;

/// A function at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Function {
    /// Its name: a number for [`SymbolTable::text`].
    pub name: u32,
    /// Its source file: a number for [`SymbolTable::text`], 0: not known.
    pub source: u32,
    /// The line there, 0: not known.
    pub line: u32,
}

/// What became of a file's symbols, and what is to be known to add them later.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileNote {
    /// Its path, as its process saw it.
    pub path: String,
    /// Why its addresses have no names; empty: they have, as far as it tells them.
    pub reason: String,
    /// Executable segments: offset in the file, bytes, address in the file's own address space.
    pub segments: Vec<[u64; 3]>,
}

/// Names by place. Names are kept once.
#[derive(Clone, Debug, Default)]
pub struct SymbolTable {
    texts: Vec<String>,
    by_text: FxHashMap<String, u32>,
    functions: FxHashMap<Place, Box<[Function]>>,
    notes: BTreeMap<u32, FileNote>,
}

/// A part of a [`SymbolTable`] as it is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SymbolChunk {
    /// Names and source files; the functions say which by place, from 1.
    pub texts: Vec<String>,
    /// Places: `[0, 0, address]` in the kernel, `[1, file, offset]`, `[2, process, address]`.
    pub places: Vec<[u64; 3]>,
    /// For each place its functions, outermost first: name, source file, line each.
    pub functions: Vec<Vec<[u32; 3]>>,
    /// Files, by number.
    pub files: BTreeMap<u32, FileNote>,
}

impl SymbolTable {
    /// Functions at a place: the outermost, then those inlined into it, each into the one before.
    #[must_use]
    pub fn functions(&self, place: Place) -> Option<&[Function]> {
        self.functions.get(&place).map(AsRef::as_ref)
    }

    /// Text number `number`.
    #[must_use]
    pub fn text(&self, number: u32) -> &str {
        let place = (number as usize).checked_sub(1);
        place.and_then(|place| self.texts.get(place)).map_or("", String::as_str)
    }

    /// What is known of a file.
    #[must_use]
    pub fn note(&self, file: u32) -> Option<&FileNote> {
        self.notes.get(&file)
    }

    /// What is known of every file, by number.
    pub fn notes(&self) -> impl Iterator<Item = (u32, &FileNote)> {
        self.notes.iter().map(|(number, note)| (*number, note))
    }

    /// Places that have names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.functions.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty() && self.notes.is_empty()
    }

    /// The number of a text; a long one is cut.
    pub(super) fn number(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let end = text.floor_char_boundary(NAME_BYTES);
        let text = &text[..end];
        if let Some(number) = self.by_text.get(text) {
            return *number;
        }
        self.texts.push(text.to_owned());
        let number = u32::try_from(self.texts.len()).unwrap_or(0);
        self.by_text.insert(text.to_owned(), number);
        number
    }

    /// Sets the functions of a place. None would not be a name.
    pub(super) fn insert(&mut self, place: Place, functions: Vec<Function>) {
        if !functions.is_empty() {
            self.functions.insert(place, functions.into_boxed_slice());
        }
    }

    pub(super) fn set_note(&mut self, number: u32, file: &MappedFile, note: FileNote) {
        self.notes.insert(number, FileNote { path: file.path.clone(), ..note });
    }

    /// Everything, in parts that can be written down.
    pub fn chunks(&self) -> impl Iterator<Item = SymbolChunk> + '_ {
        let mut places: Vec<Place> = self.functions.keys().copied().collect();
        places.sort_unstable();
        let count = places.len().div_ceil(CHUNK_ADDRESSES).max(1);
        (0..count).map(move |chunk| {
            let end = ((chunk + 1) * CHUNK_ADDRESSES).min(places.len());
            let files = if chunk == 0 { self.notes.clone() } else { BTreeMap::new() };
            SymbolChunk { files, ..self.chunk(&places[chunk * CHUNK_ADDRESSES..end]) }
        })
    }

    fn chunk(&self, places: &[Place]) -> SymbolChunk {
        let mut chunk = SymbolChunk::default();
        let mut numbers: FxHashMap<u32, u32> = FxHashMap::default();
        let mut local = |number: u32, texts: &mut Vec<String>| {
            if number == 0 {
                return 0;
            }
            *numbers.entry(number).or_insert_with(|| {
                texts.push(self.text(number).to_owned());
                u32::try_from(texts.len()).unwrap_or(0)
            })
        };
        for place in places {
            let functions = self.functions(*place).unwrap_or_default().iter();
            let functions = functions.map(|Function { name, source, line }| {
                [local(*name, &mut chunk.texts), local(*source, &mut chunk.texts), *line]
            });
            let functions = functions.collect();
            chunk.functions.push(functions);
            chunk.places.push(match *place {
                Place::Kernel(address) => [0, 0, address],
                Place::File(file, offset) => [1, file.into(), offset],
                Place::Process(pid, address) => [2, pid.into(), address],
            });
        }
        chunk
    }

    /// Adds a part. What it says anew replaces what was there; what makes no sense is left out.
    pub fn add(&mut self, chunk: &SymbolChunk) {
        let numbers: Vec<u32> = chunk.texts.iter().map(|text| self.number(text)).collect();
        let number = |local: u32| {
            let place = (local as usize).checked_sub(1);
            place.and_then(|place| numbers.get(place)).copied().unwrap_or(0)
        };
        for (place, functions) in chunk.places.iter().zip(&chunk.functions) {
            let function = |[name, source, line]: &[u32; 3]| Function {
                name: number(*name),
                source: number(*source),
                line: *line,
            };
            let Some(place) = place_of(*place) else { continue };
            self.insert(place, functions.iter().map(function).collect());
        }
        for (number, note) in &chunk.files {
            self.notes.insert(*number, note.clone());
        }
    }
}

fn place_of([space, within, address]: [u64; 3]) -> Option<Place> {
    match space {
        0 => Some(Place::Kernel(address)),
        1 => Some(Place::File(u32::try_from(within).ok()?, address)),
        2 => Some(Place::Process(u32::try_from(within).ok()?, address)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(names: &[(Place, &[&str])]) -> SymbolTable {
        let mut table = SymbolTable::default();
        for (place, functions) in names {
            let source = table.number("src/a.rs");
            let functions = functions
                .iter()
                .map(|name| Function { name: table.number(name), source, line: 7 })
                .collect();
            table.insert(*place, functions);
        }
        table
    }

    fn read(table: &SymbolTable, place: Place) -> Vec<String> {
        let functions = table.functions(place).unwrap_or_default().iter();
        functions
            .map(|each| {
                format!("{} {}:{}", table.text(each.name), table.text(each.source), each.line)
            })
            .collect()
    }

    #[test]
    fn what_is_written_in_parts_reads_the_same() {
        let mut original = table(&[
            (Place::Kernel(9), &["schedule"]),
            (Place::File(1, 16), &["outer", "inlined"]),
            (Place::Process(7, 3), &["jit"]),
        ]);
        for offset in 0..10_000 {
            let name = original.number(&format!("f{}", offset % 7));
            original.insert(Place::File(2, offset), vec![Function { name, source: 0, line: 0 }]);
        }
        let mut copy = SymbolTable::default();
        let chunks: Vec<SymbolChunk> = original.chunks().collect();
        assert_eq!(chunks.len(), 2);
        chunks.iter().for_each(|chunk| copy.add(chunk));
        assert_eq!(copy.len(), original.len());
        for place in [Place::Kernel(9), Place::File(1, 16), Place::Process(7, 3), Place::File(2, 8)]
        {
            assert_eq!(read(&copy, place), read(&original, place), "{place:?}");
        }
        assert_eq!(read(&copy, Place::File(1, 16)), ["outer src/a.rs:7", "inlined src/a.rs:7"]);
    }

    #[test]
    fn a_later_part_adds_to_an_earlier_one() {
        let mut names = table(&[(Place::File(1, 1), &["old"]), (Place::File(1, 2), &["kept"])]);
        let newer = table(&[(Place::File(1, 1), &["new"])]);
        newer.chunks().for_each(|chunk| names.add(&chunk));
        assert_eq!(read(&names, Place::File(1, 1)), ["new src/a.rs:7"]);
        assert_eq!(read(&names, Place::File(1, 2)), ["kept src/a.rs:7"]);
    }

    proptest! {
        #[test]
        fn any_chunk_can_be_added(
            texts in proptest::collection::vec(".{0,9}", 0..4),
            places in proptest::collection::vec(any::<[u64; 3]>(), 0..9),
            functions in proptest::collection::vec(proptest::collection::vec(any::<[u32; 3]>(), 0..3), 0..9),
        ) {
            let chunk = SymbolChunk { texts, places, functions, ..SymbolChunk::default() };
            SymbolTable::default().add(&chunk);
        }
    }
}
