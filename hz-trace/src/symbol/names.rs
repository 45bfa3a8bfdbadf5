//! Names of functions as people write them, and what they may have meant.

use cpp_demangle::{DemangleOptions, Symbol};
use std::fmt;

/// Names that are suggested at most.
const SUGGESTIONS: usize = 3;

/// The names a function goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    /// What is shown: demangled, without a hash.
    pub(super) shown: String,
    /// Other names that are accepted: with the hash, without parameters.
    others: Vec<String>,
}

impl Names {
    /// Every name of the function that the linker knows as `linked`.
    pub(super) fn of(linked: &str) -> Self {
        let mut others = Vec::new();
        let shown = rust_names(linked, &mut others)
            .or_else(|| cpp_names(linked, &mut others))
            .unwrap_or_else(|| linked.to_owned());
        if shown != linked {
            others.push(linked.to_owned());
        }
        Self { shown, others }
    }

    fn all(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.shown).chain(&self.others).map(String::as_str)
    }

    /// Whether `asked` is one of the names.
    pub(super) fn is(&self, asked: &str) -> bool {
        self.all().any(|name| name == asked)
    }

    /// Whether the glob fits one of the names.
    pub(super) fn fits(&self, glob: &str) -> bool {
        self.all().any(|name| glob_fits(glob.as_bytes(), name.as_bytes()))
    }
}

fn rust_names(linked: &str, others: &mut Vec<String>) -> Option<String> {
    let demangled = rustc_demangle::try_demangle(linked).ok()?;
    others.push(demangled.to_string());
    Some(format!("{demangled:#}"))
}

fn cpp_names(linked: &str, others: &mut Vec<String>) -> Option<String> {
    if !linked.starts_with("_Z") {
        return None;
    }
    let symbol = Symbol::new(linked).ok()?;
    let bare = DemangleOptions::new().no_params().no_return_type();
    others.extend(demangle_cpp(&symbol, &bare));
    demangle_cpp(&symbol, &DemangleOptions::new())
}

fn demangle_cpp(symbol: &Symbol<&str>, options: &DemangleOptions) -> Option<String> {
    let mut name = Bounded(String::new());
    symbol.structured_demangle(&mut name, options).ok()?;
    Some(name.0)
}

/// A demangled name that does not grow without end: substitutions in a hostile name can double it
/// again and again.
struct Bounded(String);

/// Bytes of a demangled name.
const NAME_MAX_BYTES: usize = 64 << 10;

impl fmt::Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        if self.0.len() + part.len() > NAME_MAX_BYTES {
            return Err(fmt::Error);
        }
        self.0.push_str(part);
        Ok(())
    }
}

/// Whether a name is a glob.
pub(super) fn is_glob(asked: &str) -> bool {
    asked.contains(['*', '?'])
}

/// Fits `*` (any bytes) and `?` (one byte). Goes back to the last `*` only, so that no glob takes
/// more than the product of the lengths.
pub(super) fn glob_fits(glob: &[u8], name: &[u8]) -> bool {
    let (mut in_glob, mut in_name) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while in_name < name.len() {
        match (glob.get(in_glob), retry) {
            (Some(b'*'), _) => {
                retry = Some((in_glob + 1, in_name));
                in_glob += 1;
            }
            (Some(byte), _) if *byte == b'?' || *byte == name[in_name] => {
                in_glob += 1;
                in_name += 1;
            }
            (_, Some((after_star, from))) => {
                retry = Some((after_star, from + 1));
                (in_glob, in_name) = (after_star, from + 1);
            }
            (_, None) => return false,
        }
    }
    glob[in_glob..].iter().all(|byte| *byte == b'*')
}

/// Up to three names that are close to `asked`, the closest first: those that end in the same
/// segment, then those that a few typing errors are away.
pub(super) fn suggest<'a>(asked: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut close: Vec<(usize, &str)> =
        names.filter_map(|name| Some((distance(asked, name)?, name))).collect();
    close.sort_unstable();
    close.dedup();
    close.into_iter().take(SUGGESTIONS).map(|(_, name)| name.to_owned()).collect()
}

/// How far apart two names are; `None` is too far to be meant.
fn distance(asked: &str, name: &str) -> Option<usize> {
    let limit = asked.len() / 3 + 1;
    let segment = |name: &'_ str| name.rsplit("::").next().map(str::to_owned);
    if asked.len() > 2 && segment(asked) == segment(name) {
        return Some(1);
    }
    if asked.len().abs_diff(name.len()) > limit {
        return None;
    }
    let edits = edits(asked.as_bytes(), name.as_bytes());
    (edits <= limit).then_some(edits + 1)
}

/// Insertions, deletions and substitutions between two names (Levenshtein).
fn edits(from: &[u8], to: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, left) in from.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in to.iter().enumerate() {
            let substituted = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rust_goes_by_its_path_with_and_without_hash() {
        let legacy = Names::of("_ZN4shop4cart3add17h0123456789abcdefE");
        assert_eq!(legacy.shown, "shop::cart::add");
        assert!(legacy.is("shop::cart::add::h0123456789abcdef"));
        assert!(legacy.is("_ZN4shop4cart3add17h0123456789abcdefE"));
        let v0 = Names::of("_RNvNtCs1234_4shop4cart3add");
        assert_eq!(v0.shown, "shop::cart::add");
        assert!(v0.is("_RNvNtCs1234_4shop4cart3add"), "{v0:?}");
        assert!(v0.all().any(|name| name.starts_with("shop[")), "{v0:?}");
    }

    #[test]
    fn cpp_goes_by_its_name_with_and_without_parameters() {
        let names = Names::of("_ZN4shop3addEPci");
        assert_eq!(names.shown, "shop::add(char*, int)");
        assert!(names.is("shop::add") && names.is("shop::add(char*, int)"), "{names:?}");
        assert!(names.is("_ZN4shop3addEPci") && !names.is("shop"), "{names:?}");
    }

    #[test]
    fn c_goes_by_its_name() {
        let names = Names::of("getaddrinfo");
        assert!(names.is("getaddrinfo") && names.fits("get*info") && !names.fits("get?info"));
    }

    #[test]
    fn a_demangled_name_is_bounded() {
        use fmt::Write;
        let mut name = Bounded(String::new());
        assert!(name.write_str(&"a".repeat(NAME_MAX_BYTES)).is_ok());
        assert!(name.write_str("a").is_err());
        // f(p<a, a>, p<p<a, a>, p<a, a>>, …), each twice as long as the one before.
        let mut mangled = "_Z1f1pI1aS0_E".to_owned();
        for level in 1..30 {
            let digit = char::from_digit(level - 1, 36).unwrap().to_ascii_uppercase();
            let _ = write!(mangled, "S_IS{digit}_S{digit}_E");
        }
        let start = std::time::Instant::now();
        assert!(Names::of(&mangled).is(&mangled));
        assert!(start.elapsed() < std::time::Duration::from_secs(2), "{:?}", start.elapsed());
    }

    #[test]
    fn globs_fit_as_in_a_shell() {
        for (glob, name, fits) in [
            ("*", "", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c*e", "abcde", true),
            ("a*c*f", "abcde", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("shop::*", "shop::cart::add", true),
            ("", "a", false),
            ("**b**", "abc", true),
        ] {
            assert_eq!(glob_fits(glob.as_bytes(), name.as_bytes()), fits, "{glob} on {name}");
        }
    }

    #[test]
    fn the_closest_names_are_suggested() {
        let names = ["getaddrinfo", "getnameinfo", "freeaddrinfo", "malloc", "shop::cart::add"];
        assert_eq!(suggest("getadrinfo", names.into_iter())[..2], ["getaddrinfo", "getnameinfo"]);
        assert_eq!(suggest("add", names.into_iter()), ["shop::cart::add"]);
        assert_eq!(suggest("cart::add", names.into_iter()), ["shop::cart::add"]);
        assert_eq!(suggest("zzzzzzzz", names.into_iter()), Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn any_name_has_names(linked in ".{0,40}") {
            prop_assert!(Names::of(&linked).is(&linked));
        }

        #[test]
        fn any_mangled_name_has_names(rest in "[A-Za-z0-9_]{0,40}", prefix in "_Z|_ZN|_R|_RNv") {
            let linked = format!("{prefix}{rest}");
            prop_assert!(Names::of(&linked).is(&linked));
        }

        #[test]
        fn a_star_on_both_sides_finds_what_is_inside(before in ".{0,9}", inside in "[a-z]{0,9}", after in ".{0,9}") {
            let name = format!("{before}{inside}{after}");
            let glob = format!("*{inside}*");
            prop_assert!(glob_fits(glob.as_bytes(), name.as_bytes()));
        }
    }
}
