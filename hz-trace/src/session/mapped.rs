//! Where a runtime's process has code, so that the stacks it tells can be named.

use super::collector::{Collector, STREAM_HOST};
use crate::{host::clock, symbol::build_id};
use hz_probes_ebpf::{Header, Kind, MAPPING_FOUND, MappedFile, Mapping, PATH_PART};
use procfs::process::{MMPermissions, MMapPath, MemoryMap, Process};
use std::collections::{BTreeMap, BTreeSet};
use zerocopy::IntoBytes as _;

/// Numbers of files begin here: those of probes that have stacks themselves are below.
const FIRST_FILE: u32 = 0x8000_0001;

/// Code of processes that was told so far.
#[derive(Debug, Default)]
pub(super) struct Mapped {
    told: BTreeSet<(u32, u64, u64, u32)>,
    files: BTreeMap<(i32, i32, u64, String), u32>,
}

impl Mapped {
    /// Tells what of a process's code was not told. A process that cannot be read has none.
    pub(super) fn tell(&mut self, pid: u32, collector: &mut Collector) {
        let id = i32::try_from(pid).unwrap_or(i32::MAX);
        let Ok(maps) = Process::new(id).and_then(|process| process.maps()) else { return };
        for map in maps.iter().filter(|map| map.perms.contains(MMPermissions::EXECUTE)) {
            let Some(path) = path_of(map) else { continue };
            let file = self.file(pid, map, &path, collector);
            let (start, end) = map.address;
            if self.told.insert((pid, start, end, file)) {
                let header = header(Kind::Mapping, pid, file);
                let (offset, flags) = (map.offset, MAPPING_FOUND);
                let record = Mapping { header, start, end, offset, flags, reserved: 0 };
                collector.push(STREAM_HOST, record.as_bytes());
            }
        }
    }

    fn file(&mut self, pid: u32, map: &MemoryMap, path: &str, collector: &mut Collector) -> u32 {
        let next = FIRST_FILE.saturating_add(u32::try_from(self.files.len()).unwrap_or(u32::MAX));
        let (major, minor) = map.dev;
        let key = (major, minor, map.inode, path.to_owned());
        if let Some(number) = self.files.get(&key) {
            return *number;
        }
        self.files.insert(key, next);
        let (start, end) = map.address;
        let id = build_id(format!("/proc/{pid}/map_files/{start:x}-{end:x}").as_ref())
            .or_else(|| build_id(format!("/proc/{pid}/root{path}").as_ref()))
            .unwrap_or_default();
        let mut record = MappedFile {
            header: header(Kind::MappedFile, pid, next),
            inode: map.inode,
            device_major: major.unsigned_abs(),
            device_minor: minor.unsigned_abs(),
            build_id: [0; 20],
            build_id_bytes: u16::try_from(id.len().min(20)).unwrap_or(0),
            path_bytes: u16::try_from(path.len()).unwrap_or(u16::MAX),
            path_from: 0,
            reserved: 0,
            path: [0; PATH_PART],
        };
        record.build_id.iter_mut().zip(&id).for_each(|(to, from)| *to = *from);
        for (place, part) in path.as_bytes().chunks(PATH_PART).enumerate() {
            record.path = [0; PATH_PART];
            record.path[..part.len()].copy_from_slice(part);
            record.path_from = u32::try_from(place * PATH_PART).unwrap_or(u32::MAX);
            collector.push(STREAM_HOST, record.as_bytes());
        }
        next
    }
}

fn header(kind: Kind, pid: u32, arg: u32) -> Header {
    let time_ns = clock::monotonic_ns();
    Header { time_ns, kind: kind as u16, pid, arg, ..Header::default() }
}

/// The file that is mapped, or what the kernel calls so.
fn path_of(map: &MemoryMap) -> Option<String> {
    match &map.pathname {
        MMapPath::Path(path) => Some(path.to_string_lossy().into_owned()),
        MMapPath::Vdso => Some("[vdso]".to_owned()),
        _ => None,
    }
}
