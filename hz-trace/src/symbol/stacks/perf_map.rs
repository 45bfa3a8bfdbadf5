//! Names that a process gave code it made at run time: `/tmp/perf-PID.map`.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

/// Bytes that are read of a map: its process may write without end.
const MAP_BYTES: u64 = 256 << 20;

/// The functions of a map, by address.
#[derive(Debug, Default)]
pub(super) struct PerfMap {
    /// First address, address behind the last, name; later lines behind earlier ones.
    functions: Vec<(u64, u64, String)>,
}

impl PerfMap {
    /// The map of a process, seen from within its own root first.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let inner = namespace_pid(pid).unwrap_or(pid);
        let places =
            [format!("/proc/{pid}/root/tmp/perf-{inner}.map"), format!("/tmp/perf-{pid}.map")];
        places
            .iter()
            .find_map(|path| File::open(path).ok())
            .map(|file| Self::read(file.take(MAP_BYTES)))
    }

    fn read(text: impl std::io::Read) -> Self {
        let lines = BufReader::new(text).split(b'\n').map_while(Result::ok);
        let mut functions: Vec<_> = lines.filter_map(|line| parse(&line)).collect();
        functions.sort_by_key(|(start, ..)| *start);
        Self { functions }
    }

    /// The name of the function at `address`: the last of those that are there.
    pub(super) fn name(&self, address: u64) -> Option<&str> {
        let behind = self.functions.partition_point(|(start, ..)| *start <= address);
        // Functions do not nest, but memory is used again: a few may begin before and reach here.
        let near = self.functions[..behind].iter().rev().take(16);
        near.into_iter().find(|(_, end, _)| address < *end).map(|(.., name)| name.as_str())
    }
}

/// `START SIZE NAME`, the numbers in hexadecimal.
fn parse(line: &[u8]) -> Option<(u64, u64, String)> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.trim_end().splitn(3, ' ');
    let mut number = || {
        let word = words.next()?;
        u64::from_str_radix(word.strip_prefix("0x").unwrap_or(word), 16).ok()
    };
    let (start, bytes) = (number()?, number()?);
    let name = words.next().filter(|name| !name.is_empty())?;
    Some((start, start.checked_add(bytes)?, name.to_owned()))
}

/// The id that a process has in its own namespace.
fn namespace_pid(pid: u32) -> Option<u32> {
    let status =
        std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().next_back()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_found_by_address() {
        let text = "7f00 10 wasm[0]::f one\n0x7f10 20 g\nnonsense\n7f10\n7f40 ffffffffffffffff h\n";
        let map = PerfMap::read(text.as_bytes());
        assert_eq!(map.name(0x7f0f), Some("wasm[0]::f one"));
        assert_eq!(map.name(0x7f10), Some("g"));
        assert_eq!(map.name(0x7f2f), Some("g"));
        assert_eq!(map.name(0x7f30), None);
        assert_eq!(map.name(0), None);
    }

    #[test]
    fn the_map_of_a_process_that_is_gone_is_still_read() {
        let pid = u32::MAX - 7;
        let path = format!("/tmp/perf-{pid}.map");
        std::fs::write(&path, "1000 10 jitted\n").unwrap();
        let map = PerfMap::of(pid);
        std::fs::remove_file(path).unwrap();
        assert_eq!(map.unwrap().name(0x1008), Some("jitted"));
    }
}
