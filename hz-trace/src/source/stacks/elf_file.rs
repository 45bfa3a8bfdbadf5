//! ELF files as far as stacks need them: segments, the build id, and where rules for unwinding are.
//! Trusts nothing in them.

use std::{fs::File, os::unix::fs::FileExt as _};

/// What is read of one file or section at the most.
const READ_MAX: u64 = 256 << 20;

/// Bytes that can be read in parts.
pub(super) trait Parts {
    /// Up to `length` bytes from `offset`: fewer where they end.
    fn part(&self, offset: u64, length: u64) -> Vec<u8>;
}

impl Parts for File {
    fn part(&self, offset: u64, length: u64) -> Vec<u8> {
        // A header may ask for more than there is.
        let there = self.metadata().map_or(0, |metadata| metadata.len()).saturating_sub(offset);
        let length = usize::try_from(length.min(there).min(READ_MAX)).unwrap_or(0);
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match self.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(count) if count > 0 => filled += count,
                _ => break,
            }
        }
        bytes.truncate(filled);
        bytes
    }
}

impl Parts for [u8] {
    fn part(&self, offset: u64, length: u64) -> Vec<u8> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(self.len() - from);
        self[from..from + length].to_vec()
    }
}

/// A loaded segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) address: u64,
    pub(super) is_code: bool,
}

/// Bytes of a file, and the address they were linked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) address: u64,
    pub(super) bytes: Vec<u8>,
}

/// What an ELF file says.
#[derive(Clone, Debug, Default)]
pub(super) struct Elf {
    /// Its architecture, `EM_*`.
    pub(super) machine: u16,
    pub(super) segments: Vec<Segment>,
    pub(super) eh_frame: Option<Section>,
    /// Procedure linkage tables: address and length.
    pub(super) plts: Vec<(u64, u64)>,
}

/// Of `e_type`, `p_type`, `p_flags` and `sh_type`.
const PT_LOAD: u64 = 1;
const PT_NOTE: u64 = 4;
const PT_GNU_EH_FRAME: u64 = 0x6474_e550;
const PF_X: u64 = 1;
const SHT_NOBITS: u64 = 8;
const NT_GNU_BUILD_ID: u64 = 3;

/// A program header, whole.
#[derive(Clone, Copy, Debug)]
struct Program {
    kind: u64,
    flags: u64,
    offset: u64,
    address: u64,
    bytes: u64,
}

/// The build id of a file, if it is an ELF file that has one.
pub(super) fn build_id_of(file: &(impl Parts + ?Sized)) -> Option<Vec<u8>> {
    let header = header(file)?;
    let notes = programs(file, &header).into_iter().filter(|program| program.kind == PT_NOTE);
    notes.into_iter().find_map(|notes| build_id(&file.part(notes.offset, notes.bytes.min(1 << 16))))
}

/// The header of a little-endian file of 64 bits.
fn header(file: &(impl Parts + ?Sized)) -> Option<Vec<u8>> {
    let header = file.part(0, 64);
    (header.len() == 64 && header.starts_with(b"\x7fELF\x02\x01")).then_some(header)
}

fn programs(file: &(impl Parts + ?Sized), header: &[u8]) -> Vec<Program> {
    let offset = number(header, 32, 8).unwrap_or(0);
    let count = number(header, 56, 2).unwrap_or(0);
    let table = file.part(offset, count * 56);
    let program = |entry: &[u8]| {
        Some(Program {
            kind: number(entry, 0, 4)?,
            flags: number(entry, 4, 4)?,
            offset: number(entry, 8, 8)?,
            address: number(entry, 16, 8)?,
            bytes: number(entry, 32, 8)?,
        })
    };
    table.chunks_exact(56).filter_map(program).collect()
}

/// Looks through notes: lengths of name and description, kind, and both, each padded to 4 bytes.
fn build_id(mut notes: &[u8]) -> Option<Vec<u8>> {
    loop {
        let name_bytes = usize::try_from(number(notes, 0, 4)?).ok()?;
        let id_bytes = usize::try_from(number(notes, 4, 4)?).ok()?;
        let kind = number(notes, 8, 4)?;
        let rest = notes.get(12..)?;
        let id_from = name_bytes.checked_next_multiple_of(4)?;
        let id = rest.get(id_from..)?.get(..id_bytes)?;
        if kind == NT_GNU_BUILD_ID && rest.starts_with(b"GNU\0") {
            return Some(id.to_vec());
        }
        notes = rest.get(id_from..)?.get(id_bytes.checked_next_multiple_of(4)?..)?;
    }
}

/// A little-endian number of `length` bytes.
fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let mut word = [0; 8];
    word[..length].copy_from_slice(bytes.get(at..at.checked_add(length)?)?);
    Some(u64::from_le_bytes(word))
}

impl Elf {
    /// Reads a file; `None`: it is none that could be unwound.
    pub(super) fn read(file: &(impl Parts + ?Sized)) -> Option<Self> {
        let header = header(file)?;
        let programs = programs(file, &header);
        let segments = programs.iter().filter(|program| program.kind == PT_LOAD);
        let segments = segments.map(|program| Segment {
            offset: program.offset,
            bytes: program.bytes,
            address: program.address,
            is_code: program.flags & PF_X != 0,
        });
        let machine = u16::try_from(number(&header, 18, 2)?).ok()?;
        let mut elf = Self { machine, segments: segments.collect(), ..Self::default() };
        elf.read_sections(file, &header);
        if elf.eh_frame.is_none() {
            let pointer = programs.iter().find(|program| program.kind == PT_GNU_EH_FRAME);
            elf.eh_frame = pointer.and_then(|pointer| elf.eh_frame_by_header(file, pointer));
        }
        Some(elf)
    }

    /// The address that `offset` of the file was linked for.
    pub(super) fn address_of(&self, offset: u64) -> Option<u64> {
        let holds = |segment: &&Segment| {
            let end = segment.offset.saturating_add(segment.bytes);
            segment.is_code && (page_of(segment.offset)..end).contains(&offset)
        };
        let segment = self.segments.iter().find(holds)?;
        Some(segment.address.wrapping_add(offset).wrapping_sub(segment.offset))
    }

    /// The lowest address.
    pub(super) fn lowest(&self) -> u64 {
        self.segments.iter().map(|segment| page_of(segment.address)).min().unwrap_or(0)
    }

    /// What section headers say, where they were not stripped.
    fn read_sections(&mut self, file: &(impl Parts + ?Sized), header: &[u8]) {
        let of_header = |at, length| number(header, at, length).unwrap_or(0);
        let (offset, count, names) = (of_header(40, 8), of_header(60, 2), of_header(62, 2));
        let table = file.part(offset, count * 64);
        let place = |section: &[u8]| Some((number(section, 24, 8)?, number(section, 32, 8)?));
        let names = usize::try_from(names).ok().and_then(|names| table.chunks_exact(64).nth(names));
        let names =
            names.and_then(place).map(|(offset, bytes)| file.part(offset, bytes.min(1 << 20)));
        let names = names.unwrap_or_default();
        for section in table.chunks_exact(64) {
            let name = number(section, 0, 4).and_then(|name| usize::try_from(name).ok());
            let name = name.and_then(|name| names.get(name..)).unwrap_or_default();
            let end = name.iter().position(|byte| *byte == 0).unwrap_or(0);
            let (Some(address), Some((offset, bytes))) = (number(section, 16, 8), place(section))
            else {
                continue;
            };
            match &name[..end] {
                b".eh_frame" if number(section, 4, 4) != Some(SHT_NOBITS) => {
                    self.eh_frame = Some(Section { address, bytes: file.part(offset, bytes) });
                }
                b".plt" | b".iplt" => self.plts.push((address, bytes)),
                _ => {}
            }
        }
    }

    /// The section as the loader finds it: a pointer relative to itself, behind the version and three
    /// encodings. It goes on to the end of its segment.
    fn eh_frame_by_header(
        &self,
        file: &(impl Parts + ?Sized),
        pointer: &Program,
    ) -> Option<Section> {
        let table = file.part(pointer.offset, 8);
        // DW_EH_PE_pcrel | DW_EH_PE_sdata4, which every linker writes.
        let (1, 0x1b) = (table.first()?, table.get(1)?) else { return None };
        let distance = u32::try_from(number(&table, 4, 4)?).ok()?.cast_signed();
        let address = pointer.address.wrapping_add(4).wrapping_add_signed(i64::from(distance));
        let holds = |segment: &&Segment| {
            (segment.address..segment.address.saturating_add(segment.bytes)).contains(&address)
        };
        let segment = self.segments.iter().find(holds)?;
        let inside = address - segment.address;
        let bytes = file.part(segment.offset.checked_add(inside)?, segment.bytes - inside);
        Some(Section { address, bytes })
    }
}

const fn page_of(address: u64) -> u64 {
    address & !0xfff
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;

    fn own() -> File {
        File::open(std::env::current_exe().unwrap()).unwrap()
    }

    #[test]
    fn this_program_is_read() {
        let elf = Elf::read(&own()).unwrap();
        assert!(elf.segments.iter().any(|segment| segment.is_code), "{:?}", elf.segments);
        let code = elf.segments.iter().find(|segment| segment.is_code).unwrap();
        assert_eq!(elf.address_of(code.offset), Some(code.address));
        assert!(elf.eh_frame.unwrap().bytes.len() > 10_000);
    }

    #[test]
    fn without_section_headers_the_loaders_way_leads_to_the_same() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let whole = Elf::read(&bytes[..]).unwrap().eh_frame.unwrap();
        let mut stripped = bytes;
        stripped[40..48].fill(0);
        stripped[60..62].fill(0);
        let found = Elf::read(&stripped[..]).unwrap().eh_frame.unwrap();
        assert_eq!(found.address, whole.address);
        assert!(found.bytes.starts_with(&whole.bytes));
    }

    #[test]
    fn a_library_has_a_build_id() {
        let libraries = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib/aarch64-linux-gnu/libc.so.6"];
        let library = libraries.into_iter().find(|path| Path::new(path).exists());
        let id = build_id_of(&File::open(library.expect("Debian's C library")).unwrap()).unwrap();
        assert_eq!(id.len(), 20);
    }

    #[test]
    fn what_is_no_elf_file_is_none() {
        assert!(
            Elf::read(
                &b"#!/bin/sh\necho this is no program, but it is long enough for a header"[..]
            )
            .is_none()
        );
        assert!(Elf::read(&[][..]).is_none());
    }

    proptest! {
        #[test]
        fn a_damaged_file_is_read(changes in proptest::collection::vec((0..4096_usize, any::<u8>()), 1..32), cut in 0..65_536_usize) {
            let mut bytes = own().part(0, 65_536);
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            bytes.truncate(cut);
            let _ = build_id_of(&bytes[..]);
            if let Some(elf) = Elf::read(&bytes[..]) {
                let _ = (elf.lowest(), elf.address_of(0));
            }
        }
    }
}
