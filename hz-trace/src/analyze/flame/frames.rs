//! Frames of stacks as people read them: a name, and whose code it is.

use crate::{
    model::{Place, StackIndex, Stacks},
    symbol::{Function, SymbolTable},
};
use rustc_hash::FxHashMap;
use serde::Serialize;
use std::rc::Rc;

/// Whose code a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "snake_case")]
pub enum FrameKind {
    /// No code: what the stacks below are of.
    Root,
    /// The kernel's.
    Kernel,
    /// An allocator's.
    Allocator,
    /// A runtime's, or the language's or system's library.
    Runtime,
    /// The program's, inlined into the function below.
    Inlined,
    /// The program's.
    User,
    /// Not known.
    Unknown,
}

impl FrameKind {
    /// Every kind, in the order of a legend.
    pub const ALL: [Self; 7] = [
        Self::User,
        Self::Inlined,
        Self::Runtime,
        Self::Allocator,
        Self::Kernel,
        Self::Unknown,
        Self::Root,
    ];

    /// Its name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "task, thread",
            Self::Kernel => "kernel",
            Self::Allocator => "allocator",
            Self::Runtime => "runtime and libraries",
            Self::Inlined => "inlined",
            Self::User => "program",
            Self::Unknown => "no symbol",
        }
    }
}

/// A frame's place in [`Frames`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrameIndex(pub u32);

/// A frame: all calls of a function, in whatever stack.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// Its name, as it is shown.
    pub name: String,
    /// Whose code it is.
    pub kind: FrameKind,
}

/// Frames, each once.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    frames: Vec<Frame>,
    by_frame: FxHashMap<Frame, FrameIndex>,
}

impl Frames {
    /// The frame at `index`.
    ///
    /// # Panics
    ///
    /// If `index` is of others.
    #[must_use]
    pub fn get(&self, index: FrameIndex) -> &Frame {
        &self.frames[index.0 as usize]
    }

    /// The place of a frame, which is made if need be.
    pub(super) fn index(&mut self, name: String, kind: FrameKind) -> FrameIndex {
        let frame = Frame { name, kind };
        if let Some(index) = self.by_frame.get(&frame) {
            return *index;
        }
        let index = FrameIndex(u32::try_from(self.frames.len()).unwrap_or(u32::MAX));
        self.frames.push(frame.clone());
        self.by_frame.insert(frame, index);
        index
    }

    /// Every frame.
    pub fn iter(&self) -> impl Iterator<Item = &Frame> {
        self.frames.iter()
    }
}

/// A stack with its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// Root first.
    pub(super) frames: Vec<FrameIndex>,
    /// Whether its leaf has a name.
    pub(super) has_leaf: bool,
}

/// Names the frames of stacks, each stack once.
#[derive(Debug)]
pub(super) struct Namer<'a> {
    stacks: &'a Stacks,
    symbols: &'a SymbolTable,
    by_place: FxHashMap<Place, Rc<[FrameIndex]>>,
    by_stack: FxHashMap<StackIndex, Rc<Named>>,
}

impl<'a> Namer<'a> {
    pub(super) fn new(stacks: &'a Stacks, symbols: &'a SymbolTable) -> Self {
        let (by_place, by_stack) = (FxHashMap::default(), FxHashMap::default());
        Self { stacks, symbols, by_place, by_stack }
    }

    /// The stack's frames, root first.
    pub(super) fn name(&mut self, index: StackIndex, frames: &mut Frames) -> Rc<Named> {
        if let Some(named) = self.by_stack.get(&index) {
            return Rc::clone(named);
        }
        let places: Vec<Place> = self.stacks.places(index).collect();
        let leaf = places.first().copied();
        let has_leaf = leaf.is_some_and(|leaf| self.symbols.functions(leaf).is_some());
        let all = places.iter().rev().flat_map(|place| self.at(*place, frames).to_vec());
        let named = Rc::new(Named { frames: all.collect(), has_leaf });
        self.by_stack.insert(index, Rc::clone(&named));
        named
    }

    fn at(&mut self, place: Place, frames: &mut Frames) -> Rc<[FrameIndex]> {
        if let Some(found) = self.by_place.get(&place) {
            return Rc::clone(found);
        }
        let made: Rc<[FrameIndex]> = match self.symbols.functions(place) {
            Some(functions) => {
                let with_place = functions.iter().enumerate();
                with_place
                    .map(|(depth, function)| {
                        let name = self.symbols.text(function.name);
                        let kind = self.kind(place, function, depth > 0);
                        frames.index(with_file(name, self.symbols.text(function.source)), kind)
                    })
                    .collect()
            }
            None => [frames.index(self.unknown(place), FrameKind::Unknown)].into(),
        };
        self.by_place.insert(place, Rc::clone(&made));
        made
    }

    fn kind(&self, place: Place, function: &Function, is_inlined: bool) -> FrameKind {
        let (name, source) = (self.symbols.text(function.name), self.symbols.text(function.source));
        let file = match place {
            Place::Kernel(_) => return FrameKind::Kernel,
            Place::File(number, _) => self.stacks.files.get(&number).map(|file| file.path.as_str()),
            Place::Process(..) => None,
        };
        match kind_of(name, source, file.unwrap_or_default()) {
            FrameKind::User if is_inlined => FrameKind::Inlined,
            kind => kind,
        }
    }

    /// A text of the symbols.
    pub(super) fn text(&self, number: u32) -> &'a str {
        self.symbols.text(number)
    }

    fn unknown(&self, place: Place) -> String {
        match place {
            Place::Kernel(_) => "[kernel]".to_owned(),
            Place::File(number, _) => {
                let path = self.stacks.files.get(&number).map_or("?", |file| &file.path);
                format!("[{}]", file_name(path))
            }
            Place::Process(..) => "[no file]".to_owned(),
        }
    }

    /// Source file and line of the innermost function at a stack's frame that is the program's.
    pub(super) fn own_site(&self, index: StackIndex) -> Option<(&'a Function, &'a str)> {
        let mut found = None;
        for place in self.stacks.places(index) {
            let Place::File(number, _) = place else { continue };
            let file = self.stacks.files.get(&number).map_or("", |file| file.path.as_str());
            for function in self.symbols.functions(place).unwrap_or_default().iter().rev() {
                let name = self.symbols.text(function.name);
                match kind_of(name, self.symbols.text(function.source), file) {
                    FrameKind::User => return Some((function, name)),
                    FrameKind::Runtime if found.is_none() => found = Some((function, name)),
                    _ => {}
                }
            }
        }
        found
    }
}

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

/// A name that says nothing alone, with the file it is in.
fn with_file(name: &str, source: &str) -> String {
    let tail = source.rmatch_indices('/').nth(1).map_or(source, |(at, _)| &source[at + 1..]);
    if name.starts_with('{') && !tail.is_empty() {
        format!("{name} ({tail})")
    } else {
        name.to_owned()
    }
}

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

fn kind_of(name: &str, source: &str, file: &str) -> FrameKind {
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
        assert_eq!(with_file("{closure#0}", "/a/shop/src/cart.rs"), "{closure#0} (src/cart.rs)");
        assert_eq!(kind_of("memcpy", "", "/lib/x86_64-linux-gnu/libc.so.6"), FrameKind::Runtime);
    }
}
