//! Compiles the BPF programs, in C and in Rust, into `OUT_DIR`.
//!
//! `AYA_BUILD_SKIP=1` writes empty objects instead, so that `cargo check`, clippy and editors need
//! no BPF toolchain. `HZ_CLANG` names the clang to compile C with, `HZ_BPF_TOOLCHAIN` the rustup
//! toolchain to compile Rust with.

#[path = "build/c_bpf.rs"]
mod c_bpf;
#[path = "build/rust_bpf.rs"]
mod rust_bpf;
#[path = "build/vocabulary.rs"]
mod vocabulary;

use anyhow::{Context, Result};
use std::{env, fs, path::Path};

fn main() -> Result<()> {
    println!("cargo:rerun-if-env-changed=AYA_BUILD_SKIP");
    let out = env::var("OUT_DIR").context("cargo sets OUT_DIR")?;
    let out = Path::new(&out);
    if is_skipped() {
        let names = c_bpf::OBJECTS.iter().map(|object| object.name).chain(rust_bpf::OBJECTS);
        return write_stubs(out, names);
    }
    let include = out.join("include");
    fs::create_dir_all(&include).context("cannot create the include directory")?;
    vocabulary::write_header(&include.join("vocabulary.h"))?;
    c_bpf::build(out, &include)?;
    rust_bpf::build()
}

/// What aya-build, too, takes for a yes.
fn is_skipped() -> bool {
    env::var("AYA_BUILD_SKIP").is_ok_and(|skip| skip == "1" || skip.eq_ignore_ascii_case("true"))
}

/// Writes empty objects, which load nowhere.
fn write_stubs<'a>(out: &Path, names: impl Iterator<Item = &'a str>) -> Result<()> {
    for name in names {
        let path = out.join(name);
        fs::write(&path, []).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
