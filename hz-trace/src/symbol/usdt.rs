//! Statically defined probes (USDT) of a file: what a user asks for, and what the file has.

use super::{
    ResolveError, locate,
    names::{glob_fits, is_glob},
    open,
    spec::{SpecError, first_colon},
    usdt_notes::{Notes, UsdtNote},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

/// Names that an error lists at most.
const LISTED: usize = 30;

/// `BINARY:PROVIDER:NAME`: probes that a program's author put into it.
///
/// `BINARY` ends at the first colon; `\:` is a colon inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsdtSpec {
    /// A path, a program on `PATH`, or a library's name.
    pub binary: String,
    /// Who defines the probe.
    pub provider: String,
    /// The probe's name, or a glob (`*`, `?`) over names.
    pub name: String,
}

impl FromStr for UsdtSpec {
    type Err = SpecError;

    fn from_str(spec: &str) -> Result<Self, SpecError> {
        let missing = || SpecError::NoUsdt { spec: spec.to_owned() };
        let colon = first_colon(spec).ok_or_else(missing)?;
        let binary = spec[..colon].replace("\\:", ":");
        let (provider, name) = spec[colon + 1..].split_once(':').ok_or_else(missing)?;
        let parts = [binary.as_str(), provider, name];
        if parts.iter().any(|part| part.trim().is_empty()) {
            return Err(missing());
        }
        Ok(Self { provider: provider.to_owned(), name: name.to_owned(), binary })
    }
}

impl fmt::Display for UsdtSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:{}", self.binary.replace(':', "\\:"), self.provider, self.name)
    }
}

/// A probe of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsdtProbe {
    /// The file, as this process can open it.
    pub binary: PathBuf,
    /// Who defines it.
    pub provider: String,
    /// Its name.
    pub name: String,
    /// Its arguments as the note has them, `SIZE@OPERAND` each; those of its first place.
    pub arguments: String,
    /// Places in the code that pass it.
    pub places: usize,
    /// Whether the program asks a counter, its semaphore, if somebody is there.
    pub has_semaphore: bool,
    /// Whether a process that starts while a tracer is attached never sees that counter change.
    pub is_swallowed: bool,
}

impl UsdtProbe {
    /// Every probe of a file, by provider and name.
    ///
    /// # Errors
    ///
    /// [`ResolveError`] if there is no such file or it is no ELF file.
    pub fn of(binary: &str, pids: &[u32]) -> Result<Vec<Self>, ResolveError> {
        let files = locate::locate(binary, pids)?;
        files
            .iter()
            .map(|file| in_file(file))
            .collect::<Result<Vec<_>, _>>()
            .map(|all| all.concat())
    }

    /// Its provider and name.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}:{}", self.provider, self.name)
    }
}

impl UsdtSpec {
    /// The probes that are meant, in the files that `pids` see, or this process if there are none.
    ///
    /// # Errors
    ///
    /// [`ResolveError`], with what there is. A file's content never makes this panic.
    pub fn resolve(&self, pids: &[u32], max: usize) -> Result<Vec<UsdtProbe>, ResolveError> {
        let mut found = Vec::new();
        for binary in locate::locate(&self.binary, pids)? {
            found.extend(self.resolve_in(&binary, max)?);
        }
        Ok(found)
    }

    fn resolve_in(&self, binary: &Path, max: usize) -> Result<Vec<UsdtProbe>, ResolveError> {
        let all = in_file(binary)?;
        let binary = || binary.to_owned();
        if all.is_empty() {
            return Err(ResolveError::NoUsdt { binary: binary() });
        }
        let provider = self.provider.clone();
        let (own, others): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|probe| probe.provider == provider);
        if own.is_empty() {
            let known = listed(others.iter().map(|probe| probe.provider.as_str()));
            return Err(ResolveError::NoSuchProvider { provider, binary: binary(), known });
        }
        let known = listed(own.iter().map(|probe| probe.name.as_str()));
        let is_meant = |probe: &UsdtProbe| {
            probe.name == self.name
                || is_glob(&self.name) && glob_fits(self.name.as_bytes(), probe.name.as_bytes())
        };
        let found: Vec<_> = own.into_iter().filter(is_meant).collect();
        let name = self.name.clone();
        if found.is_empty() {
            return Err(ResolveError::NoSuchUsdt { provider, name, binary: binary(), known });
        }
        if found.len() > max {
            let (symbol, count) = (format!("{provider}:{name}"), found.len());
            return Err(ResolveError::TooMany { symbol, binary: binary(), count, max });
        }
        Ok(found)
    }
}

/// Every probe of one file.
fn in_file(binary: &Path) -> Result<Vec<UsdtProbe>, ResolveError> {
    let data = &open(binary)?;
    let notes =
        Notes::read(data).ok_or_else(|| ResolveError::NotElf { binary: binary.to_owned() })?;
    let mut probes: BTreeMap<(String, String), UsdtProbe> = BTreeMap::new();
    for note in &notes.notes {
        let key = (note.provider.clone(), note.name.clone());
        let probe = probes.entry(key).or_insert_with(|| probe(binary, note));
        probe.places += 1;
        probe.has_semaphore |= note.semaphore != 0;
        probe.is_swallowed |= notes.is_swallowed(note);
    }
    Ok(probes.into_values().collect())
}

fn probe(binary: &Path, note: &UsdtNote) -> UsdtProbe {
    UsdtProbe {
        binary: binary.to_owned(),
        provider: note.provider.clone(),
        name: note.name.clone(),
        arguments: note.arguments.clone(),
        places: 0,
        has_semaphore: false,
        is_swallowed: false,
    }
}

/// What there is, for an error: each once, and not without end.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: BTreeSet<_> = names.collect();
    let mut text = names.iter().take(LISTED).copied().collect::<Vec<_>>().join(", ");
    if names.len() > LISTED {
        text.push_str(&format!(" and {} more", names.len() - LISTED));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_spec_has_three_parts() {
        let spec: UsdtSpec = r"/opt/a\:b/app:hz_runtime:poll_*".parse().unwrap();
        assert_eq!(spec.binary, "/opt/a:b/app");
        assert_eq!((&*spec.provider, &*spec.name), ("hz_runtime", "poll_*"));
        for wrong in ["app", "app:provider", "app::name", ":provider:name", "app:provider:", ""] {
            let said = wrong.parse::<UsdtSpec>().unwrap_err().to_string();
            assert!(
                said.ends_with("write BINARY:PROVIDER:NAME, as in libstdc++.so.6:libstdcxx:throw"),
                "{said}"
            );
        }
    }

    #[test]
    fn a_file_without_probes_is_named() {
        let spec = UsdtSpec { binary: "true".into(), provider: "a".into(), name: "b".into() };
        let said = spec.resolve(&[], 9).unwrap_err().to_string();
        assert!(said.ends_with("true has no statically defined probes (USDT)"), "{said}");
    }

    #[test]
    fn a_long_list_is_cut() {
        let names: Vec<_> = (0..40).map(|number| number.to_string()).collect();
        assert!(listed(names.iter().map(String::as_str)).ends_with(" and 10 more"));
        assert_eq!(listed(["b", "a", "b"].into_iter()), "a, b");
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_refused(text in ".*") {
            let _ = text.parse::<UsdtSpec>();
        }

        #[test]
        fn a_spec_is_printed_as_it_is_read(binary in "[a-z/.:]{1,9}", provider in "[a-z_]{1,9}", name in "[a-z:*]{1,9}") {
            let spec = UsdtSpec { binary, provider, name };
            prop_assert_eq!(spec.to_string().parse(), Ok(spec));
        }
    }
}
