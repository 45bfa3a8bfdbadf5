//! Files that appear whole or not at all.

use anyhow::{Context as _, Result};
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// A recording says what ran on the host: it is its owner's.
pub(crate) const PRIVATE: u32 = 0o600;

/// A picture is made to be shown.
pub(crate) const SHARED: u32 = 0o666;

/// A file under a temporary name beside its own.
#[derive(Debug)]
pub(crate) struct PartialFile {
    path: PathBuf,
    partial: PathBuf,
    keep: bool,
}

impl PartialFile {
    /// Creates `PATH.partial` with the permissions `mode`, as far as the umask has it. One that is there already is what a
    /// killed hz has saved, or another hz is writing: then it is `PATH.2.partial`, and so on.
    pub(crate) fn create(path: &Path, mode: u32) -> Result<(Self, File)> {
        let cannot = || format!("cannot create {}", path.display());
        if path.is_dir() {
            return Err(io::Error::from(io::ErrorKind::IsADirectory)).with_context(cannot);
        }
        // Renaming a file over /dev/null would take it from everybody.
        if path.metadata().is_ok_and(|there| !there.is_file()) {
            return Err(io::Error::other("there is something else than a file"))
                .with_context(cannot);
        }
        let (partial, file) = create_new(path, mode).with_context(cannot)?;
        Ok((Self { path: path.to_owned(), partial, keep: false }, file))
    }

    /// Leaves the file there even if it never gets its own name.
    pub(crate) const fn keep(&mut self) {
        self.keep = true;
    }

    /// Where the file is now.
    pub(crate) fn partial(&self) -> &Path {
        &self.partial
    }

    /// Removes the file.
    pub(crate) fn discard(mut self) {
        self.keep = false;
    }

    /// Gives the file its own name.
    pub(crate) fn commit(mut self) -> Result<PathBuf> {
        fs::rename(&self.partial, &self.path).with_context(|| {
            format!("cannot rename {} to {}", self.partial.display(), self.path.display())
        })?;
        self.keep = true;
        Ok(self.path.clone())
    }
}

/// Creates a file that was not there; also not as a link to another.
fn create_new(path: &Path, mode: u32) -> io::Result<(PathBuf, File)> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    let mut taken = None;
    for number in 1..100 {
        let mut name = path.as_os_str().to_owned();
        name.push(if number == 1 { ".partial".to_owned() } else { format!(".{number}.partial") });
        match options.open(&name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => taken = Some(error),
            file => return file.map(|file| (PathBuf::from(name), file)),
        }
    }
    Err(taken.unwrap_or_else(|| io::ErrorKind::AlreadyExists.into()))
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        if !self.keep {
            // Nothing to be done if it cannot be removed; its name says what it is.
            let _ = fs::remove_file(&self.partial);
        }
    }
}
