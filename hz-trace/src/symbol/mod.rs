//! Names of functions and probes to places in files, for user probes, and places to names, for
//! stacks.

mod allocators;
mod elf;
mod futures;
mod instruction;
mod locate;
mod names;
mod spec;
mod stacks;
mod usdt;
mod usdt_notes;

pub(crate) use allocators::{AllocatorSite, allocator_sites};
pub use futures::{DebugInfo, DebugInfoError, FutureFrame, FutureName, Futures, Memory};
pub use instruction::FirstInstruction;
pub use spec::{SpecError, UprobeSpec};
pub use stacks::{
    FileNote, Function, SymbolChunk, SymbolSettings, SymbolTable, build_id, symbolize,
};
pub use usdt::{UsdtProbe, UsdtSpec};

use elf::{ElfFile, Function as ElfFunction};
use names::{Names, is_glob, suggest};
use object::ReadCache;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Functions or probes that one glob may mean, unless told otherwise.
pub const SITES_MAX: usize = 100;

/// A place in a file that a user probe goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The file, as this process can open it.
    pub binary: PathBuf,
    /// The function's name, demangled.
    pub symbol: String,
    /// The function's address in the file's own address space.
    pub address: u64,
    /// Where the probe goes: bytes from the start of the file. This is where the function starts,
    /// or the `push` behind its `endbr64`, which is cheaper.
    pub file_offset: u64,
    /// Whether the function's return is recorded too.
    pub wants_return: bool,
    /// What the kernel does with the instruction under the probe.
    pub first: FirstInstruction,
}

impl Site {
    /// What to tell whoever asked for a probe that will be dear; `None` when it will not.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let Self { symbol, address, binary, .. } = self;
        let place = format!("{symbol} at {address:#x} of {}", binary.display());
        match &self.first {
            FirstInstruction::Stepped { instruction } => Some(format!(
                "{place} begins with `{instruction}`, which the kernel single-steps: each hit \
                 costs about 20 times as much as on a push or nop"
            )),
            FirstInstruction::Unknown => {
                Some(format!("{place} begins with no instruction that hz can decode"))
            }
            FirstInstruction::Emulated | FirstInstruction::NotChecked => None,
        }
    }
}

/// Why a name means no function.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// No file goes by this name.
    #[error(
        "no binary {binary}: it is no path, not on PATH, no library of the loader, and no recorded process has it mapped"
    )]
    NoSuchBinary {
        /// The name that was given.
        binary: String,
    },
    /// The file exists and cannot be read.
    #[error("cannot read {}", binary.display())]
    Unreadable {
        /// The file.
        binary: PathBuf,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
    /// A script, for instance, or a damaged file.
    #[error("{} is no ELF program or library, or is damaged; name the program that runs it", binary.display())]
    NotElf {
        /// The file.
        binary: PathBuf,
    },
    /// The file does not define the function.
    #[error("no function {symbol} in {}{hint}", binary.display())]
    NoSuchSymbol {
        /// The function that was asked for.
        symbol: String,
        /// The file.
        binary: PathBuf,
        /// Why it may be missing, or what may have been meant.
        hint: Hint,
    },
    /// A glob means more functions or probes than are allowed.
    #[error("{symbol} means {count} probes in {}, more than {max}; narrow it", binary.display())]
    TooMany {
        /// The glob.
        symbol: String,
        /// The file.
        binary: PathBuf,
        /// How many functions it means.
        count: usize,
        /// How many are allowed.
        max: usize,
    },
    /// The file has no notes of probes.
    #[error("{} has no statically defined probes (USDT)", binary.display())]
    NoUsdt {
        /// The file.
        binary: PathBuf,
    },
    /// None of the file's probes is of this provider.
    #[error("no provider {provider} in {}, which has {known}", binary.display())]
    NoSuchProvider {
        /// The provider that was asked for.
        provider: String,
        /// The file.
        binary: PathBuf,
        /// Those that there are.
        known: String,
    },
    /// The provider has no probe of this name.
    #[error("no probe {provider}:{name} in {}; the provider has {known}", binary.display())]
    NoSuchUsdt {
        /// The provider.
        provider: String,
        /// The probe that was asked for.
        name: String,
        /// The file.
        binary: PathBuf,
        /// Those that there are.
        known: String,
    },
    /// Go's runtime moves stacks, and dies of the address that a return probe leaves on them.
    #[error("{} is a Go program, which a return probe would crash; ask for {symbol} without %return", binary.display())]
    GoReturn {
        /// The function.
        symbol: String,
        /// The file.
        binary: PathBuf,
    },
}

/// What to do about a function that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hint {
    /// Nothing is known.
    None,
    /// Up to three names that are close.
    Close(Vec<String>),
    /// The file only calls it.
    Imported,
    /// The loader chooses an implementation, which has another name.
    Indirect,
    /// The file has no table of local symbols.
    Stripped,
}

impl fmt::Display for Hint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Close(names) => write!(formatter, "; did you mean {}?", names.join(" or ")),
            Self::Imported => {
                write!(formatter, ", which only calls it; name the library that defines it")
            }
            Self::Indirect => write!(
                formatter,
                ": the loader chooses one of its implementations; name that, or find it with a glob"
            ),
            Self::Stripped => write!(
                formatter,
                ", which is stripped: only exported functions have names; use a build with symbols"
            ),
        }
    }
}

impl UprobeSpec {
    /// The places that are meant, in the files that `pids` see, or this process if there are none.
    ///
    /// Each function is there once, whatever aliases it has, in the order of addresses.
    ///
    /// # Errors
    ///
    /// [`ResolveError`], with what to do about it. A file's content never makes this panic.
    pub fn resolve(&self, pids: &[u32], max: usize) -> Result<Vec<Site>, ResolveError> {
        let mut sites = Vec::new();
        for binary in locate::locate(&self.binary, pids)? {
            sites.extend(self.resolve_in(&binary, max)?);
        }
        Ok(sites)
    }

    fn resolve_in(&self, binary: &Path, max: usize) -> Result<Vec<Site>, ResolveError> {
        let data = &open(binary)?;
        let elf = ElfFile::read(data)
            .ok_or_else(|| ResolveError::NotElf { binary: binary.to_owned() })?;
        let found = matching(&elf, &self.symbol);
        self.check(&elf, binary, found.len(), max)?;
        let sites = found.into_iter().filter_map(|(function, symbol)| {
            let code = elf.code_at(data, function.address);
            let (skip, first) = if elf.is_x86_64 {
                let skip = instruction::cheaper_start(code);
                let rest = code.get(usize::try_from(skip).ok()?..)?;
                (skip, instruction::judge(rest, function.address + skip))
            } else {
                (0, FirstInstruction::NotChecked)
            };
            Some(Site {
                binary: binary.to_owned(),
                symbol,
                address: function.address,
                file_offset: elf.file_offset(function.address)?.checked_add(skip)?,
                wants_return: self.wants_return,
                first,
            })
        });
        Ok(sites.collect())
    }

    fn check(
        &self,
        elf: &ElfFile,
        binary: &Path,
        count: usize,
        max: usize,
    ) -> Result<(), ResolveError> {
        let (symbol, binary) = (self.symbol.clone(), binary.to_owned());
        if count == 0 {
            return Err(ResolveError::NoSuchSymbol { hint: hint(elf, &symbol), symbol, binary });
        }
        if count > max {
            return Err(ResolveError::TooMany { symbol, binary, count, max });
        }
        if elf.is_go && self.wants_return {
            return Err(ResolveError::GoReturn { symbol, binary });
        }
        Ok(())
    }
}

/// A file's content, read as it is asked for.
fn open(binary: &Path) -> Result<ReadCache<File>, ResolveError> {
    let unreadable = |source| ResolveError::Unreadable { binary: binary.to_owned(), source };
    let file = File::open(binary).map_err(unreadable)?;
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(ResolveError::NotElf { binary: binary.to_owned() });
    }
    Ok(ReadCache::new(file))
}

/// Functions in the file that `asked` means, with the name to show: those with exactly that name,
/// since C++ names have stars too, or else those that it fits as a glob.
fn matching<'a>(elf: &'a ElfFile, asked: &str) -> Vec<(&'a ElfFunction, String)> {
    let in_file = || elf.functions.iter().filter(|it| elf.file_offset(it.address).is_some());
    let by = |fits: &dyn Fn(&Names) -> bool| -> Vec<(&'a ElfFunction, String)> {
        let named = in_file().map(|function| (function, Names::of(&function.name)));
        named.filter(|(_, names)| fits(names)).map(|(it, names)| (it, names.shown)).collect()
    };
    let mut found = by(&|names| names.is(asked));
    if found.is_empty() && is_glob(asked) {
        found = by(&|names| names.fits(asked));
    }
    // The set is in the order of addresses: aliases are neighbours.
    found.dedup_by_key(|(function, _)| function.address);
    found
}

fn hint(elf: &ElfFile, asked: &str) -> Hint {
    if elf.indirect.contains(asked) {
        return Hint::Indirect;
    }
    if elf.imported.iter().any(|name| Names::of(name).is(asked)) {
        return Hint::Imported;
    }
    let names: Vec<_> = elf.functions.iter().map(|it| Names::of(&it.name).shown).collect();
    let close = suggest(asked, names.iter().map(String::as_str));
    match (close.is_empty(), elf.is_stripped) {
        (false, _) => Hint::Close(close),
        (true, true) => Hint::Stripped,
        (true, false) => Hint::None,
    }
}

#[cfg(test)]
mod tests;
