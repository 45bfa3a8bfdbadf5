//! Compiles the BPF programs into objects that `hz-trace` carries.
//!
//! `AYA_BUILD_SKIP=1` writes empty objects instead, so that `cargo check`, clippy and editors need
//! no BPF toolchain. `HZ_BPF_TOOLCHAIN` names the rustup toolchain to compile Rust programs with.

#[path = "build/rust_bpf.rs"]
mod rust_bpf;

use anyhow::{Context, Result};
use std::env;
use std::path::PathBuf;

fn main() -> Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is not set")?);
    rust_bpf::build(&out)
}
