//! Functions of allocators in ELF files, for user probes on them.

use super::{
    elf::ElfFile,
    instruction::{self, FirstInstruction},
};
use hz_probes_ebpf::HeapFunction;
use object::ReadCache;
use std::{collections::BTreeMap, fs::File};

/// Code that is looked at for a cheap place, and for jumps back to it.
const CODE_BYTES: u64 = 2048;

/// A function of an allocator, and where a probe on it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AllocatorSite {
    /// Its name.
    pub(crate) symbol: String,
    /// What it does with its arguments.
    pub(crate) function: HeapFunction,
    /// Bytes from the start of the file.
    pub(crate) file_offset: u64,
    /// What the kernel does with the instruction under the probe.
    pub(crate) first: FirstInstruction,
}

/// Takes as many bytes as its argument `bytes` says.
const fn takes(bytes: u8) -> HeapFunction {
    HeapFunction { bytes, count: 0, freed: 0, out: 0, is_other_without_freed: false }
}

/// Takes the product of its first two arguments.
const ARRAY: HeapFunction = HeapFunction { count: 2, ..takes(1) };
/// Gives the memory of its first argument back, and takes as much as the second says.
const AGAIN: HeapFunction = HeapFunction { freed: 1, ..takes(2) };
/// Writes the address to where its first argument says.
const POSIX: HeapFunction = HeapFunction { out: 1, ..takes(3) };
/// Gives the memory of its first argument back.
const FREE: HeapFunction = HeapFunction { freed: 1, ..takes(0) };

/// The C library's, and of any allocator in its place.
const STANDARD: [(&str, HeapFunction); 10] = [
    ("malloc", takes(1)),
    ("calloc", ARRAY),
    ("realloc", AGAIN),
    ("memalign", takes(2)),
    ("aligned_alloc", takes(2)),
    ("posix_memalign", POSIX),
    ("valloc", takes(1)),
    ("pvalloc", takes(1)),
    ("free", FREE),
    ("cfree", FREE),
];

/// jemalloc's own, behind any of its prefixes.
const JEMALLOC: [(&str, HeapFunction); 4] =
    [("mallocx", takes(1)), ("rallocx", AGAIN), ("dallocx", FREE), ("sdallocx", FREE)];

/// What jemalloc's functions begin with: none, its own, and that of its Rust crate.
const JEMALLOC_PREFIXES: [&str; 3] = ["", "je_", "_rjem_"];

/// mimalloc's. Others of it go through these.
const MIMALLOC: [(&str, HeapFunction); 13] = [
    ("mi_malloc", takes(1)),
    ("mi_malloc_small", takes(1)),
    ("mi_zalloc", takes(1)),
    ("mi_zalloc_small", takes(1)),
    ("mi_calloc", ARRAY),
    ("mi_malloc_aligned", takes(1)),
    ("mi_zalloc_aligned", takes(1)),
    ("mi_realloc", AGAIN),
    ("mi_realloc_aligned", AGAIN),
    ("mi_free", FREE),
    ("mi_free_size", FREE),
    ("mi_free_aligned", FREE),
    ("mi_free_size_aligned", FREE),
];

/// In mimalloc these call `mi_malloc_aligned`.
const OF_MIMALLOC_BY_OTHERS: [&str; 5] =
    ["memalign", "aligned_alloc", "posix_memalign", "valloc", "pvalloc"];

/// Every function of an allocator that a file defines, each address once. Never panics, whatever the file
/// is.
pub(crate) fn allocator_sites(file: File) -> Vec<AllocatorSite> {
    let data = &ReadCache::new(file);
    let Some(elf) = ElfFile::read(data) else { return Vec::new() };
    // A return probe would crash a Go program: its runtime moves stacks. It has an allocator of its own.
    if elf.is_go {
        return Vec::new();
    }
    let mut by_name: BTreeMap<&str, u64> = BTreeMap::new();
    for function in &elf.functions {
        by_name.insert(&function.name, function.address);
    }
    let mut by_address = BTreeMap::new();
    for (symbol, function) in functions(&by_name) {
        if let Some(address) = by_name.get(symbol.as_str()) {
            by_address.entry(*address).or_insert((symbol, function));
        }
    }
    let sites = by_address.into_iter().filter_map(|(address, (symbol, function))| {
        let code = elf.code_at_most(data, address, CODE_BYTES);
        let (skip, first) = if elf.is_x86_64 {
            let skip = instruction::cheapest_start(code);
            let rest = code.get(usize::try_from(skip).ok()?..)?;
            (skip, instruction::judge(rest, address + skip))
        } else {
            (0, FirstInstruction::NotChecked)
        };
        let file_offset = elf.file_offset(address)?.checked_add(skip)?;
        Some(AllocatorSite { symbol, function, file_offset, first })
    });
    sites.collect()
}

/// Functions to look for in a file that defines these names.
fn functions(names: &BTreeMap<&str, u64>) -> Vec<(String, HeapFunction)> {
    let is_mimalloc = names.contains_key("mi_malloc");
    // glibc's passes what was nothing before on to its malloc.
    let is_glibc = names.get("malloc").is_some_and(|at| names.get("__libc_malloc") == Some(at));
    let mut wanted = Vec::new();
    for prefix in JEMALLOC_PREFIXES {
        let all = STANDARD.iter().chain(&JEMALLOC);
        let all = all.filter(|(name, _)| {
            !(is_mimalloc && prefix.is_empty() && OF_MIMALLOC_BY_OTHERS.contains(name))
        });
        wanted.extend(all.map(|(name, function)| {
            let is_other_without_freed = is_glibc && prefix.is_empty() && *name == "realloc";
            (format!("{prefix}{name}"), HeapFunction { is_other_without_freed, ..*function })
        }));
    }
    wanted.extend(MIMALLOC.iter().map(|(name, function)| ((*name).to_owned(), *function)));
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{path::Path, process::Command};

    fn library(source: &str) -> Vec<AllocatorSite> {
        let dir = tempfile::tempdir().unwrap();
        let (input, output) = (dir.path().join("a.c"), dir.path().join("a.so"));
        std::fs::write(&input, source).unwrap();
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-fno-builtin", "-o"]).arg(&output).arg(&input);
        assert!(compiler.status().unwrap().success());
        allocator_sites(File::open(output).unwrap())
    }

    fn names(sites: &[AllocatorSite]) -> Vec<&str> {
        let mut names: Vec<_> = sites.iter().map(|site| site.symbol.as_str()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn the_c_library_has_its_functions_once_and_cheap_where_it_can_be() {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let path = maps.lines().find_map(|line| {
            line.split_whitespace().last().filter(|path| path.contains("/libc.so"))
        });
        let sites = allocator_sites(File::open(Path::new(path.unwrap())).unwrap());
        let found = names(&sites);
        for name in ["calloc", "free", "malloc", "posix_memalign", "realloc"] {
            let aliases = [name, "cfree"];
            assert!(found.iter().any(|each| aliases.contains(each)), "{name} in {found:?}");
        }
        let realloc = sites.iter().find(|site| site.symbol == "realloc").unwrap();
        assert!(realloc.function.is_other_without_freed, "{realloc:?}");
        if cfg!(target_arch = "x86_64") {
            let dear = sites.iter().filter(|site| site.first != FirstInstruction::Emulated);
            let dear: Vec<_> = dear.map(|site| &site.symbol).collect();
            assert!(
                !dear.iter().any(|name| ["malloc", "free"].contains(&name.as_str())),
                "{dear:?}"
            );
        }
    }

    #[test]
    fn allocators_are_known_by_their_functions() {
        let je = library(
            "void *_rjem_malloc(long n) { return (void *)n; } void _rjem_sdallocx(void *p, long n, int f) { *(int *)p = f + n; }
             void *malloc_of_my_own(long n) { return (void *)(n + 1); }",
        );
        assert_eq!(names(&je), ["_rjem_malloc", "_rjem_sdallocx"]);
        let mi = library(
            "void *mi_malloc(long n) { return (void *)n; } void *malloc(long n) __attribute__((alias(\"mi_malloc\")));
             int posix_memalign(void **p, long a, long n) { *p = (void *)(a + n); return 0; }
             void *mi_malloc_aligned(long n, long a) { return (void *)(n ^ a); }",
        );
        assert_eq!(names(&mi).len(), 2, "{mi:?}");
        assert!(names(&mi).contains(&"mi_malloc_aligned"), "{mi:?}");
        assert!(library("int f(int n) { return n; }").is_empty());
    }

    #[test]
    fn what_is_no_elf_has_none() {
        assert!(allocator_sites(File::open("/proc/self/status").unwrap()).is_empty());
        assert!(allocator_sites(File::open("/dev/null").unwrap()).is_empty());
    }
}
