//! The notes of an ELF file that describe its statically defined probes.
//!
//! A note of `.note.stapsdt` is its name, `stapsdt`, and three addresses (of the place in the code,
//! of `.stapsdt.base`, and of the semaphore or 0), then provider, name and arguments, each ending in
//! NUL. <https://sourceware.org/systemtap/wiki/UserSpaceProbeImplementation>

use object::elf;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use object::{Endian as _, Endianness, FileKind, ReadRef};

/// Bytes of notes that are read at most; more is taken for damage.
const NOTES_MAX_BYTES: u64 = 64 << 20;

/// What a note of this kind says first.
const OWNER: &[u8] = b"stapsdt\0";

/// What a note of this kind has for a type.
const TYPE: u32 = 3;

/// A note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UsdtNote {
    pub(super) provider: String,
    pub(super) name: String,
    pub(super) arguments: String,
    /// The semaphore's address in the file's own address space, 0: there is none.
    pub(super) semaphore: u64,
}

/// A part of the file that is mapped writable.
#[derive(Clone, Copy, Debug)]
struct Writable {
    address: u64,
    offset: u64,
    bytes: u64,
}

/// The notes of a file, and what decides whether they work.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes {
    pub(super) notes: Vec<UsdtNote>,
    writable: Vec<Writable>,
}

impl Notes {
    /// Reads a file's notes; `None` if this is no ELF file or its headers are damaged. A damaged
    /// note ends the list. Never panics.
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
        let writable = writable(header, endian, data)?;
        let word_bytes = if header.is_type_64() { 8 } else { 4 };
        let Ok(sections) = header.sections(endian, data) else {
            return Some(Self { notes: Vec::new(), writable });
        };
        let section = sections.section_by_name(endian, b".note.stapsdt");
        let range = section.and_then(|(_, section)| section.file_range(endian));
        let range = range.filter(|(_, bytes)| *bytes <= NOTES_MAX_BYTES);
        let bytes = range.and_then(|(at, bytes)| data.read_bytes_at(at, bytes).ok());
        let parser = Parser { endian, word_bytes, rest: bytes.unwrap_or_default() };
        Some(Self { notes: parser.collect(), writable })
    }

    /// Whether the kernel raises the semaphore of this note in the wrong place, for processes that
    /// start while a tracer is attached: it takes the first writable mapping of the file's page, and
    /// this one is mapped twice. rust-lld makes such files, where the data that becomes read-only
    /// (RELRO) is a segment of its own and ends in the middle of a page.
    pub(super) fn is_swallowed(&self, note: &UsdtNote) -> bool {
        let page_bytes = rustix::param::page_size() as u64;
        let own = self.writable.iter().position(|part| {
            note.semaphore.checked_sub(part.address).is_some_and(|into| into < part.bytes)
        });
        let Some(own) = own.filter(|_| note.semaphore != 0) else { return false };
        let part = self.writable[own];
        let page = part.offset.saturating_add(note.semaphore - part.address) / page_bytes;
        self.writable[..own].iter().any(|part| {
            let last = part.offset.saturating_add(part.bytes.saturating_sub(1));
            (part.offset / page_bytes..=last / page_bytes).contains(&page)
        })
    }
}

/// Writable segments with bytes in the file, in the order of the loader.
fn writable<'data, E, R>(header: &E, endian: Endianness, data: R) -> Option<Vec<Writable>>
where
    E: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let headers = header.program_headers(endian, data).ok()?;
    let is_writable = |segment: &&E::ProgramHeader| {
        segment.p_type(endian) == elf::PT_LOAD
            && segment.p_flags(endian) & elf::PF_W != 0
            && segment.p_filesz(endian).into() > 0
    };
    let part = |segment: &E::ProgramHeader| Writable {
        address: segment.p_vaddr(endian).into(),
        offset: segment.p_offset(endian).into(),
        bytes: segment.p_filesz(endian).into(),
    };
    Some(headers.iter().filter(is_writable).map(part).collect())
}

/// Notes, one after the other.
struct Parser<'data> {
    endian: Endianness,
    word_bytes: usize,
    rest: &'data [u8],
}

impl Iterator for Parser<'_> {
    type Item = UsdtNote;

    fn next(&mut self) -> Option<UsdtNote> {
        loop {
            let (owner, kind, content) = self.note()?;
            if owner == OWNER && kind == TYPE {
                return self.probe(content);
            }
        }
    }
}

impl<'data> Parser<'data> {
    fn note(&mut self) -> Option<(&'data [u8], u32, &'data [u8])> {
        let (owner_bytes, content_bytes, kind) = (self.number()?, self.number()?, self.number()?);
        let owner = self.take(usize::try_from(owner_bytes).ok()?)?;
        let content = self.take(usize::try_from(content_bytes).ok()?)?;
        Some((owner, kind, content))
    }

    fn number(&mut self) -> Option<u32> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(self.endian.read_u32(*bytes))
    }

    /// The next bytes, and away with them and what aligns the ones behind.
    fn take(&mut self, bytes: usize) -> Option<&'data [u8]> {
        let taken = self.rest.get(..bytes)?;
        let aligned = bytes.checked_next_multiple_of(4)?;
        self.rest = self.rest.get(aligned..).unwrap_or_default();
        Some(taken)
    }

    fn probe(&self, content: &[u8]) -> Option<UsdtNote> {
        let semaphore = self.word(content.get(2 * self.word_bytes..)?)?;
        let mut texts = content.get(3 * self.word_bytes..)?.split(|byte| *byte == 0);
        let mut text = || texts.next().map(|text| String::from_utf8_lossy(text).into_owned());
        Some(UsdtNote { provider: text()?, name: text()?, arguments: text()?, semaphore })
    }

    fn word(&self, bytes: &[u8]) -> Option<u64> {
        if self.word_bytes == 4 {
            let word = bytes.first_chunk()?;
            return Some(u64::from(self.endian.read_u32(*word)));
        }
        bytes.first_chunk().map(|word| self.endian.read_u64(*word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn note(owner: &[u8], kind: u32, content: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [owner.len() as u32, content.len() as u32, kind] {
            bytes.extend(number.to_le_bytes());
        }
        for part in [owner, content] {
            bytes.extend(part);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    fn content(semaphore: u64, texts: &str) -> Vec<u8> {
        let mut content: Vec<u8> =
            [0x10, 0x20, semaphore].into_iter().flat_map(u64::to_le_bytes).collect();
        content.extend(texts.as_bytes());
        content
    }

    fn parse(bytes: &[u8]) -> Vec<UsdtNote> {
        Parser { endian: Endianness::Little, word_bytes: 8, rest: bytes }.collect()
    }

    /// RELRO ends at file offset 0x1280, the data behind it is mapped from there too.
    fn rust_lld() -> Notes {
        let part = |address, offset, bytes| Writable { address, offset, bytes };
        Notes {
            notes: Vec::new(),
            writable: vec![part(0x2000, 0x1000, 0x280), part(0x3280, 0x1280, 0x2000)],
        }
    }

    fn with_semaphore(semaphore: u64) -> UsdtNote {
        let (provider, name) = ("p".to_owned(), "n".to_owned());
        UsdtNote { provider, name, arguments: String::new(), semaphore }
    }

    #[test]
    fn notes_are_read_and_others_passed_over() {
        let mut bytes = note(b"GNU\0", 3, b"odd");
        bytes.extend(note(OWNER, TYPE, &content(0x99, "libc\0setjmp\08@%rdi -4@%esi\0")));
        bytes.extend(note(OWNER, TYPE, &content(0, "a\0b\0\0")));
        let found = parse(&bytes);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!((&*found[0].provider, &*found[0].name), ("libc", "setjmp"));
        assert_eq!((&*found[0].arguments, found[0].semaphore), ("8@%rdi -4@%esi", 0x99));
        assert_eq!((&*found[1].arguments, found[1].semaphore), ("", 0));
    }

    #[test]
    fn a_damaged_note_ends_the_list() {
        let mut bytes = note(OWNER, TYPE, &content(0, "a\0b\0\0"));
        let whole = bytes.len();
        bytes.extend(note(OWNER, TYPE, &content(0, "c\0d\0\0")));
        for cut in whole..bytes.len() - 3 {
            assert_eq!(parse(&bytes[..cut]).len(), 1, "{cut}");
        }
        bytes[whole + 4] = 0xff;
        assert_eq!(parse(&bytes).len(), 1);
    }

    #[test]
    fn a_semaphore_on_a_page_that_is_mapped_twice_is_swallowed() {
        let notes = rust_lld();
        assert!(notes.is_swallowed(&with_semaphore(0x3280)));
        assert!(notes.is_swallowed(&with_semaphore(0x3ffe)));
        assert!(!notes.is_swallowed(&with_semaphore(0x4000)), "on the next page");
        assert!(!notes.is_swallowed(&with_semaphore(0)), "there is none");
        assert!(!notes.is_swallowed(&with_semaphore(u64::MAX)), "it is nowhere");
        assert!(!notes.is_swallowed(&with_semaphore(0x2010)), "its mapping is the first");
    }

    /// A library with one probe and its semaphore.
    const SOURCE: &str = r#"
        __attribute__((section(".probes"))) unsigned short hz_semaphore;
        void hz_pass(void) {
            __asm__ volatile(
                "990: nop\n"
                ".pushsection .note.stapsdt, \"\", @note\n"
                ".balign 4\n.4byte 992f - 991f, 994f - 993f, 3\n"
                "991: .asciz \"stapsdt\"\n992: .balign 4\n"
                "993: .8byte 990b, 0, %c0\n"
                ".asciz \"hz\"\n.asciz \"passed\"\n.asciz \"-4@%%edi\"\n"
                "994: .balign 4\n.popsection\n" : : "i"(&hz_semaphore));
        }
    "#;

    fn library() -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let (input, output) = (dir.path().join("a.c"), dir.path().join("a"));
        std::fs::write(&input, format!("{SOURCE} int main(void) {{ hz_pass(); return 0; }}"))
            .unwrap();
        let mut compiler = std::process::Command::new("cc");
        compiler.args(["-no-pie", "-o"]).arg(&output).arg(&input);
        assert!(compiler.status().unwrap().success());
        std::fs::read(output).unwrap()
    }

    #[test]
    fn the_notes_of_a_program_are_found() {
        let notes = Notes::read(&*library()).unwrap();
        let [note] = &*notes.notes else { panic!("{notes:?}") };
        assert_eq!((&*note.provider, &*note.name, &*note.arguments), ("hz", "passed", "-4@%edi"));
        assert!(note.semaphore != 0 && !notes.is_swallowed(note), "{notes:?}");
    }

    #[test]
    fn a_damaged_program_does_not_panic() {
        let bytes = library();
        let tail = bytes.len().saturating_sub(64 * 40);
        // Headers at the start, section headers at the end: that is where damage matters.
        let place = prop_oneof![0..1024_usize, tail..bytes.len()];
        let change = proptest::collection::vec((place, any::<u8>()), 1..16);
        proptest!(ProptestConfig::with_cases(1000), |(changes in change)| {
            let mut bytes = bytes.clone();
            for (place, byte) in changes {
                bytes[place] = byte;
            }
            if let Some(notes) = Notes::read(&*bytes) {
                notes.notes.iter().for_each(|note| { notes.is_swallowed(note); });
            }
        });
    }

    proptest! {
        #[test]
        fn any_notes_parse(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_damage_is_survived(changes in proptest::collection::vec((0..400_usize, any::<u8>()), 1..9)) {
            let mut bytes = note(OWNER, TYPE, &content(1, "libc\0setjmp\08@%rdi\0"));
            bytes.extend(bytes.clone());
            for (place, byte) in changes {
                let place = place % bytes.len();
                bytes[place] = byte;
            }
            let _ = parse(&bytes);
        }

        #[test]
        fn any_bytes_after_a_magic_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..512), class in 1..3_u8) {
            let mut elf = vec![0x7f, b'E', b'L', b'F', class, 1, 1];
            elf.extend(bytes);
            if let Some(notes) = Notes::read(&*elf) {
                notes.notes.iter().for_each(|note| { notes.is_swallowed(note); });
            }
        }

        #[test]
        fn any_layout_is_judged(parts in proptest::collection::vec(any::<(u64, u64, u64)>(), 0..4), semaphore: u64) {
            let part = |(address, offset, bytes)| Writable { address, offset, bytes };
            let writable = parts.into_iter().map(part).collect();
            Notes { notes: Vec::new(), writable }.is_swallowed(&with_semaphore(semaphore));
        }
    }
}
