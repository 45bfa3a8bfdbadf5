//! Whose code a function is, by its name, its source and its file.

use super::FrameKind;

/// The last part of a path.
pub(super) fn file_name(path: &str) -> &str {
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    path.rsplit('/').next().unwrap_or(path)
}

/// Allocators, by how their functions' names begin.
const ALLOCATORS: [&str; 36] = [
    "malloc",
    "calloc",
    "realloc",
    "free",
    "cfree",
    "memalign",
    "posix_memalign",
    "aligned_alloc",
    "_int_malloc",
    "_int_free",
    "_int_realloc",
    "_int_memalign",
    "sysmalloc",
    "systrim",
    "unlink_chunk",
    "__libc_malloc",
    "__libc_calloc",
    "__libc_realloc",
    "__libc_free",
    "__libc_memalign",
    "__GI___libc_malloc",
    "__GI___libc_calloc",
    "__GI___libc_realloc",
    "__GI___libc_free",
    "__GI___libc_memalign",
    "__posix_memalign",
    "__malloc",
    "__calloc",
    "__realloc",
    "__free",
    "__mid_memalign",
    "tcache_",
    "je_",
    "_rjem_",
    "mi_",
    "_mi_",
];

/// Allocators of Rust and C++, by a part of their functions' names.
const ALLOCATOR_PATHS: [&str; 9] = [
    "__rust_alloc",
    "__rust_dealloc",
    "__rust_realloc",
    "__rdl_",
    "__rg_",
    "alloc::alloc::",
    "hz_runtime::alloc::",
    "operator new",
    "operator delete",
];

/// Crates that are no program's own.
const RUNTIME_CRATES: [&str; 22] = [
    "std",
    "core",
    "alloc",
    "tokio",
    "tokio_util",
    "mio",
    "hz_runtime",
    "async_task",
    "futures_core",
    "futures_util",
    "futures_executor",
    "futures_channel",
    "async_std",
    "smol",
    "async_executor",
    "async_io",
    "parking",
    "parking_lot",
    "parking_lot_core",
    "crossbeam_deque",
    "rayon_core",
    "compiler_builtins",
];

/// Libraries that are no program's own.
const RUNTIME_FILES: [&str; 8] =
    ["libc.so", "libc-2.", "libpthread", "ld-linux", "libstdc++", "libgcc_s", "libm.so", "[vdso]"];

/// Functions that begin a program or thread.
const STARTS: [&str; 6] =
    ["_start", "__libc_start", "start_thread", "clone", "__clone", "__rust_begin_short_backtrace"];

/// Whose code a source file is: debug information of lines only names inlined functions without
/// their crate.
fn kind_of_source(source: &str) -> Option<FrameKind> {
    if source.contains("hz-runtime/src/alloc/") || source.contains("library/alloc/src/alloc.rs") {
        return Some(FrameKind::Allocator);
    }
    let is_library = source.starts_with("/rustc/") || source.contains("/rustlib/src/rust/library/");
    let registry = source.split_once("/registry/src/").and_then(|(_, rest)| rest.split('/').nth(1));
    let crate_name = registry.map(|folder| {
        let end = folder.rfind('-').unwrap_or(folder.len());
        folder[..end].replace('-', "_")
    });
    let is_runtime = crate_name.is_some_and(|name| RUNTIME_CRATES.contains(&name.as_str()));
    (is_library || is_runtime || source.contains("hz-runtime/src/")).then_some(FrameKind::Runtime)
}

pub(super) fn kind_of(name: &str, source: &str, file: &str) -> FrameKind {
    let is_bare = !name.contains("::");
    if is_bare && ALLOCATORS.iter().any(|each| begins(name, each))
        || ALLOCATOR_PATHS
            .iter()
            .any(|each| name.starts_with(each) || name.starts_with(&format!("<{each}")))
    {
        return FrameKind::Allocator;
    }
    let is_library = RUNTIME_FILES.iter().any(|each| file_name(file).starts_with(each));
    let is_start = is_bare && STARTS.iter().any(|each| name.starts_with(each));
    if is_library || is_start || RUNTIME_CRATES.contains(&crate_of(name)) {
        return FrameKind::Runtime;
    }
    let has_crate = !crate_of(name).is_empty();
    kind_of_source(source).filter(|_| !has_crate && name != "main").unwrap_or(FrameKind::User)
}

/// Whether an allocator's function begins a name: alone, or with more behind what ends in `_`.
fn begins(name: &str, allocator: &str) -> bool {
    let Some(rest) = name.strip_prefix(allocator) else { return false };
    allocator.ends_with('_') || rest.is_empty() || rest.starts_with(['.', '@', '_'])
}

/// The crate that a Rust name begins with: of `<a::B as c::D>::e`, `a`.
fn crate_of(name: &str) -> &str {
    let name = name.trim_start_matches(['<', '&', '*', '(', '[', ' ']);
    let name = name.strip_prefix("mut ").or_else(|| name.strip_prefix("dyn ")).unwrap_or(name);
    let end = name.find(|each: char| !each.is_alphanumeric() && each != '_').unwrap_or(name.len());
    if name[end..].starts_with("::") { &name[..end] } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_of_who_wrote_it() {
        let of = |name| kind_of(name, "", "/opt/shop");
        for name in [
            "malloc",
            "_int_malloc",
            "__rust_alloc",
            "alloc::alloc::alloc",
            "operator new(unsigned long)",
            "je_mallocx",
            "free.part.0",
        ] {
            assert_eq!(of(name), FrameKind::Allocator, "{name}");
        }
        for name in [
            "core::ops::function::FnOnce::call_once",
            "<alloc::vec::Vec<T> as core::clone::Clone>::clone",
            "hz_runtime::scheduler::run",
            "_start",
            "<&mut std::io::Stdin as std::io::Read>::read",
        ] {
            assert_eq!(of(name), FrameKind::Runtime, "{name}");
        }
        for name in [
            "shop::cart::add",
            "<shop::Cart as core::future::future::Future>::poll",
            "main",
            "freeze",
            "mallocator::x",
            "stdout_of",
            "std",
        ] {
            assert_eq!(of(name), FrameKind::User, "{name}");
        }
        let library = "/rustc/5980/library/core/src/option.rs";
        assert_eq!(kind_of("map<u8, f>", library, "/opt/shop"), FrameKind::Runtime);
        assert_eq!(kind_of("shop::cart", library, "/opt/shop"), FrameKind::User);
        let tokio = "/root/.cargo/registry/src/index-19/tokio-util-0.7.1/src/codec.rs";
        assert_eq!(kind_of("decode", tokio, "/opt/shop"), FrameKind::Runtime);
        assert_eq!(kind_of("memcpy", "", "/lib/x86_64-linux-gnu/libc.so.6"), FrameKind::Runtime);
    }
}
