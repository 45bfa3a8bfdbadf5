//! BPF programs in C: compiled by clang, linked to no kernel (CO-RE).

use anyhow::{Context, Result, bail};
use libbpf_cargo::SkeletonBuilder;
use std::{env, ffi::OsString, path::Path, process::Command};

/// One object file and how it is made.
pub(crate) struct Object {
    pub(crate) name: &'static str,
    source: &'static str,
    flags: &'static [&'static str],
}

/// Every object, in the order of building.
pub(crate) const OBJECTS: &[Object] = &[
    Object { name: "net.bpf.o", source: "net.bpf.c", flags: &[] },
    Object { name: "sched.bpf.o", source: "sched.bpf.c", flags: &[] },
    Object { name: "sched_raw.bpf.o", source: "sched.bpf.c", flags: &["-DHZ_RAW_TRACEPOINT"] },
    Object { name: "aggregates.bpf.o", source: "aggregates.bpf.c", flags: &[] },
    Object { name: "usdt.bpf.o", source: "usdt.bpf.c", flags: &[] },
];

const DIRECTORY: &str = "../hz-probes-ebpf/co-re";

/// Compiles every object into `out`.
pub(crate) fn build(out: &Path, include: &Path) -> Result<()> {
    println!("cargo:rerun-if-changed={DIRECTORY}");
    println!("cargo:rerun-if-env-changed=HZ_CLANG");
    let clang = find_clang()?;
    for object in OBJECTS {
        let source = Path::new(DIRECTORY).join(object.source);
        let mut flags: Vec<OsString> = vec!["-I".into(), include.into()];
        // libbpf's usdt.bpf.h includes a header by the kernel's name for it.
        flags.extend(["-I", DIRECTORY, "-Wall"].map(OsString::from));
        flags.extend(["-Werror", "-mcpu=v3"].map(OsString::from));
        flags.extend(object.flags.iter().map(OsString::from));
        SkeletonBuilder::new()
            .source(&source)
            .obj(out.join(object.name))
            .clang(&clang)
            .clang_args(flags)
            .build()
            .with_context(|| format!("cannot compile {}", source.display()))?;
    }
    Ok(())
}

/// The newest clang at hand that knows what CO-RE needs.
fn find_clang() -> Result<String> {
    if let Ok(clang) = env::var("HZ_CLANG") {
        return Ok(clang);
    }
    for clang in ["clang-19", "clang"] {
        if Command::new(clang).arg("--version").output().is_ok_and(|run| run.status.success()) {
            return Ok(clang.to_owned());
        }
    }
    bail!(
        "no clang to compile BPF programs with; run scripts/setup, or set AYA_BUILD_SKIP=1 to build without probes"
    )
}
