//! Names of this very program's functions, and of small ones that the tests compile.

use super::*;
use crate::model::{MappedRange, Stack, StackIndex};
use hz_probes_ebpf::StackEnd;
use std::process::Command;

/// Stacks of one process with one file, mapped so that addresses are offsets behind `BASE`.
fn stacks_of(file: MappedFile, offsets: &[u64]) -> Stacks {
    let mut stacks = Stacks::default();
    let range = MappedRange { time_ns: 0, start: BASE, end: BASE << 1, offset: 0, file: 1 };
    stacks.ranges.insert(file.pid, vec![range]);
    stacks.stacks = offsets
        .iter()
        .map(|offset| Stack {
            pid: file.pid,
            addresses: [BASE + offset].into(),
            user_end: StackEnd::Outermost,
            ..Stack::default()
        })
        .collect();
    stacks.files.insert(1, file);
    stacks
}

const BASE: u64 = 1 << 40;

fn of_path(path: &Path) -> MappedFile {
    use std::os::unix::fs::MetadataExt as _;
    let inode = std::fs::metadata(path).unwrap().ino();
    let build_id = blazesym::helper::read_elf_build_id(path).unwrap();
    MappedFile {
        pid: std::process::id(),
        path: path.to_string_lossy().into_owned(),
        inode,
        device: (0, 0),
        build_id: build_id.map_or_else(Vec::new, |id| id.to_vec()),
    }
}

fn names(table: &SymbolTable, place: Place) -> Vec<String> {
    let functions = table.functions(place).unwrap_or_default().iter();
    functions.map(|function| table.text(function.name).to_owned()).collect()
}

fn run(stacks: &Stacks) -> SymbolTable {
    let settings = SymbolSettings { is_same_boot: true, ..SymbolSettings::default() };
    symbolize(stacks, &SymbolTable::default(), &settings, &mut |_, _| {})
}

/// Compiles a program; `None` where there is no compiler, which no machine of ours lacks.
fn compile(dir: &Path, compiler: &str, source: (&str, &str), flags: &[&str]) -> PathBuf {
    let (name, text) = source;
    let (input, output) = (dir.join(name), dir.join(format!("{name}.bin")));
    std::fs::write(&input, text).unwrap();
    let status = Command::new(compiler).args(flags).arg("-o").arg(&output).arg(&input).status();
    assert!(status.unwrap().success(), "{compiler} {name}");
    output
}

/// Where a function is in a file, in bytes from the file's start.
fn offset_of(path: &Path, function: &str) -> u64 {
    let data = ReadCache::new(File::open(path).unwrap());
    let file = elf::ElfFile::read(&data).unwrap();
    let found = file.functions.iter().find(|each| Names::of(&each.name).is(function));
    file.file_offset(found.unwrap_or_else(|| panic!("no {function}")).address).unwrap()
}

const C: &str = r"
__attribute__((always_inline)) static inline int inner(int x) { return x * __builtin_popcount(x); }
__attribute__((noinline)) int outer(int x) { return inner(x + 1) / 3; }
int main(int n, char **v) { (void)v; return outer(n); }
";

#[test]
fn inlined_functions_stand_in_the_one_they_are_inlined_into() {
    let dir = tempfile::tempdir().unwrap();
    let program = compile(dir.path(), "cc", ("in.c", C), &["-O2", "-g"]);
    let start = offset_of(&program, "outer");
    let offsets: Vec<u64> = (start..start + 24).collect();
    let table = run(&stacks_of(of_path(&program), &offsets));
    assert_eq!(names(&table, Place::File(1, start))[0], "outer");
    let inlined = offsets.iter().map(|offset| names(&table, Place::File(1, *offset)));
    assert!(
        inlined.clone().any(|names| names == ["outer", "inner"]),
        "{:?}",
        inlined.collect::<Vec<_>>()
    );
    let functions = table.functions(Place::File(1, start)).unwrap();
    assert!(table.text(functions[0].source).ends_with("in.c"));
    assert_eq!(functions[0].line, 3);
    assert_eq!(table.note(1).unwrap().reason, "");
}

#[test]
fn rust_names_of_both_manglings_are_shown_without_hash() {
    let source = "#[inline(never)] pub fn add<T>(x: T) -> T { std::hint::black_box(x) }
        mod shop { #[inline(never)] pub fn cart(x: u32) -> u32 { super::add(x) } }
        fn main() { std::process::exit(shop::cart(3) as i32 - 3) }";
    let dir = tempfile::tempdir().unwrap();
    for mangling in ["legacy", "v0"] {
        let v0 = "-Csymbol-mangling-version=v0";
        let mut flags = vec!["-O", "-g", "--crate-name", "till"];
        flags.extend((mangling == "v0").then_some(v0));
        let program = compile(dir.path(), "rustc", ("till.rs", source), &flags);
        let start = offset_of(&program, "till::shop::cart");
        let table = run(&stacks_of(of_path(&program), &[start]));
        assert_eq!(names(&table, Place::File(1, start))[0], "till::shop::cart", "{mangling}");
    }
}

#[test]
fn cpp_is_demangled_and_a_stripped_library_has_its_exports() {
    let source = "namespace shop { struct Cart { int add(int n); }; int Cart::add(int n) { return n * 3; } }";
    let dir = tempfile::tempdir().unwrap();
    let flags = ["-O1", "-shared", "-fPIC", "-s"];
    let library = compile(dir.path(), "c++", ("cart.cc", source), &flags);
    let start = offset_of(&library, "shop::Cart::add(int)");
    let table = run(&stacks_of(of_path(&library), &[start]));
    assert_eq!(names(&table, Place::File(1, start)), ["shop::Cart::add(int)"]);
}

#[test]
fn debug_information_in_another_file_is_found_by_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let program = compile(dir.path(), "cc", ("apart.c", C), &["-O2", "-g", "-Wl,--build-id"]);
    let start = offset_of(&program, "outer");
    let file = of_path(&program);
    let id: String = file.build_id.iter().map(|byte| format!("{byte:02x}")).collect();
    let debug = dir.path().join(format!("debug/.build-id/{}", &id[..2]));
    std::fs::create_dir_all(&debug).unwrap();
    let debug = debug.join(format!("{}.debug", &id[2..]));
    let objcopy = |arguments: &[&std::ffi::OsStr]| {
        assert!(Command::new("objcopy").args(arguments).status().unwrap().success());
    };
    objcopy(&["--only-keep-debug".as_ref(), program.as_os_str(), debug.as_os_str()]);
    objcopy(&["--strip-all".as_ref(), program.as_os_str()]);
    let mut file = MappedFile { inode: of_path(&program).inode, ..file };
    let settings =
        SymbolSettings { debug_dirs: vec![dir.path().join("debug")], is_same_boot: true };
    let mut known = SymbolTable::default();
    for is_there in [true, false] {
        if !is_there {
            // Another machine: of the program there is only what the recording says of its layout.
            std::fs::remove_file(&program).unwrap();
            file.path = "/no/such/program".to_owned();
        }
        let stacks = stacks_of(file.clone(), &[start]);
        let table = symbolize(&stacks, &known, &settings, &mut |_, _| {});
        assert_eq!(
            names(&table, Place::File(1, start)),
            ["outer"],
            "{is_there} {:?}",
            table.note(1)
        );
        let mut layout = SymbolTable::default();
        layout.set_note(1, &file, table.note(1).unwrap().clone());
        known = layout;
    }
}

#[test]
fn a_file_that_was_replaced_gives_no_wrong_names() {
    let dir = tempfile::tempdir().unwrap();
    let program = compile(dir.path(), "cc", ("old.c", C), &["-g", "-Wl,--build-id"]);
    let (file, start) = (of_path(&program), offset_of(&program, "outer"));
    let changed = C.replace("outer", "other_name");
    compile(dir.path(), "cc", ("old.c", &changed), &["-g", "-Wl,--build-id"]);
    let table = run(&stacks_of(file, &[start]));
    assert!(table.functions(Place::File(1, start)).is_none());
    let reason = &table.note(1).unwrap().reason;
    assert!(reason.contains("another file by now"), "{reason}");
}

#[test]
fn a_program_that_was_deleted_is_read_while_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let source = "#include <unistd.h>\nint outer(void) { return pause(); } int main(void) { return outer(); }";
    let program = compile(dir.path(), "cc", ("gone.c", source), &["-g"]);
    let (mut file, start) = (of_path(&program), offset_of(&program, "outer"));
    let mut child = Command::new(&program).spawn().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let range = loop {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", child.id())).unwrap();
        let line = maps
            .lines()
            .find(|line| line.contains("gone.c.bin") && line.contains("r-x"))
            .map(str::to_owned);
        if let Some(line) = line {
            break line;
        }
        assert!(std::time::Instant::now() < deadline, "{maps}");
    };
    std::fs::remove_file(&program).unwrap();
    let bounds = range.split(' ').next().unwrap().split_once('-').unwrap();
    let number = |text| u64::from_str_radix(text, 16).unwrap();
    let offset = number(range.split_whitespace().nth(2).unwrap());
    file.pid = child.id();
    file.path.push_str(" (deleted)");
    let mut stacks = stacks_of(file, &[]);
    let (first, end) = (number(bounds.0), number(bounds.1));
    let mapped = MappedRange { time_ns: 0, start: first, end, offset, file: 1 };
    stacks.ranges.insert(child.id(), vec![mapped]);
    let address = first + start - offset;
    stacks.stacks =
        vec![Stack { pid: child.id(), addresses: [address].into(), ..Stack::default() }];
    let table = run(&stacks);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(names(&table, Place::File(1, start)), ["outer"], "{:?}", table.note(1));
}

#[test]
fn damaged_files_are_said_and_the_rest_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let program = compile(dir.path(), "cc", ("bad.c", C), &["-O2", "-g", "-Wl,--build-id=none"]);
    let (bytes, start) = (std::fs::read(&program).unwrap(), offset_of(&program, "outer"));
    let mut random = 0x9e37_79b9_u32;
    for round in 0..60 {
        let mut damaged = bytes.clone();
        for _ in 0..40 {
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            let place = random as usize % damaged.len();
            damaged[place] = (random >> 11) as u8;
        }
        if round % 3 == 0 {
            damaged.truncate(random as usize % damaged.len());
        }
        std::fs::write(&program, &damaged).unwrap();
        let file = MappedFile { build_id: Vec::new(), ..of_own(&program) };
        let table = run(&stacks_of(file, &[start, 1, u64::MAX >> 24]));
        assert!(table.len() <= 3, "{}", table.len());
    }
}

fn of_own(path: &Path) -> MappedFile {
    use std::os::unix::fs::MetadataExt as _;
    let inode = std::fs::metadata(path).unwrap().ino();
    let path = path.to_string_lossy().into_owned();
    MappedFile { pid: std::process::id(), path, inode, ..MappedFile::default() }
}

#[test]
fn what_is_not_there_is_named_and_keeps_nobody() {
    let file = MappedFile {
        pid: u32::MAX,
        path: "/no/such/file".to_owned(),
        inode: 1,
        ..MappedFile::default()
    };
    let mut stacks = stacks_of(file, &[16]);
    stacks.stacks.push(Stack { pid: 3, addresses: [99].into(), ..Stack::default() });
    let mut last = (0, 0);
    let settings = SymbolSettings::default();
    let table = symbolize(&stacks, &SymbolTable::default(), &settings, &mut |done, total| {
        last = (done, total);
    });
    assert_eq!(table.note(1).unwrap().reason, "not found");
    assert_eq!(last, (2, 2));
}

#[test]
fn the_kernel_and_its_library_have_names() {
    let mut stacks = Stacks::default();
    let vdso = MappedFile { path: "[vdso]".to_owned(), ..MappedFile::default() };
    stacks.files.insert(1, vdso);
    let range = MappedRange { time_ns: 0, start: BASE, end: BASE + (1 << 14), offset: 0, file: 1 };
    stacks.ranges.insert(7, vec![range]);
    let offsets = (0..1 << 12).step_by(8).map(|offset| BASE + offset);
    stacks.stacks = vec![Stack { pid: 7, addresses: offsets.collect(), ..Stack::default() }];
    let kallsyms = std::fs::read_to_string("/proc/kallsyms").unwrap();
    let line = kallsyms.lines().find(|line| line.ends_with(" T schedule")).unwrap();
    let address = u64::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap();
    // Without the right to see them, all addresses are 0.
    if address != 0 {
        let stack = Stack { addresses: [address + 1].into(), kernel_frames: 1, ..Stack::default() };
        stacks.stacks.push(stack);
        assert_eq!(names(&run(&stacks), Place::Kernel(address + 1)), ["schedule"]);
    }
    let table = run(&stacks);
    let vdso: Vec<String> =
        stacks.places(StackIndex(0)).flat_map(|place| names(&table, place)).collect();
    assert!(vdso.iter().any(|name| name.contains("clock_gettime")), "{vdso:?}");
}
