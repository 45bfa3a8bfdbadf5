//! Which file a name means.

use super::ResolveError;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where the dynamic loader looks without being told.
const LIBRARY_DIRS: [&str; 6] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];

/// The loader's list of libraries.
const LOADER_CACHE: &str = "/etc/ld.so.cache";

/// Files that `name` means, each once: for `pids`, as they see them (they may live in containers
/// and map files that are deleted); otherwise as this process sees them.
pub(super) fn locate(name: &str, pids: &[u32]) -> Result<Vec<PathBuf>, ResolveError> {
    let mut found: Vec<PathBuf> = pids.iter().filter_map(|pid| in_process(name, *pid)).collect();
    if found.is_empty() {
        found.extend(on_host(name)?);
    }
    let mut seen = BTreeSet::new();
    found.retain(|path| fs::metadata(path).is_ok_and(|file| seen.insert((file.dev(), file.ino()))));
    if found.is_empty() {
        return Err(ResolveError::NoSuchBinary { binary: name.to_owned() });
    }
    Ok(found)
}

/// The file that a process has mapped under this name, or would open by this path.
fn in_process(name: &str, pid: u32) -> Option<PathBuf> {
    let process = Path::new("/proc").join(pid.to_string());
    let maps = fs::read(process.join("maps")).ok()?;
    let is_path = name.contains('/');
    let wanted =
        if is_path { fs::canonicalize(name).unwrap_or_else(|_| name.into()) } else { name.into() };
    let mapped = maps.split(|byte| *byte == b'\n').filter_map(Mapping::parse).find(|mapping| {
        if is_path { mapping.path == wanted } else { is_named(mapping.path, name) }
    });
    let Some(mapping) = mapped else {
        let inside = process.join("root").join(wanted.strip_prefix("/").ok()?);
        return (is_path && inside.is_file()).then(|| shortest(&inside, &wanted));
    };
    if mapping.is_deleted {
        // The path is gone or another file by now; the kernel still has the one that runs.
        return Some(process.join("map_files").join(mapping.range));
    }
    let inside = process.join("root").join(mapping.path.strip_prefix("/").ok()?);
    Some(shortest(&inside, mapping.path))
}

/// The plain path where it means the same file, the way through the process's root elsewhere.
fn shortest(inside: &Path, plain: &Path) -> PathBuf {
    let identity = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    let is_same = identity(plain).is_some() && identity(plain) == identity(inside);
    if is_same { plain.to_owned() } else { inside.to_owned() }
}

/// A line of `/proc/PID/maps` that names a file.
struct Mapping<'a> {
    range: &'a OsStr,
    path: &'a Path,
    is_deleted: bool,
}

impl<'a> Mapping<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let start = line.iter().position(|byte| *byte == b'/')?;
        let range = line.split(|byte| *byte == b' ').next()?;
        let path = &line[start..];
        let living = path.strip_suffix(b" (deleted)");
        Some(Self {
            range: OsStr::from_bytes(range),
            path: Path::new(OsStr::from_bytes(living.unwrap_or(path))),
            is_deleted: living.is_some(),
        })
    }
}

/// Whether a file goes by this name: its own, or a library's without version (`libc` for
/// `libc.so.6` and `libc-2.31.so`).
fn is_named(path: &Path, name: &str) -> bool {
    let Some(file) = path.file_name().map(OsStr::as_bytes) else { return false };
    let Some(rest) = file.strip_prefix(name.as_bytes()) else { return false };
    let is_version = rest.first() == Some(&b'-')
        && rest.get(1).is_some_and(u8::is_ascii_digit)
        && rest.windows(3).any(|part| part == b".so");
    rest.is_empty() || rest.starts_with(b".so") || is_version && name.starts_with("lib")
}

fn on_host(name: &str) -> Result<Option<PathBuf>, ResolveError> {
    if name.contains('/') {
        let unreadable = |source| ResolveError::Unreadable { binary: name.into(), source };
        return match fs::canonicalize(name) {
            Ok(path) => Ok(Some(path)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unreadable(error)),
        };
    }
    let program = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| is_program(file))
    };
    let found = program().or_else(|| library(name));
    Ok(found.map(|path| fs::canonicalize(&path).unwrap_or(path)))
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.mode() & 0o111 != 0)
}

fn library(name: &str) -> Option<PathBuf> {
    let cache = fs::read(LOADER_CACHE).unwrap_or_default();
    let paths = cached_libraries(&cache);
    let cached = paths.iter().map(|path| Path::new(OsStr::from_bytes(path)));
    // A library for another architecture may go by the same name further down.
    let mut cached = cached.filter(|path| is_named(path, name) && path.is_file());
    cached.next().map(Path::to_owned).or_else(|| {
        let files = LIBRARY_DIRS.iter().flat_map(fs::read_dir).flatten().flatten();
        files.map(|file| file.path()).find(|path| is_named(path, name) && path.is_file())
    })
}

/// Paths in the loader's cache: strings that begin with a slash. Its format has changed with
/// glibc's versions; that its paths end in a zero byte has not.
fn cached_libraries(cache: &[u8]) -> Vec<&[u8]> {
    cache.split(|byte| *byte == 0).filter(|string| string.starts_with(b"/")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own_pid() -> [u32; 1] {
        [std::process::id()]
    }

    #[test]
    fn a_library_is_known_by_its_soname_and_without_version() {
        for name in ["libc.so.6", "libc"] {
            for pids in [&own_pid()[..], &[]] {
                let found = locate(name, pids).unwrap();
                assert_eq!(found.len(), 1, "{found:?}");
                assert!(found[0].to_string_lossy().contains("libc"), "{found:?}");
            }
        }
    }

    #[test]
    fn a_program_is_found_on_the_path_and_in_its_process() {
        let shell = locate("sh", &[]).unwrap();
        assert!(shell[0].is_absolute() && shell[0].is_file(), "{shell:?}");
        let own = std::env::current_exe().unwrap();
        let name = own.file_name().unwrap().to_str().unwrap();
        assert_eq!(locate(name, &own_pid()).unwrap(), [own.canonicalize().unwrap()]);
    }

    #[test]
    fn a_file_is_found_once_for_many_processes() {
        let own = std::env::current_exe().unwrap();
        let pids = [own_pid(), own_pid()].concat();
        assert_eq!(locate(own.to_str().unwrap(), &pids).unwrap().len(), 1);
    }

    #[test]
    fn a_deleted_program_is_found_through_its_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sleeper");
        fs::copy("/bin/sleep", &path).unwrap();
        let mut child = std::process::Command::new(&path).arg("60").spawn().unwrap();
        // `spawn` may return before the kernel has mapped the program.
        let start = std::time::Instant::now();
        while locate("sleeper", &[child.id()]).is_err() && start.elapsed().as_secs() < 20 {
            std::thread::yield_now();
        }
        fs::remove_file(&path).unwrap();
        let found = locate("sleeper", &[child.id()]);
        let read = found.as_ref().ok().and_then(|found| fs::read(&found[0]).ok());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.unwrap()[0].to_string_lossy().contains("map_files"));
        // Opening it takes CAP_CHECKPOINT_RESTORE.
        assert!(read.is_none_or(|bytes| bytes == fs::read("/bin/sleep").unwrap()));
    }

    #[test]
    fn what_does_not_exist_is_named() {
        for name in ["no-such-program", "./no/such/file", "/no/such/file"] {
            let error = locate(name, &own_pid()).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn names_are_not_taken_for_longer_ones() {
        assert!(is_named(Path::new("/lib/libc.so.6"), "libc"));
        assert!(is_named(Path::new("/lib/libc-2.31.so"), "libc"));
        assert!(!is_named(Path::new("/lib/libcrypto.so.3"), "libc"));
        assert!(!is_named(Path::new("/lib/libc-client.so"), "libc"));
        assert!(!is_named(Path::new("/bin/sh-2"), "sh"));
    }

    #[test]
    fn lines_of_maps_are_read() {
        let line = b"7f00-7f10 r-xp 0000 fd:01 42        /opt/a b (deleted)";
        let mapping = Mapping::parse(line).unwrap();
        assert_eq!((mapping.range, mapping.is_deleted), (OsStr::new("7f00-7f10"), true));
        assert_eq!(mapping.path, Path::new("/opt/a b"));
        assert!(Mapping::parse(b"7f00-7f10 rw-p 0000 00:00 0  [stack]").is_none());
        assert!(Mapping::parse(b"").is_none());
    }
}
