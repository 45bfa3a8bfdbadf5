//! Compiles the BPF programs that are written in Rust.

use anyhow::{Context, Result, bail, ensure};
use aya_build::{Package, Toolchain};
use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

/// The toolchain that `scripts/setup` links, with a `core` for BPF.
const LINKED: &str = "hz-bpf";
/// Names the toolchain to use instead.
const TOOLCHAIN_VAR: &str = "HZ_BPF_TOOLCHAIN";
/// The programs of `hz-probes-ebpf/src/bin`, and the objects they become.
pub(crate) const OBJECTS: [&str; 2] = ["stacks", "uprobe"];
/// Sources of the programs and of the vocabulary they share, seen from this crate.
const PROBES: &str = "../hz-probes-ebpf/src";

/// Writes one object for each program into `OUT_DIR`.
///
/// # Errors
///
/// Without a toolchain for BPF, or when the programs do not compile.
pub(crate) fn build() -> Result<()> {
    println!("cargo:rerun-if-env-changed={TOOLCHAIN_VAR}");
    println!("cargo:rerun-if-changed=build/rust_bpf.rs");
    println!("cargo:rerun-if-changed=../hz-probes-ebpf/Cargo.toml");
    let toolchain = toolchain()?;
    let linker = Command::new("bpf-linker").arg("--version").stdout(Stdio::null()).status();
    ensure!(
        linker.is_ok_and(|status| status.success()),
        "BPF programs cannot be linked: no bpf-linker on PATH; run scripts/setup"
    );
    // Inline assembly for BPF is unstable. These crates may use it on a stable compiler: with `1`
    // aya-build would also ask for build-std, and a linked toolchain has no sources to build from.
    // SAFETY: a build script has one thread here.
    unsafe { env::set_var("RUSTC_BOOTSTRAP", format!("aya_ebpf,{}", OBJECTS.join(","))) };
    // aya-build passes every line of the inner cargo on as a warning.
    // SAFETY: a build script has one thread here.
    unsafe { env::set_var("CARGO_TERM_QUIET", "true") };
    let probes = Package {
        name: "hz-probes-ebpf",
        root_dir: PROBES,
        features: &["bpf"],
        ..Package::default()
    };
    aya_build::build_ebpf([probes], Toolchain::Custom(&toolchain))
        .context("cannot compile the BPF programs in hz-probes-ebpf/src/bin")
}

/// The one that is asked for, the linked one, or rustup's nightly with its sources.
fn toolchain() -> Result<String> {
    if let Ok(name) = env::var(TOOLCHAIN_VAR) {
        ensure!(
            sysroot(&name).is_some(),
            "{TOOLCHAIN_VAR} names the toolchain {name}, which rustup does not have; run scripts/setup"
        );
        return Ok(name);
    }
    if sysroot(LINKED).is_some() {
        return Ok(LINKED.to_owned());
    }
    let sources = sysroot("nightly").map(|root| Path::new(&root).join("lib/rustlib/src/rust"));
    if sources.is_some_and(|path| path.exists()) {
        return Ok("nightly".to_owned());
    }
    bail!(
        "no Rust toolchain for BPF: run scripts/setup, or set AYA_BUILD_SKIP=1 to build without BPF programs"
    )
}

/// Where a toolchain lives, if it is installed.
fn sysroot(toolchain: &str) -> Option<String> {
    let output = Command::new("rustup")
        .args(["run", toolchain, "rustc", "--print", "sysroot"])
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| path.trim().to_owned())
}
