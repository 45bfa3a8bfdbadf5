//! Where processes have code, and in which files: kept as perf tells it, and read from `/proc` for
//! processes that were there before.

use super::{
    elf_file::build_id_of,
    perf_ring::{FileId, Happening},
};
use hz_probes_ebpf::{Header, Kind, MAPPING_FOUND, MappedFile, Mapping, PATH_PART};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::{self, File},
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};
use zerocopy::IntoBytes as _;

/// Executable memory of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Where in the file it begins.
    pub(super) offset: u64,
    pub(super) file: FileId,
    pub(super) path: Arc<[u8]>,
    is_found: bool,
}

/// Areas of one process, by address.
type Areas = BTreeMap<u64, Area>;

/// What is known of every process.
#[derive(Debug, Default)]
pub(super) struct Mappings {
    processes: HashMap<u32, Areas>,
    /// Parents of processes of which nothing else is known yet.
    parents: HashMap<u32, u32>,
    /// Processes whose mappings the recording has.
    told: HashSet<u32>,
    /// Files that the recording has, by what they are and how they are called.
    files: HashMap<(FileId, Arc<[u8]>), u32>,
    /// Processes that have changed since [`Mappings::take_changed`].
    changed: HashSet<u32>,
}

/// Processes that are remembered without anybody having asked for them, at the most.
const PROCESSES_MAX: usize = 65_536;

impl Mappings {
    /// Takes in what happened; `tell` gets the records of processes that have stacks.
    pub(super) fn learn(&mut self, time_ns: u64, what: Happening, tell: &mut dyn FnMut(&[u8])) {
        match what {
            Happening::Mapped { pid, start, bytes, offset, file, path } => {
                let end = start.saturating_add(bytes);
                let path = Arc::from(path);
                let area = Area { start, end, offset, file, path, is_found: false };
                if self.told.contains(&pid) {
                    self.tell_area(time_ns, pid, &area, tell);
                }
                // One of which nothing is known has more than this: it is looked up when it is needed.
                if let Some(areas) = self.processes.get_mut(&pid) {
                    insert(areas, area);
                    self.changed.insert(pid);
                }
            }
            Happening::Forked { pid, parent_pid } => self.fork(pid, parent_pid),
            Happening::Became { pid } => {
                self.parents.remove(&pid);
                self.processes.insert(pid, Areas::new());
                self.changed.insert(pid);
            }
            Happening::Ended { pid } => {
                self.told.remove(&pid);
                self.parents.remove(&pid);
                if self.processes.remove(&pid).is_some() {
                    self.changed.insert(pid);
                }
            }
            Happening::Lost => self.look_again(),
        }
    }

    fn fork(&mut self, pid: u32, parent_pid: u32) {
        if self.processes.len() + self.parents.len() >= PROCESSES_MAX {
            return;
        }
        if let Some(areas) = self.processes.get(&parent_pid) {
            let areas = areas.clone();
            self.processes.insert(pid, areas);
        } else {
            self.parents.insert(pid, parent_pid);
        }
    }

    /// Something was not told: everything is looked up again.
    fn look_again(&mut self) {
        self.changed.extend(self.processes.keys());
        self.processes.clear();
        self.told.clear();
    }

    /// Tells where a process has code, if that was not told. `time_ns` is when that was needed.
    pub(super) fn need(&mut self, time_ns: u64, pid: u32, tell: &mut dyn FnMut(&[u8])) -> bool {
        if !self.told.insert(pid) {
            return false;
        }
        let areas = self.areas(pid).clone();
        for area in areas.values() {
            self.tell_area(time_ns, pid, area, tell);
        }
        self.changed.insert(pid);
        true
    }

    /// Where a process has code, looked up if it is not known.
    pub(super) fn areas(&mut self, pid: u32) -> &Areas {
        let parents = &self.parents;
        self.processes.entry(pid).or_insert_with(|| {
            let found = read_areas(pid);
            match (found.is_empty(), parents.get(&pid)) {
                // It may be gone; what it had came from its parent.
                (true, Some(parent)) => read_areas(*parent),
                _ => found,
            }
        })
    }

    /// Processes whose code has moved.
    pub(super) fn take_changed(&mut self) -> HashSet<u32> {
        std::mem::take(&mut self.changed)
    }

    /// Whether the process has ended or is not known.
    pub(super) fn is_gone(&self, pid: u32) -> bool {
        !self.processes.contains_key(&pid)
    }

    fn tell_area(&mut self, time_ns: u64, pid: u32, area: &Area, tell: &mut dyn FnMut(&[u8])) {
        let number = self.number(time_ns, pid, area, tell);
        let header =
            Header { time_ns, kind: Kind::Mapping as u16, pid, arg: number, ..Header::default() };
        let flags = if area.is_found { MAPPING_FOUND } else { 0 };
        let Area { start, end, offset, .. } = *area;
        tell(Mapping { header, start, end, offset, flags, reserved: 0 }.as_bytes());
    }

    /// The number of an area's file, which is told if it is new.
    fn number(&mut self, time_ns: u64, pid: u32, area: &Area, tell: &mut dyn FnMut(&[u8])) -> u32 {
        let next = u32::try_from(self.files.len() + 1).unwrap_or(u32::MAX);
        let key = (area.file, Arc::clone(&area.path));
        if let Some(number) = self.files.get(&key) {
            return *number;
        }
        self.files.insert(key, next);
        let kind = Kind::MappedFile as u16;
        let header = Header { time_ns, kind, pid, arg: next, ..Header::default() };
        tell_file(header, area, tell);
        next
    }
}

fn tell_file(header: Header, area: &Area, tell: &mut dyn FnMut(&[u8])) {
    let id = open(header.pid, area).and_then(|file| build_id_of(&file)).unwrap_or_default();
    let mut build_id = [0; 20];
    let length = id.len().min(build_id.len());
    build_id[..length].copy_from_slice(&id[..length]);
    let mut path_from = 0;
    loop {
        let rest = &area.path[path_from..];
        let part = &rest[..rest.len().min(PATH_PART)];
        let mut path = [0; PATH_PART];
        path[..part.len()].copy_from_slice(part);
        let record = MappedFile {
            header,
            inode: area.file.inode,
            device_major: area.file.device_major,
            device_minor: area.file.device_minor,
            build_id,
            build_id_bytes: u16::try_from(length).unwrap_or(0),
            path_bytes: u16::try_from(area.path.len()).unwrap_or(u16::MAX),
            path_from: u32::try_from(path_from).unwrap_or(u32::MAX),
            reserved: 0,
            path,
        };
        let used = size_of::<MappedFile>() - PATH_PART + part.len().next_multiple_of(64);
        tell(&record.as_bytes()[..used]);
        path_from += part.len();
        if path_from >= area.path.len() {
            return;
        }
    }
}

/// Adds an area; what it overlaps of others is theirs no more.
fn insert(areas: &mut Areas, area: Area) {
    let before = areas.range(..area.start).next_back().map(|(_, before)| before.clone());
    if let Some(before) = before.filter(|before| before.end > area.start) {
        if before.end > area.end {
            let offset = before.offset + (area.end - before.start);
            areas.insert(area.end, Area { start: area.end, offset, ..before.clone() });
        }
        areas.insert(before.start, Area { end: area.start, ..before });
    }
    let inside: Vec<u64> = areas.range(area.start..area.end).map(|(start, _)| *start).collect();
    for start in inside {
        if let Some(covered) = areas.remove(&start).filter(|covered| covered.end > area.end) {
            let offset = covered.offset + (area.end - covered.start);
            areas.insert(area.end, Area { start: area.end, offset, ..covered });
        }
    }
    areas.insert(area.start, area);
}

/// Executable memory of a process, as `/proc` says; nothing if it is gone or may not be looked at.
fn read_areas(pid: u32) -> Areas {
    let text = fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
    let areas = text.split(|byte| *byte == b'\n').filter_map(parse_area);
    areas.map(|area| (area.start, area)).collect()
}

/// A line of `/proc/PID/maps`: `start-end rwxp offset major:minor inode   path`.
fn parse_area(line: &[u8]) -> Option<Area> {
    let mut rest = line;
    let mut word = || {
        let end = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after.get(1..).unwrap_or_default();
        std::str::from_utf8(word).ok()
    };
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let (start, end) = word()?.split_once('-')?;
    let (start, end) = (hex(start)?, hex(end)?);
    let is_code = word()?.as_bytes().get(2) == Some(&b'x');
    let offset = hex(word()?)?;
    let (major, minor) = word()?.split_once(':')?;
    let device_major = u32::from_str_radix(major, 16).ok()?;
    let device_minor = u32::from_str_radix(minor, 16).ok()?;
    let inode = word()?.parse().ok()?;
    let path = rest.trim_ascii_start();
    // As perf has it.
    let path: &[u8] = if path.is_empty() { b"//anon" } else { path };
    let file = FileId { device_major, device_minor, inode };
    let area = Area { start, end, offset, file, path: Arc::from(path), is_found: true };
    (is_code && start < end).then_some(area)
}

/// Opens the file of an area: the very one, even if it was deleted or replaced since.
pub(super) fn open(pid: u32, area: &Area) -> Option<File> {
    if area.file.inode == 0 {
        return None;
    }
    let map = format!("/proc/{pid}/map_files/{:x}-{:x}", area.start, area.end);
    let path = Path::new(std::ffi::OsStr::from_bytes(&area.path));
    let inside = PathBuf::from(format!("/proc/{pid}/root")).join(path.strip_prefix("/").ok()?);
    [PathBuf::from(map), inside, path.to_owned()].into_iter().find_map(|candidate| {
        // A path may name a pipe by now, whose opening would wait.
        let metadata = fs::metadata(&candidate).ok()?;
        (metadata.is_file() && metadata.ino() == area.file.inode)
            .then(|| File::open(candidate).ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn area(start: u64, end: u64, offset: u64) -> Area {
        let path = Arc::from(&b"/x"[..]);
        Area { start, end, offset, file: FileId::default(), path, is_found: false }
    }

    fn spans(areas: &Areas) -> Vec<(u64, u64, u64)> {
        areas.values().map(|area| (area.start, area.end, area.offset)).collect()
    }

    #[test]
    fn what_is_mapped_over_another_cuts_it() {
        let mut areas = Areas::new();
        insert(&mut areas, area(0x1000, 0x9000, 0));
        insert(&mut areas, area(0x3000, 0x4000, 0x100));
        assert_eq!(
            spans(&areas),
            [(0x1000, 0x3000, 0), (0x3000, 0x4000, 0x100), (0x4000, 0x9000, 0x3000)]
        );
        insert(&mut areas, area(0x2000, 0x5000, 0));
        assert_eq!(
            spans(&areas),
            [(0x1000, 0x2000, 0), (0x2000, 0x5000, 0), (0x5000, 0x9000, 0x4000)]
        );
        insert(&mut areas, area(0, 0x10000, 0));
        assert_eq!(spans(&areas), [(0, 0x10000, 0)]);
    }

    #[test]
    fn lines_of_maps_are_read() {
        let line = b"7f0000001000-7f0000003000 r-xp 00002000 fe:01 42    /usr/lib/a b.so (deleted)";
        let area = parse_area(line).unwrap();
        assert_eq!(
            (area.start, area.end, area.offset),
            (0x7f00_0000_1000, 0x7f00_0000_3000, 0x2000)
        );
        assert_eq!(area.file, FileId { device_major: 0xfe, device_minor: 1, inode: 42 });
        assert_eq!(&*area.path, b"/usr/lib/a b.so (deleted)");
        assert_eq!(parse_area(b"1000-2000 rw-p 00000000 00:00 0"), None);
        assert_eq!(&*parse_area(b"1000-2000 rwxp 00000000 00:00 0 ").unwrap().path, b"//anon");
    }

    #[test]
    fn own_code_is_told_once_with_its_files() {
        let mut mappings = Mappings::default();
        let mut kinds = Vec::new();
        let own = std::process::id();
        let mut tell = |record: &[u8]| kinds.push(u16::from_le_bytes([record[8], record[9]]));
        assert!(mappings.need(5, own, &mut tell));
        assert!(!mappings.need(6, own, &mut tell));
        let count = |kind: Kind| kinds.iter().filter(|each| **each == kind as u16).count();
        // This program, the C library and the kernel's page at least.
        assert!(count(Kind::MappedFile) >= 3, "{kinds:?}");
        assert!(count(Kind::Mapping) >= count(Kind::MappedFile), "{kinds:?}");
        assert!(mappings.take_changed().contains(&own));
    }

    #[test]
    fn a_child_has_its_parents_code_until_it_becomes_another() {
        let mut mappings = Mappings::default();
        let own = std::process::id();
        let parent = mappings.areas(own).clone();
        mappings.learn(1, Happening::Forked { pid: 4_000_001, parent_pid: own }, &mut |_| {});
        assert_eq!(mappings.areas(4_000_001), &parent);
        mappings.learn(2, Happening::Became { pid: 4_000_001 }, &mut |_| {});
        assert!(mappings.areas(4_000_001).is_empty());
        mappings.learn(3, Happening::Ended { pid: 4_000_001 }, &mut |_| {});
        assert!(mappings.is_gone(4_000_001));
    }

    proptest! {
        #[test]
        fn areas_never_overlap(added in proptest::collection::vec((0..64_u64, 1..16_u64), 0..24)) {
            let mut areas = Areas::new();
            for (start, length) in added {
                insert(&mut areas, area(start, start + length, 0));
                // The last one is whole.
                let last = &areas[&start];
                prop_assert_eq!((last.start, last.end), (start, start + length));
            }
            let spans = spans(&areas);
            prop_assert!(spans.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{:?}", spans);
        }

        #[test]
        fn any_line_is_read(line in proptest::collection::vec(any::<u8>(), 0..96)) {
            let _ = parse_area(&line);
        }
    }
}
