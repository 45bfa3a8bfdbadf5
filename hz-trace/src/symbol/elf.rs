//! The functions that an ELF file defines, and where in the file they are.

use object::elf;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, Sym};
use object::{Endianness, FileKind, ReadRef};
use std::collections::BTreeSet;

/// Bytes of a symbol or string table that are read at most; more is taken for damage.
const TABLE_MAX_BYTES: u64 = 512 << 20;

/// Bytes of a function's name; longer ones are left out.
const NAME_MAX_BYTES: usize = 16 << 10;

/// Bytes that hold any x86 instruction and the one behind an `endbr64`.
const CODE_BYTES: u64 = 4 + 15;

/// A function of an ELF file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Function {
    /// Its address in the file's own address space.
    pub(super) address: u64,
    /// Its name as the linker knows it.
    pub(super) name: String,
}

/// A part of an ELF file that is mapped as code.
#[derive(Clone, Copy, Debug)]
struct Segment {
    address: u64,
    offset: u64,
    bytes: u64,
}

/// What user probes need of an ELF file.
#[derive(Clone, Debug, Default)]
pub(super) struct ElfFile {
    /// Functions defined here, aliases included, by address and name.
    pub(super) functions: BTreeSet<Function>,
    /// Names that other files define.
    pub(super) imported: BTreeSet<String>,
    /// Functions that the loader chooses when it starts (`STT_GNU_IFUNC`).
    pub(super) indirect: BTreeSet<String>,
    /// Whether there is no table of local symbols.
    pub(super) is_stripped: bool,
    /// Whether it is a Go program.
    pub(super) is_go: bool,
    /// Whether it is x86-64 code.
    pub(super) is_x86_64: bool,
    segments: Vec<Segment>,
}

impl ElfFile {
    /// Reads the tables of an ELF file; `None` if this is no ELF file or its headers are damaged.
    /// Whatever else is damaged is left out. Never panics.
    pub(super) fn read<'data, R: ReadRef<'data>>(data: R) -> Option<Self> {
        match FileKind::parse(data).ok()? {
            FileKind::Elf64 => Self::read_class::<elf::FileHeader64<Endianness>, R>(data),
            FileKind::Elf32 => Self::read_class::<elf::FileHeader32<Endianness>, R>(data),
            _ => None,
        }
    }

    fn read_class<'data, E, R>(data: R) -> Option<Self>
    where
        E: FileHeader<Endian = Endianness>,
        R: ReadRef<'data>,
    {
        let header = E::parse(data).ok()?;
        let endian = header.endian().ok()?;
        let mut file = Self {
            is_stripped: true,
            is_x86_64: header.e_machine(endian) == elf::EM_X86_64,
            segments: segments(header, endian, data)?,
            ..Self::default()
        };
        let Ok(sections) = header.sections(endian, data) else { return Some(file) };
        let mut seen = BTreeSet::new();
        for section in sections.iter() {
            let name = sections.section_name(endian, section).unwrap_or_default();
            file.is_go |= matches!(name, b".gopclntab" | b".data.rel.ro.gopclntab");
            let kind = section.sh_type(endian);
            // There is one of each, unless someone wants us to run out of memory.
            if !matches!(kind, elf::SHT_SYMTAB | elf::SHT_DYNSYM) || !seen.insert(kind) {
                continue;
            }
            file.is_stripped &= kind != elf::SHT_SYMTAB;
            let strings = sections.section(section.link(endian)).ok();
            let strings = strings.and_then(|strings| table::<E, R>(strings, endian, data));
            if let (Some(symbols), Some(strings)) = (table::<E, R>(section, endian, data), strings)
            {
                file.add_symbols::<E>(symbols, strings, endian);
            }
        }
        Some(file)
    }

    fn add_symbols<E>(&mut self, symbols: &[u8], strings: &[u8], endian: Endianness)
    where
        E: FileHeader<Endian = Endianness>,
    {
        let count = symbols.len() / size_of::<E::Sym>();
        let Ok((symbols, _)) = object::pod::slice_from_bytes::<E::Sym>(symbols, count) else {
            return;
        };
        // Names share their ends, but not all of them everything: honest tables stay far below.
        let mut budget_bytes = strings.len().saturating_mul(2);
        for symbol in symbols {
            let kind = symbol.st_type();
            // An import may have no type.
            let is_import = kind == elf::STT_NOTYPE && symbol.is_undefined(endian);
            if !is_import && !matches!(kind, elf::STT_FUNC | elf::STT_GNU_IFUNC) {
                continue;
            }
            let Some(name) = string_at(strings, symbol.st_name(endian)) else { continue };
            let Some(left) = budget_bytes.checked_sub(name.len()) else { return };
            budget_bytes = left;
            if symbol.is_undefined(endian) {
                self.imported.insert(name);
            } else if kind == elf::STT_GNU_IFUNC {
                self.indirect.insert(name);
            } else if !is_fragment(&name) {
                let address = symbol.st_value(endian).into();
                self.functions.insert(Function { address, name });
            }
        }
    }

    /// Where in the file the code at `address` is, in bytes, if the file has it.
    pub(super) fn file_offset(&self, address: u64) -> Option<u64> {
        self.segments.iter().find_map(|segment| {
            let into = address.checked_sub(segment.address)?;
            (into < segment.bytes).then(|| segment.offset.checked_add(into))?
        })
    }

    /// The code at `address`: a few instructions, fewer at the end of a segment.
    pub(super) fn code_at<'data, R: ReadRef<'data>>(&self, data: R, address: u64) -> &'data [u8] {
        self.code_at_most(data, address, CODE_BYTES)
    }

    /// The code at `address`, so many bytes, fewer at the end of a segment.
    pub(super) fn code_at_most<'data, R: ReadRef<'data>>(
        &self,
        data: R,
        address: u64,
        most: u64,
    ) -> &'data [u8] {
        let end = self.segments.iter().find_map(|segment| {
            let into = address.checked_sub(segment.address)?;
            segment.bytes.checked_sub(into)
        });
        let bytes = end.unwrap_or(0).min(most);
        let offset = self.file_offset(address);
        offset.and_then(|offset| data.read_bytes_at(offset, bytes).ok()).unwrap_or_default()
    }
}

/// The executable segments of an ELF file, nothing else of it read: offset, bytes, address.
pub(super) fn code_segments<'data, R: ReadRef<'data>>(data: R) -> Option<Vec<[u64; 3]>> {
    let found = match FileKind::parse(data).ok()? {
        FileKind::Elf64 => {
            let header = elf::FileHeader64::<Endianness>::parse(data).ok()?;
            segments(header, header.endian().ok()?, data)?
        }
        FileKind::Elf32 => {
            let header = elf::FileHeader32::<Endianness>::parse(data).ok()?;
            segments(header, header.endian().ok()?, data)?
        }
        _ => return None,
    };
    Some(found.iter().map(|it| [it.offset, it.bytes, it.address]).collect())
}

/// Executable segments, as long as they are in the file.
fn segments<'data, E, R>(header: &E, endian: Endianness, data: R) -> Option<Vec<Segment>>
where
    E: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let headers = header.program_headers(endian, data).ok()?;
    let code = headers.iter().filter(|segment| {
        segment.p_type(endian) == elf::PT_LOAD && segment.p_flags(endian) & elf::PF_X != 0
    });
    let segment = |segment: &E::ProgramHeader| Segment {
        address: segment.p_vaddr(endian).into(),
        offset: segment.p_offset(endian).into(),
        bytes: segment.p_filesz(endian).into(),
    };
    Some(code.map(segment).collect())
}

/// The bytes of a table. They are borrowed in one piece: a reader with a cache then reads each
/// table once, not each name.
fn table<'data, E, R>(
    section: &E::SectionHeader,
    endian: Endianness,
    data: R,
) -> Option<&'data [u8]>
where
    E: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let (offset, bytes) = section.file_range(endian)?;
    if bytes > TABLE_MAX_BYTES {
        return None;
    }
    data.read_bytes_at(offset, bytes).ok()
}

/// A name without its version (`memcpy@@GLIBC_2.14`).
fn string_at(strings: &[u8], offset: u32) -> Option<String> {
    let rest = strings.get(usize::try_from(offset).ok()?..)?;
    let bytes = rest.iter().take(NAME_MAX_BYTES).position(|byte| matches!(byte, 0 | b'@'))?;
    let name = &rest[..bytes];
    (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned())
}

/// Cold parts that compilers move out of a function: jumped to, never called. At their start the
/// stack has no return address on top, and a return probe would overwrite something else.
fn is_fragment(name: &str) -> bool {
    name.ends_with(".cold") || name.contains(".cold.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn own_bytes() -> Vec<u8> {
        std::fs::read(std::env::current_exe().unwrap()).unwrap()
    }

    /// Own headers, with a few of the tables: small enough to damage thousands of times.
    fn small_elf() -> Vec<u8> {
        let source = "void hz_a(void){} void hz_b(void){hz_a();} extern void hz_c(void); void hz_d(void){hz_c();}";
        let dir = tempfile::tempdir().unwrap();
        let (input, output) = (dir.path().join("a.c"), dir.path().join("a.so"));
        std::fs::write(&input, source).unwrap();
        let mut compiler = std::process::Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O0", "-o"]).arg(&output).arg(&input);
        assert!(compiler.status().unwrap().success());
        std::fs::read(output).unwrap()
    }

    #[test]
    fn functions_and_imports_are_told_apart() {
        let file = ElfFile::read(&*small_elf()).unwrap();
        let names: Vec<_> = file.functions.iter().map(|function| function.name.as_str()).collect();
        assert!(names.contains(&"hz_a") && names.contains(&"hz_b"), "{names:?}");
        assert!(!names.contains(&"hz_c") && file.imported.contains("hz_c"), "{names:?}");
        assert!(!file.is_stripped && !file.is_go);
    }

    #[test]
    fn an_address_is_found_in_the_file() {
        let bytes = own_bytes();
        let file = ElfFile::read(&*bytes).unwrap();
        for function in file.functions.iter().take(100) {
            let offset = file.file_offset(function.address).unwrap();
            let code = file.code_at(&*bytes, function.address);
            assert!(!code.is_empty(), "{function:?}");
            assert_eq!(code, &bytes[usize::try_from(offset).unwrap()..][..code.len()]);
        }
        assert_eq!(file.file_offset(u64::MAX), None);
    }

    #[test]
    fn a_name_ends_somewhere() {
        assert_eq!(string_at(b"\0memcpy@@GLIBC\0", 1).as_deref(), Some("memcpy"));
        assert_eq!(string_at(b"\0endless", 1), None);
        assert_eq!(string_at(&[b'a'; NAME_MAX_BYTES + 9], 0), None);
        assert_eq!(string_at(b"a\0", 7), None);
    }

    #[test]
    fn what_is_no_elf_is_refused() {
        assert!(ElfFile::read(&b"#!/bin/sh\n"[..]).is_none());
        assert!(ElfFile::read(&b""[..]).is_none());
        assert!(ElfFile::read(&b"\x7fELF"[..]).is_none());
    }

    #[test]
    fn an_elf_cut_anywhere_does_not_panic() {
        let bytes = small_elf();
        for length in (0..bytes.len()).step_by(7) {
            let _ = ElfFile::read(&bytes[..length]);
        }
    }

    #[test]
    fn a_damaged_elf_does_not_panic() {
        let bytes = small_elf();
        let tail = bytes.len().saturating_sub(64 * 40);
        let config = ProptestConfig::with_cases(2000);
        // Headers at the start, section headers at the end: that is where damage matters.
        let place = prop_oneof![0..1024_usize, tail..bytes.len()];
        let change = proptest::collection::vec((place, any::<u8>()), 1..16);
        proptest!(config, |(changes in change)| {
            let mut bytes = bytes.clone();
            for (place, byte) in changes {
                bytes[place] = byte;
            }
            if let Some(file) = ElfFile::read(&*bytes) {
                for function in &file.functions {
                    let _ = file.code_at(&*bytes, function.address);
                }
            }
        });
    }

    proptest! {
        #[test]
        fn any_bytes_after_a_magic_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512), class in 1..3_u8) {
            let mut elf = vec![0x7f, b'E', b'L', b'F', class, 1, 1];
            elf.extend(bytes);
            let _ = ElfFile::read(&*elf);
        }
    }
}
