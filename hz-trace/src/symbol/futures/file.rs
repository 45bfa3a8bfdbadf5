//! The debug information of a file.

use object::{Object as _, ObjectSection as _, ReadCache};
use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

/// Sections that together are larger are not read.
const BYTES_MAX: u64 = 4 << 30;

/// Why a program's futures cannot be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DebugInfoError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is no ELF file that this hz reads.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It has none, or none of types.
    #[error(
        "no debug info: {} does not say what its futures hold; build it with `debug = \"full\"` in \
         its profile, or give the directory of its debug files with --debug-dir",
        path.display()
    )]
    Absent {
        /// The file.
        path: PathBuf,
    },
}

/// The debug information of a program, read.
#[derive(Debug)]
pub struct DebugInfo {
    pub(super) path: PathBuf,
    pub(super) sections: gimli::DwarfSections<Vec<u8>>,
    /// Where the file expects its first byte to be.
    pub(super) base: u64,
}

impl DebugInfo {
    /// Reads that of the file at `path`, which is called `name`, or of its debug file in one of
    /// `debug_dirs`.
    ///
    /// # Errors
    ///
    /// [`DebugInfoError`].
    pub fn read(path: &Path, name: &Path, debug_dirs: &[PathBuf]) -> Result<Self, DebugInfoError> {
        let (found, build_id) = of_file(path, name)?;
        if let Some(found) = found {
            return Ok(found);
        }
        let id: String = build_id.iter().map(|byte| format!("{byte:02x}")).collect();
        for directory in debug_dirs.iter().filter(|_| id.len() > 2) {
            let nested = format!(".build-id/{}/{}.debug", &id[..2], &id[2..]);
            for candidate in [directory.join(nested), directory.join(format!("{id}.debug"))] {
                if let Ok((Some(found), its_id)) = of_file(&candidate, &candidate)
                    && its_id == build_id
                {
                    return Ok(found);
                }
            }
        }
        Err(DebugInfoError::Absent { path: name.to_owned() })
    }

    /// The file it is of.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the file expects its first byte to be in memory.
    #[must_use]
    pub const fn base(&self) -> u64 {
        self.base
    }
}

/// What a file has, if it has any, and its build id.
fn of_file(path: &Path, name: &Path) -> Result<(Option<DebugInfo>, Vec<u8>), DebugInfoError> {
    let failed = |source| DebugInfoError::Io { path: name.to_owned(), source };
    let wrong = |reason: String| DebugInfoError::Malformed { path: name.to_owned(), reason };
    let file = ReadCache::new(File::open(path).map_err(failed)?);
    let elf = object::File::parse(&file).map_err(|error| wrong(error.to_string()))?;
    if !elf.is_little_endian() || !elf.is_64() {
        return Err(wrong("futures are only told of little-endian 64-bit programs".to_owned()));
    }
    let build_id = elf.build_id().ok().flatten().unwrap_or_default().to_vec();
    if elf.section_by_name(".debug_info").is_none() {
        return Ok((None, build_id));
    }
    let mut left = BYTES_MAX;
    let sections = gimli::DwarfSections::load(|id| {
        let Some(section) = elf.section_by_name(id.name()) else { return Ok(Vec::new()) };
        if section
            .compressed_file_range()
            .is_ok_and(|range| range.format != object::CompressionFormat::None)
        {
            return Err(wrong(format!(
                "{} is compressed; objcopy --decompress-debug-sections helps",
                id.name()
            )));
        }
        left = left
            .checked_sub(section.size())
            .ok_or_else(|| wrong("its debug info is larger than 4 GiB".to_owned()))?;
        section.data().map(<[u8]>::to_vec).map_err(|error| wrong(error.to_string()))
    })?;
    let base = base(&elf);
    Ok((Some(DebugInfo { path: name.to_owned(), sections, base }), build_id))
}

/// The address of the file's first byte.
fn base<'data>(elf: &impl object::Object<'data>) -> u64 {
    use object::ObjectSegment as _;
    let first = elf.segments().min_by_key(|segment| segment.file_range().0);
    first.map_or(0, |segment| segment.address().wrapping_sub(segment.file_range().0))
}
