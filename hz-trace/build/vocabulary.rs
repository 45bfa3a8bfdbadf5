//! The C header that BPF programs in C include, generated from the Rust vocabulary.

use anyhow::{Context, Result};
use hz_probes_ebpf::{Kind, Site, UsdtSite, net::NetSite};
use std::{fmt::Write as _, fs, path::Path};

const SOURCES: [&str; 9] = [
    "aggregate.rs",
    "config.rs",
    "event/mod.rs",
    "event/net/mod.rs",
    "event/net/queues.rs",
    "event/net/sojourn.rs",
    "event/sched.rs",
    "event/usdt.rs",
    "loss.rs",
];

/// Writes structs and constants as cbindgen sees them, then the kinds and sites, which macros
/// make and cbindgen cannot see.
pub(crate) fn write_header(path: &Path) -> Result<()> {
    let source = Path::new("../hz-probes-ebpf/src");
    let mut builder = cbindgen::Builder::new()
        .with_language(cbindgen::Language::C)
        .with_style(cbindgen::Style::Tag)
        .with_pragma_once(true)
        .with_no_includes();
    for name in SOURCES {
        let file = source.join(name);
        println!("cargo:rerun-if-changed={}", file.display());
        builder = builder.with_src(file);
    }
    for record in RECORDS {
        builder = builder.include_item(record);
    }
    let mut header = Vec::new();
    builder.generate().context("cannot read the event vocabulary")?.write(&mut header);
    let mut header = String::from_utf8(header).context("cbindgen writes text")?;
    header.push_str(&constants()?);
    fs::write(path, header).with_context(|| format!("cannot write {}", path.display()))
}

/// Structs that no C function mentions, so that cbindgen would leave them out.
const RECORDS: [&str; 32] = [
    "AggregateConfig",
    "CpuTotals",
    "Exec",
    "Exit",
    "Fork",
    "Header",
    "Interrupts",
    "Loss",
    "Lost",
    "Migrate",
    "NetCongestion",
    "NetConfig",
    "NetDrop",
    "NetOwner",
    "NetQueued",
    "NetReset",
    "NetRetransmit",
    "NetSample",
    "NetSocket",
    "NetSojourn",
    "NetState",
    "NetSynAck",
    "NetWindow",
    "Rename",
    "SchedConfig",
    "Switch",
    "Thread",
    "ThreadTotals",
    "UsdtConfig",
    "UsdtHit",
    "Wakeup",
    "Waking",
];

fn constants() -> Result<String> {
    let mut text = String::from("\n");
    for kind in Kind::ALL {
        writeln!(text, "#define HZ_KIND_{} {}", kind.tag().to_uppercase(), *kind as u16)?;
    }
    for site in Site::ALL {
        writeln!(text, "#define HZ_SITE_{} {}", site.tag().to_uppercase(), *site as u32)?;
    }
    writeln!(text, "#define HZ_SITES {}", Site::ALL.len())?;
    for site in UsdtSite::ALL {
        writeln!(text, "#define HZ_{} {}", site.tag().to_uppercase(), *site as u32)?;
    }
    writeln!(text, "#define HZ_USDT_SITES {}", UsdtSite::ALL.len())?;
    for site in NetSite::ALL {
        writeln!(text, "#define HZ_SITE_{} {}", site.tag().to_uppercase(), *site as u32)?;
    }
    writeln!(text, "#define HZ_NET_SITES {}", NetSite::ALL.len())?;
    Ok(text)
}
