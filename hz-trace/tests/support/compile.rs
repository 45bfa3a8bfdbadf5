//! Programs that are compiled by the test that needs them, with the debug info that it wants: against
//! the crates that the test itself is built with.

use std::{
    collections::BTreeSet,
    env, fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

/// A program of the test's own that runs. It ends with the test.
pub(crate) struct Program {
    child: Child,
    source: PathBuf,
}

/// Held while a program is compiled: tests that need the same one wait for it.
static COMPILING: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

impl Program {
    /// Compiles `source` with `-C debuginfo=`, starts it, and waits until it says `ready`.
    pub(crate) fn start(name: &str, source: &str, debuginfo: &str) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{debuginfo}"));
        let path = directory.join(format!("{name}.rs"));
        let binary = directory.join(name);
        let mut compiled = COMPILING.lock().unwrap_or_else(PoisonError::into_inner);
        if !compiled.contains(&binary) {
            fs::create_dir_all(&directory).expect("a directory can be made");
            fs::write(&path, source).expect("a file can be written");
            compile(&path, &binary, debuginfo);
            compiled.insert(binary.clone());
        }
        drop(compiled);
        let child = Command::new(&binary)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("what was compiled starts");
        let mut program = Self { child, source: path };
        let mut line = String::new();
        let out = program.child.stdout.as_mut().expect("piped");
        BufReader::new(out).read_line(&mut line).expect("it says something");
        assert_eq!(line.trim_end(), "ready");
        program
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The source file that its debug info names.
    pub(crate) fn source(&self) -> &Path {
        &self.source
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The line whose comment says that it is `at` this.
pub(crate) fn line_of(source: &str, at: &str) -> usize {
    let is_it = |line: &str| line.trim_end().ends_with(&format!("// at: {at}"));
    1 + source.lines().position(is_it).expect("the source has the place")
}

fn compile(source: &Path, binary: &Path, debuginfo: &str) {
    let test = env::current_exe().expect("this test has a path");
    let deps = test.parent().expect("target/PROFILE/deps");
    let mut complaints = Vec::new();
    // Cargo keeps what earlier builds with other features left there: the newest fits as a rule.
    for runtime in newest(deps, "libhz_runtime-") {
        for tokio in newest(deps, "libtokio-") {
            let mut rustc = Command::new(rustc());
            rustc.args(["--edition", "2024", "-C", &format!("debuginfo={debuginfo}")]);
            rustc.arg("-L").arg(format!("dependency={}", deps.display()));
            for (name, path) in [("hz_runtime", &runtime), ("tokio", &tokio)] {
                rustc.arg("--extern").arg(format!("{name}={}", path.display()));
            }
            let output = rustc.arg("-o").arg(binary).arg(source).output().expect("rustc starts");
            if output.status.success() {
                return;
            }
            complaints.push(String::from_utf8_lossy(&output.stderr).into_owned());
        }
    }
    unreachable!(
        "{} does not compile against {}: {complaints:#?}",
        source.display(),
        deps.display()
    );
}

/// The compiler beside the cargo that runs the test, else the one in the path.
fn rustc() -> PathBuf {
    let beside = env::var_os("CARGO").map(|cargo| PathBuf::from(cargo).with_file_name("rustc"));
    env::var_os("RUSTC")
        .map(PathBuf::from)
        .or(beside.filter(|path| path.exists()))
        .unwrap_or_else(|| PathBuf::from("rustc"))
}

/// Libraries of a crate, the newest first.
fn newest(deps: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut found: Vec<(SystemTime, PathBuf)> = fs::read_dir(deps)
        .expect("it is there")
        .flatten()
        .filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.starts_with(prefix) && name.ends_with(".rlib")
        })
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, path)| path).collect()
}
